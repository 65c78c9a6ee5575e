//! Tests of one node from within: its disk hangs, or its file is new and others ask for its vote.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use openraft::EntryPayload;
use openraft::raft::VoteRequest;

use super::*;
use crate::Peer as Node;
use crate::disk::Change;
use crate::disk::gate::{self, Gate};
use crate::raft::{LogEntry, LogId, Vote};
use crate::state::Proposal;
use crate::wire::message::Refusal;

/// A node that reaches no other, so that no peer's certificate matters. All of `voters` vote.
fn settings(data: &Path, voters: &[&str]) -> Settings {
    let (server, client) = crate::wire::testing::tls("b.test", "b.test");
    let (node, listen) = ("b".parse().unwrap(), ([127, 0, 0, 1], 0).into());
    let peer = Node { address: ([127, 0, 0, 1], 1).into(), identity: "b.test".into(), voter: true };
    let peers = voters.iter().map(|voter| (voter.parse().unwrap(), peer.clone())).collect();
    let cluster = "shop".parse().unwrap();
    Settings::new(cluster, node, listen, peers, data.to_owned(), server, client)
}

async fn start(directory: &TempDir, voters: &[&str], gate: Arc<Gate>) -> Arc<Embedded> {
    let settings = settings(&directory.path().join("ledger"), voters);
    // Every node of these tests has an authority of its own.
    let owner = Owner { authority: None, ..owner(&settings) };
    let disk = gate::open(&settings.data, &owner, gate);
    let listener = TcpListener::bind(settings.listen).await.unwrap();
    Embedded::start(settings, Some(listener), disk).await.unwrap()
}

async fn status(node: &Embedded, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let status = node.status();
        if holds(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "not within 10 s: {what}: {status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_a_hung_disk_is_none_and_leads_again_when_it_answers() {
    let (directory, gate) = (TempDir::new().unwrap(), Arc::new(Gate::default()));
    let node = start(&directory, &["b"], gate.clone()).await;
    status(&node, "it leads", |s| s.leader.is_some() && s.quorum).await;
    let put = |value: &str| Txn::put("k".parse().unwrap(), value);
    node.transact(put("before")).await.unwrap();

    gate.shut(true);
    let error = node.transact(put("meanwhile")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unknown { .. }), "{error}");
    let hung = status(&node, "its disk hangs", |s| s.leader.is_none() && !s.quorum).await;
    let trouble = hung.trouble.unwrap();
    assert!(trouble.contains("this node's disk has not answered for"), "{trouble}");
    let error = node.transact(put("refused")).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::NoQuorum { detail, .. } if detail.contains("disk has not answered")),
        "{error}"
    );
    let error = node.get(&"k".parse().unwrap(), Read::Linear).await.unwrap_err();
    assert!(matches!(error, StoreError::NoQuorum { .. }), "{error}");

    gate.shut(false);
    status(&node, "its disk answers", |s| s.leader.is_some() && s.quorum && s.trouble.is_none()).await;
    // What was unknown is settled by this: it happened before or never will.
    node.transact(put("after")).await.unwrap();
    for _ in 0..20 {
        let entry = node.get(&"k".parse().unwrap(), Read::Linear).await.unwrap().unwrap();
        assert_eq!(entry.value, b"after");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_hung_disk_can_be_ended() {
    let (directory, gate) = (TempDir::new().unwrap(), Arc::new(Gate::default()));
    let node = start(&directory, &["b"], gate.clone()).await;
    status(&node, "it leads", |s| s.leader.is_some()).await;
    gate.shut(true);
    node.transact(Txn::put("k".parse().unwrap(), "v")).await.unwrap_err();
    let begun = Instant::now();
    node.shutdown().await;
    assert!(begun.elapsed() >= RAFT_STOP_TIME, "it did not hang: {:?}", begun.elapsed());
    assert!(begun.elapsed() < RAFT_STOP_TIME * 4, "{:?}", begun.elapsed());
    gate.shut(false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_voter_votes_for_nobody_but_who_begins_the_cluster_and_follows_nobody_too_old() {
    let (directory, gate) = (TempDir::new().unwrap(), Arc::new(Gate::default()));
    let node = start(&directory, &["a", "b", "c"], gate.clone()).await;
    let core = &node.core;
    let name = |text: &str| text.parse::<tiebeam_topology::NodeName>().unwrap();
    let (a, c) = (name("a"), name("c"));
    let vote = |term, of| Vote::new(term, Id::of(of));
    let request = |index| VoteRequest {
        vote: vote(3, &a),
        last_log_id: Some(LogId::new(*vote(1, &a).leader_id(), index)),
    };
    // That it holds a part of the log makes no difference.
    let part = LogEntry { log_id: LogId::new(*vote(1, &a).leader_id(), 0), payload: EntryPayload::Blank };
    core.disk.write(Change::Append(vec![part])).await.unwrap();
    for (from, index, first) in [(&a, 0, false), (&a, 9, false), (&a, 9, true), (&c, 0, true)] {
        let why = core.may_vote(from, &request(index), first).await.unwrap_err();
        assert!(why.contains("when it has caught up"), "{why}");
    }
    // Before it knows whom it may have voted for, and then.
    assert!(core.may_follow(&vote(9, &a)).unwrap_err().contains("asks the other voters"));
    core.floor.set(vote(3, &c).leader_id).unwrap();
    for (vote, may) in [(vote(2, &c), false), (vote(3, &a), false), (vote(3, &c), true), (vote(4, &a), true)]
    {
        assert_eq!(core.may_follow(&vote).is_ok(), may, "{vote}");
    }
    assert!(node.status().trouble.unwrap().contains("all that was acknowledged"));

    core.may_vote(&a, &request(0), true).await.unwrap();
    core.may_vote(&c, &request(9), false).await.unwrap();
    core.may_follow(&vote(1, &a)).unwrap();
    assert_eq!(node.status().trouble, None);
    node.shutdown().await;
    drop(node);
    let again = start(&directory, &["a", "b", "c"], gate).await;
    again.core.may_vote(&c, &request(9), false).await.unwrap();
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_proposals_than_wait_are_refused_as_certainly_not_done() {
    let (directory, gate) = (TempDir::new().unwrap(), Arc::new(Gate::default()));
    let node = start(&directory, &["b"], gate.clone()).await;
    status(&node, "it leads", |s| s.leader.is_some()).await;
    gate.shut(true);
    let mut calls = tokio::task::JoinSet::new();
    // One batch is with the disk, the next may be gathered, and then the queue fills.
    let many = propose::PROPOSALS_MAX + 2 * propose::BATCH_MAX + 1;
    for _ in 0..many {
        let core = node.core.clone();
        let proposal = Proposal { request: None, command: Command::Grant { ttl_ms: 1000 } };
        calls.spawn(async move { core.hand(proposal).await });
    }
    assert_eq!(calls.join_next().await.unwrap().unwrap(), Err(Refusal::Busy));
    gate.shut(false);
    let mut granted = 0;
    while let Some(answer) = calls.join_next().await {
        match answer.unwrap() {
            Ok(Answer::Granted(_)) => granted += 1,
            Err(Refusal::Busy) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(granted >= propose::PROPOSALS_MAX, "{granted}");
    assert_eq!(node.core.applied.read().leases().count(), granted);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_lasts_a_day_at_most_and_many_end_together() {
    let (directory, gate) = (TempDir::new().unwrap(), Arc::new(Gate::default()));
    let node = start(&directory, &["b"], gate).await;
    status(&node, "it leads", |s| s.leader.is_some()).await;
    let lease = node.grant(Duration::from_secs(10 * 24 * 3600)).await.unwrap();
    let ttl_ms = node.core.applied.read().leases().find(|(id, _)| *id == lease).unwrap().1.ttl_ms;
    assert_eq!(ttl_ms, LEASE_MAX_MS);
    // More than are ended at once.
    let many = upkeep::EXPIRIES_AT_ONCE + 50;
    let before = node.status().counters.fsyncs;
    let mut grants = tokio::task::JoinSet::new();
    for _ in 0..many {
        let core = node.core.clone();
        let proposal = Proposal { request: None, command: Command::Grant { ttl_ms: 1 } };
        grants.spawn(async move { core.hand(proposal).await.unwrap() });
    }
    grants.join_all().await;
    status(&node, "all but the long one are over", |s| s.counters.leases_ended == many as u64).await;
    let fsyncs = node.status().counters.fsyncs - before;
    assert!(fsyncs < many as u64, "{fsyncs} entries for what fits into a few");
    assert_eq!(node.core.applied.read().leases().count(), 1);
    node.shutdown().await;
}

/// openraft counts entries only, and few of them may be large.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_bounded_by_bytes_too() {
    let directory = TempDir::new().unwrap();
    let mut settings = settings(&directory.path().join("ledger"), &["b"]);
    settings.limits.snapshot_bytes = 1 << 20;
    let listener = TcpListener::bind(settings.listen).await.unwrap();
    let node = Embedded::open_on(settings, listener).await.unwrap();
    status(&node, "it leads", |s| s.leader.is_some()).await;
    for i in 0..40 {
        let put = Txn::put("k".parse().unwrap(), vec![i; 100 << 10]);
        node.transact(put).await.unwrap();
    }
    status(&node, "the log is short again", |_| node.core.disk.log_bytes() <= 1 << 20).await;
    let entries = node.core.disk.ends();
    assert!(entries.purged.is_some_and(|purged| purged.index > 20), "{entries:?}");
    assert_eq!(node.get(&"k".parse().unwrap(), Read::Linear).await.unwrap().unwrap().value[0], 39);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_of_the_same_name_is_refused_untouched_until_a_person_says_otherwise() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("ledger");
    // Each has an authority of its own.
    let (first, second) = (settings(&data, &["b"]), settings(&data, &["b"]));
    Embedded::open(first.clone()).await.unwrap().shutdown().await;
    let read = || ["ledger.redb", "ledger.seal"].map(|file| std::fs::read(data.join(file)).unwrap());
    let before = read();
    let error = Embedded::open(second.clone()).await.unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    let accept = data.join("accept-authority");
    assert!(error.to_string().contains(accept.to_str().unwrap()), "{error}");
    assert_eq!(read(), before);
    Embedded::open(first.clone()).await.unwrap().shutdown().await;

    std::fs::write(&accept, "").unwrap();
    Embedded::open(second).await.unwrap().shutdown().await;
    assert!(!accept.exists());
    assert!(matches!(Embedded::open(first).await, Err(OpenError::Foreign { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_can_say_that_a_voter_never_voted() {
    let directory = TempDir::new().unwrap();
    // The others are reached by nobody.
    let node = start(&directory, &["a", "b", "c"], Arc::default()).await;
    let new = status(&node, "it is new", |s| s.trouble.is_some()).await;
    assert!(new.trouble.as_ref().unwrap().contains("docs/ledger.md"), "{new:?}");
    let word = directory.path().join("ledger").join(recovery::NEVER_VOTED);
    std::fs::write(&word, "").unwrap();
    status(&node, "it votes", |s| s.trouble.is_none()).await;
    let gone = async || {
        while word.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), gone()).await.unwrap();
    node.shutdown().await;
}
