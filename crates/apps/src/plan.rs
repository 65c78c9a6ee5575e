//! What to do next about the instances of a node: a pure function of what is wanted, what is there, and `now`.
//!
//! It reads no clock and touches no process. `supervisor.rs` brings the facts and carries out the actions; a plan made
//! again after that, from an unchanged world, is empty.

use std::collections::BTreeMap;
use std::time::Duration;

use tiebeam_topology::{AppName, Moment};

use crate::settings::InstanceId;

/// The wait before the first restart; each failure in a row doubles it.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// The longest wait before a restart.
pub const BACKOFF_MOST: Duration = Duration::from_secs(10);
/// After being ready for this long, earlier failures are forgotten.
pub const BACKOFF_RESET: Duration = Duration::from_secs(30);

/// What is wanted of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub instances: u16,
    /// How long a stopped instance may take to end by itself.
    pub stop_time: Duration,
}

/// What is there of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub phase: Phase,
    /// Ends and failed starts in a row.
    pub failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing runs.
    Down { start_at: Moment },
    Up {
        /// Healthy without a break since then; `None` if it is not healthy.
        ready_since: Option<Moment>,
    },
    /// It was told to end, and will be killed at `kill_at`.
    Stopping { kill_at: Moment },
    /// It was killed, and nobody waits for its end beyond `give_up_at`.
    Killed { give_up_at: Moment },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Start(InstanceId),
    /// Ask it to end; the moment is when it is to be killed.
    Stop(InstanceId, Moment),
    Kill(InstanceId),
    /// Not even SIGKILL ends it: the kernel holds it in a call that does not return. Go on without it.
    Abandon(InstanceId),
    /// Nothing runs and nothing is wanted: drop it from the list.
    Forget(InstanceId),
}

/// The actions of this moment, in the order of names.
pub fn plan(
    wanted: &BTreeMap<AppName, Wanted>,
    observed: &BTreeMap<InstanceId, Observed>,
    now: Moment,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for (app, want) in wanted {
        let ids = (1..=want.instances).map(|number| InstanceId { app: app.clone(), number });
        let missing = |id: &InstanceId| match observed.get(id).map(|there| there.phase) {
            None => true,
            Some(Phase::Down { start_at }) => now >= start_at,
            Some(_) => false,
        };
        actions.extend(ids.filter(missing).map(Action::Start));
    }
    for (id, there) in observed {
        let want = wanted.get(&id.app);
        let unwanted = want.is_none_or(|want| id.number > want.instances);
        match there.phase {
            Phase::Stopping { kill_at } if now >= kill_at => actions.push(Action::Kill(id.clone())),
            Phase::Killed { give_up_at } if now >= give_up_at => actions.push(Action::Abandon(id.clone())),
            Phase::Down { .. } if unwanted => actions.push(Action::Forget(id.clone())),
            Phase::Up { .. } if unwanted => {
                let stop_time = want.map_or(Duration::ZERO, |want| want.stop_time);
                actions.push(Action::Stop(id.clone(), now + stop_time));
            }
            _ => {}
        }
    }
    actions
}

/// The next moment at which a plan can be different without anything else having happened.
pub fn next_moment(observed: &BTreeMap<InstanceId, Observed>) -> Option<Moment> {
    observed
        .values()
        .filter_map(|there| match there.phase {
            Phase::Down { start_at: at }
            | Phase::Stopping { kill_at: at }
            | Phase::Killed { give_up_at: at } => Some(at),
            Phase::Up { .. } => None,
        })
        .min()
}

/// How long to wait after the `failures`-th failure in a row (from 1): 0.2 s, doubled each time, at most 10 s.
pub fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MOST)
}

/// An instance is ready no longer, for whatever reason: the failures that still count. Good times are not undone by
/// how they end.
pub fn counted(there: &Observed, now: Moment) -> u32 {
    let settled =
        matches!(there.phase, Phase::Up { ready_since: Some(since) } if now.since(since) >= BACKOFF_RESET);
    if settled { 0 } else { there.failures }
}

/// An instance ended by itself, or could not be started: how long it waits, and how many failures in a row that makes.
pub fn failed(there: &Observed, now: Moment) -> (u32, Duration) {
    let failures = counted(there, now).saturating_add(1);
    (failures, backoff(failures))
}

/// Health as `rise` and `fall` see it. Zero counts as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    healthy: bool,
    /// Results in a row that speak against `healthy`.
    against: u32,
}

impl Gate {
    /// A check ended; the new answer if it changed.
    pub fn on_check(&mut self, ok: bool, rise: u32, fall: u32) -> Option<bool> {
        if ok == self.healthy {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < if ok { rise } else { fall } {
            return None;
        }
        *self = Self { healthy: ok, against: 0 };
        Some(ok)
    }
}

#[cfg(test)]
mod tests;
