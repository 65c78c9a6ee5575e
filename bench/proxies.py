"""The servers and the three load balancers in front of them, each with the same duty.

One worker, no access log, the same servers in turn over kept connections, the same header fields added to requests and
answers, the same certificate, TLS 1.2 and 1.3, tickets on. A server is asked for a TCP connection every second, but by
nginx, which has no such checks.
"""

import http.client
import os
import socket
import ssl
import subprocess

import processes
import tiebeam
from processes import Failed

SMALL, LARGE = "/1k", "/1m"
SMALL_BYTES, LARGE_BYTES = 1024, 1 << 20
# Never the reason that a connection ends.
FOR_EVER = 1_000_000_000

SERVERS = """
daemon off; worker_processes 1; pid {folder}/servers.pid; error_log stderr error;
{user}
events {{ worker_connections 9000; }}
http {{
  access_log off; keepalive_timeout 3600s; keepalive_requests {for_ever};
  sendfile on; tcp_nopush on; open_file_cache max=10; {temporary}
  server {{
    {listen}
    location = /1k {{ return 200 "{small}"; }}
    location / {{ root {folder}; }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 9000
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 30s
  timeout http-request 10s
  timeout http-keep-alive 60s
frontend web
  bind 127.0.0.1:{http}
  bind 127.0.0.1:{https} ssl crt {folder}/both.pem alpn h2,http/1.1
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Proto http unless {{ ssl_fc }}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request add-header Via "1.1 haproxy"
  http-response set-header X-Request-Id %[unique-id]
  http-response add-header Via "1.1 haproxy"
  default_backend servers
backend servers
  balance roundrobin
  http-reuse always
  default-server check inter 1s
{servers}
"""

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
{user}
events {{ worker_connections 9000; }}
http {{
  access_log off; keepalive_timeout 60s; keepalive_requests {for_ever}; {temporary}
  upstream servers {{
{servers}
    keepalive 1024; keepalive_requests {for_ever}; keepalive_time 24h;
  }}
  server {{
    listen 127.0.0.1:{http} backlog=4096;
    listen 127.0.0.1:{https} ssl http2 backlog=4096;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;
    location / {{
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_max_temp_file_size 0;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header Via "1.1 nginx";
      add_header Via "1.1 nginx";
      add_header X-Request-Id $request_id;
    }}
  }}
}}
"""

NAMES = ("tiebeam", "haproxy", "nginx")


class Place:
    """The folder of one run: configurations, certificate, logs."""

    def __init__(self, folder, binary):
        self.folder, self.binary = folder, binary
        # The workers of an nginx that root started read it as root too.
        self.user = "user root;" if os.geteuid() == 0 else ""
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        self.temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        with open(f"{folder}{LARGE}", "wb") as file:
            file.write(os.urandom(LARGE_BYTES))
        self._certificate()

    def write(self, name, text, **values):
        values |= {"folder": self.folder, "user": self.user, "temporary": self.temporary}
        return self.keep(name, text.format(for_ever=FOR_EVER, **values).lstrip())

    def keep(self, name, text):
        path = f"{self.folder}/{name}"
        with open(path, "w") as file:
            file.write(text)
        return path

    def _certificate(self):
        key, cert = f"{self.folder}/key.pem", f"{self.folder}/cert.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "30", "-subj", "/CN=bench", "-addext", "subjectAltName=DNS:bench", "-keyout", key,
             "-out", cert],
            check=True, capture_output=True,
        )
        os.chmod(key, 0o600)
        with open(f"{self.folder}/both.pem", "w") as both:
            os.chmod(both.name, 0o600)
            for part in (cert, key):
                with open(part) as text:
                    both.write(text.read())


class Servers:
    """Three servers: three ports of one nginx with one worker."""

    def __init__(self, place, core):
        self.ports = processes.free_ports(3)
        config = place.write(
            "servers.conf", SERVERS,
            listen=" ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in self.ports),
            small="x" * SMALL_BYTES,
        )
        self.process = processes.start("servers", _nginx(place, config), core, f"{place.folder}/servers.log")
        for port in self.ports:
            _await(self.process, lambda: _get(port, SMALL) == SMALL_BYTES)


class Proxy:
    """A load balancer that is started anew for each measurement, on new ports."""

    def __init__(self, name, place, servers, core):
        self.http, self.https = processes.free_ports(2)
        self.name = name
        self.process = processes.start(
            name, _command(name, place, servers, self.http, self.https), core, f"{place.folder}/{name}.log"
        )
        try:
            _await(self.process, lambda: _get(self.http, SMALL) == SMALL_BYTES)
        except Failed:
            self.process.end()
            raise

    def address(self, tls):
        return f"127.0.0.1:{self.https if tls else self.http}"

    def url(self, tls, path):
        return f"http{'s' if tls else ''}://{self.address(tls)}{path}"

    def tls(self):
        """What a client with OpenSSL gets: the version and the cipher."""
        with _tls(self.https, ["http/1.1"]) as stream:
            return f"{stream.version()} {stream.cipher()[0]}"

    def speaks_http2(self):
        try:
            with _tls(self.https, ["h2"]) as stream:
                return stream.selected_alpn_protocol() == "h2"
        except ssl.SSLError:
            return False


def versions(place):
    """One line for each program that takes part."""
    lines = []
    for command in (
        [place.binary, "--version"], ["haproxy", "-v"], ["nginx", "-v"], ["wrk", "-v"], ["h2load", "--version"],
        ["openssl", "version"],
    ):
        # Some say it on stderr, and wrk ends with 1.
        said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        lines.append(said.splitlines()[0].strip())
    return lines


def _command(name, place, servers, http, https):
    ports = list(enumerate(servers.ports))
    if name == "tiebeam":
        text = tiebeam.file(
            http, servers.ports,
            certificate='{ cert = "cert.pem", key = "key.pem", redirect = false }',
            edge=f"https = {https}",
            # All connections come from one address here.
            limits="connections = 9000\nconnections_per_address = 9000",
            pool='health = { every = "1s" }',
        )
        config = place.keep("tiebeam.toml", text)
        return [place.binary, "node", "--config", config, "--data", f"{place.folder}/data"]
    if name == "haproxy":
        listed = "\n".join(f"  server s{n} 127.0.0.1:{port}" for n, port in ports)
        config = place.write("haproxy.cfg", HAPROXY, http=http, https=https, servers=listed)
        return ["haproxy", "-db", "-f", config]
    listed = "\n".join(f"    server 127.0.0.1:{port};" for _, port in ports)
    return _nginx(place, place.write("nginx.conf", NGINX, http=http, https=https, servers=listed))


def _nginx(place, config):
    return ["nginx", "-p", place.folder, "-e", "stderr", "-c", config]


def _await(process, ask):
    def is_there():
        if process.has_ended():
            raise Failed(f"it ended at once: {process.complaint()}")
        return ask()

    try:
        processes.until(20, is_there, f"{process.name} answers")
    except Failed as failed:
        raise Failed(f"{failed}\n{process.complaint()}") from None


def _get(port, path):
    """How long the body of a good answer is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path, headers={"Host": "bench"})
        answer = connection.getresponse()
        return len(answer.read()) if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _tls(port, protocols):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(protocols)
    plain = socket.create_connection(("127.0.0.1", port), timeout=5)
    return context.wrap_socket(plain, server_hostname="bench")
