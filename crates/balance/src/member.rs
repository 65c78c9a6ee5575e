//! One server as all workers share it: its state, its load, its latency. What a pick looks at are single atomic loads;
//! the lock is only taken when a probe ends, an ejection begins or ends, or somebody drains it.
//!
//! It never says who is next: [`crate::Balancer`] does. Keyed by a server's identity it outlives a reload.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::health::{self, Change, Health, State};
use crate::latency::PeakEwma;
use crate::outlier::{self, Outlier};
use crate::slow_start;
use crate::units::Millis;

/// What is a [`Member`], or has one.
pub trait AsMember {
    fn as_member(&self) -> &Member;
}

impl AsMember for Member {
    fn as_member(&self) -> &Member {
        self
    }
}

impl<T: AsMember> AsMember for Arc<T> {
    fn as_member(&self) -> &Member {
        (**self).as_member()
    }
}

/// A state and who brought it about, in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Standing {
    Serving,
    Draining,
    /// By a probe or a refusal.
    Ejected,
    /// By the probes' word.
    Probing,
    /// By what its clients met; nothing is wrong as far as probes can tell.
    Out,
    /// After that, its time is over: it is given one request.
    OnTrial,
}

impl Standing {
    const ALL: [Self; 6] =
        [Self::Serving, Self::Draining, Self::Ejected, Self::Probing, Self::Out, Self::OnTrial];

    fn state(self) -> State {
        match self {
            Self::Serving => State::Serving,
            Self::Draining => State::Draining,
            Self::Ejected | Self::Out => State::Ejected,
            Self::Probing | Self::OnTrial => State::Probing,
        }
    }
}

/// `since` of a server that is not new.
const NOT_NEW: u64 = 0;

/// It is worth cache lines of its own: workers write to it.
#[derive(Debug)]
#[repr(align(128))]
pub struct Member {
    standing: AtomicU8,
    /// How often it stopped serving.
    falls: AtomicU32,
    /// Requests in flight, of all workers, as far as they are claimed.
    load: AtomicU32,
    /// Failures in a row.
    errors: AtomicU32,
    /// The one request of its trial is under way.
    is_tried: AtomicBool,
    /// When it came to be [`Standing::OnTrial`].
    on_trial_since: AtomicU64,
    /// When it began to serve; [`NOT_NEW`]: it always has.
    since: AtomicU64,
    latency: PeakEwma,
    judged: Mutex<Judged>,
}

#[derive(Debug)]
struct Judged {
    health: Health,
    outlier: Outlier,
}

impl Judged {
    /// It serves if nobody objects.
    fn standing(&self) -> Standing {
        match (self.health.state(), self.outlier.state()) {
            (State::Draining, _) => Standing::Draining,
            (State::Ejected, _) => Standing::Ejected,
            (State::Probing, _) => Standing::Probing,
            (State::Serving, State::Ejected) => Standing::Out,
            (State::Serving, State::Probing) => Standing::OnTrial,
            (State::Serving, _) => Standing::Serving,
        }
    }
}

impl Member {
    /// See [`Health::new`].
    pub fn new(initial: State, now: Millis) -> Self {
        let judged = Judged { health: Health::new(initial), outlier: Outlier::new(now) };
        Self {
            standing: AtomicU8::new(judged.standing() as u8),
            falls: AtomicU32::new(0),
            load: AtomicU32::new(0),
            errors: AtomicU32::new(0),
            is_tried: AtomicBool::new(false),
            on_trial_since: AtomicU64::new(0),
            since: AtomicU64::new(NOT_NEW),
            latency: PeakEwma::default(),
            judged: Mutex::new(judged),
        }
    }

    pub fn state(&self) -> State {
        self.standing().state()
    }

    /// How often it stopped serving: a connection from before the last time may lead to a process that is gone.
    pub fn falls(&self) -> u32 {
        self.falls.load(Relaxed)
    }

    /// Requests in flight that were claimed.
    pub fn load(&self) -> u32 {
        self.load.load(Relaxed)
    }

    pub fn latency(&self) -> &PeakEwma {
        &self.latency
    }

    /// A probe ended, or a connection for a request was not accepted in time.
    pub fn on_probe(&self, ok: bool, policy: &health::Policy, now: Millis) -> Option<Change> {
        self.change(now, |judged| judged.health.on_probe(ok, policy))
    }

    /// Nobody listens there: it is ejected at once, until a probe finds it again.
    pub fn on_refused(&self, now: Millis) -> Option<Change> {
        self.change(now, |judged| judged.health.on_refused())
    }

    /// Out on purpose, or wanted again.
    pub fn drain(&self, is_wanted: bool, now: Millis) -> Option<Change> {
        self.change(now, |judged| match is_wanted {
            true => judged.health.on_wanted(),
            false => judged.health.on_drained(),
        })
    }

    /// It is new in a pool that has served without it: its share starts small.
    pub fn begin_slowly(&self, now: Millis) {
        self.since.store(now.0.max(NOT_NEW + 1), Relaxed);
    }

    /// It answered a request well.
    pub fn answered(&self) {
        if self.errors.load(Relaxed) != 0 {
            self.errors.store(0, Relaxed);
        }
    }

    /// It failed a request. True each time that `errors` more of them have come in a row.
    pub(crate) fn failed(&self, errors: u32) -> bool {
        let streak = self.errors.fetch_add(1, Relaxed).wrapping_add(1);
        errors > 0 && streak.is_multiple_of(errors)
    }

    pub(crate) fn standing(&self) -> Standing {
        // Only bytes of `Standing` are ever stored.
        Standing::ALL[usize::from(self.standing.load(Relaxed)) % Standing::ALL.len()]
    }

    pub(crate) fn stand_out(&self, policy: &outlier::Policy, now: Millis) -> Option<Change> {
        self.change(now, |judged| judged.outlier.on_stood_out(policy, now))
    }

    pub(crate) fn on_time(&self, now: Millis) -> Option<Change> {
        self.change(now, |judged| judged.outlier.on_time(now))
    }

    /// Takes the one request of its trial, if it is on trial and has none. What may not be repeated is only taken after
    /// it has waited for one that may for `patience`.
    pub(crate) fn begin_trial(&self, is_repeatable: bool, patience: Duration, now: Millis) -> bool {
        let since = Millis(self.on_trial_since.load(Relaxed));
        self.standing() == Standing::OnTrial
            && (is_repeatable || now.since(since) >= patience)
            && self.is_tried.compare_exchange(false, true, AcqRel, Relaxed).is_ok()
    }

    /// The request of the trial has ended; `None`: without a verdict, such as when its client left.
    pub(crate) fn end_trial(
        &self,
        ok: Option<bool>,
        policy: &outlier::Policy,
        now: Millis,
    ) -> Option<Change> {
        let change = ok.and_then(|ok| self.change(now, |judged| judged.outlier.on_trial(ok, policy, now)));
        self.is_tried.store(false, Release);
        change
    }

    /// Whether a request of its trial is under way.
    pub fn is_tried(&self) -> bool {
        self.is_tried.load(Acquire)
    }

    /// Counts one more request in flight, if fewer than `bound` are; 0 is no bound.
    pub(crate) fn claim(&self, bound: u32) -> bool {
        let more = |load: u32| (bound == 0 || load < bound).then(|| load.wrapping_add(1));
        self.load.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    pub(crate) fn release(&self) {
        self.load.fetch_sub(1, Relaxed);
    }

    /// Its share of what its weight says: [`slow_start::WHOLE`], or less while it is new.
    pub(crate) fn share(&self, period: Duration, now: Millis) -> u32 {
        match self.since.load(Relaxed) {
            _ if period.is_zero() => slow_start::WHOLE,
            NOT_NEW => slow_start::WHOLE,
            since => slow_start::share(Millis(since), now, period),
        }
    }

    fn change(&self, now: Millis, event: impl FnOnce(&mut Judged) -> Option<Change>) -> Option<Change> {
        // A panic while it was held cannot have left a `Judged` half changed.
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        let before = judged.standing();
        let why = event(&mut judged)?.why;
        let after = judged.standing();
        if after == before {
            return None;
        }
        if before == Standing::Serving {
            self.falls.fetch_add(1, Relaxed);
        }
        match after {
            Standing::Serving => {
                self.errors.store(0, Relaxed);
                self.begin_slowly(now);
            }
            Standing::OnTrial => self.on_trial_since.store(now.0, Relaxed),
            _ => {}
        }
        self.standing.store(after as u8, Relaxed);
        let change = Change { from: before.state(), to: after.state(), why };
        (change.from != change.to).then_some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBES: health::Policy = health::Policy { rise: 1, fall: 1 };

    #[test]
    fn it_serves_only_if_nobody_objects() {
        let policy = outlier::Policy::default();
        let member = Member::new(State::Serving, Millis(0));
        assert_eq!(member.stand_out(&policy, Millis(0)).map(|c| c.to), Some(State::Ejected));
        // The probes' word is not enough: its time is not over.
        assert_eq!(member.on_probe(true, &PROBES, Millis(1)), None);
        assert_eq!(member.state(), State::Ejected);
        assert_eq!(member.on_probe(false, &PROBES, Millis(2)), None);
        member.on_time(Millis(5000));
        assert_eq!(member.standing(), Standing::Ejected, "the probe objects");
        assert_eq!(member.on_probe(true, &PROBES, Millis(5001)).map(|c| c.to), Some(State::Probing));
        assert_eq!(member.standing(), Standing::OnTrial);
        assert!(member.begin_trial(true, Duration::ZERO, Millis(5003)));
        assert!(!member.begin_trial(true, Duration::ZERO, Millis(5003)), "one at a time");
        assert_eq!(member.end_trial(None, &policy, Millis(5004)), None);
        assert!(member.begin_trial(true, Duration::ZERO, Millis(5005)));
        let change = member.end_trial(Some(true), &policy, Millis(5006)).unwrap();
        assert_eq!((change.from, change.to), (State::Probing, State::Serving));
        assert_eq!(member.falls(), 1);
    }

    #[test]
    fn what_may_not_be_repeated_tries_last() {
        let policy = outlier::Policy::default();
        let member = Member::new(State::Serving, Millis(0));
        member.stand_out(&policy, Millis(0));
        member.on_time(Millis(9000));
        let patience = Duration::from_millis(10);
        assert!(!member.begin_trial(false, patience, Millis(9009)));
        assert!(member.begin_trial(false, patience, Millis(9010)));
    }

    #[test]
    fn drained_and_wanted_again() {
        let member = Member::new(State::Serving, Millis(0));
        assert_eq!(member.drain(false, Millis(0)).map(|c| c.to), Some(State::Draining));
        assert_eq!(member.on_probe(false, &PROBES, Millis(1)), None);
        assert_eq!(member.on_refused(Millis(1)), None);
        assert_eq!(member.on_probe(true, &PROBES, Millis(1)), None);
        assert_eq!(member.drain(true, Millis(2)).map(|c| c.to), Some(State::Probing));
        assert_eq!(member.drain(true, Millis(2)), None);
        assert_eq!(member.on_probe(true, &PROBES, Millis(3)).map(|c| c.to), Some(State::Serving));
    }

    #[test]
    fn the_bound_of_its_load_holds() {
        let member = Member::new(State::Serving, Millis(0));
        assert!(member.claim(2) && member.claim(2) && !member.claim(2) && member.claim(0));
        member.release();
        assert!(!member.claim(2));
        member.release();
        assert!(member.claim(2));
        assert_eq!(member.load(), 2);
    }

    #[test]
    fn failures_in_a_row() {
        let member = Member::new(State::Serving, Millis(0));
        assert_eq!([(); 4].map(|()| member.failed(2)), [false, true, false, true]);
        assert!(!member.failed(2));
        member.answered();
        assert_eq!([(); 2].map(|()| member.failed(2)), [false, true]);
        assert!(!member.failed(0));
    }
}
