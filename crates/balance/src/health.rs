//! The state of one server, moved by what its probes and its clients saw. One table says every move.
//!
//! It never probes and knows no time: `edge` probes on its own schedule and reports here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A server's state. Only a [`State::Serving`] server is sent anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It gets its turn.
    Serving,
    /// Taken out on purpose: it ends what it has and gets nothing new. No probe and no client leads here.
    Draining,
    /// It failed. It gets nothing, and is probed until it answers.
    Ejected,
    /// It answers, or nothing is known of it yet; it gets nothing until it has answered `rise` probes in a row.
    Probing,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Ejected => "ejected",
            Self::Probing => "probing",
        })
    }
}

/// What can happen to a server, as far as its state is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A probe succeeded, but fewer than `rise` in a row so far.
    Answered,
    /// `rise` probes in a row succeeded.
    Rose,
    /// A probe failed, but fewer than `fall` in a row so far.
    Missed,
    /// `fall` probes in a row failed.
    Fell,
    /// It refused a connection: nobody listens there, and more probes would not tell more.
    Refused,
    /// Somebody wants it out.
    Drained,
    /// Nobody wants it out any more.
    Wanted,
}

/// One row of the table: in `state`, `event` leads to `next`, because of `why`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transition {
    state: State,
    event: Event,
    next: State,
    why: &'static str,
}

const fn row(state: State, event: Event, next: State, why: &'static str) -> Transition {
    Transition { state, event, next, why }
}

/// Every move there is. A pair that is not listed changes nothing; no pair is listed twice.
static TRANSITIONS: [Transition; 12] = {
    use {Event::*, State::*};
    [
        row(Serving, Fell, Ejected, "it failed `fall` health checks in a row"),
        row(Serving, Refused, Ejected, "it refused a connection"),
        row(Ejected, Answered, Probing, "it answered a health check again"),
        row(Ejected, Rose, Serving, "it answered `rise` health checks in a row"),
        row(Probing, Rose, Serving, "it answered `rise` health checks in a row"),
        row(Probing, Missed, Ejected, "it failed a health check before it had answered `rise` in a row"),
        row(Probing, Fell, Ejected, "it failed a health check before it had answered `rise` in a row"),
        row(Probing, Refused, Ejected, "it refused a connection"),
        row(Serving, Drained, Draining, "it is to end what it has and get nothing new"),
        row(Ejected, Drained, Draining, "it is to get nothing new"),
        row(Probing, Drained, Draining, "it is to get nothing new"),
        row(Draining, Wanted, Probing, "it is wanted again"),
    ]
};

/// How many probes in a row change a mind. Zero counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Successes in a row until a server serves.
    pub rise: u32,
    /// Failures in a row until a serving server is ejected.
    pub fall: u32,
}

/// A move that was made. Its text names both states and the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub from: State,
    pub to: State,
    pub why: &'static str,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: {}", self.from, self.to, self.why)
    }
}

/// The health of one server. Keyed by the server's identity it outlives a reload of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    state: State,
    /// How many of the latest probes had the same result, since the last refusal.
    streak: u32,
    /// That result.
    streak_ok: bool,
}

impl Health {
    /// [`State::Serving`] for a server that is trusted until it fails, [`State::Probing`] for one that must answer
    /// first.
    pub const fn new(initial: State) -> Self {
        Self { state: initial, streak: 0, streak_ok: true }
    }

    pub const fn state(&self) -> State {
        self.state
    }

    /// A probe has ended. Returns the move that it caused, if any.
    pub fn on_probe(&mut self, ok: bool, policy: &Policy) -> Option<Change> {
        self.streak = if self.streak_ok == ok { self.streak.saturating_add(1) } else { 1 };
        self.streak_ok = ok;
        self.apply(match ok {
            true if self.streak >= policy.rise => Event::Rose,
            true => Event::Answered,
            false if self.streak >= policy.fall => Event::Fell,
            false => Event::Missed,
        })
    }

    /// A connection to it was refused, to a client's request or to a probe: it is ejected at once.
    pub fn on_refused(&mut self) -> Option<Change> {
        (self.streak, self.streak_ok) = (0, false);
        self.apply(Event::Refused)
    }

    /// It is taken out on purpose, until [`Health::on_wanted`].
    pub fn on_drained(&mut self) -> Option<Change> {
        self.apply(Event::Drained)
    }

    /// It is wanted again: it serves when it has answered `rise` probes in a row from now on.
    pub fn on_wanted(&mut self) -> Option<Change> {
        let change = self.apply(Event::Wanted)?;
        self.streak = 0;
        Some(change)
    }

    fn apply(&mut self, event: Event) -> Option<Change> {
        let row = TRANSITIONS.iter().find(|row| row.state == self.state && row.event == event)?;
        self.state = row.next;
        Some(Change { from: row.state, to: row.next, why: row.why })
    }
}

#[cfg(test)]
mod tests;
