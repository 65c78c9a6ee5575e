//! A voter that lost its data, or takes part for the first time: what it gets, what it may decide, and when.

#![allow(clippy::unwrap_used)] // A test may panic.

mod support;

use std::time::{Duration, Instant};

use support::{Cluster, key, status};
use tiebeam_ledger::{Embedded, Read, Store, StoreError, Txn};

const NODES: [&str; 3] = ["a", "b", "c"];

/// Writes until it is acknowledged.
async fn insist(store: &dyn Store, at: &str, value: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = store.transact(Txn::put(key(at), value)).await {
        assert!(Instant::now() < deadline, "{error}");
    }
}

async fn becomes_a_member(node: &Embedded, keys: usize) {
    status(node, "it is a member", |s| s.trouble.is_none() && s.quorum).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let listing = loop {
        match node.list("k/", Read::Linear).await {
            Ok(listing) => break listing,
            // An election may be under way.
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    assert_eq!(listing.entries.len(), keys);
}

/// With few entries in the log the leader sends it all; with many it has dropped the first and sends a snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_lost_its_data_gets_it_from_the_leader_that_remembers_it() {
    for writes in [10, 150] {
        let mut cluster = Cluster::three_with(|s| s.limits.snapshot_entries = 32).await;
        for i in 0..writes {
            insist(&**cluster.node("a"), &format!("k/{i}"), "v").await;
        }
        let leader = cluster.leader().await;
        let lost = NODES.into_iter().find(|n| *n != leader).unwrap();
        let third = NODES.into_iter().find(|n| *n != leader && *n != lost).unwrap();
        for _ in 0..2 {
            cluster.wipe(lost).await;
            insist(&**cluster.node(third), "while", "away").await;
            cluster.start(lost).await;
            becomes_a_member(cluster.node(lost), writes).await;
        }
        // Its vote counts again.
        cluster.stop(&leader).await;
        insist(&**cluster.node(lost), "k/more", "v").await;
        assert_eq!(cluster.node(third).list("k/", Read::Linear).await.unwrap().entries.len(), writes + 1);
        cluster.stop_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_lost_its_data_elects_nobody_who_lacks_an_acknowledged_write() {
    let mut cluster = Cluster::three_with(|s| s.call_timeout = Duration::from_secs(1)).await;
    insist(&**cluster.node("a"), "k/1", "everywhere").await;
    let leader = cluster.leader().await;
    let stale = NODES.into_iter().find(|n| *n != leader).unwrap();
    let lost = NODES.into_iter().find(|n| *n != leader && *n != stale).unwrap();
    status(cluster.node(stale), "it has the first", |s| s.revision.0 == 1).await;
    cluster.cut(stale, false);
    insist(&**cluster.node(&leader), "k/2", "on two").await;

    // One of the two forgets it. While the third is cut off nobody can tell it whom it may follow.
    cluster.wipe(lost).await;
    cluster.start(lost).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cluster.node(lost).status().revision.0, 0);
    // The other dies, and the third is there again: the two are a majority, and neither has the second write.
    cluster.stop(&leader).await;
    cluster.cut(stale, true);
    let neither_leads = |cluster: &Cluster| {
        for node in [stale, lost] {
            // It may go on naming the leader that is gone.
            let named = cluster.node(node).status().leader;
            assert!(named.as_ref().is_none_or(|n| n.as_str() == leader), "{named:?} leads");
        }
    };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        neither_leads(&cluster);
        let trouble = cluster.node(lost).status().trouble.unwrap();
        assert!(trouble.contains("made new"), "{trouble}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let error = cluster.node(stale).transact(Txn::put(key("k/3"), "v")).await.unwrap_err();
    assert!(matches!(error, StoreError::NoQuorum { .. }), "{error}");
    // Nor after it was opened again.
    cluster.stop(lost).await;
    cluster.start(lost).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    neither_leads(&cluster);

    cluster.start(&leader).await;
    for node in NODES {
        becomes_a_member(cluster.node(node), 2).await;
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_cluster_begins_without_one_of_its_voters_which_may_come_late() {
    for late in ["b", "c"] {
        let mut cluster = Cluster::new(&NODES, 3, |s| s.limits.snapshot_entries = 32).await;
        let early: Vec<_> = NODES.into_iter().filter(|n| *n != late).collect();
        for node in &early {
            cluster.start(node).await;
        }
        for i in 0..100 {
            insist(&**cluster.node("a"), &format!("k/{i}"), "v").await;
        }
        for node in &early {
            becomes_a_member(cluster.node(node), 100).await;
        }
        cluster.start(late).await;
        becomes_a_member(cluster.node(late), 100).await;
        cluster.stop(early[0]).await;
        insist(&**cluster.node(late), "k/more", "v").await;
        cluster.stop_all().await;
    }
}

/// The node that began the cluster does not begin it anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_voter_may_lose_its_data_too() {
    let mut cluster = Cluster::three().await;
    insist(&**cluster.node("a"), "k/1", "v").await;
    cluster.leader().await;
    cluster.wipe("a").await;
    insist(&**cluster.node("b"), "k/2", "v").await;
    cluster.start("a").await;
    becomes_a_member(cluster.node("a"), 2).await;
    cluster.stop("c").await;
    insist(&**cluster.node("a"), "k/3", "v").await;
    cluster.stop_all().await;
}
