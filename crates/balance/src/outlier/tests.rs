//! One server's way out and back, and who stands out.

use std::time::Duration;

use super::*;

const POLICY: Policy = Policy {
    errors: 5,
    success_rate: Some(Percent::new(80)),
    slowness: Some(3),
    requests: 10,
    base: Duration::from_millis(100),
    most: Duration::from_millis(1000),
    share: Percent::new(50),
};

#[test]
fn no_pair_is_listed_twice() {
    for (index, row) in TRANSITIONS.iter().enumerate() {
        let same = |other: &&Transition| other.state == row.state && other.event == row.event;
        assert!(!TRANSITIONS[..index].iter().any(|other| same(&other)));
    }
}

#[test]
fn ejections_grow_to_a_bound_and_good_service_is_remembered() {
    let mut outlier = Outlier::new(Millis(0));
    assert!(outlier.on_stood_out(&POLICY, Millis(0)).is_some());
    assert!(outlier.on_stood_out(&POLICY, Millis(1)).is_none(), "it is out already");
    let mut now = 0;
    for lasts in [100, 200, 400, 800, 1000, 1000] {
        assert_eq!(outlier.on_time(Millis(now + lasts - 1)), None);
        now += lasts;
        assert_eq!(outlier.on_time(Millis(now)).map(|c| c.to), Some(State::Probing));
        assert_eq!(outlier.on_trial(false, &POLICY, Millis(now)).map(|c| c.to), Some(State::Ejected));
    }
    now += 1000;
    outlier.on_time(Millis(now));
    assert_eq!(outlier.on_trial(true, &POLICY, Millis(now)).map(|c| c.to), Some(State::Serving));
    // Seven steps are on its account; five times the longest ejection takes five off.
    now += 5 * 1000;
    outlier.on_stood_out(&POLICY, Millis(now));
    assert_eq!(outlier.on_time(Millis(now + 399)), None);
    assert!(outlier.on_time(Millis(now + 400)).is_some());
}

#[test]
fn what_is_not_on_trial_has_no_verdict() {
    let mut outlier = Outlier::new(Millis(0));
    assert_eq!(outlier.on_trial(false, &POLICY, Millis(0)), None);
    assert_eq!(outlier.on_time(Millis(9)), None);
    outlier.on_stood_out(&POLICY, Millis(10));
    assert_eq!(outlier.on_trial(true, &POLICY, Millis(20)), None);
    assert_eq!(outlier.state(), State::Ejected);
}

#[test]
fn a_set_share_and_never_the_last() {
    for (servers, not_serving, share, expected) in [
        (1, 0, 50, false),
        (1, 0, 100, false),
        (2, 0, 50, true),
        (2, 1, 50, false),
        (2, 1, 100, false),
        (3, 0, 50, true),
        (3, 1, 50, false),
        (3, 1, 100, true),
        (10, 0, 9, false),
        (10, 0, 10, true),
        (10, 1, 10, false),
        (10, 0, 0, false),
    ] {
        let may = may_eject(servers, not_serving, Percent::new(share));
        assert_eq!(may, expected, "{not_serving} of {servers}, {share} %");
    }
}

fn window(requests: u64, failures: u64, mean_ms: u64) -> Window {
    Window { requests, failures, took: Duration::from_millis(mean_ms * requests) }
}

#[test]
fn who_stands_out() {
    let good = window(100, 1, 20);
    for (windows, expected) in [
        (vec![], &[][..]),
        (vec![window(100, 90, 20)], &[]),
        (vec![good, window(100, 30, 20), good], &[1]),
        (vec![good, window(100, 19, 20), good], &[]),
        // Too few to say.
        (vec![good, window(9, 9, 20), good], &[]),
        // All fail alike: the fault lies elsewhere.
        (vec![window(100, 60, 20), window(100, 70, 20), window(100, 65, 20)], &[]),
        (vec![good, window(100, 0, 150)], &[1]),
        // Many times slower, but not slow.
        (vec![window(100, 0, 1), window(100, 0, 99)], &[]),
        (vec![window(100, 0, 100), window(100, 0, 290)], &[]),
        (vec![window(100, 50, 400), good, good], &[0]),
    ] {
        assert_eq!(judge(&windows, &POLICY), expected, "{windows:?}");
    }
    let off = Policy { success_rate: None, slowness: None, ..POLICY };
    assert!(judge(&[good, window(100, 100, 9000)], &off).is_empty());
}
