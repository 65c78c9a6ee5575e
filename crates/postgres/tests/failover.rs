//! Real PostgreSQL, real guards: a cluster is made, loses its primary in several ways, and no acknowledged row is lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use common::{Cluster, kill, node, signal};
use tiebeam_postgres::{Event, MemberRole};
use tiebeam_topology::{Durability, NodeName};

const LONG: Duration = Duration::from_secs(40);

/// Writes rows one after another to whoever `primary` names; remembers the last acknowledged number.
async fn write_rows(cluster: &Cluster, stop: &AtomicBool, acked: &AtomicI64, gap_ms: &AtomicI64) -> Vec<i64> {
    let mut rows = Vec::new();
    let mut n = 0;
    let mut last = Instant::now();
    let mut client = None;
    while !stop.load(Ordering::Relaxed) {
        let primary: Option<NodeName> = cluster
            .nodes
            .iter()
            .filter(|(_, n)| n.agent.is_some())
            .find_map(|(name, _)| cluster.state(name).primary.clone().filter(|p| p == name));
        if client.is_none()
            && let Some(primary) = primary
        {
            client = cluster.connect(&primary).await.ok();
        }
        n += 1;
        let done = match &client {
            Some(c) => {
                let sql = format!("INSERT INTO rows VALUES ({n})");
                matches!(
                    tokio::time::timeout(Duration::from_secs(1), c.batch_execute(&sql)).await,
                    Ok(Ok(()))
                )
            }
            None => false,
        };
        if done {
            gap_ms.fetch_max(last.elapsed().as_millis() as i64, Ordering::Relaxed);
            last = Instant::now();
            rows.push(n);
            acked.store(n, Ordering::Relaxed);
        } else {
            client = None;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    rows
}

async fn wait_for_rows(acked: &AtomicI64, after: i64) {
    let start = Instant::now();
    while acked.load(Ordering::Relaxed) <= after {
        assert!(start.elapsed() < LONG, "no row was written");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// One primary, and everybody else streams from it and counts.
fn settled(n: usize) -> impl Fn(&NodeName, &tiebeam_postgres::State) -> bool {
    move |name, s| {
        let Some(primary) = &s.primary else { return false };
        let role = if primary == name { MemberRole::Primary } else { MemberRole::Replica };
        let sync = s.members.values().filter(|m| m.sync).count();
        s.me.role == role && (primary == name || s.me.streaming) && sync == n - 1
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_loses_nothing() {
    let mut cluster = Cluster::new(&["a", "b", "c"], Durability::Quorum);
    let start = Instant::now();
    cluster.start_all().await;
    cluster.until("the cluster is made", LONG, settled(3)).await;
    eprintln!("made within {:?}", start.elapsed());
    let a = node("a");
    let admin = cluster.connect(&a).await.unwrap();
    admin.batch_execute("CREATE TABLE rows (n bigint)").await.unwrap();
    drop(admin);

    let (stop, acked, gap) = (AtomicBool::new(false), AtomicI64::new(0), AtomicI64::new(0));
    let drill = async {
        wait_for_rows(&acked, 50).await;
        gap.store(0, Ordering::Relaxed);
        kill(cluster.state(&a).me.pid.unwrap());
        let before = acked.load(Ordering::Relaxed);
        cluster
            .until("another is primary", LONG, |_, s| s.primary.as_ref().is_some_and(|p| *p != node("a")))
            .await;
        wait_for_rows(&acked, before + 20).await;
        eprintln!("PostgreSQL killed: {} ms without a write", gap.load(Ordering::Relaxed));
        cluster.until("a is back", LONG, settled(3)).await;
        wait_for_rows(&acked, acked.load(Ordering::Relaxed) + 20).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (rows, ()) = tokio::join!(write_rows(&cluster, &stop, &acked, &gap), drill);
    check_rows(&cluster, &rows).await;
    assert!(gap.load(Ordering::Relaxed) < 15_000, "the gap was {} ms", gap.load(Ordering::Relaxed));
    cluster.stop_all().await;
}

async fn check_rows(cluster: &Cluster, rows: &[i64]) {
    let primary = cluster
        .nodes
        .iter()
        .filter(|(_, n)| n.agent.is_some())
        .find_map(|(n, _)| cluster.state(n).primary.clone());
    let client = cluster.connect(&primary.unwrap()).await.unwrap();
    let there = client.query("SELECT n FROM rows", &[]).await.unwrap();
    let there: std::collections::BTreeSet<i64> = there.iter().map(|r| r.get(0)).collect();
    let lost: Vec<_> = rows.iter().filter(|n| !there.contains(n)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    eprintln!("{} rows acknowledged, all there", rows.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_replaced_when_its_lease_ends() {
    let mut cluster = Cluster::new(&["a", "b", "c"], Durability::Quorum);
    cluster.start_all().await;
    cluster.until("the cluster is made", LONG, settled(3)).await;
    let a = node("a");
    let admin = cluster.connect(&a).await.unwrap();
    admin.batch_execute("CREATE TABLE rows (n bigint)").await.unwrap();
    let rows: Vec<i64> = (1..50).collect();
    for n in &rows {
        admin.execute("INSERT INTO rows VALUES ($1)", &[n]).await.unwrap();
    }
    let guard = cluster.state(&a).me.guard_pid.unwrap();
    let agent = cluster.nodes.get_mut(&a).unwrap().agent.take().unwrap();
    agent.abort();
    kill(guard);
    let start = Instant::now();
    cluster
        .until("another is primary", LONG, |_, s| s.primary.as_ref().is_some_and(|p| *p != node("a")))
        .await;
    eprintln!("node killed: a new primary after {:?}", start.elapsed());
    check_rows(&cluster, &rows).await;
    cluster.start(&a).await;
    cluster.until("a is back", LONG, settled(3)).await;
    cluster.stop_all().await;
}

/// An agent that is replaced adopts what runs; a primary cut off from the ledger is stopped by its guard before another
/// takes over; a PostgreSQL that is stopped (SIGSTOP) is found by its missing writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_comes_back_a_ledger_is_lost_a_server_hangs() {
    let mut cluster = Cluster::new(&["a", "b", "c"], Durability::Strict);
    cluster.start_all().await;
    cluster.until("the cluster is made", LONG, settled(3)).await;
    let a = node("a");
    let admin = cluster.connect(&a).await.unwrap();
    admin.batch_execute("CREATE TABLE rows (n bigint); INSERT INTO rows VALUES (1)").await.unwrap();

    let pid = cluster.state(&a).me.pid;
    let agent = cluster.nodes.get_mut(&a).unwrap().agent.take().unwrap();
    agent.abort();
    cluster.start(&a).await;
    cluster.until("a goes on", LONG, settled(3)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let state = cluster.state(&a);
    assert_eq!(
        (state.me.pid, state.primary.as_ref(), state.lease.as_ref().unwrap().epoch.0),
        (pid, Some(&a), 1)
    );
    admin.batch_execute("INSERT INTO rows VALUES (2)").await.unwrap();

    cluster.nodes[&a].handle.cut(true);
    let others = |that: fn(&tiebeam_postgres::State) -> bool| {
        move |n: &NodeName, s: &tiebeam_postgres::State| n.as_str() == "a" || that(s)
    };
    let moved = others(|s| s.primary.as_ref().is_some_and(|p| p.as_str() != "a"));
    cluster.until("another is primary", LONG, moved).await;
    assert!(admin.batch_execute("INSERT INTO rows VALUES (3)").await.is_err(), "a was stopped before");
    cluster.nodes[&a].handle.cut(false);
    cluster.until("a is back", LONG, settled(3)).await;

    let second = cluster.state(&a).primary.clone().unwrap();
    let start = Instant::now();
    signal(cluster.state(&second).me.pid.unwrap(), libc::SIGSTOP);
    let epoch = cluster.state(&second).lease.as_ref().unwrap().epoch;
    cluster
        .until("another is primary again", LONG, |_, s| {
            s.primary.is_some() && s.lease.as_ref().is_some_and(|l| l.epoch > epoch)
        })
        .await;
    eprintln!("PostgreSQL stopped: another primary after {:?}", start.elapsed());
    cluster.until("all are back", LONG, settled(3)).await;
    check_rows(&cluster, &[1, 2]).await;
    cluster.stop_all().await;
}

/// A primary dies with rows that no replica has received, and comes back at once: they are kept in `forks/`, it is rewound
/// and follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returning_primary_with_a_fork_is_rewound() {
    let mut cluster = Cluster::new(&["a", "b", "c"], Durability::Quorum);
    cluster.start_all().await;
    cluster.until("the cluster is made", LONG, settled(3)).await;
    let a = node("a");
    let admin = cluster.connect(&a).await.unwrap();
    admin.batch_execute("CREATE TABLE rows (n bigint); INSERT INTO rows VALUES (1)").await.unwrap();
    let mut streams = Vec::new();
    for replica in ["b", "c"].map(node) {
        let client = cluster.connect(&replica).await.unwrap();
        let row = client.query_one("SELECT pid FROM pg_stat_wal_receiver", &[]).await.unwrap();
        streams.push(row.get::<_, i32>(0) as u32);
    }
    streams.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
    let fork = "SET synchronous_commit = local; INSERT INTO rows SELECT generate_series(1000, 9000)";
    admin.batch_execute(fork).await.unwrap();
    let guard = cluster.state(&a).me.guard_pid.unwrap();
    let agent = cluster.nodes.get_mut(&a).unwrap().agent.take().unwrap();
    agent.abort();
    kill(guard);
    // What is still in their sockets dies with them.
    streams.into_iter().for_each(kill);
    let moved =
        |_: &NodeName, s: &tiebeam_postgres::State| s.primary.as_ref().is_some_and(|p| *p != node("a"));
    cluster.until("another is primary", LONG, moved).await;
    cluster.start(&a).await;
    let mut events = cluster.nodes[&a].agent.as_ref().unwrap().events().unwrap();
    cluster.until("a is back", LONG, settled(3)).await;
    check_rows(&cluster, &[1]).await;

    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(event);
    }
    assert!(told.iter().any(|e| matches!(e, Event::Rewound { .. })), "{told:?}");
    assert!(!told.iter().any(|e| matches!(e, Event::Cloned { .. } | Event::Failed { .. })), "{told:?}");
    let forks = cluster.nodes[&a].settings.data.join("forks");
    let kept = std::fs::read_dir(forks).unwrap().next().unwrap().unwrap().path();
    assert!(std::fs::read_to_string(kept.join("records.txt")).unwrap().contains("INSERT"));
    let client = cluster.connect(&a).await.unwrap();
    let mine = client.query_one("SELECT count(*) FROM rows WHERE n >= 1000", &[]).await.unwrap();
    assert_eq!(mine.get::<_, i64>(0), 0, "what only a had is in the fork, not in the database");
    cluster.stop_all().await;
}

/// A small file system of its own, as a disk that can be filled.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &std::path::Path, size: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=755");
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at);
        assert!(mount.status().unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The disk of the primary fills up: it says so and stops acknowledging, another takes over with every row; when there is
/// room again it comes back by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_moves_the_primary_and_harms_nothing() {
    // SAFETY: no arguments, cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("only root can mount a small disk: not tested");
        return;
    }
    let mut cluster = Cluster::new(&["a", "b", "c"], Durability::Quorum);
    let a = node("a");
    let data = cluster.nodes[&a].settings.data.clone();
    let _disk = SmallDisk::mount(&data, "400m");
    cluster.start_all().await;
    let mut events = cluster.nodes[&a].agent.as_ref().unwrap().events().unwrap();
    cluster.until("the cluster is made", LONG, settled(3)).await;
    let admin = cluster.connect(&a).await.unwrap();
    admin.batch_execute("CREATE TABLE rows (n bigint); INSERT INTO rows VALUES (0)").await.unwrap();
    let fill = data.join("fill");
    let mut filler = std::fs::File::create(&fill).unwrap();
    let zeros = vec![0; 1 << 20];
    while std::io::Write::write_all(&mut filler, &zeros).is_ok() {}
    drop(filler);
    // A row fits into its page; a megabyte of log each soon needs a new segment, without which PostgreSQL ends.
    let mut rows = vec![0];
    for n in 1..100 {
        let write = format!(
            "INSERT INTO rows VALUES ({n}); SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))"
        );
        if admin.batch_execute(&write).await.is_err() {
            break;
        }
        rows.push(n);
    }
    assert!(rows.len() < 100, "the disk was never full");
    let moved =
        |_: &NodeName, s: &tiebeam_postgres::State| s.primary.as_ref().is_some_and(|p| *p != node("a"));
    cluster.until("another is primary", LONG, moved).await;
    check_rows(&cluster, &rows).await;
    std::fs::remove_file(&fill).unwrap();
    cluster.until("a is back", LONG, settled(3)).await;
    check_rows(&cluster, &rows).await;
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(event.to_string());
    }
    let says = |what: &str| told.iter().any(|t| t.contains(what));
    assert!(says("MiB left): make room there") && says("there is room on the disk again"), "{told:#?}");
    cluster.stop_all().await;
}

/// What another cluster or another version has made is not this cluster's to change, and is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_data_is_refused_and_left_untouched() {
    let mut other = Cluster::new(&["a"], Durability::Quorum);
    other.start_all().await;
    other.until("the other cluster is made", LONG, settled(1)).await;
    other.stop_all().await;
    let mut cluster = Cluster::new(&["a", "b"], Durability::Quorum);
    let (a, b) = (node("a"), node("b"));
    let data = cluster.nodes[&b].settings.data.clone();
    let copied =
        std::process::Command::new("cp").arg("-a").arg(&other.nodes[&a].settings.data).arg(&data).status();
    assert!(copied.unwrap().success());
    let control = data.join("main/global/pg_control");
    let before = std::fs::read(&control).unwrap();
    cluster.start_all().await;
    let refused = |what: &'static str| {
        move |n: &NodeName, s: &tiebeam_postgres::State| {
            n.as_str() == "a" || s.me.note.as_ref().is_some_and(|note| note.contains(what))
        }
    };
    cluster.until("b says so", LONG, refused("holds another database")).await;
    assert_eq!(std::fs::read(&control).unwrap(), before);

    let agent = cluster.nodes.get_mut(&b).unwrap().agent.take().unwrap();
    agent.shutdown(tiebeam_postgres::Shutdown::Stop).await;
    std::fs::write(data.join("main/PG_VERSION"), "99\n").unwrap();
    cluster.start(&b).await;
    cluster.until("b says so", LONG, refused("was made by PostgreSQL 99")).await;
    assert_eq!(std::fs::read(&control).unwrap(), before);
    cluster.stop_all().await;
}
