"""Load on one proxy, and what came of it. Each function is bounded in time and gives a `Load`."""

import json
import os
import re
import select
import subprocess
from dataclasses import dataclass

import processes
from processes import Failed

# How much longer than its own time a generator may take.
SLACK_SECONDS = 15
UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000}


@dataclass(frozen=True)
class Load:
    """What a generator counted. Latencies in microseconds."""

    requests: int
    errors: int
    seconds: float
    p50_us: float
    p99_us: float


class Generators:
    """The programs that make load, all on one core."""

    def __init__(self, folder, binary, core):
        self.folder, self.binary, self.core = folder, binary, core

    def wrk(self, url, connections, seconds):
        """As many requests over kept HTTP/1.1 connections as there are answers."""
        out = self._run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url], seconds)
        requests, took = re.search(r"(\d+) requests in ([\d.]+\w+)", out).groups()
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
        broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
        errors = sum(int(n) for match in (refused, broken) if match for n in match.groups())
        p50, p99 = (_us(re.search(rf"{n}%\s+([\d.]+\w+)", out).group(1)) for n in (50, 99))
        return _checked(Load(int(requests), errors, _us(took) / 1e6, p50, p99))

    def h2load(self, url, connections, streams, seconds):
        """The same over HTTP/2, with several requests under way on each connection."""
        log = f"{self.folder}/h2load.log"
        if os.path.exists(log):
            os.remove(log)
        out = self._run(
            ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", f"--log-file={log}", url], seconds
        )
        counts = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", out)
        _, succeeded, failed, errored = map(int, counts.groups())
        with open(log) as lines:
            latencies = sorted(int(line.split()[2]) for line in lines)
        if not latencies:
            raise Failed(f"h2load had no answer: {out}")
        p50, p99 = (latencies[max(0, -(-len(latencies) * n // 100) - 1)] for n in (50, 99))
        return _checked(Load(succeeded, failed + errored, float(seconds), p50, p99))

    def paced(self, address, path, connections, rate, seconds):
        """A constant rate; latencies count from when a request was due."""
        return self._own(["paced", address, path, str(connections), str(rate), str(seconds)], seconds)

    def handshakes(self, address, path, connections, seconds):
        """A new TLS 1.3 connection for each request."""
        return self._own(["handshakes", address, path, str(connections), str(seconds)], seconds)

    def idle(self, address, path, connections, scheme, look):
        """Opens connections that stay idle, and gives what `look` gives meanwhile."""
        command = [self.binary, "idle", address, path, str(connections), scheme]
        child = processes.talk(command, self.core)
        try:
            # A first line comes when all are open.
            if not select.select([child.stdout], [], [], 60)[0] or not child.stdout.readline():
                raise Failed(f"{' '.join(command)}: {child.poll()} without all connections")
            seen = look()
            out, _ = child.communicate(timeout=SLACK_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(command)}: did not end") from None
        finally:
            child.kill()
            child.wait()
        closed = json.loads(out)["closed"]
        if closed:
            raise Failed(f"{closed} of {connections} idle connections were closed while they were looked at")
        return seen

    def _own(self, words, seconds):
        return _checked(Load(**json.loads(self._run([self.binary, *words], seconds))))

    def _run(self, command, seconds):
        return processes.run(command, self.core, seconds + SLACK_SECONDS)


def _checked(load):
    if load.requests == 0:
        raise Failed("not one request was answered")
    return load


def _us(text):
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()
    return float(number) * UNITS[unit]
