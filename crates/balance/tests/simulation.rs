//! Whole pools over simulated time: servers die, lie, slow down and heal while requests come, and what must always hold
//! is checked at every pick. Each run is made from one seed; a failure prints it and the command that replays it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use tiebeam_balance::health::{self, State};
use tiebeam_balance::{
    Algorithm, Ask, Balancer, BudgetPolicy, Member, Millis, NotPicked, Percent, Picked, RetryBudget, Seat,
    Settings, Tier, mixed, number, outlier,
};

/// Names the seed that replays a run.
const SEED: &str = "BALANCE_SEED";
const RUNS: u64 = 40;

const PROBES: health::Policy = health::Policy { rise: 2, fall: 3 };
const PROBE_EVERY: u64 = 100;
const TICK_EVERY: u64 = 50;
const JUDGE_EVERY: u64 = 1000;
/// Servers misbehave until then, and never after.
const HEALED_AT: u64 = 20_000;
/// The slowest answer from before.
const SLOWEST: u64 = 1500;
/// When all of them must serve again: the last bad answer is judged, the longest ejection is over, its trial had patience,
/// and probes have what they need.
const RECOVERED_AT: u64 = HEALED_AT + SLOWEST + JUDGE_EVERY + 2000 + 2 * 200 + 10 * PROBE_EVERY;
/// When new servers have their whole share and bad latencies are forgotten: skew is counted from here.
const EVEN_AT: u64 = RECOVERED_AT + 30_000;
const END_AT: u64 = EVEN_AT + 5000;

const OUTLIER: outlier::Policy = outlier::Policy {
    errors: 4,
    success_rate: Some(Percent::new(70)),
    slowness: Some(5),
    requests: 15,
    base: Duration::from_millis(200),
    most: Duration::from_millis(2000),
    share: Percent::new(50),
};
const BUDGET: BudgetPolicy = BudgetPolicy { share: Percent::new(20), floor: 2 };

#[test]
fn round_robin() {
    runs("round_robin", Algorithm::RoundRobin);
}

#[test]
fn weighted() {
    runs("weighted", Algorithm::Weighted);
}

#[test]
fn least_connections() {
    runs("least_connections", Algorithm::LeastConnections);
}

#[test]
fn two_choices() {
    runs("two_choices", Algorithm::TwoChoices);
}

#[test]
fn hash() {
    runs("hash", Algorithm::Hash);
}

fn runs(name: &str, algorithm: Algorithm) {
    let given = std::env::var(SEED).ok().map(|text| text.parse().expect("a seed is a number"));
    let first: u64 = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        mixed(now.map_or(0, |since| since.as_nanos() as u64))
    });
    for seed in (0..if given.is_some() { 1 } else { RUNS }).map(|run| first.wrapping_add(run)) {
        let run = AssertUnwindSafe(|| World::new(seed, algorithm).run());
        if let Err(failure) = std::panic::catch_unwind(run) {
            eprintln!(
                "seed {seed}; replay: {SEED}={seed} cargo nextest run -p tiebeam-balance --test simulation {name}"
            );
            std::panic::resume_unwind(failure);
        }
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mixed(self.0)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How a server really is.
#[derive(Clone, Copy, Debug)]
struct Truth {
    is_up: bool,
    /// Of its answers to clients that are failures; probes do not see them.
    fails_percent: u64,
    latency: u64,
}

const WELL: Truth = Truth { is_up: true, fails_percent: 0, latency: 20 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    End {
        server: usize,
        is_trial: bool,
        is_ok: bool,
        began: u64,
        is_repeatable: bool,
        repeats: u32,
    },
    Probe(usize),
    Tick,
    Judge,
    /// A server becomes another one.
    Turn,
}

struct World {
    random: Random,
    now: u64,
    algorithm: Algorithm,
    truth: Vec<Truth>,
    members: Vec<Member>,
    balancer: Balancer,
    budget: RetryBudget,
    requests: u64,
    repeats: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    serial: u64,
    windows: Vec<outlier::Window>,
    on_trial: BTreeSet<usize>,
    counts: Vec<u64>,
}

impl World {
    fn new(seed: u64, algorithm: Algorithm) -> Self {
        let mut random = Random(seed);
        let len = 1 + random.below(8) as usize;
        let is_tiered = random.percent(40);
        let seat = |index: usize, random: &mut Random| Seat {
            identity: number(&index.to_le_bytes()),
            weight: 1 + random.below(4) as u32,
            tier: match random.below(4) {
                0 if is_tiered => Tier::Local,
                1 if is_tiered => Tier::Backup,
                _ => Tier::Primary,
            },
        };
        let settings = Settings {
            algorithm,
            slow_start: if random.percent(30) { Duration::from_millis(500) } else { Duration::ZERO },
            panic: if random.percent(20) { Percent::new(40) } else { Percent::ZERO },
            in_flight: if random.percent(40) { 3 + random.below(30) as u32 } else { 0 },
            outlier: Some(OUTLIER),
        };
        let seats = (0..len).map(|index| seat(index, &mut random)).collect();
        Self {
            random,
            now: 0,
            algorithm,
            truth: vec![WELL; len],
            members: (0..len).map(|_| Member::new(State::Probing, Millis(0))).collect(),
            balancer: Balancer::new(settings, seats, Arc::default()),
            budget: RetryBudget::default(),
            requests: 0,
            repeats: 0,
            events: BinaryHeap::new(),
            serial: 0,
            windows: vec![outlier::Window::default(); len],
            on_trial: BTreeSet::new(),
            counts: vec![0; len],
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((time, self.serial, event)));
    }

    fn run(mut self) {
        for server in 0..self.members.len() {
            self.at(server as u64, Event::Probe(server));
        }
        for event in [Event::Arrive, Event::Tick, Event::Judge, Event::Turn] {
            self.at(1, event);
        }
        while let Some(Reverse((now, _, event))) = self.events.pop().filter(|next| next.0.0 <= END_AT) {
            self.now = now;
            self.step(event);
        }
        self.check_even();
    }

    fn step(&mut self, event: Event) {
        let now = Millis(self.now);
        match event {
            Event::Arrive => {
                // Now and then a burst, now and then next to nothing.
                let gap = [1, 5, 5, 20, 300][self.random.below(5) as usize];
                let gap = if self.now >= HEALED_AT { 5 } else { gap };
                self.at(self.now + gap, Event::Arrive);
                self.requests += 1;
                let is_repeatable = self.random.percent(70);
                self.send(is_repeatable, 0, &mut Vec::new());
            }
            Event::End { server, is_trial, is_ok, began, is_repeatable, repeats } => {
                self.ended(server, is_trial, is_ok, began);
                if !is_ok && is_repeatable && repeats < 2 && self.may_repeat() {
                    self.send(true, repeats + 1, &mut vec![server]);
                }
            }
            Event::Probe(server) => {
                self.members[server].on_probe(self.truth[server].is_up, &PROBES, now);
                self.at(self.now + PROBE_EVERY, Event::Probe(server));
            }
            Event::Tick => {
                self.balancer.tick(&self.members, now, |_, _| {});
                self.at(self.now + TICK_EVERY, Event::Tick);
                if self.now >= RECOVERED_AT {
                    for (server, member) in self.members.iter().enumerate() {
                        assert_eq!(member.state(), State::Serving, "server {server} never came back");
                    }
                }
            }
            Event::Judge => {
                let before = self.not_serving();
                self.balancer.judge(&self.members, &self.windows, now, |_, _| {});
                self.check_share(before);
                self.windows.fill(outlier::Window::default());
                self.at(self.now + JUDGE_EVERY, Event::Judge);
            }
            Event::Turn if self.now >= HEALED_AT => self.truth.fill(WELL),
            Event::Turn => {
                let server = self.random.below(self.truth.len() as u64) as usize;
                self.truth[server] = match self.random.below(5) {
                    0 => Truth { is_up: false, ..WELL },
                    1 => Truth { fails_percent: 100, ..WELL },
                    2 => Truth { fails_percent: 50, ..WELL },
                    3 => Truth { latency: SLOWEST, ..WELL },
                    _ => WELL,
                };
                let later = (self.now + 50 + self.random.below(1500)).min(HEALED_AT);
                self.at(later, Event::Turn);
            }
        }
    }

    /// One request: another server as long as none accepts.
    fn send(&mut self, is_repeatable: bool, repeats: u32, tried: &mut Vec<usize>) {
        for _ in 0..self.members.len() + 2 {
            let Some(picked) = self.pick(is_repeatable, tried) else { return };
            let (server, truth) = (picked.index, self.truth[picked.index]);
            if !truth.is_up {
                self.members[server].on_refused(Millis(self.now));
                self.balancer.release(&self.members[server]);
                if picked.is_trial {
                    self.end_trial(server, Some(false));
                }
                tried.push(server);
                continue;
            }
            let is_ok = !self.random.percent(truth.fails_percent);
            let end = Event::End {
                server,
                is_trial: picked.is_trial,
                is_ok,
                began: self.now,
                is_repeatable,
                repeats,
            };
            let takes = truth.latency + self.random.below(5);
            self.at(self.now + takes, end);
            return;
        }
    }

    fn pick(&mut self, is_repeatable: bool, tried: &[usize]) -> Option<Picked> {
        let (random, key) = (self.random.next(), self.random.next());
        let ask = Ask { now: Millis(self.now), random, key, stuck_to: None, tried, is_repeatable };
        let states: Vec<State> = self.members.iter().map(Member::state).collect();
        let result = self.balancer.pick(&self.members, &ask);
        let serves = |index: usize| states[index] == State::Serving;
        let tier = |index: usize| self.balancer.seats()[index].tier;
        let settings = self.balancer.settings();
        let in_flight = settings.in_flight;
        let primaries = || (0..states.len()).filter(|index| tier(*index) != Tier::Backup);
        let some_primary = primaries().any(serves);
        match result {
            Ok(Picked { index, is_trial: true, .. }) => {
                assert_eq!(states[index], State::Probing);
                assert!(self.on_trial.insert(index), "two requests on trial at server {index}");
            }
            Ok(Picked { index, is_panic: true, .. }) => {
                let serving = primaries().filter(|index| serves(*index)).count();
                assert!(serving * 100 < primaries().count() * usize::from(settings.panic.get()));
                assert!(tier(index) != Tier::Backup && states[index] != State::Draining);
            }
            Ok(Picked { index, .. }) => {
                assert!(
                    serves(index) || !(0..states.len()).any(serves),
                    "server {index} was picked, which is {}, while another serves: {states:?}",
                    states[index]
                );
                assert!(tier(index) != Tier::Backup || !serves(index) || !some_primary);
            }
            Err(NotPicked::Nobody) => assert!(states.iter().all(|state| *state == State::Ejected)),
            Err(NotPicked::Full) => {
                let full = |index: usize| self.members[index].load() >= in_flight;
                assert!(in_flight > 0 && primaries().filter(|index| serves(*index)).all(full));
            }
        }
        let picked = result.ok()?;
        assert!(in_flight == 0 || self.members[picked.index].load() <= in_flight);
        if self.now >= EVEN_AT {
            self.counts[picked.index] += 1;
            self.check_loads(picked.index);
        }
        Some(picked)
    }

    fn ended(&mut self, server: usize, is_trial: bool, is_ok: bool, began: u64) {
        let (member, took) = (&self.members[server], Duration::from_millis(self.now - began));
        self.balancer.release(member);
        member.latency().observe(took, Millis(self.now));
        let window = &mut self.windows[server];
        window.requests += 1;
        window.failures += u64::from(!is_ok);
        window.took += took;
        if is_trial {
            self.end_trial(server, Some(is_ok));
        }
        if is_ok {
            self.members[server].answered();
        } else {
            let before = self.not_serving();
            self.balancer.failed(&self.members, server, Millis(self.now));
            self.check_share(before);
        }
    }

    fn end_trial(&mut self, server: usize, ok: Option<bool>) {
        assert!(self.on_trial.remove(&server));
        self.balancer.end_trial(&self.members[server], ok, Millis(self.now));
    }

    fn may_repeat(&mut self) -> bool {
        let may = self.budget.spend(&BUDGET, self.requests, Millis(self.now));
        self.repeats += u64::from(may);
        let most = self.requests as f64 * 0.2 + 2.0 * (self.now as f64 / 1000.0) + 20.0;
        assert!(self.repeats as f64 <= most, "{} repeats of {} requests", self.repeats, self.requests);
        may
    }

    fn not_serving(&self) -> usize {
        self.members.iter().filter(|member| member.state() != State::Serving).count()
    }

    /// Who was ejected for what clients met was ejected within the share, and somebody still serves.
    fn check_share(&self, before: usize) {
        let after = self.not_serving();
        assert!(
            after == before || after <= OUTLIER.share.of(self.members.len()) && after < self.members.len()
        );
    }

    /// The fewest connections: nobody had fewer for its weight than the one that was picked.
    fn check_loads(&self, picked: usize) {
        if self.algorithm != Algorithm::LeastConnections {
            return;
        }
        let (seats, in_flight) = (self.balancer.seats(), self.balancer.settings().in_flight);
        let load = |index: usize| self.members[index].load();
        for other in 0..seats.len() {
            let is_asked =
                seats[other].tier == seats[picked].tier && (in_flight == 0 || load(other) < in_flight);
            let (mine, others) =
                (load(picked) * seats[other].weight, (load(other) + 1) * seats[picked].weight);
            assert!(
                !is_asked || mine <= others,
                "server {picked} was picked with {}, {other} had {}",
                load(picked),
                load(other)
            );
        }
    }

    /// Once all is well again, every server that is asked at all has its share.
    fn check_even(&self) {
        let seats = self.balancer.seats();
        let first = seats.iter().map(|seat| seat.tier).min();
        // A server that is full leaves its turn to the others: about five requests are under way.
        let in_flight = self.balancer.settings().in_flight;
        if in_flight > 0 && in_flight < 10 {
            return;
        }
        // A bound on requests in flight may spill to other tiers.
        let asked: Vec<usize> = (0..seats.len())
            .filter(|index| Some(seats[*index].tier) == first || self.counts[*index] > 0)
            .collect();
        if asked.iter().any(|index| Some(seats[*index].tier) != first)
            // Its promise is about loads, not about counts: an idle server of more weight always goes first.
            || self.algorithm == Algorithm::LeastConnections
        {
            return;
        }
        let weight = |index: usize| match self.algorithm {
            Algorithm::RoundRobin => 1.0,
            _ => f64::from(seats[index].weight),
        };
        let weights: f64 = asked.iter().map(|index| weight(*index)).sum();
        let picks: u64 = self.counts.iter().sum();
        assert!(picks > 500, "{picks}");
        for index in asked {
            let (count, share) = (self.counts[index] as f64, picks as f64 * weight(index) / weights);
            let slack = match self.algorithm {
                Algorithm::RoundRobin => 1.0,
                Algorithm::Weighted => self.members.len() as f64,
                // Chance has its part, and latencies differ a little.
                _ => 0.75 * picks as f64 / self.members.len() as f64 + 60.0,
            };
            assert!(
                (count - share).abs() <= slack,
                "server {index}: {count} of {picks}, its share is {share}"
            );
        }
    }
}
