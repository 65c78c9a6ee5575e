"""Processes that are pinned to a core, end with the bench, and can be asked what they used.

Nothing here knows what is measured. Everything that the bench starts is started by `start`.
"""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import time
from dataclasses import dataclass

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Enough for 5,000 clients and their servers.
DESCRIPTORS = 20_000
# How long a process may take to end by itself.
END_SECONDS = 10

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """Why there is nothing to measure; its words are for people."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds of a process and its children that live."""

    user: float
    system: float

    def since(self, earlier):
        return Usage(self.user - earlier.user, self.system - earlier.system)


class Process:
    """One that was started, with its log."""

    def __init__(self, name, child, log):
        self.name, self.child, self.log = name, child, log

    def usage(self):
        user = system = 0
        for pid in self._family():
            fields = _stat(pid)
            # proc_pid_stat(5): the 14th and 15th, counted after the name.
            user, system = user + int(fields[11]), system + int(fields[12])
        return Usage(user / TICKS_A_SECOND, system / TICKS_A_SECOND)

    def resident_bytes(self):
        return sum(int(_stat(pid)[21]) * PAGE_BYTES for pid in self._family())

    def has_ended(self):
        return self.child.poll() is not None

    def complaint(self):
        with open(self.log, errors="replace") as log:
            return f"{self.name}: {''.join(log.readlines()[-15:])}"

    def end(self):
        if not self.has_ended():
            self.child.terminate()
            try:
                self.child.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        # Whatever of its session is left, as workers are whose parent was killed.
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()

    def _family(self):
        """Its id and those of all below it."""
        children = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    children.setdefault(int(_stat(name)[1]), []).append(int(name))
                except (FileNotFoundError, ProcessLookupError):
                    pass
        family, unseen = [], [self.child.pid]
        while unseen:
            pid = unseen.pop()
            family.append(pid)
            unseen += children.get(pid, [])
        return family


def _stat(pid):
    """The fields of /proc/PID/stat from the third on: the second is a name that may hold anything."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def _prepare(core):
    def prepare():
        os.setsid()
        os.sched_setaffinity(0, {core})
        # If the bench is killed, its processes are told to end.
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        most = DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    return prepare


def start(name, command, core, log):
    """Starts a server in the background, its words in `log`."""
    with open(log, "ab") as out:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=_prepare(core)
        )
    return Process(name, child, log)


def talk(command, core):
    """Starts a command whose stdin and stdout are pipes."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_prepare(core),
    )


def run(command, core, seconds):
    """Runs a command to its end, at most for `seconds`, and gives what it printed."""
    child = talk(command, core)
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]} took longer than {seconds} s") from None
    finally:
        child.kill()
        child.wait()
    if child.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit {child.returncode}: {err.strip() or out.strip()}")
    return out


def free_ports(count):
    """Ports that nobody has; another process may take one before it is used."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def until(seconds, ask, what):
    """Asks until the answer is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.02)
    raise Failed(f"{what}: not within {seconds} s")
