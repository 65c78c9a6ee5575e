//! Passive detection: a server that keeps failing its clients is taken out for a while, longer each time.
//!
//! Two questions, both pure: [`Outlier`] is one server's way out and back, [`judge`] says who stands out among its
//! pool's servers over a while. How many may be out at once is up to [`may_eject`]. Active checks have their own state
//! in [`crate::health`]; a server serves if neither of the two objects.

use std::time::Duration;

use crate::health::{Change, State};
use crate::units::{Millis, Percent};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row; 0: they are not counted.
    pub errors: u32,
    /// A server whose share of good answers is below this, and below that of the others by [`GAP`], stands out.
    pub success_rate: Option<Percent>,
    /// A server that takes this many times as long as the others stands out, if that is [`SLOW`] at least.
    pub slowness: Option<u32>,
    /// The rates of a server with fewer requests than this in the while say nothing.
    pub requests: u64,
    /// How long a server is out for the first time; each time it doubles.
    pub base: Duration,
    /// Never longer than this. A server that has served as long without standing out is one step better again.
    pub most: Duration,
    /// Of all servers of the pool: never more are out at once, whatever they do.
    pub share: Percent,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            errors: 5,
            success_rate: None,
            slowness: None,
            requests: 20,
            base: Duration::from_secs(5),
            most: Duration::from_secs(300),
            share: Percent::new(50),
        }
    }
}

/// What a rate must be worse than that of the other servers, of a hundred: if all fail, nobody stands out.
const GAP: f64 = 0.2;

/// An answer that is faster than this is not slow, whatever the others do.
const SLOW: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// It stands out, and one more may be out.
    StoodOut,
    /// Its time is over.
    TimeUp,
    /// The one request that it was given was answered well.
    Answered,
    /// It was not.
    Failed,
}

/// One row of the table: in `state`, `event` leads to `next`, because of `why`.
struct Transition {
    state: State,
    event: Event,
    next: State,
    why: &'static str,
}

/// Every move there is. A pair that is not listed changes nothing; no pair is listed twice.
static TRANSITIONS: [Transition; 4] = {
    use {Event::*, State::*};
    const fn row(state: State, event: Event, next: State, why: &'static str) -> Transition {
        Transition { state, event, next, why }
    }
    [
        row(Serving, StoodOut, Ejected, "it failed its clients more than the others did"),
        row(Ejected, TimeUp, Probing, "its time is over: it is given one request"),
        row(Probing, Answered, Serving, "it answered the one request that it was given"),
        row(Probing, Failed, Ejected, "it failed the one request that it was given"),
    ]
};

/// One server's way out and back. [`State::Draining`] is none of its states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlier {
    state: State,
    /// How often it was ejected, less what good service has made up for.
    steps: u32,
    /// When the ejection ends, or when the state that it is in began.
    at: Millis,
}

impl Outlier {
    pub const fn new(now: Millis) -> Self {
        Self { state: State::Serving, steps: 0, at: now }
    }

    pub const fn state(&self) -> State {
        self.state
    }

    /// It stands out, and [`may_eject`] allows it.
    pub fn on_stood_out(&mut self, policy: &Policy, now: Millis) -> Option<Change> {
        let change = self.apply(Event::StoodOut)?;
        let most = policy.most.as_millis().max(1);
        let forgiven = u32::try_from(now.since(self.at).as_millis() / most).unwrap_or(u32::MAX);
        self.steps = self.steps.saturating_sub(forgiven);
        self.eject(policy, now);
        Some(change)
    }

    /// Looks at the clock.
    pub fn on_time(&mut self, now: Millis) -> Option<Change> {
        if self.state == State::Ejected && now < self.at {
            return None;
        }
        let change = self.apply(Event::TimeUp)?;
        self.at = now;
        Some(change)
    }

    /// The one request that it was given has ended.
    pub fn on_trial(&mut self, ok: bool, policy: &Policy, now: Millis) -> Option<Change> {
        let change = self.apply(if ok { Event::Answered } else { Event::Failed })?;
        match ok {
            true => self.at = now,
            false => self.eject(policy, now),
        }
        Some(change)
    }

    /// How long the ejection before last, counted from 1, lasts.
    fn time(policy: &Policy, steps: u32) -> Duration {
        let factor = 1u32.checked_shl(steps.saturating_sub(1)).unwrap_or(u32::MAX);
        policy.base.saturating_mul(factor).min(policy.most)
    }

    fn eject(&mut self, policy: &Policy, now: Millis) {
        self.steps = self.steps.saturating_add(1);
        self.at = now.after(Self::time(policy, self.steps));
    }

    fn apply(&mut self, event: Event) -> Option<Change> {
        let row = TRANSITIONS.iter().find(|row| row.state == self.state && row.event == event)?;
        self.state = row.next;
        Some(Change { from: row.state, to: row.next, why: row.why })
    }
}

/// Whether one more of `servers` may be ejected while `not_serving` of them do not serve, for whatever reason. The last
/// one that serves never is.
pub fn may_eject(servers: usize, not_serving: usize, share: Percent) -> bool {
    not_serving < share.of(servers) && not_serving + 1 < servers
}

/// What one server did over a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub requests: u64,
    /// Of those: failed as [`Policy::errors`] counts them.
    pub failures: u64,
    /// The time that all of them took until their first byte.
    pub took: Duration,
}

impl Window {
    fn success_rate(&self) -> f64 {
        1.0 - self.failures.min(self.requests) as f64 / self.requests as f64
    }

    fn mean_ms(&self) -> f64 {
        self.took.as_secs_f64() * 1000.0 / self.requests as f64
    }
}

/// The indexes of the servers that stand out, by the rates of a while; with fewer than two that have had enough requests,
/// nobody does.
pub fn judge(windows: &[Window], policy: &Policy) -> Vec<usize> {
    let known: Vec<usize> =
        (0..windows.len()).filter(|i| windows[*i].requests >= policy.requests.max(1)).collect();
    let others = |index: usize, of: fn(&Window) -> f64| {
        median(known.iter().filter(|other| **other != index).map(|other| of(&windows[*other])).collect())
    };
    let fails = |index: usize| {
        let Some(least) = policy.success_rate else { return false };
        let rate = windows[index].success_rate();
        rate < least.factor() && others(index, Window::success_rate).is_some_and(|other| rate < other - GAP)
    };
    let is_slow = |index: usize| {
        let Some(times) = policy.slowness else { return false };
        let mean = windows[index].mean_ms();
        mean >= SLOW.as_secs_f64() * 1000.0
            && others(index, Window::mean_ms).is_some_and(|other| mean > other * f64::from(times))
    };
    known.iter().copied().filter(|index| fails(*index) || is_slow(*index)).collect()
}

/// The lower one of two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests;
