//! The state that every node has after the same log: keys, leases, and what was answered to whom.
//!
//! Pure: no I/O, no clock, no randomness. `now` is the applying node's own boot clock and is kept only beside the
//! state ([`Stored::applied_at`]), never in what nodes must agree on. Called by the state machine in `machine.rs`.

mod once;
mod txn;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tiebeam_topology::Moment;

pub(crate) use once::{Client, RequestId};

use crate::{Changes, Entry, Key, LeaseId, Listing, Outcome, Revision, Txn};

/// Bytes of all keys and values together. All nodes must agree on it, so it is not a setting.
pub(crate) const STORE_MAX_BYTES: usize = 64 << 20;
/// Leases at once. All nodes must agree on it.
pub(crate) const LEASES_MAX: usize = 10_000;

/// What a node asks the cluster to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    Transact(Txn),
    Grant {
        ttl_ms: u64,
    },
    Keep {
        lease: LeaseId,
    },
    Revoke {
        lease: LeaseId,
    },
    /// The leader's, when a lease has not been kept: void if it was kept since.
    Expire {
        lease: LeaseId,
        renewals: u64,
    },
}

/// A command, and whose it is, so that it is done once however often it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// `None`: may be done twice without harm.
    pub request: Option<RequestId>,
    pub command: Command,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Transacted(Outcome),
    Granted(LeaseId),
    Kept,
    /// The lease is no more; its keys are deleted.
    Ended,
    /// Not done: there is no such lease (any more).
    LeaseGone(LeaseId),
    /// Not done: the store would have become larger than it may.
    Full {
        bytes: u64,
    },
    /// Not done: [`LEASES_MAX`] are held.
    LeasesFull,
    /// Not done: the request is of an older session than `current`, or was settled.
    Stale {
        current: u64,
    },
    /// An expiry that came too late or an entry without a command.
    Nothing,
}

/// What is at a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
    pub revision: Revision,
    pub created: Revision,
    pub lease: Option<LeaseId>,
    /// Of this node alone.
    #[serde(skip)]
    pub applied_at: Moment,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub ttl_ms: u64,
    /// How often it was kept.
    pub renewals: u64,
    pub keys: BTreeSet<Key>,
    /// When this node applied the grant or the last keep. Of this node alone.
    #[serde(skip)]
    pub touched_at: Moment,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    revision: Revision,
    last_lease: u64,
    /// Of all keys and values.
    bytes: usize,
    entries: BTreeMap<Key, Arc<Stored>>,
    leases: BTreeMap<LeaseId, Lease>,
    clients: BTreeMap<String, Client>,
}

impl State {
    /// Applies the next proposal of the log. Pushes to `changes` what watchers must hear.
    pub fn apply(&mut self, proposal: &Proposal, now: Moment, changes: &mut Vec<Changes>) -> Answer {
        if let Some(request) = &proposal.request
            && let Some(known) = once::answered(&mut self.clients, request)
        {
            return known;
        }
        let answer = self.command(&proposal.command, now, changes);
        if let Some(request) = &proposal.request {
            once::remember(&mut self.clients, request, answer);
        }
        answer
    }

    fn command(&mut self, command: &Command, now: Moment, changes: &mut Vec<Changes>) -> Answer {
        match command {
            Command::Transact(txn) => self.transact(txn, now, changes),
            Command::Grant { ttl_ms } => self.grant(*ttl_ms, now),
            Command::Keep { lease } => match self.leases.get_mut(lease) {
                Some(held) => {
                    held.renewals += 1;
                    held.touched_at = now;
                    Answer::Kept
                }
                None => Answer::LeaseGone(*lease),
            },
            Command::Revoke { lease } if self.leases.contains_key(lease) => self.end(*lease, changes),
            Command::Revoke { lease } => Answer::LeaseGone(*lease),
            Command::Expire { lease, renewals } => match self.leases.get(lease) {
                Some(held) if held.renewals == *renewals => self.end(*lease, changes),
                _ => Answer::Nothing,
            },
        }
    }

    fn grant(&mut self, ttl_ms: u64, now: Moment) -> Answer {
        if self.leases.len() >= LEASES_MAX {
            return Answer::LeasesFull;
        }
        self.last_lease += 1;
        let id = LeaseId(self.last_lease);
        self.leases.insert(id, Lease { ttl_ms, renewals: 0, keys: BTreeSet::new(), touched_at: now });
        Answer::Granted(id)
    }

    fn end(&mut self, lease: LeaseId, changes: &mut Vec<Changes>) -> Answer {
        if let Some(held) = self.leases.remove(&lease)
            && !held.keys.is_empty()
        {
            self.revision.0 += 1;
            for key in &held.keys {
                if let Some(old) = self.entries.remove(key) {
                    self.bytes -= size(key, &old.value);
                }
            }
            let deletes = held.keys.into_iter().collect();
            changes.push(Changes { revision: self.revision, puts: Vec::new(), deletes });
        }
        Answer::Ended
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn get(&self, key: &Key) -> Option<Entry> {
        self.entries.get(key).map(|stored| entry(key, stored))
    }

    pub fn list(&self, prefix: &str) -> Listing {
        let entries = self.below(prefix).map(|(key, stored)| entry(key, stored)).collect();
        Listing { entries, revision: self.revision }
    }

    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }

    fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Key, &'a Arc<Stored>)> {
        self.entries
            .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
            .take_while(move |(key, _)| key.as_str().starts_with(prefix))
    }

    /// Takes over, from the state that this one replaces, since when this node has known what is the same in both;
    /// all else it knows since `now`. Gives what watchers must hear.
    pub fn succeed(&mut self, before: &State, now: Moment) -> Changes {
        let mut puts = Vec::new();
        for (key, stored) in &mut self.entries {
            let known = before.entries.get(key).filter(|old| old.revision == stored.revision);
            Arc::make_mut(stored).applied_at = known.map_or(now, |old| old.applied_at);
            if known.is_none() {
                puts.push(entry(key, stored));
            }
        }
        for (id, lease) in &mut self.leases {
            let known = before.leases.get(id).filter(|old| old.renewals == lease.renewals);
            lease.touched_at = known.map_or(now, |old| old.touched_at);
        }
        let deletes = before.entries.keys().filter(|k| !self.entries.contains_key(*k)).cloned().collect();
        Changes { revision: self.revision, puts, deletes }
    }
}

impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

fn size(key: &Key, value: &[u8]) -> usize {
    key.as_str().len() + value.len()
}

fn entry(key: &Key, stored: &Stored) -> Entry {
    Entry {
        key: key.clone(),
        value: stored.value.clone(),
        revision: stored.revision,
        created: stored.created,
        applied_at: stored.applied_at,
        lease: stored.lease,
    }
}
