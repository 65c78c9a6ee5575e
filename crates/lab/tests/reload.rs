//! Another file while the node runs and is under load: not one request fails, no WebSocket is cut, and what is wrong or
//! cannot change leaves everything as it was.
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by ending.

#[path = "reload/bench.rs"]
mod bench;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use bench::{Load, Server, Tls, WebSocket, free_port, get};
use tiebeam_lab::{Node, run, until};

const TIME: Duration = Duration::from_secs(20);

/// A file, ever another one.
struct File {
    http: u16,
    https: u16,
    servers: Vec<String>,
    /// More lines for `[edge]`, the pool, and the end.
    edge: &'static str,
    pool: &'static str,
    end: &'static str,
}

impl File {
    fn text(&self) -> String {
        let Self { http, https, edge, pool, end, .. } = self;
        format!(
            "[node.lb]\naddress = \"127.0.0.1\"\nroles = [\"edge\"]\n[edge]\nhttp = {http}\nhttps = {https}\n{edge}\n\
             [site.\"shop.example\"]\nhttps = {{ cert = \"cert.pem\", key = \"key.pem\", redirect = false, hsts = false }}\n\
             routes = [{{ path = \"/\", pool = \"web\" }}]\n[pool.web]\nservers = {:?}\n{pool}\n{end}\n",
            self.servers
        )
    }
}

struct Lab {
    folder: tempfile::TempDir,
    file: File,
    _servers: Vec<Server>,
    node: Node,
    tls: Tls,
}

impl Lab {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let servers = vec![Server::named("one"), Server::named("two"), Server::named("three")];
        let names = servers[..2].iter().map(|s| s.address.to_string()).collect();
        let file =
            File { http: free_port(), https: free_port(), servers: names, edge: "", pool: "", end: "" };
        let tls = Tls::write(folder.path());
        let node = Node::start(folder.path(), &file.text());
        let http = file.http;
        let answers = until(TIME, || get(http));
        assert!(answers.is_some(), "{}", node.log());
        Self { folder, file, _servers: servers, node, tls }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the file as it is now, and runs a verb with it.
    fn ask(&self, verb: &str) -> Output {
        let path = self.path().join("tiebeam.toml");
        std::fs::write(&path, self.file.text()).unwrap();
        run(&[verb, path.to_str().unwrap(), "--data", self.path().join("data").to_str().unwrap()])
    }

    fn applied(&self) -> String {
        let said = self.ask("apply");
        assert!(said.status.success(), "{said:?}\n{}", self.node.log());
        String::from_utf8(said.stdout).unwrap()
    }

    /// Exit code and complaint of an `apply` that is not taken.
    fn refused(&self) -> (i32, String) {
        let said = self.ask("apply");
        (said.status.code().unwrap(), String::from_utf8(said.stderr).unwrap())
    }
}

#[test]
fn sites_pools_limits_certificates_and_ports_change_under_load() {
    let mut lab = Lab::start();
    let load = Load::start(lab.file.http);
    let mut socket = WebSocket::open(lab.file.http);
    let mut kept = lab.tls.connect(lab.file.https);
    assert!(kept.get().contains("200 OK"));

    // A plan changes nothing.
    lab.file.servers.push(lab._servers[2].address.to_string());
    let planned = lab.ask("plan");
    let said = String::from_utf8(planned.stdout).unwrap();
    assert!(planned.status.success() && said.contains("at once  pool.web.servers: ["), "{said}");
    assert!(!load.seen().contains("three"));

    // A server more, by SIGHUP.
    lab.node.signal("HUP");
    assert!(until(TIME, || load.seen().contains("three").then_some(())).is_some(), "{}", lab.node.log());

    // Limits, the log, health, and a server less: it gets nothing new.
    lab.file.edge = "access_log = \"common\"\nlimits = { idle_time = \"45s\", header_count = 64 }";
    lab.file.pool = "health = { every = \"300ms\" }";
    lab.file.servers.remove(0);
    let said = lab.applied();
    for change in
        ["edge.access_log", "edge.limits.header_count: 128 -> 64", "pool.web.health.every: 1s -> 300ms"]
    {
        assert!(said.contains(change), "{said}");
    }
    load.forget();
    assert!(until(TIME, || (load.answered() > 200).then_some(())).is_some());
    assert_eq!(load.seen(), "three two");

    // Another certificate: new connections see it, old ones go on.
    let before = lab.tls.connect(lab.file.https).certificate();
    let next = Tls::write(lab.path());
    let said = lab.applied();
    assert!(said.contains("the certificate of site shop.example is another one"), "{said}");
    assert_ne!(next.connect(lab.file.https).certificate(), before);
    assert!(kept.get().contains("200 OK"));

    // Another port: whoever came through the old one goes on.
    load.keep_only();
    let (old, new) = (lab.file.http, free_port());
    lab.file.http = new;
    lab.applied();
    let ported = Load::start(new);
    assert!(until(TIME, || (ported.answered() > 50).then_some(())).is_some());
    assert!(std::net::TcpStream::connect(("127.0.0.1", old)).is_err(), "the old port is closed");
    let workers = std::thread::available_parallelism().unwrap().get();
    assert_eq!(lab.node.listens_at(), 2 * workers);

    assert_eq!(ported.end(), 0, "{}", lab.node.log());
    assert_eq!(load.end(), 0, "{}", lab.node.log());
    socket.echo("still here");
    assert!(lab.node.end() < Duration::from_secs(10));
}

#[test]
fn what_is_wrong_or_cannot_change_leaves_everything_as_it_was() {
    let mut lab = Lab::start();
    let load = Load::start(lab.file.http);
    let good = lab.file.servers.clone();
    lab.file.servers.push("127.0.0.1:1".into());

    // A broken file: line and caret, at the terminal and in the log.
    lab.file.end = "[edge.limits]\nidle_tim = \"1s\"";
    let (code, said) = lab.refused();
    assert!(code == 2 && said.contains("unknown key `idle_tim`") && said.contains('^'), "{code} {said}");
    lab.node.signal("HUP");
    let logged = until(TIME, || lab.node.log().contains("unknown key `idle_tim`").then_some(()));
    assert!(logged.is_some() && lab.node.log().contains("tiebeam.toml is not taken"), "{}", lab.node.log());

    // What is read only at the start, beside something that could change.
    lab.file.end = "[ledger]\nport = 7499\n[console]\nlisten = \"127.0.0.1:7498\"";
    let (code, said) = lab.refused();
    assert!(
        code == 1 && said.contains("console, ledger.port are read only when the node starts"),
        "{code} {said}"
    );

    // A port that is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let https = std::mem::replace(&mut lab.file.https, taken.local_addr().unwrap().port());
    lab.file.end = "";
    let (code, said) = lab.refused();
    assert!(code != 0 && said.contains("edge.https") && said.contains("ss -ltnp"), "{code} {said}");
    lab.file.https = https;

    // A broken certificate, and a key of another.
    let cert = std::fs::read(lab.path().join("cert.pem")).unwrap();
    std::fs::write(lab.path().join("cert.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    let (code, said) = lab.refused();
    assert!(code == 2 && said.contains("site shop.example") && said.contains("cert.pem"), "{code} {said}");
    let other = tempfile::tempdir().unwrap();
    Tls::write(other.path());
    std::fs::write(lab.path().join("cert.pem"), std::fs::read(other.path().join("cert.pem")).unwrap())
        .unwrap();
    let (code, said) = lab.refused();
    assert!(code == 2 && said.contains("cert.pem") && said.contains("key.pem"), "{code} {said}");
    assert!(lab.tls.connect(lab.file.https).get().contains("200 OK"), "the old one is served");

    // Another file than its own.
    std::fs::write(lab.path().join("cert.pem"), cert).unwrap();
    let elsewhere = other.path().join("other.toml");
    std::fs::write(&elsewhere, lab.file.text()).unwrap();
    let data = lab.path().join("data");
    let said = run(&["apply", elsewhere.to_str().unwrap(), "--data", data.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("node lb starts from"), "{said:?}");

    // Nothing of it was taken: the server that nobody listens at was never asked, and the old file is no change.
    lab.file.servers = good;
    assert_eq!(lab.applied().trim(), "lb serves all of it already");
    assert_eq!(load.seen(), "one two");
    assert_eq!(load.end(), 0, "{}", lab.node.log());
}

#[test]
fn nobody_to_ask() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiebeam.toml");
    std::fs::write(
        &file,
        "[node.lb]\naddress = \"127.0.0.1\"\nroles = [\"edge\"]\n[pool.web]\nservers = [\"127.0.0.1:1\"]\n",
    )
    .unwrap();
    let said = run(&["apply", file.to_str().unwrap(), "--data", folder.path().to_str().unwrap()]);
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&said.stderr).contains("no node runs in"), "{said:?}");
}
