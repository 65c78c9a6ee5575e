//! Picks over tiers, states and bounds. The long runs are in `tests/simulation.rs`.

use std::sync::atomic::AtomicU32;

use super::*;
use crate::units::mixed;
use crate::{health, number};

const SETTINGS: Settings = Settings {
    algorithm: Algorithm::RoundRobin,
    slow_start: Duration::ZERO,
    panic: Percent::ZERO,
    in_flight: 0,
    outlier: None,
};
const ALL: [Algorithm; 5] = [
    Algorithm::RoundRobin,
    Algorithm::Weighted,
    Algorithm::LeastConnections,
    Algorithm::TwoChoices,
    Algorithm::Hash,
];
const ONCE: health::Policy = health::Policy { rise: 1, fall: 1 };

fn ask(random: u64) -> Ask<'static> {
    Ask {
        now: Millis(1000),
        random: mixed(random),
        key: mixed(random),
        stuck_to: None,
        tried: &[],
        is_repeatable: true,
    }
}

fn seat(index: usize, weight: u32, tier: Tier) -> Seat {
    Seat { identity: number(&index.to_le_bytes()), weight, tier }
}

fn pool(settings: Settings, tiers: &[Tier]) -> (Balancer, Vec<Member>) {
    let seats = tiers.iter().enumerate().map(|(index, tier)| seat(index, 1, *tier)).collect();
    let members = tiers.iter().map(|_| Member::new(State::Serving, Millis(0))).collect();
    (Balancer::new(settings, seats, Arc::default()), members)
}

/// Who is picked over many picks, each given back at once.
fn picked(balancer: &Balancer, members: &[Member], ask_of: impl Fn(u64) -> Ask<'static>) -> Vec<usize> {
    let mut seen: Vec<usize> = (0..64)
        .filter_map(|random| balancer.pick(members, &ask_of(random)).ok())
        .map(|picked| {
            balancer.release(&members[picked.index]);
            picked.index
        })
        .collect();
    seen.sort();
    seen.dedup();
    seen
}

#[test]
fn tiers_in_their_order() {
    use Tier::*;
    for algorithm in ALL {
        let (balancer, members) =
            pool(Settings { algorithm, ..SETTINGS }, &[Local, Primary, Primary, Backup, Backup]);
        for (gone, expected) in
            [(None, &[0usize][..]), (Some(0), &[1, 2]), (Some(1), &[2]), (Some(2), &[3, 4]), (Some(3), &[4])]
        {
            gone.map(|index: usize| members[index].on_refused(Millis(1)));
            assert_eq!(picked(&balancer, &members, ask), expected, "{algorithm:?} {gone:?}");
        }
        members[4].on_refused(Millis(1));
        assert_eq!(balancer.pick(&members, &ask(0)), Err(NotPicked::Nobody));
        // Who answers again is better than nobody.
        members[1].on_probe(true, &health::Policy { rise: 2, fall: 1 }, Millis(2));
        assert_eq!(picked(&balancer, &members, ask), [1]);
    }
}

#[test]
fn a_full_node_spills_and_a_full_pool_says_so() {
    use Tier::*;
    for algorithm in ALL {
        let (balancer, members) =
            pool(Settings { algorithm, in_flight: 2, ..SETTINGS }, &[Local, Primary, Backup]);
        let taken: Vec<_> = (0..5).map(|n| balancer.pick(&members, &ask(n)).map(|p| p.index)).collect();
        assert_eq!(taken, [Ok(0), Ok(0), Ok(1), Ok(1), Err(NotPicked::Full)], "{algorithm:?}");
        balancer.release(&members[1]);
        assert_eq!(balancer.pick(&members, &ask(9)).map(|p| p.index), Ok(1));
    }
}

#[test]
fn who_was_tried_comes_last() {
    let tiers = [Tier::Local, Tier::Primary, Tier::Primary];
    for algorithm in ALL {
        let (balancer, members) = pool(Settings { algorithm, ..SETTINGS }, &tiers);
        assert_eq!(picked(&balancer, &members, |n| Ask { tried: &[0, 1], ..ask(n) }), [2]);
        let all = picked(&balancer, &members, |n| Ask { tried: &[0, 1, 2], ..ask(n) });
        assert!(!all.is_empty(), "{algorithm:?}");
    }
}

#[test]
fn who_is_stuck_stays_while_its_server_serves() {
    let (balancer, members) = pool(SETTINGS, &[Tier::Primary; 3]);
    let stuck = |n| Ask { stuck_to: Some(1), ..ask(n) };
    assert_eq!(picked(&balancer, &members, stuck), [1]);
    assert_eq!(picked(&balancer, &members, |n| Ask { tried: &[1], ..stuck(n) }), [0, 2]);
    assert_eq!(picked(&balancer, &members, |n| Ask { stuck_to: Some(7), ..ask(n) }), [0, 1, 2]);
    members[1].drain(false, Millis(1));
    assert_eq!(picked(&balancer, &members, stuck), [0, 2]);
}

#[test]
fn weights_hold_while_a_server_is_out() {
    let weights = [4, 2, 1];
    let seats =
        weights.iter().enumerate().map(|(index, weight)| seat(index, *weight, Tier::Primary)).collect();
    let balancer = Balancer::new(
        Settings { algorithm: Algorithm::Weighted, ..SETTINGS },
        seats,
        Arc::new(RoundRobin::new()),
    );
    let members = [(); 3].map(|()| Member::new(State::Serving, Millis(0)));
    let count = |picks: u64| {
        let mut counts = [0; 3];
        (0..picks).for_each(|n| counts[balancer.pick(&members, &ask(n)).unwrap().index] += 1);
        counts
    };
    assert_eq!(count(70), [40, 20, 10]);
    members[1].on_refused(Millis(1));
    assert_eq!(count(50), [40, 0, 10]);
}

#[test]
fn a_new_server_begins_slowly_under_every_algorithm() {
    for algorithm in ALL {
        let slow_start = Duration::from_secs(10);
        let (balancer, members) = pool(Settings { algorithm, slow_start, ..SETTINGS }, &[Tier::Primary; 2]);
        members.iter().for_each(|m| m.latency().observe(Duration::from_millis(5), Millis(1000)));
        members[0].on_refused(Millis(1000));
        members[0].on_probe(true, &ONCE, Millis(1000));
        let share = |now: u64| {
            let ask = |n| Ask { now: Millis(now), ..ask(n) };
            (0..2000).filter(|n| balancer.pick(&members, &ask(*n)).unwrap().index == 0).count()
        };
        let (early, late) = (share(1000), share(11_000));
        // A load that never ends catches up with its weight; a turn is just a share.
        assert!((100..420).contains(&early), "{algorithm:?} {early}");
        assert!((850..2000).contains(&late), "{algorithm:?} {late}");
    }
}

#[test]
fn all_are_asked_in_a_panic() {
    let panic = Percent::new(50);
    let (balancer, members) = pool(Settings { panic, ..SETTINGS }, &[Tier::Primary; 5]);
    members[3].drain(false, Millis(1));
    members[..2].iter().for_each(|member| assert!(member.on_refused(Millis(1)).is_some()));
    assert_eq!(picked(&balancer, &members, ask), [0, 1, 2, 4]);
    assert!(balancer.pick(&members, &ask(0)).unwrap().is_panic);
    members[0].on_probe(true, &ONCE, Millis(2));
    assert_eq!(picked(&balancer, &members, ask), [0, 2, 4]);
}

#[test]
fn an_ejected_server_gets_one_request_when_its_time_is_over() {
    let outlier = Some(outlier::Policy { errors: 2, ..outlier::Policy::default() });
    for algorithm in ALL {
        let (balancer, members) = pool(Settings { algorithm, outlier, ..SETTINGS }, &[Tier::Primary; 2]);
        assert_eq!(balancer.failed(&members, 0, Millis(0)), None);
        assert_eq!(balancer.failed(&members, 0, Millis(0)).map(|c| c.to), Some(State::Ejected));
        // One of two is the share.
        assert_eq!([(); 2].map(|()| balancer.failed(&members, 1, Millis(0))), [None, None]);
        assert_eq!(picked(&balancer, &members, ask), [1], "{algorithm:?}");
        let mut told = Vec::new();
        balancer.tick(&members, Millis(4999), |index, change| told.push((index, change.to)));
        assert!(told.is_empty());
        balancer.tick(&members, Millis(5000), |index, change| told.push((index, change.to)));
        assert_eq!(told, [(0, State::Probing)]);
        let first = balancer.pick(&members, &ask(1)).unwrap();
        assert_eq!((first.index, first.is_trial), (0, true));
        assert_eq!(picked(&balancer, &members, ask), [1], "one at a time");
        balancer.release(&members[0]);
        assert_eq!(
            balancer.end_trial(&members[0], Some(true), Millis(5001)).map(|c| c.to),
            Some(State::Serving)
        );
        assert_eq!(picked(&balancer, &members, ask), [0, 1]);
    }
}

#[test]
fn who_failed_its_clients_is_better_than_nobody() {
    let outlier = Some(outlier::Policy { errors: 1, ..outlier::Policy::default() });
    let (balancer, members) = pool(Settings { outlier, ..SETTINGS }, &[Tier::Primary; 2]);
    balancer.failed(&members, 0, Millis(0));
    members[1].on_refused(Millis(1));
    assert_eq!(picked(&balancer, &members, ask), [0]);
}

#[test]
fn many_threads_keep_the_bound_and_the_one_trial() {
    let outlier = Some(outlier::Policy { errors: 1, ..outlier::Policy::default() });
    for algorithm in ALL {
        let settings = Settings { algorithm, in_flight: 3, outlier, ..SETTINGS };
        let (balancer, members) = pool(settings, &[Tier::Primary; 3]);
        balancer.failed(&members, 2, Millis(0));
        balancer.tick(&members, Millis(60_000), |_, _| {});
        let running = [(); 3].map(|()| AtomicU32::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (balancer, members, running) = (&balancer, &members, &running);
                scope.spawn(move || {
                    for n in 0..500 {
                        let Ok(picked) = balancer.pick(members, &ask(thread << 32 | n)) else { continue };
                        let most = if picked.is_trial { 1 } else { 3 };
                        assert!(running[picked.index].fetch_add(1, Relaxed) < most);
                        std::thread::yield_now();
                        running[picked.index].fetch_sub(1, Relaxed);
                        balancer.release(&members[picked.index]);
                        if picked.is_trial {
                            balancer.end_trial(&members[picked.index], None, Millis(60_000));
                        }
                    }
                });
            }
        });
        assert!(members.iter().all(|member| member.load() == 0));
    }
}
