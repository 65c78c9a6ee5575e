//! A node that is killed with SIGKILL at any moment has every write that it acknowledged when it is opened again.
//!
//! The test runs itself again as the node: the child writes counters and prints each one that was acknowledged.

#![allow(clippy::unwrap_used)] // A test may panic.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::Rng;
use support::{Authority, alone, eventually, key};
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
