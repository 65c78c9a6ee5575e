//! The plan of apps, story by story: what is observed, and what is done about it.

use super::*;

fn id(number: u16) -> InstanceId {
    InstanceId { app: "web".parse().unwrap(), number }
}

fn want(instances: u16) -> BTreeMap<AppName, Wanted> {
    let stop_time = Duration::from_secs(5);
    BTreeMap::from([("web".parse().unwrap(), Wanted { instances, stop_time })])
}

fn there(list: &[(u16, Phase)]) -> BTreeMap<InstanceId, Observed> {
    list.iter().map(|&(number, phase)| (id(number), Observed { phase, failures: 0 })).collect()
}

const fn at(ms: u64) -> Moment {
    Moment::from_ms(ms)
}

const READY: Phase = Phase::Up { ready_since: Some(Moment::from_ms(1)) };
const UNREADY: Phase = Phase::Up { ready_since: None };
const DOWN: Phase = Phase::Down { start_at: Moment::from_ms(2000) };
const STOPPING: Phase = Phase::Stopping { kill_at: Moment::from_ms(2000) };
const KILLED: Phase = Phase::Killed { give_up_at: Moment::from_ms(2000) };

#[test]
fn what_is_done_about_what_is_there() {
    use Action::*;
    let kill_at = at(1000) + Duration::from_secs(5);
    for (wanted, observed, actions) in [
        (want(2), there(&[]), vec![Start(id(1)), Start(id(2))]),
        (want(2), there(&[(1, READY), (2, UNREADY)]), vec![]),
        (want(2), there(&[(1, READY), (2, DOWN)]), vec![]),
        (want(1), there(&[(1, READY), (2, READY)]), vec![Stop(id(2), kill_at)]),
        (want(1), there(&[(1, READY), (2, UNREADY)]), vec![Stop(id(2), kill_at)]),
        (want(1), there(&[(1, READY), (2, DOWN)]), vec![Forget(id(2))]),
        (want(1), there(&[(1, READY), (2, STOPPING)]), vec![]),
        (want(1), there(&[(1, READY), (2, KILLED)]), vec![]),
        (want(0), there(&[(1, READY), (2, DOWN)]), vec![Stop(id(1), kill_at), Forget(id(2))]),
        (BTreeMap::new(), there(&[(1, READY)]), vec![Stop(id(1), at(1000))]),
    ] {
        assert_eq!(plan(&wanted, &observed, at(1000)), actions, "{wanted:?} {observed:?}");
    }
}

#[test]
fn deadlines_are_reached() {
    for (phase, action) in
        [(DOWN, Action::Start(id(1))), (STOPPING, Action::Kill(id(1))), (KILLED, Action::Abandon(id(1)))]
    {
        let observed = there(&[(1, phase)]);
        assert_eq!(plan(&want(1), &observed, at(1999)), []);
        assert_eq!(plan(&want(1), &observed, at(2000)), [action]);
        assert_eq!(next_moment(&observed), Some(at(2000)));
    }
    assert_eq!(next_moment(&there(&[(1, READY)])), None);
}

#[test]
fn waits_grow_to_a_bound_and_are_forgotten_after_good_times() {
    let waits: Vec<u128> = (1..9).map(|n| backoff(n).as_millis()).collect();
    assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    assert_eq!(backoff(u32::MAX), BACKOFF_MOST);

    let up = |ready_since| Observed { phase: Phase::Up { ready_since }, failures: 5 };
    assert_eq!(failed(&up(None), at(900_000)), (6, backoff(6)));
    assert_eq!(failed(&up(Some(at(1000))), at(30_999)), (6, backoff(6)));
    assert_eq!(failed(&up(Some(at(1000))), at(31_000)), (1, BACKOFF_FIRST));
    assert_eq!((counted(&up(Some(at(1000))), at(30_999)), counted(&up(Some(at(1000))), at(31_000))), (5, 0));
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
