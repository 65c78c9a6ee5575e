#!/usr/bin/env python3
"""Measures the edge against HAProxy and nginx, side by side on this machine: `make bench-edge` builds and runs it.

The proxy under test has one core for itself, the servers and the load share another. Each measurement starts its proxy
anew; the proxies take turns, A B C A B C, so that a machine that changes its mind changes it for all. Prints Markdown
tables with the medians of all rounds, and keeps every round in target/bench-edge.json. Absolute figures belong to the
machine; what travels are the ratios of one run.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time

import table
from cases import NotYet, all_cases, saturating_rate
from load import Generators
from processes import Failed
from proxies import NAMES, Place, Proxy, Servers, versions

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROBE_SECONDS = 2


def main():
    chosen = arguments()
    # Whoever ends the bench ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("bench-edge: one core is for the proxy and one for the rest, but there is only one")
    proxy_core, other_core = cores[:2]
    os.sched_setaffinity(0, {other_core})
    with tempfile.TemporaryDirectory(prefix="bench-edge.") as folder:
        os.chmod(folder, 0o755)
        try:
            run = Run(Place(folder, chosen.binary), Generators(folder, chosen.load, other_core), chosen,
                      proxy_core, other_core)
            return run.all()
        except Failed as failed:
            sys.exit(f"bench-edge: {failed}")
        except KeyboardInterrupt:
            sys.exit(130)


def arguments():
    names = [case.name for case in all_cases(None)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6, help="of load in each measurement")
    parser.add_argument("--cases", default=",".join(names), help="some of: %(default)s")
    parser.add_argument("--proxies", default=",".join(NAMES), help="some of: %(default)s")
    parser.add_argument("--binary", default=f"{ROOT}/target/release/tiebeam")
    parser.add_argument("--load", help="edge-load; by default the one beside the binary")
    parser.add_argument("--json", default=f"{ROOT}/target/bench-edge.json", help="where all rounds are kept")
    chosen = parser.parse_args()
    chosen.binary = os.path.abspath(chosen.binary)
    chosen.load = chosen.load or os.path.join(os.path.dirname(chosen.binary), "edge-load")
    for key, known in (("cases", names), ("proxies", NAMES)):
        wanted = getattr(chosen, key).replace(",", " ").split()
        unknown = [name for name in wanted if name not in known]
        if unknown or not wanted:
            parser.error(f"--{key}: {', '.join(unknown) or 'none'}; there are {', '.join(known)}")
        setattr(chosen, key, [name for name in known if name in wanted])
    if chosen.rounds < 1 or not 1 <= chosen.seconds <= 3600:
        parser.error("at least one round, of 1 to 3600 seconds")
    return chosen


class Run:
    """All cases, all rounds, all proxies."""

    def __init__(self, place, generators, chosen, proxy_core, other_core):
        self.place, self.generators, self.chosen = place, generators, chosen
        self.proxy_core, self.other_core = proxy_core, other_core
        self.cases = [case for case in all_cases(self.half_rate) if case.name in chosen.cases]
        self.results = {
            case.name: {name: {"rounds": [], "why": None} for name in chosen.proxies} for case in self.cases
        }
        self.rate, self.servers, self.tls = None, None, {}

    def all(self):
        """Prints the tables; 1 if a measurement failed."""
        head = self.head()
        print(head, flush=True)
        self.servers = Servers(self.place, self.other_core)
        try:
            for case in self.cases:
                self.prepare(case)
                for number in range(1, self.chosen.rounds + 1):
                    for name in self.chosen.proxies:
                        self.one(case, number, name)
        finally:
            self.servers.process.end()
            self.keep(head)
        print("TLS: " + "; ".join(f"{name} {how}" for name, how in self.tls.items()))
        print(f"\n{table.bars(self.cases, self.results, self.chosen.proxies)}")
        print(f"\n{table.details(self.cases, self.results, self.chosen.proxies)}")
        return int(any(one["why"] == "failed" for of in self.results.values() for one in of.values()))

    def head(self):
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        machine = f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, {cpu_model()}"
        how = f"{self.chosen.rounds} rounds of {self.chosen.seconds} s, medians"
        # What others did on this machine is in the figures too.
        busy = f"load average before: {os.getloadavg()[0]:.1f}"
        return "\n".join([when, machine, *versions(self.place), how, busy])

    def prepare(self, case):
        """The constant rate is one for all: half of what the slowest of them reaches."""
        if case.name == "paced" and self.rate is None:
            rates = []
            for name in self.chosen.proxies:
                rates.append(self.with_proxy(name, lambda p: saturating_rate(p, self.generators, PROBE_SECONDS)))
            self.rate = int(min(rates) / 2)

    def half_rate(self):
        return self.rate

    def one(self, case, number, name):
        """One measurement; what fails is told and leaves a hole."""
        result = self.results[case.name][name]
        if result["why"] == "not yet":
            return
        try:
            seen = self.with_proxy(name, lambda p: case.measure(p, self.generators, self.chosen.seconds))
        except NotYet:
            result["why"] = "not yet"
            return say(f"{case.name:10} {number} {name:8} not yet")
        except Failed as failed:
            result["why"] = "failed"
            return say(f"{case.name:10} {number} {name:8} failed: {failed}")
        result["rounds"].append(seen)
        say(f"{case.name:10} {number} {name:8} {seen['figure']:10.2f} {case.unit}"
            + (f", {seen['errors']} errors" if seen.get("errors") else ""))

    def with_proxy(self, name, use):
        proxy = Proxy(name, self.place, self.servers, self.proxy_core)
        try:
            if name not in self.tls:
                self.tls[name] = proxy.tls()
            return use(proxy)
        finally:
            proxy.process.end()

    def keep(self, head):
        os.makedirs(os.path.dirname(os.path.abspath(self.chosen.json)), exist_ok=True)
        with open(self.chosen.json, "w") as file:
            json.dump({"head": head.splitlines(), "tls": self.tls, "cases": self.results}, file, indent=1)


def cpu_model():
    with open("/proc/cpuinfo") as lines:
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
