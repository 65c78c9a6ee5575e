//! The plan row by row: every row of `table.rs` is reached from a world of its own, and a settled world gives nothing
//! to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tiebeam_topology::{Durability, Epoch, Lsn, Moment, NodeName, Timeline};

use super::*;
use crate::control::{Receiver, ServerView, Standby};
use crate::lease::Seen;
use crate::quorum::SyncSet;
use crate::registers::{Init, Lease, SyncRegister, Vote, WalPoint};
use crate::table::transitions;

const NOW: Moment = Moment::from_ms(100_000);

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn policy(me: &str) -> Policy {
    let nodes = ["a", "b", "c"].map(node).into();
    Policy { me: node(me), nodes, durability: Durability::Quorum, lease: Duration::from_secs(3) }
}

fn at(timeline: u32, lsn: u64) -> WalPoint {
    WalPoint { timeline: Timeline(timeline), lsn: Lsn::new(lsn) }
}

/// `a` holds epoch 1 on timeline 2, which began at 100.
fn lease() -> LeaseSeen {
    let lease = Lease {
        epoch: Epoch(1),
        holder: node("a"),
        length_ms: 3000,
        renewed: 5,
        released: None,
        timeline: Timeline(2),
        from: at(1, 100),
        promoted: true,
        ends: vec![at(1, 100)],
        checkpointed: true,
        because: "it created the database".into(),
    };
    LeaseSeen { lease, seen: Seen { revision: 40, at: NOW - Duration::from_millis(200) }, given_up: false }
}

fn released() -> LeaseSeen {
    let mut seen = lease();
    seen.lease.released = Some("its PostgreSQL ended".into());
    seen
}

fn set(names: &[&str]) -> SyncSet {
    SyncSet::any_of(names.iter().map(|n| node(n)).collect())
}

/// A replica that follows `a` and has everything up to 500.
fn replica() -> World {
    let view = ServerView {
        in_recovery: true,
        received: Some(Lsn::new(500)),
        replayed: Some(Lsn::new(500)),
        drained: true,
        receiver: Some(Receiver { pid: 9, streaming: true, timeline: Some(Timeline(2)) }),
        ..ServerView::default()
    };
    World {
        data: Data::Here,
        guard: Some(Guard { pid: Some(7), deadline: None }),
        view: Some(view),
        timeline: Some(Timeline(2)),
        following: Following::Node(node("a")),
        fence_settled: true,
        busy: false,
        init: Some((Init { node: node("a"), system_identifier: Some("1".into()), major: Some(15) }, 1)),
        lease: Some(lease()),
        sync: SyncRegister { sets: vec![set(&["b", "c"])], target: set(&["b", "c"]) },
        sync_revision: Some(30),
        votes: BTreeMap::new(),
        vote_revisions: BTreeMap::new(),
        confirmed: false,
        holding: None,
        promoting: None,
        probe_bad_for: Duration::ZERO,
        ended_since: None,
        start_not_before: Moment::default(),
        quick_ends: 0,
        copied: false,
        job_not_before: Moment::default(),
        lapsed: None,
        unfed_since: None,
        absent_since: BTreeMap::new(),
        in_force: None,
        ident_roles: BTreeSet::new(),
    }
}

/// The same with its stream closed.
fn fenced() -> World {
    let mut world = World { following: Following::Nobody, ..replica() };
    world.view.as_mut().unwrap().receiver = None;
    world
}

/// Nobody holds the lease, confirmed, for half a second.
fn ended(mut world: World) -> World {
    world.lease = Some(released());
    world.confirmed = true;
    world.ended_since = Some(NOW - Duration::from_millis(500));
    world
}

fn vote(world: &mut World, name: &str, timeline: u32, lsn: u64) {
    let vote = Vote { for_epoch: Epoch(2), lease_revision: 40, at: at(timeline, lsn) };
    world.votes.insert(node(name), vote);
}

/// `a` itself, settled.
fn primary() -> World {
    let standby = || Standby {
        streaming: true,
        flushed: Some(Lsn::new(500)),
        replayed: Some(Lsn::new(500)),
        sync: true,
        lag_ms: None,
    };
    let view = ServerView {
        current: Some((Timeline(2), Lsn::new(500))),
        standby_names: set(&["b", "c"]).standby_names(),
        standbys: BTreeMap::from([("b".into(), standby()), ("c".into(), standby())]),
        slots: BTreeSet::from(["tiebeam_b".into(), "tiebeam_c".into()]),
        ..ServerView::default()
    };
    World {
        view: Some(view),
        following: Following::Unknown,
        holding: Some(Epoch(1)),
        guard: Some(Guard { pid: Some(7), deadline: Some(NOW + Duration::from_secs(2)) }),
        in_force: Some((set(&["b", "c"]).standby_names(), Lsn::new(400))),
        ..replica()
    }
}

/// `a`, elected and not promoted yet.
fn elected() -> World {
    let mut world = primary();
    world.lease.as_mut().unwrap().lease.promoted = false;
    let view = world.view.as_mut().unwrap();
    (view.in_recovery, view.current, view.drained) = (true, None, true);
    view.received = Some(Lsn::new(100));
    world.timeline = Some(Timeline(1));
    world
}

fn with(mut world: World, change: impl FnOnce(&mut World)) -> World {
    change(&mut world);
    world
}

fn step(action: &Action) -> &'static str {
    match action {
        Action::ClaimInit => "claim-init",
        Action::Create => "create",
        Action::Clone { .. } => "clone",
        Action::CloneBroken { .. } => "clone-broken",
        Action::Rejoin { .. } => "rejoin",
        Action::Start { .. } => "start",
        Action::ForgetRewind => "forget-rewind",
        Action::Stop { .. } => "stop",
        Action::Fence => "fence",
        Action::EndReceiver { .. } => "end-receiver",
        Action::Follow { .. } => "follow",
        Action::Vote(_) => "vote",
        Action::TakeLease { .. } => "take-lease",
        Action::AdoptLease { .. } => "adopt-lease",
        Action::SetSlots { .. } => "set-slots",
        Action::SetStandbyNames(_) => "set-standby-names",
        Action::Checkpoint { .. } => "checkpoint",
        Action::CheckpointPromotion { .. } => "checkpoint-promotion",
        Action::WriteSync { .. } => "write-sync",
        Action::Promote { .. } => "promote",
        Action::Announce { .. } => "announce",
        Action::Release { .. } => "release",
        Action::WriteIdent { .. } => "write-ident",
    }
}

/// A world for each row of the table, in its order.
fn worlds() -> Vec<(&'static str, World)> {
    let empty = |init: bool| {
        with(replica(), |w| {
            (w.data, w.lease, w.guard, w.view) = (Data::Missing, None, None, None);
            w.init = init.then(|| (Init { node: node("a"), system_identifier: None, major: None }, 1));
        })
    };
    let stopped = || with(replica(), |w| (w.guard, w.view) = (None, None));
    let voted = |with_c: bool| {
        with(ended(fenced()), |w| {
            vote(w, "b", 2, 500);
            if with_c {
                vote(w, "c", 2, 490);
            }
        })
    };
    vec![
        ("a", empty(false)),
        ("a", empty(true)),
        ("b", with(stopped(), |w| w.data = Data::Missing)),
        ("b", stopped()),
        ("b", with(stopped(), |w| w.quick_ends = 5)),
        ("b", fenced()),
        (
            "b",
            with(fenced(), |w| {
                (w.timeline, w.view.as_mut().unwrap().replayed) = (Some(Timeline(1)), Some(Lsn::new(140)))
            }),
        ),
        ("b", ended(replica())),
        (
            "b",
            with(ended(fenced()), |w| w.view.as_mut().unwrap().receiver = replica().view.unwrap().receiver),
        ),
        ("b", ended(fenced())),
        ("b", voted(true)),
        ("b", voted(false)),
        ("a", elected()),
        ("a", with(primary(), |w| w.lease.as_mut().unwrap().lease.promoted = false)),
        ("a", with(primary(), |w| w.lease.as_mut().unwrap().lease.checkpointed = false)),
        ("a", with(primary(), |w| _ = w.absent_since.insert(node("c"), NOW - Duration::from_secs(3)))),
        ("a", with(primary(), |w| (w.guard, w.view) = (Some(Guard { pid: None, deadline: None }), None))),
        ("a", with(primary(), |w| w.probe_bad_for = Duration::from_secs(3))),
        ("a", with(primary(), |w| w.holding = None)),
        ("b", with(replica(), |w| w.view.as_mut().unwrap().in_recovery = false)),
    ]
}

#[test]
fn every_row_of_the_table_is_what_the_plan_does() {
    let worlds = worlds();
    assert_eq!(worlds.len(), transitions().len());
    for (row, (me, world)) in transitions().iter().zip(worlds) {
        let plan = plan(&world, &policy(me), NOW);
        let done = plan.actions.first().map_or("wait", step);
        assert_eq!(done, row.step, "{row:?}: {plan:?}");
    }
}

#[test]
fn a_settled_world_gives_nothing_to_do() {
    for (me, world) in [("a", primary()), ("b", replica()), ("c", replica())] {
        assert_eq!(plan(&world, &policy(me), NOW), Plan::default(), "{me}");
    }
}

#[test]
fn nobody_is_promoted_without_a_majority_of_the_ledger() {
    let world = with(ended(fenced()), |w| {
        w.confirmed = false;
        vote(w, "b", 2, 500);
        vote(w, "c", 2, 490);
    });
    let plan = plan(&world, &policy("b"), NOW);
    assert!(plan.actions.is_empty() && plan.stopped_because.unwrap().contains("no majority"));
}

#[test]
fn votes_for_another_revision_of_the_lease_do_not_count() {
    let world = with(ended(fenced()), |w| {
        vote(w, "b", 2, 500);
        vote(w, "c", 2, 490);
        w.votes.get_mut(&node("c")).unwrap().lease_revision = 39;
    });
    assert_eq!(plan(&world, &policy("b"), NOW).actions, []);
}

#[test]
fn a_node_that_has_voted_stays_closed_after_a_restart() {
    // The restarted agent has just seen the lease for the first time: its clock says that it has not expired.
    let world = with(fenced(), |w| {
        w.lease.as_mut().unwrap().given_up = true;
        w.confirmed = true;
        vote(w, "b", 2, 500);
    });
    let plan = plan(&world, &policy("b"), NOW);
    assert!(!plan.actions.iter().any(|a| matches!(a, Action::Follow { .. })), "{plan:?}");
}

#[test]
fn going_alone_is_written_before_postgresql_is_told() {
    let gone = |w: &mut World| {
        for n in ["b", "c"] {
            w.absent_since.insert(node(n), NOW - Duration::from_secs(3));
            w.view.as_mut().unwrap().standbys.remove(n);
        }
    };
    let world = with(primary(), gone);
    let alone = SyncRegister { sets: vec![SyncSet::alone()], target: SyncSet::alone() };
    let first = plan(&world, &policy("a"), NOW).actions;
    assert_eq!(first, [Action::WriteSync { sync: alone.clone(), expected: Some(30) }]);
    let world = with(world, |w| w.sync = alone);
    assert_eq!(plan(&world, &policy("a"), NOW).actions, [Action::SetStandbyNames(String::new())]);
    // Strict waits instead.
    let strict = Policy { durability: Durability::Strict, ..policy("a") };
    assert_eq!(plan(&with(primary(), gone), &strict, NOW).actions, []);
}

#[test]
fn a_winner_that_does_nothing_is_left_out_when_its_answer_is_not_needed() {
    let world = with(ended(fenced()), |w| {
        w.sync = SyncRegister { sets: vec![set(&["b"])], target: set(&["b"]) };
        w.ended_since = Some(NOW - Duration::from_secs(3));
        vote(w, "b", 2, 500);
        vote(w, "c", 2, 600);
    });
    assert!(matches!(plan(&world, &policy("b"), NOW).actions[..], [Action::TakeLease { .. }]));
    let needed = with(world, |w| w.sync.sets = vec![set(&["b", "c"])]);
    assert_eq!(plan(&needed, &policy("b"), NOW).actions, []);
}

#[test]
fn an_elected_node_that_was_restarted_gives_the_lease_back() {
    let world = with(elected(), |w| w.timeline = Some(Timeline(2)));
    assert!(matches!(plan(&world, &policy("a"), NOW).actions[..], [Action::Stop { .. }]));
    // In the middle of its promotion it is left alone.
    let world = with(world, |w| w.promoting = Some(Epoch(1)));
    assert_eq!(plan(&world, &policy("a"), NOW).actions, []);
}

#[test]
fn a_fork_is_rewound_only_after_the_primarys_first_checkpoint() {
    let forked = with(fenced(), |w| {
        (w.timeline, w.view.as_mut().unwrap().replayed) = (Some(Timeline(1)), Some(Lsn::new(140)));
        w.lease.as_mut().unwrap().lease.checkpointed = false;
    });
    let waits = plan(&forked, &policy("b"), NOW);
    assert!(waits.actions.is_empty() && waits.note.unwrap().contains("checkpoint"));
}

#[test]
fn a_lease_that_lapses_is_not_taken_up_again() {
    // PostgreSQL was killed and does not go, as its disk hangs; this process has stopped renewing.
    let world = with(primary(), |w| (w.view, w.holding, w.lapsed) = (None, None, Some(Epoch(1))));
    assert_eq!(plan(&world, &policy("a"), NOW).actions, []);
}

#[test]
fn a_copy_is_made_once_of_what_does_not_start() {
    let broken = |change: fn(&mut World)| {
        let world = with(replica(), |w| (w.guard, w.view, w.quick_ends) = (None, None, 5));
        plan(&with(world, change), &policy("b"), NOW).actions
    };
    assert_eq!(broken(|_| {}), [Action::CloneBroken { from: node("a") }]);
    let start = [Action::Start { follow: None }];
    assert_eq!(broken(|w| w.copied = true), start);
    assert_eq!(broken(|w| w.lease.as_mut().unwrap().lease.promoted = false), start);
    assert_eq!(broken(|w| w.job_not_before = NOW + Duration::from_secs(1)), start);
}

#[test]
fn a_slot_whose_log_is_gone_is_made_anew() {
    let lost = BTreeSet::from(["tiebeam_c".to_owned()]);
    let world = with(primary(), |w| w.view.as_mut().unwrap().lost_slots = lost.clone());
    let set_slots = |make: BTreeSet<String>, drop| vec![Action::SetSlots { make, drop }];
    assert_eq!(plan(&world, &policy("a"), NOW).actions, set_slots(BTreeSet::new(), lost.clone()));
    let dropped = with(primary(), |w| w.view.as_mut().unwrap().slots = ["tiebeam_b".into()].into());
    assert_eq!(plan(&dropped, &policy("a"), NOW).actions, set_slots(lost, BTreeSet::new()));
}

#[test]
fn after_async_nobody_is_believed_before_a_set_is_in_force() {
    let none = SyncRegister { sets: Vec::new(), target: SyncSet::alone() };
    let world = with(primary(), |w| w.sync = none);
    let sync = SyncRegister { sets: vec![SyncSet::alone()], target: set(&["b", "c"]) };
    assert_eq!(plan(&world, &policy("a"), NOW).actions, [Action::WriteSync { sync, expected: Some(30) }]);
}
