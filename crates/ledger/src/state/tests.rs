//! The state by tables and properties: transactions against a plain model, leases, requests done once, snapshots.

use proptest::prelude::*;

use super::*;
use crate::machine::tests::roundtrip;
use crate::{Compare, Op};

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn put(at: &str, value: &str) -> Op {
    Op::Put { key: key(at), value: value.into(), lease: None }
}

fn done(revision: u64) -> Answer {
    Answer::Transacted(Outcome::Done { revision: Revision(revision) })
}

fn conflict(revision: u64) -> Answer {
    Answer::Transacted(Outcome::Conflict { revision: Revision(revision) })
}

fn run(state: &mut State, command: Command, now_ms: u64) -> (Answer, Vec<Changes>) {
    let mut changes = Vec::new();
    let answer = state.apply(&Proposal { request: None, command }, Moment::from_ms(now_ms), &mut changes);
    (answer, changes)
}

#[test]
fn transactions_compare_and_change_all_or_nothing() {
    let mut state = State::default();
    let absent = |k: &str| Compare::Absent { key: key(k) };
    let present = |k: &str| Compare::Present { key: key(k) };
    let is = |k: &str, n| Compare::Revision { key: key(k), is: Revision(n) };
    let delete = |k: &str| Op::Delete { key: key(k) };
    let below = |p: &str| Op::DeletePrefix { prefix: p.into() };
    // (compare, then, answer, what is left afterwards)
    let table: Vec<(Vec<Compare>, Vec<Op>, Answer, &str)> = vec![
        (vec![], vec![], done(0), ""),
        (vec![absent("a")], vec![put("a", "1"), put("b/x", "2")], done(1), "a=1@1 b/x=2@1"),
        (vec![absent("a")], vec![put("c", "1")], conflict(1), "a=1@1 b/x=2@1"),
        (vec![present("a"), present("z")], vec![delete("a")], conflict(1), "a=1@1 b/x=2@1"),
        (vec![is("a", 1)], vec![put("a", "3")], done(2), "a=3@2 b/x=2@1"),
        (vec![is("a", 1)], vec![put("a", "4")], conflict(2), "a=3@2 b/x=2@1"),
        (vec![is("z", 0)], vec![put("z", "4")], conflict(2), "a=3@2 b/x=2@1"),
        (vec![], vec![delete("z")], done(2), "a=3@2 b/x=2@1"),
        (vec![], vec![put("z", "1"), delete("z")], done(2), "a=3@2 b/x=2@1"),
        (vec![], vec![put("b/y", "5"), below("b/"), put("b/z", "6")], done(3), "a=3@2 b/z=6@3"),
        (vec![present("b/z")], vec![below("")], done(4), ""),
    ];
    for (compare, then, expected, left) in table {
        let shown = format!("{compare:?} {then:?}");
        let (answer, changes) = run(&mut state, Command::Transact(Txn { compare, then }), 5);
        assert_eq!(answer, expected, "{shown}");
        let listing = state.list("");
        let text: Vec<_> = listing
            .entries
            .iter()
            .map(|e| format!("{}={}@{}", e.key, String::from_utf8_lossy(&e.value), e.revision))
            .collect();
        assert_eq!(text.join(" "), left, "{shown}");
        assert!(changes.iter().all(|c| c.revision == listing.revision), "{shown}");
    }
    assert_eq!(state.bytes, 0);
}

#[test]
fn created_and_applied_at_follow_the_value() {
    let mut state = State::default();
    run(&mut state, Command::Transact(Txn::put(key("a"), "1")), 10);
    run(&mut state, Command::Transact(Txn::put(key("a"), "2")), 20);
    let entry = state.get(&key("a")).unwrap();
    assert_eq!((entry.created, entry.revision), (Revision(1), Revision(2)));
    assert_eq!(entry.applied_at, Moment::from_ms(20));
    run(&mut state, Command::Transact(Txn::delete(key("a"))), 30);
    let (_, changes) = run(&mut state, Command::Transact(Txn::put(key("a"), "3")), 40);
    assert_eq!(changes[0].puts[0].created, Revision(4));
}

#[test]
fn a_lease_takes_its_keys_with_it() {
    let mut state = State::default();
    let (granted, _) = run(&mut state, Command::Grant { ttl_ms: 500 }, 1);
    assert_eq!(granted, Answer::Granted(LeaseId(1)));
    let lease = LeaseId(1);
    let under = |k: &str| Op::Put { key: key(k), value: b"v".to_vec(), lease: Some(lease) };
    run(
        &mut state,
        Command::Transact(Txn { compare: vec![], then: vec![under("a"), under("b"), under("c")] }),
        2,
    );
    // A put without a lease takes the key out of it; a delete too.
    run(&mut state, Command::Transact(Txn::put(key("b"), "mine")), 3);
    run(&mut state, Command::Transact(Txn::delete(key("c"))), 3);
    assert_eq!(run(&mut state, Command::Keep { lease }, 4).0, Answer::Kept);
    // An expiry that was decided before the keep is void.
    assert_eq!(run(&mut state, Command::Expire { lease, renewals: 0 }, 5), (Answer::Nothing, vec![]));
    let (answer, changes) = run(&mut state, Command::Expire { lease, renewals: 1 }, 6);
    assert_eq!(answer, Answer::Ended);
    assert_eq!(changes[0].deletes, [key("a")]);
    assert_eq!(state.list("").entries.len(), 1);
    for command in [
        Command::Keep { lease },
        Command::Revoke { lease },
        Command::Transact(Txn { compare: vec![], then: vec![put("d", "1"), under("a")] }),
    ] {
        assert_eq!(run(&mut state, command, 7).0, Answer::LeaseGone(lease));
    }
    assert!(state.get(&key("d")).is_none());
    assert_eq!(run(&mut state, Command::Grant { ttl_ms: 1 }, 8).0, Answer::Granted(LeaseId(2)));
}

#[test]
fn bounds_are_reached_and_said() {
    let mut state = State::default();
    let value = vec![0u8; STORE_MAX_BYTES - 1];
    let large = Txn { compare: vec![], then: vec![Op::Put { key: key("k"), value, lease: None }] };
    assert_eq!(run(&mut state, Command::Transact(large.clone()), 1).0, done(1));
    let (full, _) = run(&mut state, Command::Transact(Txn::put(key("m"), "")), 1);
    assert_eq!(full, Answer::Full { bytes: STORE_MAX_BYTES as u64 + 1 });
    // What does not grow is always possible.
    assert_eq!(run(&mut state, Command::Transact(large), 1).0, done(2));
    let swap = Txn { compare: vec![], then: vec![Op::DeletePrefix { prefix: "k".into() }, put("m", "1")] };
    assert_eq!(run(&mut state, Command::Transact(swap), 1).0, done(3));

    for _ in 0..LEASES_MAX {
        run(&mut state, Command::Grant { ttl_ms: 1 }, 1);
    }
    assert_eq!(run(&mut state, Command::Grant { ttl_ms: 1 }, 1).0, Answer::LeasesFull);
}

fn request(session: u64, number: u64, settled: u64, value: &str) -> Proposal {
    let node = "a".parse().unwrap();
    let command = Command::Transact(Txn::put(key("k"), value));
    Proposal { request: Some(RequestId { node, session, number, settled }), command }
}

#[test]
fn a_request_is_done_once() {
    let mut state = State::default();
    let mut apply = |proposal| state.apply(&proposal, Moment::from_ms(1), &mut Vec::new());
    // (session, number, settled) and the answer, in the order of the log.
    for (at, (request, expected)) in [
        (request(7, 1, 1, "a"), done(1)),
        (request(7, 2, 1, "b"), done(2)),
        (request(7, 1, 1, "a"), done(1)),
        (request(7, 3, 3, "c"), done(3)),
        (request(7, 2, 1, "b"), Answer::Stale { current: 7 }),
        (request(7, 3, 3, "c"), done(3)),
        (request(6, 9, 9, "old"), Answer::Stale { current: 7 }),
        (request(8, 1, 1, "d"), done(4)),
        (request(7, 4, 4, "late"), Answer::Stale { current: 8 }),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(apply(request), expected, "step {at}");
    }
    assert_eq!(state.get(&key("k")).unwrap().value, b"d");
}

#[test]
fn answers_are_kept_within_a_bound() {
    let mut state = State::default();
    for number in 0..(once::ANSWERS_MAX as u64 + 10) {
        state.apply(&request(1, number, 0, "v"), Moment::from_ms(1), &mut Vec::new());
    }
    let mut apply = |proposal| state.apply(&proposal, Moment::from_ms(1), &mut Vec::new());
    assert_eq!(apply(request(1, 9, 0, "v")), Answer::Stale { current: 1 });
    assert_eq!(apply(request(1, 10, 0, "v")), done(11));
}

#[test]
fn a_snapshot_does_not_make_what_is_known_younger_or_older() {
    let mut before = State::default();
    run(
        &mut before,
        Command::Transact(Txn { compare: vec![], then: vec![put("same", "1"), put("gone", "1")] }),
        10,
    );
    run(&mut before, Command::Grant { ttl_ms: 9 }, 11);
    let mut after = before.clone();
    let change = Txn { compare: vec![], then: vec![put("new", "1"), Op::Delete { key: key("gone") }] };
    run(&mut after, Command::Transact(change), 20);
    let mut installed = roundtrip(&after);
    let changes = installed.succeed(&before, Moment::from_ms(50));
    assert_eq!(installed.get(&key("same")).unwrap().applied_at, Moment::from_ms(10));
    assert_eq!(installed.get(&key("new")).unwrap().applied_at, Moment::from_ms(50));
    assert_eq!(installed.leases().next().unwrap().1.touched_at, Moment::from_ms(11));
    assert_eq!(changes.puts.len(), 1);
    assert_eq!(changes.deletes, [key("gone")]);

    let mut restarted = roundtrip(&after);
    restarted.succeed(&State::default(), Moment::from_ms(60));
    assert_eq!(restarted.get(&key("same")).unwrap().applied_at, Moment::from_ms(60));
    assert_eq!(restarted.leases().next().unwrap().1.touched_at, Moment::from_ms(60));
}

fn any_key() -> impl Strategy<Value = Key> {
    "[ab]/[a-c]".prop_map(|text| key(&text))
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (any_key(), prop::collection::vec(any::<u8>(), 0..4), prop::option::of(1u64..6))
            .prop_map(|(key, value, lease)| Op::Put { key, value, lease: lease.map(LeaseId) }),
        2 => any_key().prop_map(|key| Op::Delete { key }),
        1 => "[ab]?/?".prop_map(|prefix| Op::DeletePrefix { prefix }),
    ]
}

fn any_command() -> impl Strategy<Value = Command> {
    let compare = prop_oneof![
        any_key().prop_map(|key| Compare::Absent { key }),
        any_key().prop_map(|key| Compare::Present { key }),
        (any_key(), 0u64..20).prop_map(|(key, is)| Compare::Revision { key, is: Revision(is) }),
    ];
    prop_oneof![
        6 => (prop::collection::vec(compare, 0..2), prop::collection::vec(any_op(), 0..4))
            .prop_map(|(compare, then)| Command::Transact(Txn { compare, then })),
        2 => (1u64..9).prop_map(|ttl_ms| Command::Grant { ttl_ms }),
        1 => (1u64..6).prop_map(|id| Command::Keep { lease: LeaseId(id) }),
        1 => (1u64..6).prop_map(|id| Command::Revoke { lease: LeaseId(id) }),
        1 => (1u64..6, 0u64..3).prop_map(|(id, renewals)| Command::Expire { lease: LeaseId(id), renewals }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever follows the changes has what the store has; the sums agree; a snapshot is the state; revisions have no gaps.
    #[test]
    fn changes_add_up_to_the_state(commands in prop::collection::vec(any_command(), 0..40)) {
        let mut state = State::default();
        let mut followed: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
        for (at, command) in commands.into_iter().enumerate() {
            let before = state.revision();
            let (_, changes) = run(&mut state, command, at as u64);
            prop_assert!(changes.len() <= 1);
            let revision = changes.last().map_or(before, |c| c.revision);
            prop_assert_eq!(state.revision(), revision);
            prop_assert_eq!(revision.0, before.0 + changes.len() as u64);
            for change in changes {
                for entry in change.puts {
                    followed.insert(entry.key, entry.value);
                }
                for key in change.deletes {
                    prop_assert!(followed.remove(&key).is_some());
                }
            }
        }
        let listed: BTreeMap<_, _> = state.list("").entries.into_iter().map(|e| (e.key, e.value)).collect();
        prop_assert_eq!(&listed, &followed);
        let bytes: usize = listed.iter().map(|(k, v)| k.as_str().len() + v.len()).sum();
        prop_assert_eq!(state.bytes, bytes);
        for (id, lease) in state.leases() {
            for key in &lease.keys {
                prop_assert_eq!(state.get(key).unwrap().lease, Some(id));
            }
        }
        let mut copy = roundtrip(&state);
        copy.succeed(&state, Moment::from_ms(99));
        prop_assert_eq!(copy, state);
    }
}
