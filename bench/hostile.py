"""Messages that no library would send, and what becomes of them: the corpus, a client and a server over raw sockets.

The server is the most lenient reader there is, as it must see what a proxy passes on, whatever that is.
"""

import re
import socket
import threading
import time
from dataclasses import dataclass

# How long nothing may come before nothing more will: beyond the proxies' own times, in which they answer or close.
PATIENCE_SECONDS = 4
# How long whatever a proxy still passes on after its answer may take to its server.
SETTLE_SECONDS = 0.03
REACHED = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"


@dataclass(frozen=True)
class Rule:
    wants: str
    source: str
    text: str
    # Why the edge does otherwise.
    here: str


@dataclass(frozen=True)
class Case:
    line: int
    rule: Rule
    to_head: bool
    text: str
    data: bytes


def cases(path):
    """Those of one file of the corpus, which says what its lines mean."""
    found, rule = [], None
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\n")
            heading = re.fullmatch(r"\[(\w+) ([^\]]+)\] (.*)", line)
            if heading:
                text, _, here = heading[3].partition(" Here: ")
                rule = Rule(heading[1], heading[2], text, here)
            elif line and not line.startswith("#"):
                expected, _, text = line.partition(" | ")
                found.append(Case(number, rule, expected.startswith("head "), text, unescape(text)))
    return found


def unescape(text):
    named = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
    out, pattern = b"", re.compile(r"\\x(..)|\\(.)|\{([^}]*)\*(\d+)\}|(.)", re.DOTALL)
    for hexed, escape, repeated, times, plain in pattern.findall(text):
        if hexed:
            out += bytes([int(hexed, 16)])
        elif escape:
            out += named[escape]
        elif times:
            out += unescape(repeated) * int(times)
        else:
            out += plain.encode()
    return out


@dataclass(frozen=True)
class Seen:
    """A request as a server saw it."""

    method: str
    target: str
    host: str
    body: bytes
    # It says its length in more than one way, or its head has lines that not all readers end at the same place.
    is_ambiguous: bool


@dataclass(frozen=True)
class Took:
    """What a proxy did with a request."""

    # Of the first final answer; 0: it closed without one; -1: it waits.
    status: int
    # By the server; `None`: never, or never whole.
    seen: Seen
    # What followed the message was answered by the server too.
    reads_on: bool


@dataclass(frozen=True)
class Got:
    """What a client got of an answer."""

    status: int
    # The client can tell that this was all.
    is_whole: bool
    body: bytes


class Server:
    """Keeps each whole request and answers it; `/answer/LINE` with that line of the corpus, after which it closes."""

    def __init__(self, answers):
        self.answers = {case.line: case.data for case in answers}
        self.seen, self.lock = [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self):
        with self.lock:
            seen, self.seen = self.seen, []
        return seen

    def end(self):
        # Wakes the thread that accepts.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream):
        with stream, stream.makefile("rb") as reader:
            stream.settimeout(60)
            try:
                while request := read_request(reader):
                    line = re.match(r"/answer/(\d+)", request.target)
                    if line:
                        stream.sendall(self.answers[int(line[1])])
                        return
                    with self.lock:
                        self.seen.append(request)
                    stream.sendall(REACHED + (b"" if request.method == "HEAD" else b"reached"))
            except (OSError, ValueError, OverflowError):
                pass


def read_request(reader):
    """`None` if there is no whole one."""
    head = b""
    while not head.endswith((b"\r\n\r\n", b"\n\n")):
        line = reader.readline()
        if not line:
            return None
        head += line
    first, *fields = re.split(rb"\r?\n", head.rstrip(b"\r\n"))
    words = first.decode("latin-1").split(" ")
    values = {}
    for field in fields:
        name, _, value = field.partition(b":")
        values.setdefault(name.strip().lower(), []).append(value.strip().decode("latin-1"))
    lengths, codings = values.get(b"content-length", []), values.get(b"transfer-encoding", [])
    body = b""
    if codings:
        while size := int(reader.readline().split(b";")[0], 16):
            body += reader.read(size)
            reader.readline()
        while reader.readline().strip():
            pass
    elif lengths:
        body = reader.read(int(lengths[0]))
        if len(body) < int(lengths[0]):
            return None
    # A LF or CR alone, or a control, inside a line.
    is_odd = re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n", head) is not None
    is_ambiguous = is_odd or len(lengths) + len(codings) > 1 or len(values.get(b"host", [])) > 1
    return Seen(words[0], " ".join(words[1:-1]), ", ".join(values.get(b"host", [])), body, is_ambiguous)


def ask(port, server, case):
    """Sends a message, and a request behind it that must not be read unless the message was accepted."""
    server.take()
    with socket.create_connection(("127.0.0.1", port)) as stream:
        try:
            stream.sendall(case.data + b"\r\n\r\n" + NEXT)
        except OSError:
            # It was refused before all was sent.
            pass
        said, is_open = listen(stream, lambda said: said.count(b"reached") > 1)
    time.sleep(SETTLE_SECONDS)
    seen = server.take()
    status = first_status(said)
    reads_on = any(request.host == "next" for request in seen)
    first = next((request for request in seen if request.host != "next"), None)
    return Took(status if status else -1 if is_open else 0, first, reads_on)


def fetch(port, case):
    """Asks for an answer of the corpus."""
    method = "HEAD" if case.to_head else "GET"
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.sendall(f"{method} /answer/{case.line} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        stream.settimeout(PATIENCE_SECONDS)
        with stream.makefile("rb") as reader:
            try:
                return read_answer(reader, case.to_head)
            except (OSError, ValueError):
                return Got(0, False, b"")


def read_answer(reader, to_head):
    while True:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = reader.readline()
            if not line:
                return Got(first_status(head), False, b"")
            head += line
        status = first_status(head, interim=True)
        if status >= 200:
            break
    fields = head.lower()
    length = re.search(rb"\r\ncontent-length: *(\d+)\r\n", fields)
    body = b""
    if to_head or status in (204, 304):
        return Got(status, True, body)
    try:
        if b"\r\ntransfer-encoding: chunked\r\n" in fields:
            while True:
                size = int(reader.readline(), 16)
                chunk = reader.read(size + 2)
                if len(chunk) < size + 2:
                    return Got(status, False, body)
                if size == 0:
                    return Got(status, True, body)
                body += chunk[:size]
        if length:
            body = reader.read(int(length[1]))
            return Got(status, len(body) == int(length[1]), body)
        return Got(status, True, reader.read())
    except (OSError, ValueError, OverflowError):
        return Got(status, False, body)


def listen(stream, is_enough):
    """All that is said, and whether the connection is still open."""
    said = b""
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while not is_enough(said):
            stream.settimeout(max(0.001, deadline - time.monotonic()))
            part = stream.recv(65536)
            if not part:
                return said, False
            said += part
    except TimeoutError:
        return said, True
    except OSError:
        return said, False
    return said, True


def first_status(said, interim=False):
    """0: there is none."""
    for status in re.findall(rb"(?:^|\r\n\r\n|\n)HTTP/1\.[01] (\d{3})", said):
        if interim or int(status) >= 200:
            return int(status)
    return 0


def is_there(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return b" 200 " in stream.recv(100)
    except OSError:
        return False
