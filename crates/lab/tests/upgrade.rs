//! A new process takes over from a running one under load: not one connection is refused, no request fails, no WebSocket is
//! cut, and what is not fit changes nothing.
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by ending.

#[path = "reload/bench.rs"]
#[allow(dead_code, reason = "the other tests of the same bench use all of it")]
mod bench;
#[path = "upgrade/whole.rs"]
mod whole;

use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use bench::{Load, Server, Tls, WebSocket, free_port, get};
use tiebeam_lab::{Node, lives, signal, tiebeam, until};

const TIME: Duration = Duration::from_secs(20);

/// Nobody else may be able to run the program that was just built.
fn user() -> &'static str {
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 { "user = \"root\"" } else { "" }
}

struct File {
    http: u16,
    https: u16,
    workers: usize,
    servers: Vec<String>,
    end: String,
}

impl File {
    fn text(&self) -> String {
        let Self { http, https, workers, servers, end } = self;
        format!(
            "[node.lb]\naddress = \"127.0.0.1\"\nroles = [\"edge\"]\n[edge]\nhttp = {http}\nhttps = {https}\nworkers = {workers}\n\
             [site.\"shop.example\"]\nhttps = {{ cert = \"cert.pem\", key = \"key.pem\", redirect = false, hsts = false }}\nroutes = [{{ path = \"/\", pool = \"web\" }}]\n[pool.web]\nservers = {servers:?}\n{end}\n"
        )
    }

    fn write(&self, folder: &Path) {
        std::fs::write(folder.join("tiebeam.toml"), self.text()).unwrap();
    }
}

/// A router for a database that is nowhere.
fn router(port: u16, more: &str) -> String {
    format!("[database]\nservers = [\"127.0.0.1:1\"]\n{more}\n[sql]\nlisten = \":{port}\"")
}

struct Lab {
    folder: tempfile::TempDir,
    file: File,
    _server: Server,
    node: Node,
    tls: Tls,
}

impl Lab {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::named("one");
        let servers = vec![server.address.to_string()];
        let tls = Tls::write(folder.path());
        let file = File { http: free_port(), https: free_port(), workers: 2, servers, end: String::new() };
        let node = Node::start(folder.path(), &file.text());
        let http = file.http;
        assert!(until(TIME, || get(http)).is_some(), "{}", node.log());
        Self { folder, file, _server: server, node, tls }
    }

    fn write(&self) {
        self.file.write(self.folder.path());
    }
}

#[test]
fn nobody_who_comes_or_stays_notices() {
    let mut lab = Lab::start();
    let first = lab.node.pid();
    let mut socket = WebSocket::open(lab.file.http);
    let mut kept = lab.tls.connect(lab.file.https);
    let load = Load::start(lab.file.http);
    // More workers, then fewer: every socket is accepted on.
    for workers in [3, 1] {
        lab.file.workers = workers;
        lab.write();
        let before = lab.node.pid();
        let (code, said) = lab.node.upgrade();
        assert_eq!(
            (code, &said["fate"], &said["why"]),
            (0, &"done".into(), &().into()),
            "{}",
            lab.node.log()
        );
        assert_eq!(said["from"]["pid"], before);
        assert_ne!(lab.node.pid(), before);
        // Each keeps its connection over the handover, and is told then that it ends.
        assert!(kept.get().contains("Connection: close"));
        kept = lab.tls.connect(lab.file.https);
        let answered = load.answered();
        assert!(until(TIME, || (load.answered() > answered + 100).then_some(())).is_some());
    }
    assert_eq!(lab.node.listens_at(), 6);
    assert!(lives(first), "a WebSocket is open through it");
    socket.echo("still here");
    drop(socket);
    let ended = lab.node.first_ended_within(TIME);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", lab.node.log());
    assert_eq!(load.end(), 0, "{}", lab.node.log());
    assert!(lab.node.end() < Duration::from_secs(10));
}

#[test]
fn what_is_not_fit_changes_nothing() {
    let mut lab = Lab::start();
    let (first, load) = (lab.node.pid(), Load::start(lab.file.http));

    // A broken file.
    lab.file.end = "[edge.limits]\nidle_tim = \"1s\"".into();
    lab.write();
    let (code, said) = lab.node.upgrade();
    assert_eq!((code, &said["fate"]), (2, &"refused".into()));
    assert!(said["why"].as_str().unwrap().contains("unknown key `idle_tim`"), "{said}");

    // A port that is taken; those of the node itself are not.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    lab.file.end = String::new();
    let http = std::mem::replace(&mut lab.file.http, taken.local_addr().unwrap().port());
    lab.write();
    let (code, said) = lab.node.upgrade();
    assert_eq!(code, 2);
    assert!(said["why"].as_str().unwrap().contains("[edge] http: cannot listen on"), "{said}");

    // What the router would read only when it starts.
    lab.file.end = router(free_port(), "password_file = \"nothing\"");
    lab.file.http = http;
    lab.write();
    let (code, said) = lab.node.upgrade();
    assert_eq!(code, 2);
    assert!(said["why"].as_str().unwrap().contains("nothing cannot be read"), "{said}");
    lab.file.end = String::new();

    assert_eq!(lab.node.pid(), first);
    assert!(get(http).is_some());
    assert_eq!(load.end(), 0, "{}", lab.node.log());

    // By signal, with the file mended.
    lab.write();
    lab.node.signal("USR2");
    let ended = lab.node.first_ended_within(TIME);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", lab.node.log());
    assert!(get(http).is_some());

    // Again, and then the node ends: the process that still drains does not outlive it for long.
    let node = lab.node.heir();
    let _socket = WebSocket::open(http);
    let (code, said) = lab.node.upgrade();
    assert_eq!((code, &said["from"]["pid"]), (0, &node.into()), "{said}\n{}", lab.node.log());
    assert!(lives(node));
    assert!(lab.node.end() < Duration::from_secs(10));
    assert!(until(TIME, || (!lives(node)).then_some(())).is_some());
}

#[test]
fn a_daemon_can_be_started_while_an_old_one_drains() {
    let folder = tempfile::tempdir().unwrap();
    let (server, sql) = (Server::named("one"), free_port());
    let mut file = File {
        http: free_port(),
        https: free_port(),
        workers: 2,
        servers: vec![server.address.to_string()],
        end: router(sql, ""),
    };
    Tls::write(folder.path());
    let mut node = Node::start(folder.path(), &file.text());
    assert!(until(TIME, || get(file.http)).is_some(), "{}", node.log());
    let (first, _socket) = (node.pid(), WebSocket::open(file.http));
    // The new process takes another port while it checks whether it could.
    file.http = free_port();
    file.write(folder.path());
    let (code, said) = node.upgrade();
    assert_eq!(code, 0, "{said}\n{}", node.log());
    assert!(get(file.http).is_some(), "{}", node.log());

    // The new one dies, as by a crash, and the init system starts another at once.
    let heir = node.pid();
    assert!(lives(first), "a WebSocket is open through it");
    signal(heir, "KILL");
    assert!(until(TIME, || (!lives(heir)).then_some(())).is_some());
    let next = Node::start(folder.path(), &file.text());
    assert!(until(TIME, || get(file.http)).is_some(), "{}", next.log());
    // What runs on it gets no more time than at a stop.
    let ended = node.first_ended_within(Duration::from_secs(15));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", node.log());
    assert!(next.end() < Duration::from_secs(10));
}

#[test]
fn the_program_is_found_by_its_name_and_the_init_system_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    symlink(tiebeam(), at("tiebeam")).unwrap();
    let init = UnixDatagram::bind(at("notify")).unwrap();
    init.set_read_timeout(Some(TIME)).unwrap();
    let heard = || {
        let mut text = [0; 64];
        let length = init.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let (http, https, servers) = (free_port(), free_port(), vec!["127.0.0.1:1".into()]);
    let file = File { http, https, workers: 1, servers, end: String::new() };
    Tls::write(folder.path());
    let notify = [("NOTIFY_SOCKET", at("notify").display().to_string())];
    let notify = notify.each_ref().map(|(name, at)| (*name, at.as_str()));
    let mut node = Node::start_as(&at("tiebeam"), folder.path(), &file.text(), &notify);
    assert_eq!(heard(), "READY=1", "{}", node.log());

    // Another program is there now, and it is none.
    let first = node.pid();
    let replace = |program: &Path| {
        symlink(program, at("next")).unwrap();
        std::fs::rename(at("next"), at("tiebeam")).unwrap();
    };
    replace(Path::new("/bin/false"));
    let (code, said) = node.upgrade();
    assert_eq!((code, node.pid()), (2, first), "{said}");
    assert!(said["why"].as_str().unwrap().contains("exit status: 1"), "{said}");
    std::fs::remove_file(at("tiebeam")).unwrap();
    let (code, said) = node.upgrade();
    assert_eq!(code, 2, "{said}");
    assert!(said["why"].as_str().unwrap().contains("cannot be started"), "{said}");

    // While one that says nothing is waited for, no file is taken: the next one may have read it already.
    let asleep = at("asleep");
    std::fs::write(&asleep, "#!/bin/sh\necho $$ > \"$0.pid\"\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&asleep, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    replace(&asleep);
    node.signal("USR2");
    let pid = || std::fs::read_to_string(at("tiebeam.pid")).ok()?.trim().parse().ok();
    let asleep: u32 = until(TIME, pid).unwrap_or_else(|| panic!("{}", node.log()));
    let apply = || {
        let toml = at("tiebeam.toml").display().to_string();
        let data = at("data").display().to_string();
        let output = tiebeam_lab::run(&["apply", &toml, "--data", &data]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = apply();
    assert!(code == Some(1) && said.contains("a new process is taking over"), "{code:?} {said}");
    signal(asleep, "KILL");
    assert!(until(TIME, || (apply().0 == Some(0)).then_some(())).is_some(), "{}", node.log());
    assert_eq!(node.pid(), first);

    replace(&tiebeam());
    let (code, said) = node.upgrade();
    assert_eq!(code, 0, "{said}\n{}", node.log());
    let mut told = [heard(), heard()];
    told.sort();
    assert_eq!(told, [format!("MAINPID={}", node.pid()), "READY=1".to_owned()]);
    assert!(node.end() < Duration::from_secs(10));
    assert_eq!(heard(), "STOPPING=1");
}

/// A node whose new process waits for an app that is never ready, so that it does not serve for long.
fn half_way(folder: &Path) -> (Node, u16, u32) {
    let (user, http) = (user(), free_port());
    let server = Server::named("one");
    let file = format!(
        "[node.lb]\naddress = \"127.0.0.1\"\nroles = [\"edge\", \"app\"]\n[edge]\nhttp = {http}\n[site.\"*\"]\n\
         routes = [{{ path = \"/slow\", pool = \"slow\" }}, {{ path = \"/\", pool = \"web\" }}]\n\
         [pool.web]\nservers = [\"{}\"]\n[pool.slow]\napp = \"slow\"\n[app.slow]\ncommand = [\"sleep\", \"600\"]\n{user}\n",
        server.address
    );
    let node = Node::start(folder, &file);
    assert!(until(TIME, || get(http)).is_some(), "{}", node.log());
    node.signal("USR2");
    let given = until(TIME, || {
        let log = node.log();
        let line = log.lines().find(|line| line.contains("the node is the new process's"))?;
        line.rsplit("pid=").next()?.trim().parse().ok()
    });
    let heir = given.unwrap_or_else(|| panic!("{}", node.log()));
    assert!(get(http).is_some(), "the old process serves on");
    (node, http, heir)
}

#[test]
fn a_new_process_that_dies_half_way_ends_the_old_one_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (mut node, http, heir) = half_way(folder.path());
    signal(heir, "KILL");
    let ended = node.first_ended_within(TIME);
    assert_eq!(ended.and_then(|status| status.code()), Some(1), "{}", node.log());
    assert!(node.log().contains("no process of this node serves: start it again"), "{}", node.log());
    assert!(get(http).is_none());
}

#[test]
fn an_old_process_that_dies_half_way_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (mut node, http, heir) = half_way(folder.path());
    node.signal("KILL");
    assert!(node.first_ended_within(TIME).is_some());
    // Its app would have some twenty seconds to become ready.
    let asked = Instant::now();
    assert!(until(TIME, || get(http)).is_some(), "{}", node.log());
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    // An init system that saw only the old one starts a daemon, which may come up once the other one has ended.
    let [toml, data] = ["tiebeam.toml", "data"].map(|name| folder.path().join(name).display().to_string());
    let second = tiebeam_lab::run(&["node", "--config", &toml, "--data", &data]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(second.status.code() == Some(1) && said.contains("is open in another process"), "{said}");
    signal(heir, "TERM");
    assert!(until(TIME, || (!lives(heir)).then_some(())).is_some(), "{}", node.log());
}

#[test]
fn a_node_that_is_told_to_end_half_way_ends_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (mut node, http, heir) = half_way(folder.path());
    node.signal("TERM");
    let ended = node.first_ended_within(TIME);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", node.log());
    assert!(!lives(heir), "{}", node.log());
    assert!(get(http).is_none());
    assert_eq!(node.log().matches("lb is up").count(), 1, "the new one never was: {}", node.log());
}
