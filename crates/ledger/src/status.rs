//! How the ledger of this node is, for pages, metrics and the daemon.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tiebeam_topology::NodeName;

use crate::Revision;

/// A picture of this node's ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    pub leader: Option<NodeName>,
    /// Raft's term; it grows with every election.
    pub term: u64,
    /// A leader whom a majority follows was confirmed within the last second.
    pub quorum: bool,
    pub voters: BTreeSet<NodeName>,
    pub learners: BTreeSet<NodeName>,
    /// Index of the last log entry applied here.
    pub applied: u64,
    pub revision: Revision,
    /// What keeps this node from doing all of its part, in words: it was made new and does not vote yet, or its disk does
    /// not answer. It passes by itself, unlike `failed`.
    pub trouble: Option<String>,
    /// Why the ledger of this node has stopped for good, such as a full disk. The daemon should end with it.
    pub failed: Option<String>,
    pub counters: Counters,
}

/// Events since opening.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Transactions and lease calls begun here.
    pub writes: u64,
    /// Of them, sent to a leader elsewhere.
    pub forwarded: u64,
    /// Of them, tried again after a change of leader or a lost connection.
    pub retried: u64,
    /// Calls that ended with `NoQuorum`.
    pub no_quorum: u64,
    /// Calls that ended with `Unknown`.
    pub unknown: u64,
    /// Calls refused because `Limits::in_flight` was reached.
    pub busy: u64,
    /// Log transactions made durable.
    pub fsyncs: u64,
    /// Peers' connections accepted.
    pub accepted: u64,
    /// Connections refused: no certificate, unknown identity, wrong cluster, late handshake.
    pub refused: u64,
    /// Connections refused because `Limits::connections` was reached.
    pub crowded: u64,
    /// Leases that this node's leadership ended.
    pub leases_ended: u64,
    /// Times that this node saw the leader change.
    pub leader_changes: u64,
}

/// The counters as they are counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub writes: AtomicU64,
    pub forwarded: AtomicU64,
    pub retried: AtomicU64,
    pub no_quorum: AtomicU64,
    pub unknown: AtomicU64,
    pub busy: AtomicU64,
    pub accepted: AtomicU64,
    pub refused: AtomicU64,
    pub crowded: AtomicU64,
    pub leases_ended: AtomicU64,
    pub leader_changes: AtomicU64,
}

impl Tally {
    pub fn read(&self, fsyncs: u64) -> Counters {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            writes: of(&self.writes),
            forwarded: of(&self.forwarded),
            retried: of(&self.retried),
            no_quorum: of(&self.no_quorum),
            unknown: of(&self.unknown),
            busy: of(&self.busy),
            fsyncs,
            accepted: of(&self.accepted),
            refused: of(&self.refused),
            crowded: of(&self.crowded),
            leases_ended: of(&self.leases_ended),
            leader_changes: of(&self.leader_changes),
        }
    }
}
