//! Several nodes in one process: who leads, what survives, what is seen where.

#![allow(clippy::unwrap_used)] // A test may panic.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::{Cluster, eventually, key, status};
use tiebeam_ledger::{
    Compare, Op, Outcome, Read, Register, RegisterError, Revision, Store, StoreError, Txn, WatchError,
};

fn done(outcome: Outcome) -> Revision {
    match outcome {
        Outcome::Done { revision } => revision,
        Outcome::Conflict { revision } => panic!("conflict at {revision}"),
    }
}

/// Writes until it is acknowledged: what a caller does who is told `Unknown` or `NoQuorum`.
async fn insist(store: &dyn Store, at: &str, value: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = store.transact(Txn::put(key(at), value)).await {
        assert!(Instant::now() < deadline, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_at_any_node_is_read_at_every_other() {
    let mut cluster = Cluster::three().await;
    let mut last = Revision(0);
    for (i, node) in ["a", "b", "c", "a", "b", "c"].into_iter().enumerate() {
        let at = key(&format!("k/{i}"));
        let put = Txn::put(at.clone(), node).only_if(Compare::Absent { key: at.clone() });
        let revision = done(cluster.node(node).transact(put.clone()).await.unwrap());
        assert!(revision > last, "{revision} after {last}");
        last = revision;
        for reader in ["a", "b", "c"] {
            let entry = cluster.node(reader).get(&at, Read::Linear).await.unwrap().unwrap();
            assert_eq!((entry.value.as_slice(), entry.revision), (node.as_bytes(), revision));
        }
        assert_eq!(cluster.node(node).transact(put).await, Ok(Outcome::Conflict { revision }));
    }
    assert_eq!(cluster.node("b").list("k/", Read::Linear).await.unwrap().entries.len(), 6);
    let counters = cluster.node("a").status().counters;
    assert!(counters.accepted >= 2 && counters.fsyncs > 0, "{counters:?}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_leader_is_replaced_and_all_keys_survive_a_restart_of_all() {
    let mut cluster = Cluster::three().await;
    let mut acknowledged = BTreeMap::new();
    for i in 0..20 {
        insist(&**cluster.node("c"), &format!("k/{i}"), "before").await;
        acknowledged.insert(key(&format!("k/{i}")), b"before".to_vec());
    }
    let leader = cluster.leader().await;
    let rest: Vec<_> = ["a", "b", "c"].into_iter().filter(|n| *n != leader).collect();
    cluster.stop(&leader).await;
    // Begun at once, while there is no leader: it is done all the same, in one call.
    done(cluster.node(rest[0]).transact(Txn::put(key("k/after"), "after")).await.unwrap());
    acknowledged.insert(key("k/after"), b"after".to_vec());
    assert_ne!(cluster.leader().await, leader);
    cluster.stop_all().await;

    for node in ["a", "b", "c"] {
        cluster.start(node).await;
    }
    cluster.leader().await;
    for node in ["a", "b", "c"] {
        let listing = cluster.node(node).list("k/", Read::Linear).await.unwrap();
        let found: BTreeMap<_, _> = listing.entries.into_iter().map(|e| (e.key, e.value)).collect();
        assert_eq!(found, acknowledged, "{node}");
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_joins_late_gets_a_snapshot_and_may_write() {
    let mut cluster = Cluster::new(&["a", "l"], 1, |s| s.limits.snapshot_entries = 32).await;
    cluster.start("a").await;
    // Larger than one piece of a snapshot.
    for i in 0..80 {
        let value = vec![i as u8; 40 << 10];
        let put = Txn::put(key(&format!("k/{i}")), value);
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Err(error) = cluster.node("a").transact(put.clone()).await {
            assert!(Instant::now() < deadline, "{error}");
        }
    }
    cluster.start("l").await;
    let joined =
        status(cluster.node("l"), "the learner follows", |s| s.quorum && s.revision >= Revision(80)).await;
    assert!(joined.learners.contains(&support::name("l")) && joined.voters.len() == 1, "{joined:?}");
    assert_eq!(cluster.node("l").list("k/", Read::Local).await.unwrap().entries.len(), 80);
    insist(&**cluster.node("l"), "from", "learner").await;
    assert!(cluster.node("a").get(&key("from"), Read::Linear).await.unwrap().is_some());
    cluster.stop("l").await;
    cluster.start("l").await;
    status(cluster.node("l"), "it is back", |s| s.quorum && s.revision >= Revision(81)).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_shows_every_change_in_order_at_every_node() {
    let mut cluster = Cluster::three().await;
    let mut watches: Vec<_> = ["a", "b", "c"].iter().map(|n| cluster.node(n).watch("w/")).collect();
    let mut expected = Vec::new();
    for i in 0..30 {
        let node = ["a", "b", "c"][i % 3];
        insist(&**cluster.node(node), "elsewhere", "x").await;
        expected.push(done(cluster.node(node).transact(Txn::put(key("w/k"), i.to_string())).await.unwrap()));
    }
    expected.push(done(cluster.node("a").transact(Txn::delete(key("w/k"))).await.unwrap()));
    for watch in &mut watches {
        for (i, revision) in expected.iter().enumerate() {
            let change = tokio::time::timeout(Duration::from_secs(5), watch.next()).await.unwrap().unwrap();
            assert_eq!(change.revision, *revision);
            assert_eq!(
                change.puts.first().map(|e| e.value.clone()),
                (i < 30).then(|| i.to_string().into_bytes())
            );
            assert_eq!(change.deletes.len(), usize::from(i == 30));
        }
    }
    let mut slow = cluster.node("a").watch("");
    cluster.stop_all().await;
    assert_eq!(slow.next().await, Err(WatchError::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ends_when_it_is_not_kept_and_not_before() {
    let mut cluster = Cluster::three().await;
    let (holder, observer) = (cluster.node("b").clone(), cluster.node("c").clone());
    let ttl = Duration::from_millis(1500);
    let lease = holder.grant(ttl).await.unwrap();
    let put = Op::Put { key: key("l/k"), value: b"v".to_vec(), lease: Some(lease) };
    holder.transact(Txn { compare: vec![], then: vec![put.clone()] }).await.unwrap();
    assert!(observer.get(&key("l/k"), Read::Linear).await.unwrap().is_some());
    let mut watch = observer.watch("l/");
    let mut kept = Instant::now();
    for _ in 0..8 {
        tokio::time::sleep(ttl / 5).await;
        kept = Instant::now();
        holder.keep(lease).await.unwrap();
    }
    assert!(observer.get(&key("l/k"), Read::Linear).await.unwrap().is_some());
    let change = tokio::time::timeout(Duration::from_secs(8), watch.next()).await.unwrap().unwrap();
    assert_eq!(change.deletes, [key("l/k")]);
    assert!(kept.elapsed() >= ttl, "{:?}", kept.elapsed());
    assert_eq!(holder.keep(lease).await, Err(StoreError::LeaseGone(lease)));
    assert_eq!(holder.revoke(lease).await, Err(StoreError::LeaseGone(lease)));
    let outcome = holder.transact(Txn { compare: vec![], then: vec![put] }).await;
    assert_eq!(outcome, Err(StoreError::LeaseGone(lease)));
    let second = holder.grant(ttl).await.unwrap();
    assert!(second > lease);
    observer.revoke(second).await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_cut_off_says_so_and_shows_nothing_stale() {
    let mut cluster = Cluster::three_with(|s| s.call_timeout = Duration::from_millis(800)).await;
    insist(&**cluster.node("a"), "k", "old").await;
    for node in ["a", "b", "c"] {
        let store = cluster.node(node);
        eventually("the write is here", || store.status().revision.0.checked_sub(1)).await;
    }
    let leader = cluster.leader().await;
    let follower = if leader == "a" { "b" } else { "a" };
    for cut in [follower, leader.as_str()] {
        let other = ["a", "b", "c"].into_iter().find(|n| *n != leader && *n != follower).unwrap();
        cluster.cut(cut, false);
        status(cluster.node(cut), "it knows that it is alone", |s| !s.quorum).await;
        insist(&**cluster.node(other), "k", cut).await;

        let alone = cluster.node(cut);
        let error = alone.get(&key("k"), Read::Linear).await.unwrap_err();
        assert!(matches!(error, StoreError::NoQuorum { .. }), "{error}");
        let error = alone.transact(Txn::put(key("k"), "lost")).await.unwrap_err();
        assert!(matches!(error, StoreError::NoQuorum { .. }), "{error}");
        // The past is still readable by who asks for it.
        assert!(alone.get(&key("k"), Read::Local).await.unwrap().is_some());

        cluster.cut(cut, true);
        cluster.leader().await;
        let entry = loop {
            match alone.get(&key("k"), Read::Linear).await {
                Ok(entry) => break entry.unwrap(),
                // Right after the mending an election may be under way.
                Err(error) => assert!(matches!(error, StoreError::NoQuorum { .. }), "{error}"),
            }
        };
        assert_eq!(entry.value, cut.as_bytes());
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_done_once_while_leaders_come_and_go() {
    // Within it any election is over; so every call has an answer, and none is done twice.
    let mut cluster = Cluster::three_with(|s| s.call_timeout = Duration::from_secs(30)).await;
    let writer = cluster.node("c").clone();
    let counting = tokio::spawn(async move {
        // A step that were done a second time would conflict with the first.
        let mut at = None;
        for i in 0..60u32 {
            let compare = match at {
                None => Compare::Absent { key: key("n") },
                Some(is) => Compare::Revision { key: key("n"), is },
            };
            let put = Op::Put { key: key("n"), value: i.to_string().into(), lease: None };
            let outcome = writer.transact(Txn { compare: vec![compare], then: vec![put] }).await;
            match outcome.unwrap_or_else(|error| panic!("step {i}: {error}")) {
                Outcome::Done { revision } => at = Some(revision),
                Outcome::Conflict { .. } => panic!("step {i} conflicts: something was done twice"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    for node in ["a", "b"] {
        tokio::time::sleep(Duration::from_millis(150)).await;
        cluster.stop(node).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        cluster.start(node).await;
        cluster.leader().await;
    }
    counting.await.unwrap();
    assert_eq!(cluster.node("b").get(&key("n"), Read::Linear).await.unwrap().unwrap().value, b"59");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registers_conflict_and_refuse_what_is_newer() {
    let mut cluster = Cluster::new(&["a"], 1, |_| {}).await;
    cluster.start("a").await;
    cluster.leader().await;
    let store = cluster.node("a").clone();
    let register = Register::<Vec<u32>>::new(key("r"));
    assert_eq!(register.get(&*store, Read::Linear).await, Ok(None));
    let first = register.put_if(&*store, None, &vec![1]).await.unwrap().unwrap();
    assert!(register.put_if(&*store, None, &vec![2]).await.unwrap().is_err());
    let second = register.put_if(&*store, Some(first), &vec![3]).await.unwrap().unwrap();
    let held = register.get(&*store, Read::Local).await.unwrap().unwrap();
    assert_eq!((held.value, held.revision), (vec![3], second));

    Register::<Vec<u32>>::versioned(key("r"), 2)
        .put_if(&*store, Some(second), &vec![4])
        .await
        .unwrap()
        .unwrap();
    let error = register.get(&*store, Read::Local).await.unwrap_err();
    assert!(matches!(error, RegisterError::Newer { found: 2, known: 1, .. }), "{error}");
    store.transact(Txn::put(key("r"), "no json")).await.unwrap();
    assert!(matches!(register.get(&*store, Read::Local).await, Err(RegisterError::Malformed { .. })));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_are_named_and_times_are_kept() {
    let mut cluster = Cluster::new(&["a", "b", "c"], 3, |s| {
        s.call_timeout = Duration::from_millis(300);
        s.limits.in_flight = 4;
    })
    .await;
    cluster.start("a").await;
    let store = cluster.node("a").clone();
    let error = store.transact(Txn::put(key("k"), vec![0; (1 << 20) + 1])).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { what: "a transaction", .. }), "{error}");
    let steps = Txn { compare: vec![Compare::Absent { key: key("k") }; 300], then: vec![] };
    assert!(matches!(store.transact(steps).await, Err(StoreError::TooLarge { .. })));

    // One voter of three: every call ends in time, and more than four are not taken.
    let call = || async { (store.transact(Txn::put(key("k"), "v")).await, Instant::now()) };
    let begun = Instant::now();
    let calls = tokio::join!(call(), call(), call(), call(), call(), call(), call(), call());
    let (mut busy, mut no_quorum) = (0, 0);
    for call in [calls.0, calls.1, calls.2, calls.3, calls.4, calls.5, calls.6, calls.7] {
        match call {
            (Err(StoreError::Busy { in_flight: 4 }), _) => busy += 1,
            (Err(StoreError::NoQuorum { .. }), at) if at - begun < Duration::from_secs(10) => no_quorum += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((busy, no_quorum), (4, 4));
    let counters = store.status().counters;
    assert_eq!((counters.busy, counters.no_quorum), (4, 4));
    cluster.stop_all().await;
    assert_eq!(store.transact(Txn::put(key("k"), "v")).await, Err(StoreError::ShuttingDown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_transaction_reaches_every_node_and_a_larger_one_none() {
    let mut cluster = Cluster::three_with(|s| {
        s.limits.txn_bytes = 8 << 20;
        s.call_timeout = Duration::from_secs(30);
    })
    .await;
    let largest = vec![7; (8 << 20) - 64];
    for node in ["a", "b", "c"] {
        done(cluster.node(node).transact(Txn::put(key(node), largest.clone())).await.unwrap());
    }
    for node in ["a", "b", "c"] {
        let listing = cluster.node(node).list("", Read::Linear).await.unwrap();
        assert_eq!(listing.entries.iter().filter(|e| e.value == largest).count(), 3);
    }
    let error = cluster.node("a").transact(Txn::put(key("k"), vec![7; 8 << 20])).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    cluster.stop_all().await;
}

/// Two files that differ: the leader's counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forwarded_transaction_keeps_the_limits_of_the_leader() {
    let small = |s: &mut tiebeam_ledger::Settings| {
        if s.node == support::name("a") {
            s.limits.txn_bytes = 1000;
        }
    };
    let mut cluster = Cluster::new(&["a", "l"], 1, small).await;
    cluster.start("a").await;
    cluster.start("l").await;
    let learner = cluster.node("l").clone();
    insist(&*learner, "k", "small").await;
    let error = learner.transact(Txn::put(key("k"), vec![7; 2000])).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { max_bytes: 1000, .. }), "{error}");
    let steps = Txn { compare: vec![Compare::Present { key: key(&"k".repeat(200)) }; 6], then: vec![] };
    assert!(matches!(learner.transact(steps).await, Err(StoreError::TooLarge { max_bytes: 1000, .. })));
    assert_eq!(learner.get(&key("k"), Read::Linear).await.unwrap().unwrap().value, b"small");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_there_before_a_restart_is_known_since_the_restart() {
    let mut cluster = Cluster::new(&["a"], 1, |_| {}).await;
    cluster.start("a").await;
    insist(&**cluster.node("a"), "k", "v").await;
    let before = cluster.node("a").get(&key("k"), Read::Local).await.unwrap().unwrap();
    cluster.stop("a").await;
    let opening = tiebeam_topology::Moment::now();
    cluster.start("a").await;
    let store = cluster.node("a").clone();
    eventually("a leader", || store.status().leader).await;
    let after = store.get(&key("k"), Read::Linear).await.unwrap().unwrap();
    assert_eq!(after.revision, before.revision);
    assert!(after.applied_at >= opening && before.applied_at <= opening);
    cluster.stop_all().await;
}
