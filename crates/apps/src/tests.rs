//! Real processes, small ones: `sh`, and this test binary itself, which stands in for servers and for a dying agent.
//!
//! Nothing here waits for a fixed time: every step waits for what it is about, and the test runner bounds the whole.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::num::NonZeroU16;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use tiebeam_topology::{App, HealthCheck};
use tokio::sync::mpsc;

use super::*;
use crate::settings::Bounds;

/// Set, it makes this binary's `helper` another program.
const HELPER: &str = "TIEBEAM_TEST_HELPER";
const PATIENCE: Duration = Duration::from_secs(30);

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn settings(&self, command: &[&str]) -> Settings {
        let app = App {
            command: command.iter().map(|s| (*s).to_owned()).collect(),
            instances: NonZeroU16::new(1).unwrap(),
            env: BTreeMap::new(),
            stop_time: PATIENCE,
            // Whoever runs the tests: their folders are closed to others.
            user: rustix::process::geteuid().is_root().then(|| "root".to_owned()),
        };
        Settings {
            node: "a".parse().unwrap(),
            address: own_address(),
            apps: BTreeMap::from([("web".parse().unwrap(), app)]),
            env: BTreeMap::new(),
            log_dir: self.path().join("logs"),
            folder: self.path().to_owned(),
            health: BTreeMap::new(),
            descriptors: None,
        }
    }

    /// A server: this binary, which answers the health check with the status in the file `status`.
    fn server(&self) -> Settings {
        let me = std::env::current_exe().unwrap();
        let mut settings = self.settings(&[me.to_str().unwrap(), "tests::helper", "--exact", "--nocapture"]);
        web(&mut settings).env.insert(HELPER.into(), "serve".into());
        let check = HealthCheck {
            path: Some("/healthz".into()),
            every: Duration::from_millis(20),
            timeout: PATIENCE,
            fall: 2,
            rise: 2,
        };
        settings.health.insert("web".parse().unwrap(), check);
        self.answer(200);
        settings
    }

    /// Changes the answer at once, never to half a file.
    fn answer(&self, status: u16) {
        fs::write(self.path().join("status.new"), status.to_string()).unwrap();
        fs::rename(self.path().join("status.new"), self.path().join("status")).unwrap();
    }
}

/// A loopback address that no other test uses: a port that is free on it stays so. Whoever holds its port
/// `CLAIM_PORT` has it; this process does until it ends.
fn own_address() -> IpAddr {
    const CLAIM_PORT: u16 = 4077;
    static CLAIMS: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    for [high, low] in (0..u16::MAX).map(u16::to_be_bytes) {
        let ip = IpAddr::from([127, 77, high, low]);
        if let Ok(claim) = UdpSocket::bind((ip, CLAIM_PORT)) {
            CLAIMS.lock().unwrap().push(claim);
            return ip;
        }
    }
    panic!("no loopback address is free")
}

fn web(settings: &mut Settings) -> &mut App {
    settings.apps.get_mut(&"web".parse().unwrap()).unwrap()
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event in time").expect("an event")
}

async fn until(supervisor: &Supervisor, what: impl FnMut(&Vec<Instance>) -> bool) -> Vec<Instance> {
    let mut instances = supervisor.instances();
    let seen = tokio::time::timeout(PATIENCE, instances.wait_for(what)).await;
    seen.expect("instances in time").expect("a supervisor").clone()
}

/// Waits for a file that a process writes by renaming it into place.
async fn read_when_there(path: &Path) -> String {
    let there = async {
        loop {
            match fs::read_to_string(path) {
                Ok(text) => return text,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("the file in time")
}

/// A process that has ended may still be there as a zombie, until whoever inherits it has seen that.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with(['Z', 'X']))
}

async fn ends(pid: u32) {
    let ended = async {
        while runs(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the process should have ended");
}

#[tokio::test]
async fn a_crash_loop_waits_longer_each_time_and_quotes_the_output() {
    let bench = Bench::new();
    let mut supervisor =
        Supervisor::start(bench.settings(&["sh", "-c", "echo out; echo err >&2; exit 3"])).unwrap();
    let mut events = supervisor.events().unwrap();
    for wait in [200, 400, 800] {
        assert!(matches!(next(&mut events).await.what, Happening::Ready { .. }));
        let event = next(&mut events).await;
        let Happening::Exited { status, next_start, said, .. } = &event.what else { panic!("{event}") };
        assert_eq!((status.code(), next_start.as_millis()), (Some(3), wait), "{event}");
        assert_eq!(said, &["out", "err"]);
    }
    // It may have been started once more by now: what follows holds then too.
    let now = until(&supervisor, |i| matches!(i[0].state, State::Backoff { .. })).await;
    assert!(now[0].restarts >= 2 && now[0].pid.is_none(), "{now:?}");
    supervisor.shutdown(PATIENCE).await;
    let log = fs::read_to_string(bench.path().join("logs/web.1.log")).unwrap();
    assert!(log.starts_with(&"out\nerr\n".repeat(3)), "{log}");
}

#[tokio::test]
async fn what_an_app_prints_of_its_secrets_is_told_to_nobody() {
    let bench = Bench::new();
    let script = "echo 1; echo $DATABASE_URL; echo no entry for pw-s3cr3t; exit 1";
    let mut settings = bench.settings(&["sh", "-c", script]);
    settings.env.insert("DATABASE_URL".into(), Secret::new("postgres://app:pw-s3cr3t@127.0.0.1/app"));
    let mut supervisor = Supervisor::start(settings).unwrap();
    let mut events = supervisor.events().unwrap();
    loop {
        let event = next(&mut events).await;
        assert!(!event.to_string().contains("s3cr3t"), "{event}");
        if matches!(event.what, Happening::Exited { .. }) {
            assert!(event.to_string().ends_with("it last printed: *** | no entry for ***"), "{event}");
            break;
        }
    }
    supervisor.shutdown(PATIENCE).await;
    assert!(fs::read_to_string(bench.path().join("logs/web.1.log")).unwrap().contains("pw-s3cr3t"));
}

/// Only root can give its rights away; for others there is nothing to see.
#[tokio::test]
async fn an_app_of_root_runs_as_nobody_unless_the_file_says_otherwise() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // SAFETY: three numbers, and a pointer to them. The groups of a login, which must not reach the app.
    assert_eq!(unsafe { libc::setgroups(3, [4, 24, 27].as_ptr()) }, 0);
    let bench = Bench::new();
    fs::set_permissions(bench.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = user::of_app(None).unwrap().unwrap();
    for (wanted, uid, gid, groups) in
        [(None, nobody.uid, nobody.gid, ""), (Some("root".to_owned()), 0, 0, "4 24 27")]
    {
        let mut settings = bench.settings(&["sleep", "1000"]);
        web(&mut settings).user = wanted;
        let supervisor = Supervisor::start(settings).unwrap();
        let pid = until(&supervisor, |i| i.first().is_some_and(|i| i.pid.is_some())).await[0].pid.unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let ids = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        // Real, effective, saved and file system's (proc_pid_status(5)).
        assert_eq!(ids("Uid:"), format!("{uid} {uid} {uid} {uid}"));
        assert_eq!(ids("Gid:"), format!("{gid} {gid} {gid} {gid}"));
        assert_eq!(ids("Groups:"), groups);
        supervisor.shutdown(PATIENCE).await;
    }
    // A folder that is closed to that user is told of, with what to do.
    fs::set_permissions(bench.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut settings = bench.settings(&["sleep", "1000"]);
    web(&mut settings).user = None;
    let mut supervisor = Supervisor::start(settings).unwrap();
    let event = next(&mut supervisor.events().unwrap()).await.to_string();
    assert!(event.contains("as the user nobody, who must be able to enter"), "{event}");
    supervisor.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn who_ends_before_it_is_ready_gets_another_port() {
    let bench = Bench::new();
    let mut settings = bench.server();
    web(&mut settings).command = ["sh", "-c", "exit 1"].map(str::to_owned).into();
    let supervisor = Supervisor::start(settings).unwrap();
    let port = |i: &Vec<Instance>| i[0].address.port();
    let first = port(&until(&supervisor, |i| i.len() == 1).await);
    until(&supervisor, |i| i[0].restarts >= 1 && port(i) != first).await;
    supervisor.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn who_is_not_even_ended_by_sigkill_is_left_to_the_kernel() {
    let bench = Bench::new();
    let mut settings =
        bench.settings(&["sh", "-c", "trap '' TERM; echo > new; mv new up; while :; do wait; done"]);
    web(&mut settings).stop_time = Duration::ZERO;
    // Nothing here can hold a process as a dead disk does; without any patience its end comes too late as well.
    let bounds = Bounds { give_up_time: Duration::ZERO, ..Bounds::default() };
    let mut supervisor = Supervisor::start_with(settings, bounds).unwrap();
    let mut events = supervisor.events().unwrap();
    read_when_there(&bench.path().join("up")).await;
    let pid = until(&supervisor, |i| i.len() == 1).await[0].pid.unwrap();
    supervisor.shutdown(PATIENCE).await;
    let mut told = Vec::new();
    while let Some(event) = events.recv().await {
        told.push(event.what);
    }
    let abandoned = Happening::Abandoned { pid, after: Duration::ZERO };
    assert_eq!(told.last(), Some(&abandoned), "{told:?}");
    ends(pid).await;
}

#[tokio::test]
async fn the_environment_is_what_was_given_and_nothing_else() {
    let bench = Bench::new();
    let mut settings = bench.settings(&["sh", "-c", "env > new; mv new env; exec sleep 1000"]);
    settings.env.insert("DATABASE_URL".into(), Secret::new("postgres://secret"));
    settings.env.insert("MODE".into(), Secret::new("theirs"));
    web(&mut settings).env.insert("MODE".into(), "own".into());
    let supervisor = Supervisor::start(settings).unwrap();
    let text = read_when_there(&bench.path().join("env")).await;
    let env: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
    let instances = until(&supervisor, |i| i.len() == 1).await;
    let (host, port) = (instances[0].address.ip().to_string(), instances[0].address.port().to_string());
    for (key, value) in [
        ("PORT", port.as_str()),
        ("HOST", host.as_str()),
        ("DATABASE_URL", "postgres://secret"),
        ("MODE", "own"),
        ("TIEBEAM_NODE", "a"),
        ("TIEBEAM_INSTANCE", "web.1"),
    ] {
        assert_eq!(env.get(key), Some(&value), "{key}");
    }
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "the agent has more than it gives");
    // `_`, `PWD` and `SHLVL` are the shell's own.
    let given = [
        "DATABASE_URL",
        "HOME",
        "HOST",
        "LANG",
        "MODE",
        "PATH",
        "PORT",
        "TIEBEAM_INSTANCE",
        "TIEBEAM_NODE",
        "TZ",
    ];
    let extra: Vec<_> =
        env.keys().filter(|k| !given.contains(k) && !["_", "PWD", "OLDPWD", "SHLVL"].contains(k)).collect();
    assert!(extra.is_empty(), "{extra:?}");
    supervisor.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn the_limit_of_descriptors_is_what_was_given_or_else_the_agents() {
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let shown = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
    for (given, soft) in [(Some(123), Some(123)), (None, own.current)] {
        let bench = Bench::new();
        let script = "echo $(ulimit -Sn) $(ulimit -Hn) > new; mv new limits; sleep 1000";
        let settings = Settings { descriptors: given, ..bench.settings(&["sh", "-c", script]) };
        let supervisor = Supervisor::start(settings).unwrap();
        let expected = format!("{} {}\n", shown(soft), shown(own.maximum));
        assert_eq!(read_when_there(&bench.path().join("limits")).await, expected);
        supervisor.shutdown(PATIENCE).await;
    }
}

#[tokio::test]
async fn what_is_not_found_is_told_once_with_the_paths_that_were_tried() {
    let bench = Bench::new();
    let mut supervisor = Supervisor::start(bench.settings(&["bin/server"])).unwrap();
    let mut events = supervisor.events().unwrap();
    let text = next(&mut events).await.to_string();
    let tried = bench.path().join("bin/server").display().to_string();
    assert_eq!(
        text,
        format!(
            "web.1 on a cannot be started: the program \"bin/server\" was not found; tried {tried}; next try in 0.2 s"
        )
    );
    // It is tried again, and found: nothing else is told in between.
    fs::create_dir(bench.path().join("bin")).unwrap();
    std::os::unix::fs::symlink("/bin/cat", bench.path().join("bin/server")).unwrap();
    let event = next(&mut events).await;
    assert!(matches!(event.what, Happening::Ready { .. }), "{event}");
    supervisor.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_server_is_ready_unhealthy_and_ready_again_and_keeps_its_port() {
    let bench = Bench::new();
    let mut supervisor = Supervisor::start(bench.server()).unwrap();
    let mut events = supervisor.events().unwrap();
    let ready = |event: Event| assert!(matches!(event.what, Happening::Ready { .. }), "{event}");
    ready(next(&mut events).await);
    let before = until(&supervisor, |i| i[0].state == State::Ready).await[0].clone();

    bench.answer(500);
    let event = next(&mut events).await;
    assert!(event.to_string().contains("failed 2 health checks in a row"), "{event}");
    assert!(event.to_string().ends_with("was answered 500"), "{event}");
    let sick = until(&supervisor, |i| i[0].state == State::Unhealthy).await[0].clone();
    assert_eq!(sick.pid, before.pid, "an unhealthy instance is not restarted");
    bench.answer(204);
    ready(next(&mut events).await);

    rustix::process::kill_process(
        rustix::process::Pid::from_raw(before.pid.unwrap() as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let mut event = next(&mut events).await;
    // Its checks may fail before its end is seen.
    if matches!(event.what, Happening::Unhealthy { .. }) {
        event = next(&mut events).await;
    }
    assert!(event.to_string().contains("was killed (signal 9)"), "{event}");
    ready(next(&mut events).await);
    let after = until(&supervisor, |i| i[0].state == State::Ready && i[0].restarts == 1).await[0].clone();
    assert_ne!(after.pid, before.pid);
    assert_eq!(after.address, before.address);
    supervisor.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn who_does_not_open_its_port_is_told_of_with_what_it_printed() {
    let bench = Bench::new();
    let mut settings = bench.server();
    let command = ["sh", "-c", "echo listening elsewhere; exec sleep 1000"];
    web(&mut settings).command = command.map(str::to_owned).into();
    let bounds = Bounds { open_time: Duration::from_millis(500), ..Bounds::default() };
    let mut supervisor = Supervisor::start_with(settings, bounds).unwrap();
    let mut events = supervisor.events().unwrap();
    let event = next(&mut events).await;
    let Happening::NotOpened { port, why, .. } = &event.what else { panic!("{event}") };
    assert_eq!(*port, until(&supervisor, |i| i.len() == 1).await[0].address.port());
    assert!(why.ends_with("nothing listens there"), "{event}");
    supervisor.shutdown(PATIENCE).await;
    let event = next(&mut events).await;
    assert!(matches!(event.what, Happening::Stopped { killed: false, .. }), "{event}");
}

#[tokio::test]
async fn who_ignores_the_request_to_stop_is_killed_with_its_children() {
    let bench = Bench::new();
    let script = "trap '' TERM; sleep 1000 & echo $! > new; mv new child; while :; do wait; done";
    let mut settings = bench.settings(&["sh", "-c", script]);
    web(&mut settings).stop_time = Duration::from_millis(100);
    let mut supervisor = Supervisor::start(settings).unwrap();
    let mut events = supervisor.events().unwrap();
    let child: u32 = read_when_there(&bench.path().join("child")).await.trim().parse().unwrap();
    let parent = until(&supervisor, |i| i.len() == 1).await[0].pid.unwrap();
    assert!(runs(child) && runs(parent));
    supervisor.shutdown(PATIENCE).await;
    let mut last = next(&mut events).await;
    while let Ok(event) = events.try_recv() {
        last = event;
    }
    assert!(matches!(last.what, Happening::Stopped { killed: true, .. }), "{last}");
    ends(child).await;
    ends(parent).await;
}

#[tokio::test]
async fn a_child_may_end_its_work_though_its_parent_ended_at_once() {
    let bench = Bench::new();
    // The shell dies of SIGTERM at once; what it started finishes something first.
    let child = "trap 'echo done > new; mv new finished; exit' TERM; echo > new2; mv new2 up; while :; do sleep 0.01; done";
    let script = format!("sh -c \"{child}\" & wait");
    let supervisor = Supervisor::start(bench.settings(&["sh", "-c", &script])).unwrap();
    read_when_there(&bench.path().join("up")).await;
    supervisor.shutdown(PATIENCE).await;
    assert_eq!(fs::read_to_string(bench.path().join("finished")).unwrap(), "done\n");
}

#[tokio::test]
async fn what_a_crashed_instance_leaves_behind_is_ended() {
    let bench = Bench::new();
    let script = "sleep 1000 & echo $! > new; mv new child; exit 1";
    let mut supervisor = Supervisor::start(bench.settings(&["sh", "-c", script])).unwrap();
    let mut events = supervisor.events().unwrap();
    let child: u32 = read_when_there(&bench.path().join("child")).await.trim().parse().unwrap();
    while !matches!(next(&mut events).await.what, Happening::Exited { .. }) {}
    ends(child).await;
    supervisor.shutdown(PATIENCE).await;
}

#[test]
fn the_death_of_the_agent_leaves_nothing() {
    let bench = Bench::new();
    let me = std::env::current_exe().unwrap();
    let mut agent = std::process::Command::new(me)
        .args(["tests::helper", "--exact", "--nocapture"])
        .env(HELPER, "agent")
        .current_dir(bench.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pids = read_when_there(&bench.path().join("pids")).await;
        let pids: Vec<u32> = pids.split_whitespace().map(|p| p.parse().unwrap()).collect();
        assert_eq!(pids.len(), 2);
        assert!(pids.iter().all(|pid| runs(*pid)));
        agent.kill().unwrap();
        agent.wait().unwrap();
        for pid in pids {
            ends(pid).await;
        }
    });
}

/// Not a test unless told what to be: the programs that the tests above start.
#[test]
fn helper() {
    match std::env::var(HELPER).as_deref() {
        Ok("serve") => serve(),
        Ok("agent") => agent(),
        _ => {}
    }
}

/// Answers each connection to PORT with the status in the file `status`, until it is stopped.
fn serve() {
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let host: IpAddr = std::env::var("HOST").unwrap().parse().unwrap();
    let listener = TcpListener::bind((host, port)).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let status = fs::read_to_string("status").unwrap();
        let _ = write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
    }
}

/// An agent with an app that starts a child; it tells nobody to stop.
fn agent() {
    let dir = std::env::current_dir().unwrap();
    let bench = Bench { dir: tempfile::tempdir_in(&dir).unwrap() };
    let script = "trap '' TERM; sleep 1000 & echo $$ $! > ../new; mv ../new ../pids; while :; do wait; done";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let _supervisor = Supervisor::start(bench.settings(&["sh", "-c", script])).unwrap();
        std::future::pending::<()>().await;
    });
}
