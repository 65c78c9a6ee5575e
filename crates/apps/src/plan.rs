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
    /// Grows when anything changes that needs a new process: its command, its environment.
    pub revision: u64,
    /// How long a stopped instance may take to end by itself.
    pub stop_time: Duration,
}

/// What is there of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The revision that it was last started with.
    pub revision: u64,
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
    Stopping { kill_at: Moment, killed: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Start(InstanceId),
    /// Ask it to end; the moment is when it is to be killed.
    Stop(InstanceId, Moment),
    Kill(InstanceId),
    /// Nothing runs and nothing is wanted: drop it from the list.
    Forget(InstanceId),
}

/// The actions of this moment, in the order of names.
///
/// Instances of an old revision are replaced at once if they are not ready, and else one after another: the next only
/// when all others of the app are ready, so that a new configuration does not take an app down.
pub fn plan(
    wanted: &BTreeMap<AppName, Wanted>,
    observed: &BTreeMap<InstanceId, Observed>,
    now: Moment,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for (app, want) in wanted {
        let ids = (1..=want.instances).map(|number| InstanceId { app: app.clone(), number });
        let mut all_ready = true;
        let mut outdated = None;
        for id in ids {
            match observed.get(&id) {
                None => actions.push(Action::Start(id.clone())),
                Some(there) => match there.phase {
                    Phase::Down { start_at } if now >= start_at || there.revision != want.revision => {
                        actions.push(Action::Start(id.clone()));
                    }
                    Phase::Up { ready_since: None } if there.revision != want.revision => {
                        actions.push(Action::Stop(id.clone(), now + want.stop_time));
                    }
                    Phase::Up { ready_since: Some(_) } => {
                        if there.revision != want.revision {
                            outdated.get_or_insert(id);
                        }
                        continue;
                    }
                    _ => {}
                },
            }
            all_ready = false;
        }
        if let (true, Some(id)) = (all_ready, outdated) {
            actions.push(Action::Stop(id, now + want.stop_time));
        }
    }
    for (id, there) in observed {
        let want = wanted.get(&id.app);
        match there.phase {
            Phase::Stopping { kill_at, killed: false } if now >= kill_at => {
                actions.push(Action::Kill(id.clone()))
            }
            _ if want.is_some_and(|w| id.number <= w.instances) => {}
            Phase::Down { .. } => actions.push(Action::Forget(id.clone())),
            // An app that has left the file has no stop time any more: the caller knows the last one.
            Phase::Up { .. } => {
                actions.push(Action::Stop(id.clone(), now + want.map_or(STOP_TIME, |w| w.stop_time)))
            }
            Phase::Stopping { .. } => {}
        }
    }
    actions
}

/// For an instance whose app is no longer in the file.
pub const STOP_TIME: Duration = Duration::from_secs(10);

/// The next moment at which a plan can be different without anything else having happened.
pub fn next_moment(observed: &BTreeMap<InstanceId, Observed>) -> Option<Moment> {
    observed
        .values()
        .filter_map(|there| match there.phase {
            Phase::Down { start_at } => Some(start_at),
            Phase::Stopping { kill_at, killed: false } => Some(kill_at),
            Phase::Up { .. } | Phase::Stopping { .. } => None,
        })
        .min()
}

/// How long to wait after the `failures`-th failure in a row (from 1): 0.2 s, doubled each time, at most 10 s.
pub fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MOST)
}

/// An instance ended by itself, or could not be started: how long it waits, and how many failures in a row that makes.
pub fn failed(there: &Observed, now: Moment) -> (u32, Duration) {
    let settled =
        matches!(there.phase, Phase::Up { ready_since: Some(since) } if now.since(since) >= BACKOFF_RESET);
    let failures = if settled { 1 } else { there.failures.saturating_add(1) };
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
