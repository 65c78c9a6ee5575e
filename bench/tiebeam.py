"""The file of a Tiebeam that is nothing but a load balancer with one worker, and no more words than it needs."""

FILE = """
[node.lb]
address = "127.0.0.1"
roles = ["edge"]
[edge]
http = {http}
workers = 1
access_log = "off"
{edge}
[edge.limits]
{limits}
[site."*"]
https = {certificate}
routes = [{{ path = "/", pool = "web" }}]
[pool.web]
servers = [{servers}]
{pool}
"""


def file(http, servers, certificate='"off"', edge="", limits="", pool=""):
    """Listens at port `http`, in front of the ports `servers`; the others are lines of their sections."""
    listed = ", ".join(f'"127.0.0.1:{port}"' for port in servers)
    return FILE.format(
        http=http, servers=listed, certificate=certificate, edge=edge, limits=limits, pool=pool,
    ).lstrip()
