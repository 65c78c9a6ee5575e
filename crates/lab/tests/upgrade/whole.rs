//! A node that is everything: edge, apps, database, router, console.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tiebeam_lab::{Node, get, processes_that_name, tiebeam, until};

use crate::bench::free_port;

const TIME: Duration = Duration::from_secs(60);

struct Whole {
    folder: tempfile::TempDir,
    http: SocketAddr,
    console: SocketAddr,
    node: Node,
}

impl Whole {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // PostgreSQL's user must be able to pass through.
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        for path in [folder.path(), &data] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap();
        }
        let [http, postgres, sql, console] = std::array::from_fn(|_| free_port());
        let user = crate::user();
        let file = format!(
            "[node.a]\naddress = \"127.0.0.1\"\nroles = [\"edge\", \"app\", \"database\"]\n[edge]\nhttp = {http}\n\
             [site.\"*\"]\nroutes = [{{ path = \"/\", pool = \"web\" }}]\n[pool.web]\napp = \"web\"\n\
             health = {{ path = \"/healthz\", every = \"200ms\" }}\n[app.web]\ncommand = [{:?}, \"demo-app\"]\n{user}\n\
             [database]\nport = {postgres}\n[sql]\nlisten = \":{sql}\"\n[console]\nlisten = \":{console}\"\n",
            tiebeam().display().to_string()
        );
        // Nobody listens there; it is the daemon's alone.
        let notify = folder.path().join("notify").display().to_string();
        let node = Node::start_as(&tiebeam(), folder.path(), &file, &[("NOTIFY_SOCKET", &notify)]);
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        Self { http: at(http), console: at(console), node, folder }
    }

    fn write(&self, n: u64) -> Option<String> {
        ask(self.http, &format!("POST /rows?n={n}"))
    }

    fn rows(&self) -> Option<Vec<u64>> {
        serde_json::from_str(&ask(self.http, "GET /rows?after=0")?).ok()
    }

    fn view(&self) -> Option<Value> {
        serde_json::from_str(&get(self.console, "/view.json")?).ok()
    }

    /// PostgreSQL's process, and the number of the right to be primary.
    fn primary(&self) -> Option<(String, u64)> {
        let file = self.folder.path().join("data/postgres/main/postmaster.pid");
        let pid = fs::read_to_string(file).ok()?.lines().next()?.to_owned();
        // Before the first look of a process at its node it is 0.
        Some((pid, self.view()?["database"]["epoch"].as_u64().filter(|epoch| *epoch > 0)?))
    }
}

/// The environment of a process, one variable a line.
fn environment(pid: &str) -> String {
    fs::read(format!("/proc/{pid}/environ"))
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', "\n"))
        .unwrap_or_default()
}

/// Where the app of a daemon listens: the edges of other nodes find it in the ledger.
fn app_of(daemon: u32) -> Option<SocketAddr> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    processes.into_iter().find_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
        let environment = environment(&pid);
        let port = environment.lines().find_map(|line| line.strip_prefix("PORT="))?.parse::<u16>().ok()?;
        (parent == daemon.to_string()).then(|| SocketAddr::from(([127, 0, 0, 1], port)))
    })
}

/// A request that takes as long as it is not finished, and then writes.
struct Slow(TcpStream);

impl Slow {
    fn begin(app: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(app).unwrap();
        stream.set_read_timeout(Some(TIME)).unwrap();
        let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 18";
        write!(stream, "POST /entries HTTP/1.1\r\nHost: a\r\n{form}\r\n\r\nname=me&").unwrap();
        Self(stream)
    }

    fn finish(mut self) -> String {
        let (mut text, mut buffer) = (String::new(), [0; 1024]);
        let _ = self.0.write_all(b"message=hi");
        while !text.contains("\r\n\r\n") {
            match self.0.read(&mut buffer) {
                Ok(n @ 1..) => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
                _ => break,
            }
        }
        text
    }
}

/// The body of an answer with 200.
fn ask(at: SocketAddr, line: &str) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(TIME)).ok()?;
    write!(stream, "{line} HTTP/1.1\r\nHost: {at}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
}

fn log_of(folder: &Path) -> String {
    fs::read_to_string(folder.join("node.log")).unwrap_or_default()
}

#[test]
fn writes_go_on_and_postgresql_is_the_same() {
    let mut whole = Whole::start();
    assert!(until(TIME, || whole.write(1)).is_some(), "nothing was written\n{}", whole.node.log());
    let before = until(TIME, || whole.primary()).unwrap();
    let environment = environment(&before.0);
    assert!(!environment.is_empty() && !environment.contains("NOTIFY_SOCKET"), "{environment}");
    let slow = Slow::begin(app_of(whole.node.pid()).unwrap());
    let (is_over, written, failed) = (AtomicBool::new(false), AtomicU64::new(1), AtomicU64::new(0));
    let (http, folder) = (whole.http, whole.folder.path().to_owned());
    let (code, said) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let n = written.load(Ordering::SeqCst) + 1;
                match ask(http, &format!("POST /rows?n={n}")) {
                    Some(_) => written.store(n, Ordering::SeqCst),
                    None => {
                        failed.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                }
            }
        });
        let upgraded = whole.node.upgrade();
        let seen = written.load(Ordering::SeqCst);
        let goes_on = || failed.load(Ordering::SeqCst) > 0 || written.load(Ordering::SeqCst) > seen + 50;
        until(TIME, || goes_on().then_some(()));
        is_over.store(true, Ordering::SeqCst);
        upgraded
    });
    assert_eq!((code, &said["fate"], &said["notes"]), (0, &"done".into(), &Value::Array(vec![])), "{said}");
    assert_eq!(failed.load(Ordering::SeqCst), 0, "{}", log_of(&folder));
    // Longer than an app would have at a stop.
    let ended = whole.node.first_ended_within(Duration::from_secs(5));
    assert!(ended.is_none(), "{ended:?}: a request runs on its app\n{}", whole.node.log());
    let said = slow.finish();
    assert!(said.starts_with("HTTP/1.1 303 "), "{said:?}\n{}", whole.node.log());
    let ended = whole.node.first_ended_within(TIME);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", whole.node.log());

    // The old process, its router and its apps are gone.
    let last = written.load(Ordering::SeqCst);
    assert!(whole.write(last + 1).is_some(), "{}", whole.node.log());
    let rows = whole.rows().unwrap();
    assert_eq!(rows.len() as u64, last + 1);
    assert_eq!(until(TIME, || whole.primary()), Some(before), "{}", whole.node.log());
    let apps = || whole.view()?["nodes"]["a"]["apps"].as_array().filter(|apps| apps.len() == 1).cloned();
    assert!(until(TIME, apps).is_some(), "{:?}", whole.view());

    // What PostgreSQL would have to be started anew for is refused.
    let toml = folder.join("tiebeam.toml");
    let other = fs::read_to_string(&toml).unwrap().replace("[database]", "[database]\nlease = \"4s\"");
    fs::write(&toml, other).unwrap();
    let (code, said) = whole.node.upgrade();
    assert_eq!(code, 2, "{said}");
    assert!(said["why"].as_str().unwrap().contains("database.lease"), "{said}");

    whole.node.signal("TERM");
    let name = folder.to_str().unwrap().to_owned();
    assert!(until(TIME, || processes_that_name(&name).is_empty().then_some(())).is_some());
}
