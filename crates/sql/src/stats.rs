//! What a router counts. Each worker writes its own counters, without a lock; [`Stats`] is their sum at one moment.
//!
//! Written by `session`, `pool` and `worker`; read by [`crate::Router::stats`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tiebeam_topology::{Epoch, NodeName};

/// The sum of all workers' counters. Counts only grow while the router runs; gauges are marked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Gauge: sessions that are logged in.
    pub clients: u64,
    /// Gauge: sessions that wait for a primary.
    pub waiting: u64,
    /// Of the view that the router acts by now.
    pub epoch: Epoch,
    /// Where what may write goes now. `None`: it waits.
    pub primary: Option<NodeName>,
    /// Every event by its name, zeros included: see the variants of `Count` for their meaning.
    pub counts: BTreeMap<&'static str, u64>,
    /// Certain reads that a replica answered.
    pub reads_replica: u64,
    /// Certain reads that the primary answered, by why no replica did.
    pub reads_primary: BTreeMap<&'static str, u64>,
    /// By the name of the node.
    pub servers: BTreeMap<NodeName, ServerStats>,
}

/// One PostgreSQL, as this router sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServerStats {
    /// Gauge: connections in the pool that no session uses.
    pub idle: u64,
    /// Gauge: connections that a session uses.
    pub active: u64,
    /// Batches of statements (a simple query, or all up to a Sync) that are certain reads.
    pub reads: u64,
    /// Other batches.
    pub writes: u64,
    /// Connections that could not be opened or broke in use.
    pub errors: u64,
    /// Gauge: bytes of log that the primary has and this server has not replayed, at the last samples. `None`: unknown.
    pub lag_bytes: Option<u64>,
}

/// A counter or gauge with one writing thread, so that a step needs no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$vdoc])* $variant,)+ }
        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant,)+];
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }
    };
}

named! {
    /// What is counted.
    Count {
        /// Sessions accepted.
        Accepted = "accepted",
        /// Refused: `clients` sessions are there already, or too many are logging in.
        ClientsRefused = "clients_refused",
        /// Logins refused for a wrong password or an unknown user.
        LoginsRefused = "logins_refused",
        /// Statements that waited for a primary.
        Holds = "holds",
        /// Of them, those that waited in vain.
        HoldTimeouts = "hold_timeouts",
        /// Statements refused at once, as `hold_queue` waited already.
        QueueRefused = "queue_refused",
        /// Statements that waited for a connection of a full pool.
        PoolWaits = "pool_waits",
        /// Of them, those that waited in vain.
        PoolTimeouts = "pool_timeouts",
        /// Reads that waited for a fresh replica.
        FreshWaits = "fresh_waits",
        /// Writes in flight when the connection broke, or whose wait for a replica was cancelled: 08007.
        UnknownOutcomes = "unknown_outcomes",
        /// Other statements in flight when the connection broke: 08006.
        BrokenStatements = "broken_statements",
        /// Reads repeated elsewhere, as their server broke or refused before a byte of result.
        ReadsRepeated = "reads_repeated",
        /// Sessions ended before all was done that their clients had sent before they said goodbye.
        GoodbyesCut = "goodbyes_cut",
        /// Connections dropped, as they did not forget in time what other sessions took from sequences.
        SequencesKept = "sequences_kept",
        /// Sessions pinned to a connection of their own.
        Pinned = "pinned",
        /// Batches too large to be looked at whole.
        Oversized = "oversized",
        /// Sessions ended, as they had as many prepared statements as one may.
        NamesRefused = "names_refused",
        /// Times that a client had to wait, as so many answers were still to come.
        PipelinesFull = "pipelines_full",
        /// CancelRequests that named a session.
        Cancels = "cancels",
        /// Statements of other sessions evicted from a server connection to make room.
        PreparedEvicted = "prepared_evicted",
    }
}

named! {
    /// Why a certain read went to the primary.
    Why {
        /// `reads = "primary"`, or the sessions of this user are SERIALIZABLE unless they say otherwise.
        Setting = "setting",
        /// The cluster has no replica.
        NoReplica = "no_replica",
        /// No replica has replayed what the session must see.
        Behind = "behind",
        /// No replica answered its monitor lately, or is on the right timeline, or near enough.
        Unfit = "unfit",
        /// Replicas refused or failed it, or had no connection free.
        Failed = "failed",
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub clients: Cell,
    pub waiting: Cell,
    pub reads_replica: Cell,
    counts: [Cell; Count::ALL.len()],
    reads_primary: [Cell; Why::ALL.len()],
    servers: Mutex<Vec<(NodeName, Arc<ServerCounters>)>>,
}

#[derive(Debug, Default)]
pub(crate) struct ServerCounters {
    pub idle: Cell,
    pub active: Cell,
    pub reads: Cell,
    pub writes: Cell,
    pub errors: Cell,
}

impl Counters {
    pub fn count(&self, what: Count) {
        self.counts[what as usize].add(1);
    }

    pub fn read_at_primary(&self, why: Why) {
        self.reads_primary[why as usize].add(1);
    }

    /// The counters of a server; the same for the same name. Not for the path of a statement: it locks.
    pub fn server(&self, node: &NodeName) -> Arc<ServerCounters> {
        let mut servers = self.servers();
        if let Some((_, counters)) = servers.iter().find(|(n, _)| n == node) {
            return counters.clone();
        }
        let counters = Arc::<ServerCounters>::default();
        servers.push((node.clone(), counters.clone()));
        counters
    }

    /// Adds this worker's counters to the sum.
    pub fn add_to(&self, sum: &mut Stats) {
        sum.clients += self.clients.get();
        sum.waiting += self.waiting.get();
        sum.reads_replica += self.reads_replica.get();
        for what in Count::ALL {
            *sum.counts.entry(what.name()).or_default() += self.counts[*what as usize].get();
        }
        for why in Why::ALL {
            *sum.reads_primary.entry(why.name()).or_default() += self.reads_primary[*why as usize].get();
        }
        for (node, counters) in self.servers().iter() {
            let server = sum.servers.entry(node.clone()).or_default();
            server.idle += counters.idle.get();
            server.active += counters.active.get();
            server.reads += counters.reads.get();
            server.writes += counters.writes.get();
            server.errors += counters.errors.get();
        }
    }

    fn servers(&self) -> MutexGuard<'_, Vec<(NodeName, Arc<ServerCounters>)>> {
        // A list that is only pushed to is whole even after a panic.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed() {
        let (a, b) = (Counters::default(), Counters::default());
        let node: NodeName = "a".parse().unwrap();
        a.count(Count::Holds);
        b.count(Count::Holds);
        b.read_at_primary(Why::Behind);
        a.server(&node).reads.add(2);
        b.server(&node).reads.add(3);
        let mut sum = Stats::default();
        a.add_to(&mut sum);
        b.add_to(&mut sum);
        assert_eq!(sum.counts["holds"], 2);
        assert_eq!(sum.reads_primary["behind"], 1);
        assert_eq!(sum.servers[&node].reads, 5);
    }
}
