//! Nodes that are killed with SIGKILL at any moment: every write that was acknowledged is there afterwards.
//!
//! The test runs itself again as the node. The child alone writes counters and prints each one that was acknowledged; the
//! three write into one list, each its own counters, and the parent leads their wires to where they listen.

#![allow(clippy::unwrap_used)] // A test may panic.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::Rng;
use support::{Authority, Cluster, Member, alone, eventually, key};
use tempfile::TempDir;
use tiebeam_ledger::{Embedded, Read, Store, Txn};

const ROUNDS: usize = 24;
const ROUNDS_MAX: usize = 240;
/// Writes that must have been acknowledged for the kills to mean anything.
const ENOUGH: usize = 100;
/// Names the data directory to the child.
const CHILD: &str = "TIEBEAM_LEDGER_TEST_CHILD";

fn settings(directory: &std::path::Path) -> tiebeam_ledger::Settings {
    let mut settings = alone(&Authority::new(), directory);
    // So that snapshots and purges are under way at many of the kills.
    settings.limits.snapshot_entries = 16;
    settings
}

/// Does nothing unless it is the child.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let node = Embedded::open(settings(directory.as_ref())).await.unwrap();
    let mut written = node.list("n/", Read::Linear).await.unwrap().entries.len();
    loop {
        node.transact(Txn::put(key(&format!("n/{written:08}")), written.to_string())).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nacknowledged {written}").unwrap();
        out.flush().unwrap();
        written += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_write_survives_a_kill_at_any_moment() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("ledger");
    let mut acknowledged = 0usize;
    // A slow disk acknowledges little in the life of a child; then more of them are killed.
    for round in 0..ROUNDS_MAX {
        if round >= ROUNDS && acknowledged > ENOUGH {
            break;
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, &data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = tokio::task::spawn_blocking(move || {
            let numbers =
                lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("acknowledged ")?.parse().ok());
            numbers.last()
        });
        // Within the start, the election, or the writing.
        let life_ms = rand::rng().random_range(0..if round % 3 == 0 { 120 } else { 450 });
        tokio::time::sleep(Duration::from_millis(life_ms)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(last) = reader.await.unwrap() {
            let last: usize = last;
            acknowledged = acknowledged.max(last + 1);
        }
        if round % 6 == 5 {
            holds(&data, acknowledged).await;
        }
    }
    holds(&data, acknowledged).await;
    assert!(acknowledged > ENOUGH, "only {acknowledged} writes: the kills came too early to mean anything");
}

async fn holds(data: &std::path::Path, acknowledged: usize) {
    let node = Embedded::open(settings(data)).await.unwrap();
    eventually("it leads itself", || node.status().leader).await;
    let listing = node.list("n/", Read::Linear).await.unwrap();
    assert!(listing.entries.len() >= acknowledged, "{} of {acknowledged}", listing.entries.len());
    for (number, entry) in listing.entries.iter().enumerate() {
        assert_eq!(entry.key, key(&format!("n/{number:08}")), "no gap");
        assert_eq!(entry.value, number.to_string().into_bytes());
    }
    node.shutdown().await;
}

/// Names its node to a child of three, and the file with everything else.
const MEMBER: &str = "TIEBEAM_LEDGER_TEST_MEMBER";
/// How long the three are killed in turn.
const KILLING: Duration = Duration::from_secs(8);

/// Does nothing unless it is a child of three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member() {
    let Some(plan) = std::env::var_os(MEMBER) else { return };
    let member = Member::read(plan.as_ref());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{line}").unwrap();
        out.flush().unwrap();
    };
    say(format!("listens {}", listener.local_addr().unwrap()));
    let node = Embedded::open_on(member.settings(), listener).await.unwrap();
    for number in 0u64.. {
        // A life of this node never uses the numbers of another.
        let at = format!("n/{}/{:?}/{number}", member.node, member.life);
        let put = Txn::put(key(&at), number.to_string());
        while node.transact(put.clone()).await.is_err() {}
        say(format!("acknowledged {at}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_is_killed_again_and_again_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::new(&["a", "b", "c"], 3, |s| s.limits.snapshot_entries = 64).await;
    let mut children = std::collections::BTreeMap::new();
    let mut acknowledged = Vec::new();
    let mut life = 0;
    let begun = std::time::Instant::now();
    while begun.elapsed() < KILLING {
        for node in ["a", "b", "c"] {
            if !children.contains_key(node) {
                life += 1;
                children.insert(node, Child::start(&mut cluster, node, life).await);
            }
        }
        let life_ms = rand::rng().random_range(0..1500);
        tokio::time::sleep(Duration::from_millis(life_ms)).await;
        let node = ["a", "b", "c"][rand::rng().random_range(0..3)];
        acknowledged.extend(children.remove(node).unwrap().kill());
        cluster.gone(node);
    }
    for (node, child) in children {
        acknowledged.extend(child.kill());
        cluster.gone(node);
    }
    for node in ["a", "b", "c"] {
        cluster.start(node).await;
    }
    cluster.leader().await;
    for node in ["a", "b", "c"] {
        let listing = cluster.node(node).list("n/", Read::Linear).await.unwrap();
        let found: std::collections::BTreeSet<_> =
            listing.entries.iter().map(|entry| entry.key.as_str()).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|at| !found.contains(at.as_str())).collect();
        assert!(lost.is_empty(), "{node} lacks {} of {}: {lost:?}", lost.len(), acknowledged.len());
    }
    assert!(!acknowledged.is_empty(), "nothing was acknowledged");
    cluster.stop_all().await;
}

/// A node of three in a process of its own.
struct Child {
    process: std::process::Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Child {
    async fn start(cluster: &mut Cluster, node: &str, life: u64) -> Self {
        let plan = cluster.directory.path().join(format!("{node}.plan"));
        Member::of(cluster, node, life).write(&plan);
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["member", "--exact", "--nocapture", "--test-threads=1"])
            .env(MEMBER, &plan)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (said, lines) = std::sync::mpsc::channel();
        let out = BufReader::new(process.stdout.take().unwrap()).lines();
        std::thread::spawn(move || out.map_while(Result::ok).try_for_each(|line| said.send(line)));
        let address = eventually("the child listens", || {
            lines.try_iter().find_map(|line| line.strip_prefix("listens ")?.parse().ok())
        });
        let address = address.await;
        cluster.listens(node, address);
        Self { process, lines }
    }

    /// Ends it at once; gives the keys that it had acknowledged.
    fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.lines.iter().filter_map(|line| Some(line.strip_prefix("acknowledged ")?.to_owned())).collect()
    }
}

impl Drop for Child {
    /// Also when the test fails.
    fn drop(&mut self) {
        // Killed already, mostly.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
