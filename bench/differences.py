#!/usr/bin/env python3
"""Compares how the edge, nginx and HAProxy take messages that are hostile or odd: `make differences` builds and runs it.

The messages are those of crates/edge/tests/corpus, with what the RFC wants of each. Every proxy has a server of its own
behind it that keeps what it is sent, and the proxies are asked side by side, one message after another. Prints the
Markdown of docs/differences.md. What the edge is expected to do is held by its tests, not here.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import hostile
import processes
import report
import tiebeam
from processes import Failed

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CORPUS = f"{ROOT}/crates/edge/tests/corpus"

# As they are without further words, but with the connections to servers kept, and with times as short.
HAPROXY = """
defaults
  mode http
  timeout connect {seconds}s
  timeout client {seconds}s
  timeout server {seconds}s
  timeout http-request {seconds}s
  retries 0
frontend web
  bind 127.0.0.1:{http}
  default_backend servers
backend servers
  server s0 127.0.0.1:{server}
"""

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
{user}
events {{ }}
http {{
  access_log off;
  client_header_timeout {seconds}s; client_body_timeout {seconds}s; proxy_read_timeout {seconds}s;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream servers {{ server 127.0.0.1:{server} max_fails=0; keepalive 8; }}
  server {{
    listen 127.0.0.1:{http};
    location / {{
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
    }}
  }}
}}
"""

# Longer than a message takes, shorter than a reader's patience.
SECONDS = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=f"{ROOT}/target/debug/tiebeam")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="differences.") as folder:
        os.chmod(folder, 0o755)
        try:
            print(differences(folder, os.path.abspath(chosen.binary)), end="")
        except Failed as failed:
            sys.exit(f"differences: {failed}")
        except KeyboardInterrupt:
            sys.exit(130)


def differences(folder, binary):
    requests = hostile.cases(f"{CORPUS}/requests.txt")
    answers = hostile.cases(f"{CORPUS}/responses.txt")
    core = min(os.sched_getaffinity(0))
    proxies = []
    try:
        for name in report.NAMES:
            proxies.append(Proxy(name, folder, binary, answers, core))
        with ThreadPoolExecutor() as pool:
            asked = list(pool.map(lambda proxy: [proxy.ask(case) for case in requests], proxies))
            got = list(pool.map(lambda proxy: [proxy.fetch(case) for case in answers], proxies))
    finally:
        for proxy in proxies:
            proxy.end()
    return report.page(versions(binary), (requests, list(zip(*asked))), (answers, list(zip(*got))))


class Proxy:
    """One of the three, and the server behind it."""

    def __init__(self, name, folder, binary, answers, core):
        self.server = hostile.Server(answers)
        (self.http,) = processes.free_ports(1)
        command = self._command(name, folder, binary)
        self.process = processes.start(name, command, core, f"{folder}/{name}.log")
        try:
            processes.until(20, self._answers, f"{name} answers")
        except Failed as failed:
            complaint = self.process.complaint()
            self.end()
            raise Failed(f"{failed}\n{complaint}") from None

    def ask(self, case):
        return hostile.ask(self.http, self.server, case)

    def fetch(self, case):
        return hostile.fetch(self.http, case)

    def end(self):
        self.process.end()
        self.server.end()

    def _answers(self):
        if self.process.has_ended():
            raise Failed("it ended at once")
        return hostile.is_there(self.http)

    def _command(self, name, folder, binary):
        config = f"{folder}/{name}.conf"
        with open(config, "w") as file:
            file.write(self._config(name, folder))
        if name == "Tiebeam":
            return [binary, "node", "--config", config, "--data", f"{folder}/data"]
        if name == "HAProxy":
            return ["haproxy", "-db", "-f", config]
        return ["nginx", "-p", folder, "-e", "stderr", "-c", config]

    def _config(self, name, folder):
        if name == "Tiebeam":
            times = ("header_time", "idle_time", "response_time")
            limits = "\n".join(f'{time} = "{SECONDS}s"' for time in times)
            return tiebeam.file(self.http, [self.server.port], limits=limits)
        user = "user root;" if os.geteuid() == 0 else ""
        return {"nginx": NGINX, "HAProxy": HAPROXY}[name].format(
            http=self.http, server=self.server.port, folder=folder, user=user, seconds=SECONDS,
        )


def versions(binary):
    """The version of each program."""
    said = {}
    for name, command in zip(report.NAMES, ([binary, "--version"], ["nginx", "-v"], ["haproxy", "-v"])):
        text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        said[name] = re.search(r"\d+(\.\d+)+", text).group()
    return said


if __name__ == "__main__":
    main()
