"""What is measured: each case loads one fresh proxy and gives the figures of one round.

The figure of a case is what its bar is about; the bar is the most that ours may be of theirs.
"""

import time
from dataclasses import asdict, dataclass

from proxies import LARGE, LARGE_BYTES, SMALL

WARM_SECONDS = 1
IDLE_CONNECTIONS = 5_000
# Until memory that is given back late has been given back.
SETTLE_SECONDS = 2
CONNECTIONS = 64
HANDSHAKES_AT_ONCE = 16
MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    unit: str
    # The most that ours may be, as a share of each rival's, or an absolute figure; either may be None.
    share: float | None
    most: float | None
    measure: object


class NotYet(Exception):
    """The proxy does not know how to do this."""


def all_cases(rate):
    """`rate` gives the constant rate of the case that has one, in requests a second."""
    cpu, of = "CPU us a request", "HTTP/1.1"
    return [
        Case("http-64", f"{of} keep-alive, 64 connections, 1 KB", cpu, 0.85, None, _wrk(False, CONNECTIONS)),
        Case("http-1000", f"{of} keep-alive, 1,000 connections, 1 KB", cpu, 0.85, None, _wrk(False, 1000)),
        Case("https-64", f"HTTPS, {of} keep-alive, 64 connections", cpu, 0.95, None, _wrk(True, CONNECTIONS)),
        Case("http2", "HTTP/2 over TLS, 10 connections x 20 streams", cpu, 1.0, None, _http2),
        Case("handshakes", "a new TLS 1.3 connection a request", cpu, 1.0, None, _handshakes),
        Case("large", "1 MB bodies, 16 connections", "CPU us a MiB", 1.0, None, _large),
        Case("paced", "p99 at half of the saturating rate", "us", 1.0, None, _paced(rate)),
        Case("idle-http", "5,000 idle connections, HTTP", "bytes each", None, 2048, _idle("http")),
        Case("idle-https", "5,000 idle connections, TLS", "bytes each", 1.0, None, _idle("https")),
    ]


def saturating_rate(proxy, generators, seconds):
    """Requests a second at most, as one run of wrk sees it."""
    load = generators.wrk(proxy.url(False, SMALL), CONNECTIONS, seconds)
    return load.requests / load.seconds


def _wrk(tls, connections):
    def measure(proxy, generators, seconds):
        url = proxy.url(tls, SMALL)
        return _loaded(proxy, seconds, lambda time: generators.wrk(url, connections, time))

    return measure


def _http2(proxy, generators, seconds):
    if not proxy.speaks_http2():
        raise NotYet
    url = proxy.url(True, SMALL)
    return _loaded(proxy, seconds, lambda time: generators.h2load(url, 10, 20, time))


def _handshakes(proxy, generators, seconds):
    at = proxy.address(True)
    return _loaded(proxy, seconds, lambda time: generators.handshakes(at, SMALL, HANDSHAKES_AT_ONCE, time))


def _large(proxy, generators, seconds):
    url = proxy.url(False, LARGE)
    return _loaded(proxy, seconds, lambda time: generators.wrk(url, 16, time), units=LARGE_BYTES / MIB)


def _paced(rate):
    def measure(proxy, generators, seconds):
        at, of_all = proxy.address(False), rate()
        figures = _loaded(proxy, seconds, lambda time: generators.paced(at, SMALL, CONNECTIONS, of_all, time))
        return figures | {"figure": figures["p99_us"]}

    return measure


def _idle(scheme):
    def measure(proxy, generators, _):
        at = proxy.address(scheme == "https")
        # What the first connections bring, and every later one finds there.
        generators.idle(at, SMALL, CONNECTIONS, scheme, lambda: None)
        before = _settled(proxy)
        after = generators.idle(at, SMALL, IDLE_CONNECTIONS, scheme, lambda: _settled(proxy))
        return {"figure": (after - before) / IDLE_CONNECTIONS, "rss_bytes": after}

    return measure


def _settled(proxy):
    time.sleep(SETTLE_SECONDS)
    return proxy.process.resident_bytes()


def _loaded(proxy, seconds, load, units=1):
    """CPU for each unit of work while `load` runs, after a short load that is not counted."""
    load(WARM_SECONDS)
    before = proxy.process.usage()
    done = load(seconds)
    used = proxy.process.usage().since(before)
    total = used.user + used.system
    work = done.requests * units
    return asdict(done) | {
        "figure": total / work * 1e6,
        "user_us": used.user / work * 1e6,
        "system_us": used.system / work * 1e6,
        # Well below 100 means that the load or the servers were the limit, and requests/s says nothing of the proxy.
        "core_percent": total / done.seconds * 100,
        "rate": done.requests / done.seconds,
        "rss_bytes": proxy.process.resident_bytes(),
    }
