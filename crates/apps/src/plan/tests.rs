//! The plan of apps, story by story: what is observed, and what is done about it.

use super::*;

fn id(number: u16) -> InstanceId {
    InstanceId { app: "web".parse().unwrap(), number }
}

fn want(instances: u16, revision: u64) -> BTreeMap<AppName, Wanted> {
    let stop_time = Duration::from_secs(5);
    BTreeMap::from([("web".parse().unwrap(), Wanted { instances, revision, stop_time })])
}

fn there(list: &[(u16, u64, Phase)]) -> BTreeMap<InstanceId, Observed> {
    list.iter()
        .map(|&(number, revision, phase)| (id(number), Observed { revision, phase, failures: 0 }))
        .collect()
}

const fn at(ms: u64) -> Moment {
    Moment::from_ms(ms)
}

const READY: Phase = Phase::Up { ready_since: Some(Moment::from_ms(1)) };
const UNREADY: Phase = Phase::Up { ready_since: None };
const DOWN: Phase = Phase::Down { start_at: Moment::from_ms(2000) };
const STOPPING: Phase = Phase::Stopping { kill_at: Moment::from_ms(2000), killed: false };
const KILLED: Phase = Phase::Stopping { kill_at: Moment::from_ms(2000), killed: true };

#[test]
fn what_is_done_about_what_is_there() {
    use Action::*;
    let kill_at = at(1000) + Duration::from_secs(5);
    let orphan_kill_at = at(1000) + STOP_TIME;
    for (wanted, observed, actions) in [
        (want(2, 1), there(&[]), vec![Start(id(1)), Start(id(2))]),
        (want(2, 1), there(&[(1, 1, READY), (2, 1, UNREADY)]), vec![]),
        (want(2, 1), there(&[(1, 1, READY), (2, 1, DOWN)]), vec![]),
        (want(1, 1), there(&[(1, 1, READY), (2, 1, READY)]), vec![Stop(id(2), kill_at)]),
        (want(1, 1), there(&[(1, 1, READY), (2, 1, DOWN)]), vec![Forget(id(2))]),
        (want(1, 1), there(&[(1, 1, READY), (2, 1, STOPPING)]), vec![]),
        (BTreeMap::new(), there(&[(1, 1, READY)]), vec![Stop(id(1), orphan_kill_at)]),
        // A new revision: what is not ready at once, what is ready one after another.
        (want(3, 2), there(&[(1, 1, READY), (2, 1, READY), (3, 1, READY)]), vec![Stop(id(1), kill_at)]),
        (want(3, 2), there(&[(1, 1, STOPPING), (2, 1, READY), (3, 1, READY)]), vec![]),
        (want(3, 2), there(&[(1, 2, UNREADY), (2, 1, READY), (3, 1, READY)]), vec![]),
        (want(3, 2), there(&[(1, 2, READY), (2, 1, READY), (3, 1, READY)]), vec![Stop(id(2), kill_at)]),
        (want(2, 2), there(&[(1, 1, UNREADY), (2, 1, READY)]), vec![Stop(id(1), kill_at)]),
        (want(2, 2), there(&[(1, 1, DOWN), (2, 1, READY)]), vec![Start(id(1))]),
    ] {
        assert_eq!(plan(&wanted, &observed, at(1000)), actions, "{wanted:?} {observed:?}");
    }
}

#[test]
fn deadlines_are_reached() {
    for (phase, action) in
        [(DOWN, Some(Action::Start(id(1)))), (STOPPING, Some(Action::Kill(id(1)))), (KILLED, None)]
    {
        let observed = there(&[(1, 1, phase)]);
        assert_eq!(plan(&want(1, 1), &observed, at(1999)), []);
        assert_eq!(plan(&want(1, 1), &observed, at(2000)).first(), action.as_ref());
        assert_eq!(next_moment(&observed), action.map(|_| at(2000)));
    }
    assert_eq!(next_moment(&there(&[(1, 1, READY)])), None);
}

#[test]
fn waits_grow_to_a_bound_and_are_forgotten_after_good_times() {
    let waits: Vec<u128> = (1..9).map(|n| backoff(n).as_millis()).collect();
    assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    assert_eq!(backoff(u32::MAX), BACKOFF_MOST);

    let up = |ready_since| Observed { revision: 1, phase: Phase::Up { ready_since }, failures: 5 };
    assert_eq!(failed(&up(None), at(900_000)), (6, backoff(6)));
    assert_eq!(failed(&up(Some(at(1000))), at(30_999)), (6, backoff(6)));
    assert_eq!(failed(&up(Some(at(1000))), at(31_000)), (1, BACKOFF_FIRST));
}

#[test]
fn the_gate_counts_rise_and_fall() {
    let mut gate = Gate::default();
    let mut answers =
        |checks: &[bool]| -> Vec<Option<bool>> { checks.iter().map(|ok| gate.on_check(*ok, 2, 3)).collect() };
    assert_eq!(answers(&[false, true, false, true, true]), [None, None, None, None, Some(true)]);
    assert_eq!(answers(&[false, false, true, false, false]), [None; 5]);
    assert_eq!(answers(&[false, true, true]), [Some(false), None, Some(true)]);
    let mut zero = Gate::default();
    assert_eq!((zero.on_check(true, 0, 0), zero.on_check(false, 0, 0)), (Some(true), Some(false)));
}
