//! The whole infrastructure, as `tiebeam demo` runs it: what is killed comes back, and nothing acknowledged is lost.
//!
//! Each test has its own folder and ports; they share two cores, so they run one at a time (`.config/nextest.toml`).
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by ending.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tiebeam_lab::{Demo, demo, get, lives, processes_that_name, run, signal, tiebeam, until};

/// A folder for `--keep` that is gone with the test.
struct Kept(std::path::PathBuf);

impl Kept {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tiebeam-lab-{name}-{}", std::process::id())))
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_kind_of_death_is_survived_and_nothing_is_left_running() {
    let kept = Kept::new("deaths");
    let words =
        "--seconds 5 --drill kill-app --drill kill-edge --drill kill-primary --drill kill-node --keep";
    let mut words: Vec<&str> = words.split(' ').collect();
    words.push(kept.text());
    let done = demo(&words);
    assert!(done.status.success(), "{}\n{}", done.receipt, done.talk);
    assert_eq!(done.lost(), Some(0), "{}", done.receipt);
    assert_eq!(done.receipt["stale_reads"], 0, "{}", done.receipt);
    let recovered = |name: &str| done.drill(name)["recovered_ms"].as_u64().unwrap();
    assert!(recovered("kill-primary") <= 3000, "{}", done.receipt);
    assert!(recovered("kill-node") <= 6000, "{}", done.receipt);
    for name in ["kill-primary", "kill-node"] {
        let epochs = &done.drill(name)["epoch"];
        assert!(epochs[1].as_u64() > epochs[0].as_u64(), "{}", done.receipt);
    }
    assert_eq!(processes_that_name(kept.text()), Vec::<u32>::new());
}

#[test]
fn all_nodes_killed_at_once_come_back_with_every_row() {
    let done = demo(&["--seconds", "3", "--drill", "kill-all"]);
    assert!(done.status.success(), "{}\n{}", done.receipt, done.talk);
    assert_eq!(done.lost(), Some(0), "{}", done.receipt);
}

#[test]
fn a_paused_agent_loses_its_primary_and_no_row() {
    let done = demo(&["--seconds", "3", "--drill", "pause-agent"]);
    assert!(done.status.success(), "{}\n{}", done.receipt, done.talk);
    assert_eq!(done.lost(), Some(0), "{}", done.receipt);
}

#[test]
fn the_checker_notices_lost_rows() {
    // Without synchronous replicas, what the streams had not carried when the node died is gone: the receipt must say so.
    let lossy = demo(&["--seconds", "2", "--durability", "async", "--drill", "kill-node-behind"]);
    assert!(lossy.lost().is_some_and(|n| n > 0), "{}\n{}", lossy.receipt, lossy.talk);
    assert_eq!(lossy.status.code(), Some(1), "{}", lossy.receipt);
    assert!(lossy.drill("kill-node-behind")["lost"].as_u64() > Some(0), "{}", lossy.receipt);
    // The same fault under the default durability loses nothing.
    let safe = demo(&["--seconds", "2", "--drill", "kill-node-behind"]);
    assert_eq!(safe.lost(), Some(0), "{}\n{}", safe.receipt, safe.talk);
}

#[test]
fn ends_by_ctrl_c_and_by_sigkill_without_a_trace() {
    // Ctrl-C while it starts, SIGKILL in the middle of a drill.
    for (signal, moment) in [("INT", "waiting: "), ("KILL", "kill-primary on ")] {
        let kept = Kept::new(signal);
        let mut demo = Demo::start(&kept.0, &["--seconds", "60", "--drill", "kill-primary"]);
        assert!(demo.says_within(Duration::from_secs(90), moment), "{}", demo.talk());
        demo.signal(signal);
        assert!(demo.ended_within(Duration::from_secs(40)).is_some(), "it did not end after SIG{signal}");
        let left = || processes_that_name(kept.text());
        let gone = until(Duration::from_secs(20), || left().is_empty().then_some(()));
        assert!(gone.is_some(), "after SIG{signal}: {:?} are left", left());
    }
}

#[test]
fn on_a_terminal_keys_are_heard_from_the_first_moment() {
    // script(1) gives it a terminal.
    let program = format!("stty rows 40 cols 120; exec {} demo", tiebeam().display());
    let mut shell = Command::new("script")
        .args(["-qefc", &program, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keys, mut output) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
    let screen = Arc::new(Mutex::new(String::new()));
    let drawn = screen.clone();
    let reader = std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = output.read(&mut piece) {
            drawn.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..n]));
        }
    });
    let shown = || screen.lock().unwrap().clone();
    let legend = until(Duration::from_secs(10), || shown().contains("[q]uit").then_some(()));
    keys.write_all(b"q").unwrap();
    let ended = until(Duration::from_secs(15), || shell.try_wait().unwrap());
    let _ = shell.kill();
    reader.join().unwrap();
    assert!(legend.is_some(), "nothing was drawn: {}", shown());
    assert_eq!(ended.and_then(|s| s.code()), Some(1), "{}", shown());
    let shown = shown();
    let after = shown.rsplit("\x1b[?1049l").next().unwrap();
    assert!(after.contains("ended before the cluster was up"), "not on the plain terminal: {shown}");
}

/// One run of load carries all of these, because its start is what takes time.
#[test]
fn a_running_demo_keeps_its_promises() {
    let kept = Kept::new("promises");
    let mut demo = Demo::start(&kept.0, &["--seconds", "600"]);
    let page = "first page after ";
    assert!(demo.says_within(Duration::from_secs(15), page), "no page within 15 s:\n{}", demo.talk());
    assert!(demo.says_within(Duration::from_secs(60), "whole after "), "{}", demo.talk());
    let console = demo.address("console").unwrap();
    let view = || -> Value { serde_json::from_str(&get(console, "/view.json").unwrap()).unwrap() };

    another_demo_stays_away(&kept, &demo);
    ports_in_use_are_named(&kept, console);
    metrics_add_up(&["a", "b", "c"].map(|node| console_of(&kept, node)));
    for (name, node) in view()["nodes"].as_object().unwrap() {
        let bytes = node["memory_bytes"].as_u64().unwrap();
        assert!(0 < bytes && bytes < 60_000_000, "the agent of {name} uses {bytes} bytes");
    }

    // Under load, a node that is told to end has ended within ten seconds, and all know that it was in order.
    let view_now = view();
    let leader = view_now["ledger"]["leader"].as_str().unwrap();
    let node = ["c", "b"].into_iter().find(|n| *n != leader).unwrap();
    let pid = demo.daemon(node).unwrap();
    signal(pid, "TERM");
    let ended = until(Duration::from_secs(10), || (!lives(pid)).then_some(()));
    assert!(ended.is_some(), "{node} did not end within 10 s");
    let known = until(Duration::from_secs(3), || view()["nodes"][node]["ended"].as_bool().filter(|e| *e));
    assert!(known.is_some(), "{}", view()["nodes"][node]);
    let back = until(Duration::from_secs(30), || {
        let node = &view()["nodes"][node];
        (node["alive"] == true && node["database"]["streaming"] == true).then_some(())
    });
    assert!(back.is_some(), "{}", view()["nodes"][node]);

    // The same without a quorum, when nothing can be written to the ledger any more.
    let others: Vec<u32> =
        ["a", "b", "c"].iter().filter(|n| **n != node).map(|n| demo.daemon(n).unwrap()).collect();
    let pid = demo.daemon(node).unwrap();
    others.iter().for_each(|p| signal(*p, "STOP"));
    let lost = until(Duration::from_secs(10), || (!quorum(&kept, node)).then_some(()));
    signal(pid, "TERM");
    let ended = until(Duration::from_secs(10), || (!lives(pid)).then_some(()));
    others.iter().for_each(|p| signal(*p, "CONT"));
    assert!(lost.is_some() && ended.is_some(), "without a quorum {node} did not end within 10 s");

    demo.signal("TERM");
    let status = demo.ended_within(Duration::from_secs(90));
    assert_eq!(status.and_then(|s| s.code()), Some(0), "{}", demo.talk());
    assert_eq!(demo.receipt()["writes"]["lost"], 0, "{}", demo.talk());
}

/// Where a node's console listens, by the demo's file.
fn console_of(kept: &Kept, node: &str) -> SocketAddr {
    let file = std::fs::read_to_string(kept.0.join("tiebeam.toml")).unwrap();
    let (_, listen) = file.split_once("[console]\nlisten = \":").unwrap();
    let port: u16 = listen.split('"').next().unwrap().parse().unwrap();
    SocketAddr::from(([127, 0, 0, 1 + (node.as_bytes()[0] - b'a')], port))
}

/// Whether a node's ledger has a quorum, as that node sees it.
fn quorum(kept: &Kept, node: &str) -> bool {
    get(console_of(kept, node), "/view.json").is_none_or(|view| view.contains(r#""quorum":true"#))
}

/// In the same folder it is refused, elsewhere it takes other ports.
fn another_demo_stays_away(kept: &Kept, first: &Demo) {
    let output = run(&["demo", "--headless", "--keep", kept.text()]);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{talk}");
    assert!(talk.contains("another demo runs in"), "{talk}");
    let elsewhere = Kept::new("second");
    let mut second = Demo::start(&elsewhere.0, &[]);
    assert!(second.says_within(Duration::from_secs(10), "the page "), "{}", second.talk());
    assert_ne!(second.address("page"), first.address("page"));
    assert_ne!(second.address("console"), first.address("console"));
    second.signal("TERM");
    let status = second.ended_within(Duration::from_secs(40));
    assert_eq!(status.and_then(|s| s.code()), Some(1), "{}", second.talk());
}

fn ports_in_use_are_named(kept: &Kept, console: SocketAddr) {
    let (file, data) = (kept.0.join("tiebeam.toml"), kept.0.join("elsewhere"));
    let words = ["node", "--name", "a", "--config", file.to_str().unwrap(), "--data", data.to_str().unwrap()];
    let output = run(&words);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{talk}");
    for setting in ["[edge] http", "[edge] https", "[sql] listen", "[ledger] port", "[database] port"] {
        assert!(talk.contains(&format!("{setting}: cannot listen on 127.0.0.1:")), "{setting}: {talk}");
    }
    assert!(
        talk.contains(&format!("[console] listen: cannot listen on {console}: another process")),
        "{talk}"
    );
}

/// Every node tells its own numbers only, so that a sum over all of them counts everything once.
fn metrics_add_up(consoles: &[SocketAddr]) {
    let mut seen = std::collections::BTreeSet::new();
    for at in consoles {
        let text = get(*at, "/metrics").unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        for line in text.lines().filter(|l| !l.starts_with('#') && !l.starts_with("tiebeam_cluster_")) {
            let series = line.rsplit_once(' ').unwrap().0.to_owned();
            assert!(seen.insert(series.clone()), "{series} comes from two nodes");
        }
    }
    for name in ["edge_refused", "edge_retries", "edge_log_lines_dropped", "sql_events", "events_dropped"] {
        let name = format!("tiebeam_{name}_total");
        assert!(seen.iter().any(|s| s.starts_with(&name)), "{name} is not told");
    }
}

#[test]
fn without_postgresql_the_package_is_named() {
    // Only root can take PostgreSQL's folder out of a process's sight, and not in every container.
    let hidden = "mount -t tmpfs none /usr/lib/postgresql && PATH=/usr/bin:/bin exec \"$0\" demo --headless";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", hidden]).arg(tiebeam()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    if talk.contains("unshare: ") || talk.contains("mount: ") {
        return eprintln!("not tried: {talk}");
    }
    assert_eq!(output.status.code(), Some(2), "{talk}");
    assert!(talk.contains("apt-get install postgresql"), "{talk}");
}

#[test]
fn the_commands_of_the_readme_are_there_and_do_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let commands: Vec<Vec<&str>> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("    tiebeam "))
        .map(|words| words.split('#').next().unwrap().split_whitespace().collect())
        .collect();
    assert!(commands.len() >= 5, "{commands:?}");
    let out = Kept::new("readme");
    for words in &commands {
        let words: Vec<&str> = words.iter().map(|w| if *w == "certs" { out.text() } else { w }).collect();
        let words = if words[0] == "node" { vec!["node", "--help"] } else { words };
        let output = Command::new(tiebeam()).args(&words).current_dir(&root).output().unwrap();
        let talk = String::from_utf8_lossy(&output.stderr);
        // Those that ask a cluster say that there is none here: that is an answer, not wrong use.
        let answers = if matches!(words[0], "status" | "explain") { &[0, 1][..] } else { &[0] };
        assert!(answers.contains(&output.status.code().unwrap()), "{words:?}: {talk}");
    }
    for node in ["a", "b", "c"] {
        assert!(out.0.join(node).join("node/node.key").is_file(), "{node}");
    }
}

#[test]
fn wrong_use_is_said_and_ends_with_two() {
    for (words, said) in [
        (&["demo", "--drill", "kill-everything"][..], "kill-primary"),
        (&["check", "/nonexistent.toml"], "/nonexistent.toml cannot be read"),
        (&["explain", "everything"], "round-robin"),
        (&["node", "--config", "/nonexistent.toml"], "cannot be read"),
        (&["explain", "failover", "--config", "/nonexistent.toml"], "cannot be read"),
        (&["status", "--config", "/nonexistent.toml"], "cannot be read"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let output = run(words);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {talk}");
        assert!(talk.contains(said), "{words:?}: {talk}");
        assert!(output.stdout.is_empty());
    }
}
