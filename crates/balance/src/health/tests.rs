//! Health states: stories, and properties over random sequences of probes.

use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy { rise: 2, fall: 3 };

#[derive(Clone, Copy, Debug)]
enum Step {
    Ok,
    Bad,
    Refused,
}
use Step::*;

fn step(health: &mut Health, step: Step) -> Option<Change> {
    match step {
        Ok => health.on_probe(true, &POLICY),
        Bad => health.on_probe(false, &POLICY),
        Refused => health.on_refused(),
    }
}

fn after(initial: State, steps: &[Step]) -> State {
    let mut health = Health::new(initial);
    for s in steps {
        step(&mut health, *s);
    }
    health.state()
}

#[test]
fn stories() {
    use State::*;
    for (initial, steps, end) in [
        (Serving, &[Bad, Bad][..], Serving),
        (Serving, &[Bad, Bad, Bad], Ejected),
        (Serving, &[Bad, Bad, Ok, Bad, Bad], Serving),
        (Serving, &[Refused], Ejected),
        (Serving, &[Ok, Ok, Refused, Ok], Probing),
        (Serving, &[Refused, Ok, Ok], Serving),
        (Serving, &[Refused, Ok, Bad], Ejected),
        (Serving, &[Refused, Ok, Bad, Ok, Ok], Serving),
        (Probing, &[], Probing),
        (Probing, &[Ok], Probing),
        (Probing, &[Ok, Ok], Serving),
        (Probing, &[Bad], Ejected),
    ] {
        assert_eq!(after(initial, steps), end, "{initial} {steps:?}");
    }
}

#[test]
fn once_is_enough_when_the_policy_says_one_or_zero() {
    for n in [0, 1] {
        let policy = Policy { rise: n, fall: n };
        let mut health = Health::new(State::Probing);
        assert_eq!(health.on_probe(true, &policy).map(|c| c.to), Some(State::Serving));
        assert_eq!(health.on_probe(false, &policy).map(|c| c.to), Some(State::Ejected));
        assert_eq!(health.on_probe(true, &policy).map(|c| c.to), Some(State::Serving));
    }
}

#[test]
fn draining_ends_only_when_it_is_wanted_again() {
    for initial in [State::Serving, State::Probing, State::Ejected] {
        let mut health = Health::new(initial);
        assert_eq!(health.on_drained().map(|c| c.to), Some(State::Draining));
        for s in [Ok, Ok, Ok, Refused, Bad, Bad, Bad, Ok, Ok] {
            assert_eq!(step(&mut health, s), None);
        }
        assert_eq!(health.on_drained(), None);
        // What it answered meanwhile does not count.
        assert_eq!(health.on_wanted().map(|c| c.to), Some(State::Probing));
        assert_eq!(step(&mut health, Ok), None);
        assert_eq!(step(&mut health, Ok).map(|c| c.to), Some(State::Serving));
        assert_eq!(health.on_wanted(), None);
    }
}

#[test]
fn a_change_says_what_and_why() {
    let change = Health::new(State::Serving).on_refused().unwrap();
    assert_eq!(change.to_string(), "serving -> ejected: it refused a connection");
    assert_eq!(serde_json::to_string(&State::Probing).unwrap(), r#""probing""#);
}

#[test]
fn the_table_has_no_pair_twice_and_no_row_that_stays() {
    for (i, row) in TRANSITIONS.iter().enumerate() {
        assert_ne!(row.state, row.next, "{row:?}");
        assert!(TRANSITIONS[..i].iter().all(|r| (r.state, r.event) != (row.state, row.event)), "{row:?}");
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![4 => Just(Ok), 4 => Just(Bad), 1 => Just(Refused)]
}

proptest! {
    /// Whatever happens: a server comes to serve only after `rise` good probes in a row with nothing bad between
    /// them; it is ejected from serving only after `fall` bad ones or a refusal.
    #[test]
    fn no_move_without_its_cause(steps in prop::collection::vec(any_step(), 0..60)) {
        let mut health = Health::new(State::Serving);
        for (i, s) in steps.iter().enumerate() {
            let before = health.state();
            let change = step(&mut health, *s);
            prop_assert_eq!(change.map_or(before, |c| c.to), health.state());
            let Some(change) = change else { continue };
            prop_assert_eq!(change.from, before);
            let last = |n: usize, want: fn(&Step) -> bool| i + 1 >= n && steps[i + 1 - n..=i].iter().all(want);
            if change.to == State::Serving {
                prop_assert!(last(POLICY.rise as usize, |s| matches!(s, Ok)));
            }
            if change.from == State::Serving && change.to == State::Ejected {
                prop_assert!(matches!(s, Refused) || last(POLICY.fall as usize, |s| matches!(s, Bad)));
            }
        }
    }

    /// From any past, `rise` good probes bring a server back, and `fall` bad ones never leave it
    /// serving.
    #[test]
    fn it_always_settles(steps in prop::collection::vec(any_step(), 0..40)) {
        let mut health = Health::new(State::Probing);
        for s in steps {
            step(&mut health, s);
        }
        let mut good = health.clone();
        for _ in 0..POLICY.rise {
            step(&mut good, Ok);
        }
        prop_assert_eq!(good.state(), State::Serving);
        for _ in 0..POLICY.fall {
            step(&mut health, Bad);
        }
        prop_assert_eq!(health.state(), State::Ejected);
    }
}
