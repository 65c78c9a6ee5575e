//! A cluster set up by hand, as docs/operating.md says: `init`, then `node` on each; here two databases and a third node
//! that has an edge and an app, but no database.
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by ending.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tiebeam_lab::{processes_that_name, run, tiebeam, until};

const NODES: [&str; 3] = ["a", "b", "c"];

struct Cluster {
    folder: PathBuf,
    http: u16,
    console: u16,
    nodes: Vec<Child>,
    /// Processes that took over.
    heirs: Vec<u32>,
}

impl Cluster {
    fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tiebeam-lab-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // PostgreSQL's user must be able to pass through.
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let [http, postgres, sql, ledger, console] = std::array::from_fn(|_| free_port());
        let program = tiebeam();
        // Nobody else may be able to run the program that was just built.
        let user = if fs::metadata("/proc/self").unwrap().uid() == 0 { "user = \"root\"" } else { "" };
        let file = format!(
            r#"
[cluster]
name = "hand-made"
[node.a]
address = "127.0.0.1"
roles = ["app", "database"]
[node.b]
address = "127.0.0.2"
roles = ["database"]
[node.c]
address = "127.0.0.3"
roles = ["edge", "app"]
[edge]
http = {http}
[site."*"]
routes = [{{ path = "/", pool = "web" }}]
[pool.web]
app = "web"
health = {{ path = "/healthz", every = "500ms" }}
[app.web]
command = ["{}", "demo-app"]
{user}
[database]
port = {postgres}
[sql]
listen = ":{sql}"
[ledger]
port = {ledger}
[console]
listen = ":{console}"
"#,
            program.display()
        );
        let toml = folder.join("tiebeam.toml");
        fs::write(&toml, file).unwrap();
        let certs = folder.join("certs");
        let init = run(&["init", "--config", toml.to_str().unwrap(), "--out", certs.to_str().unwrap()]);
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let nodes = NODES.map(|node| start(&folder, &toml, node));
        Self { folder, http, console, nodes: nodes.into(), heirs: Vec::new() }
    }

    fn at(&self, node: usize, port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, node as u8 + 1], port))
    }

    fn logs(&self) -> String {
        let log = |node| fs::read_to_string(self.folder.join(node).join("log")).unwrap_or_default();
        NODES.map(|node| format!("--- {node}\n{}", log(node))).join("\n")
    }

    fn signal(&self, node: usize, name: &str) {
        let kill =
            Command::new("kill").arg(format!("-{name}")).arg(self.nodes[node].id().to_string()).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut daemons: Vec<u32> = self.nodes.iter().map(Child::id).collect();
        daemons.append(&mut self.heirs);
        for pid in daemons {
            // Whoever ended already is waited for all the same.
            let _ = Command::new("kill").arg("-TERM").arg(pid.to_string()).stderr(Stdio::null()).status();
        }
        for node in &mut self.nodes {
            if until(Duration::from_secs(15), || node.try_wait().unwrap()).is_none() {
                let _ = node.kill();
                let _ = node.wait();
            }
        }
        until(Duration::from_secs(15), || {
            processes_that_name(self.folder.to_str().unwrap()).is_empty().then_some(())
        });
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn start(folder: &Path, toml: &Path, node: &str) -> Child {
    let data = folder.join(node);
    fs::create_dir_all(&data).unwrap();
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let certs = data.join("certs");
    if !certs.exists() {
        fs::rename(folder.join("certs").join(node), &certs).unwrap();
    }
    let log = fs::File::options().create(true).append(true).open(data.join("log")).unwrap();
    let mut command = Command::new(tiebeam());
    command
        .args(["node", "--config"])
        .arg(toml)
        .args(["--name", node, "--linger", "5s", "--data"])
        .arg(&data);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

/// Below the ports that the kernel gives to clients, so that it stays free until it is used.
fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + (std::process::id() % 500) as u16 * 20;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed);
        if (1..=3).all(|n| TcpListener::bind(SocketAddr::from(([127, 0, 0, n], port))).is_ok()) {
            return port;
        }
    }
}

/// The status and body of a request, if it was answered.
fn ask(at: SocketAddr, method: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(15))).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

#[test]
fn a_node_without_a_database_serves_and_two_databases_with_a_witness_fail_over() {
    let cluster = Cluster::start("witness");
    let edge = cluster.at(2, cluster.http);
    let write = |n: u32| ask(edge, "POST", &format!("/rows?n={n}")).filter(|(status, _)| *status == 200);
    let first = until(Duration::from_secs(60), || write(1));
    assert!(first.is_some(), "nothing was written\n{}", cluster.logs());
    // Both instances answer, the one on the node without a database too.
    let answered_by = |name: &str| {
        until(Duration::from_secs(20), || {
            ask(edge, "GET", "/count").filter(|(status, body)| *status == 200 && body.contains(name))
        })
    };
    for name in ["a/web.1", "c/web.1"] {
        assert!(answered_by(name).is_some(), "{name} never answered\n{}", cluster.logs());
    }
    let view = || ask(cluster.at(2, cluster.console), "GET", "/view.json").map(|(_, body)| body);
    let whole =
        until(Duration::from_secs(60), || view().filter(|v| v.contains(r#""streaming":true,"sync":true"#)));
    assert!(whole.is_some(), "b does not stream\n{}", cluster.logs());

    // The primary's node ends in order: b takes over, c goes on.
    cluster.signal(0, "TERM");
    // Until it has stopped, a may still answer: each try is a row of its own, and all that were acknowledged must be there.
    let mut acknowledged = vec![1];
    let mut next = 1;
    let moved = until(Duration::from_secs(30), || {
        next += 1;
        let (_, body) = write(next)?;
        acknowledged.push(next);
        body.contains(r#""writer":"b""#).then_some(())
    });
    assert!(moved.is_some(), "{}", cluster.logs());
    let (_, rows) = ask(edge, "GET", "/rows?after=0").unwrap();
    let rows: Vec<u32> = rows.trim_matches(['[', ']']).split(',').map(|n| n.parse().unwrap()).collect();
    assert!(acknowledged.iter().all(|n| rows.contains(n)), "{acknowledged:?} {rows:?}\n{}", cluster.logs());
}

#[test]
fn a_cluster_is_upgraded_node_by_node_without_a_failed_write_or_a_failover() {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    let mut cluster = Cluster::start("upgrade");
    let edge = cluster.at(2, cluster.http);
    let write = move |n: u32| ask(edge, "POST", &format!("/rows?n={n}")).filter(|(status, _)| *status == 200);
    assert!(until(Duration::from_secs(60), || write(1)).is_some(), "nothing was written\n{}", cluster.logs());
    let at = cluster.at(2, cluster.console);
    let view = move || ask(at, "GET", "/view.json").map(|(_, body)| body);
    let whole =
        until(Duration::from_secs(60), || view().filter(|v| v.contains(r#""streaming":true,"sync":true"#)));
    assert!(whole.is_some(), "b does not stream\n{}", cluster.logs());
    // Before the first look of a process at the cluster it is 0.
    let epoch = || {
        let view = view()?;
        let epoch = view.split(r#""epoch":"#).nth(1)?.split(',').next()?;
        (epoch != "0").then(|| epoch.to_owned())
    };
    let before = until(Duration::from_secs(20), epoch);

    let (is_over, written, failed) = (AtomicBool::new(false), AtomicU32::new(1), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let n = written.fetch_add(1, Ordering::SeqCst) + 1;
                if write(n).is_none() {
                    failed.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        for (index, node) in NODES.iter().enumerate() {
            let data = cluster.folder.join(node);
            let said = run(&["upgrade", "--json", "--data", data.to_str().unwrap()]);
            let outcome: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
            cluster.heirs.extend(outcome["to"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()));
            let is_done = said.status.success() && outcome["fate"] == "done";
            let ended = until(Duration::from_secs(60), || cluster.nodes[index].try_wait().unwrap());
            let seen = written.load(Ordering::SeqCst);
            let goes_on =
                until(Duration::from_secs(60), || (written.load(Ordering::SeqCst) > seen + 20).then_some(()));
            if !is_done || goes_on.is_none() || !ended.is_some_and(|status| status.success()) {
                is_over.store(true, Ordering::SeqCst);
                panic!("{node}: {said:?} {ended:?} {goes_on:?}\n{}", cluster.logs());
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });
    assert_eq!(failed.load(Ordering::SeqCst), 0, "{}", cluster.logs());
    assert_eq!(until(Duration::from_secs(20), epoch), before, "{}", cluster.logs());
}
