//! The whole infrastructure, as `tiebeam demo` runs it: what is killed comes back, and nothing acknowledged is lost.
//!
//! Each test has its own folder and ports; they share two cores, so they run one at a time (`.config/nextest.toml`).
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by ending.

use std::time::Duration;

use tiebeam_lab::{Demo, demo, processes_that_name, run, until};

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
    for signal in ["INT", "KILL"] {
        let kept = Kept::new(signal);
        let mut demo = Demo::start(&["--seconds", "60", "--keep", kept.text()]);
        let started = until(Duration::from_secs(30), || {
            (processes_that_name(&format!("{}/c", kept.text())).len() >= 2).then_some(())
        });
        assert!(started.is_some(), "the nodes did not start");
        demo.signal(signal);
        assert!(demo.ended_within(Duration::from_secs(40)).is_some(), "it did not end after SIG{signal}");
        let gone =
            until(Duration::from_secs(20), || processes_that_name(kept.text()).is_empty().then_some(()));
        assert!(gone.is_some(), "after SIG{signal}: {:?} are left", processes_that_name(kept.text()));
    }
}

#[test]
fn wrong_use_is_said_and_ends_with_two() {
    for (words, said) in [
        (&["demo", "--drill", "kill-everything"][..], "kill-primary"),
        (&["check", "/nonexistent.toml"], "/nonexistent.toml cannot be read"),
        (&["explain", "everything"], "round-robin"),
        (&["node", "--config", "/nonexistent.toml"], "cannot be read"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let output = run(words);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {talk}");
        assert!(talk.contains(said), "{words:?}: {talk}");
        assert!(output.stdout.is_empty());
    }
}
