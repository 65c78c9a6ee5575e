//! What the plan is made from, and what it is made of: plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tiebeam_topology::{Epoch, Lsn, Moment, NodeName, Timeline};

use crate::control::ServerView;
use crate::lease::Seen;
use crate::quorum::SyncSet;
use crate::registers::{Init, Lease, SyncRegister, Vote, Votes, WalPoint};

/// Everything that one node knows at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    pub data: Data,
    /// `None`: no guard runs.
    pub guard: Option<Guard>,
    /// `None`: PostgreSQL does not answer.
    pub view: Option<ServerView>,
    /// Of what this node has, when it is known.
    pub timeline: Option<Timeline>,
    pub following: Following,
    /// The stream has been closed long enough that no part of PostgreSQL can still open it again.
    pub fence_settled: bool,
    /// A clone, a rewind or another long action is under way: nothing else is begun.
    pub busy: bool,
    pub init: Option<(Init, u64)>,
    pub lease: Option<LeaseSeen>,
    pub sync: SyncRegister,
    /// `None`: the register was never written.
    pub sync_revision: Option<u64>,
    /// All that are in the ledger, of whatever lease.
    pub votes: Votes,
    /// And the revision at which each was written.
    pub vote_revisions: BTreeMap<NodeName, u64>,
    /// What the ledger says here was confirmed by a majority, after the lease looked ended.
    pub confirmed: bool,
    /// The lease that this process renews.
    pub holding: Option<Epoch>,
    /// This process has asked PostgreSQL, as it runs now, to be promoted in that epoch.
    pub promoting: Option<Epoch>,
    /// Since when no probe write has succeeded on the primary.
    pub probe_bad_for: Duration,
    /// When the present lease was first seen ended.
    pub ended_since: Option<Moment>,
    /// PostgreSQL may not be started before: it ended too soon after its last starts.
    pub start_not_before: Moment,
    /// How many times in a row it ended by itself too soon after its start.
    pub quick_ends: u32,
    /// Because of that it was cloned already.
    pub copied: bool,
    /// No long step is begun before: the last ones failed.
    pub job_not_before: Moment,
    /// The lease that this process lets end.
    pub lapsed: Option<Epoch>,
    /// Since when this replica, which follows, has no stream.
    pub unfed_since: Option<Moment>,
    /// Since when each other node has no stream from this primary.
    pub absent_since: BTreeMap<NodeName, Moment>,
    /// Where the log was when `synchronous_standby_names` was last seen in force in every walsender, and what it was.
    pub in_force: Option<(String, Lsn)>,
    /// The roles that `pg_ident.conf` lists.
    pub ident_roles: BTreeSet<String>,
}

/// The data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Missing,
    /// Of the right cluster and version.
    Here,
    /// Rewound to the history of `from` in that epoch, and not yet consistent: what it lacks comes from there only.
    Rewound {
        from: NodeName,
        epoch: Epoch,
    },
    /// Of another cluster or version: left untouched.
    Refused(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// PostgreSQL, or what is left of it.
    pub pid: Option<u32>,
    pub deadline: Option<Moment>,
}

/// Whom PostgreSQL is told to stream from, as in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Following {
    Nobody,
    Node(NodeName),
    /// A value that is not ours, or not known.
    Unknown,
}

/// The lease as this node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseSeen {
    pub lease: Lease,
    pub seen: Seen,
    /// This node has voted for what comes after it, perhaps before a restart: for this node it has ended, whatever
    /// the clock says, because its vote promises that its stream stays closed.
    pub given_up: bool,
}

impl LeaseSeen {
    pub fn expired(&self, now: Moment) -> bool {
        self.lease.released.is_none() && self.seen.expired(self.lease.length(), now)
    }

    pub fn ended(&self, now: Moment) -> bool {
        self.given_up || self.lease.released.is_some() || self.expired(now)
    }
}

impl World {
    /// The revision that votes must name to count now; 0 before the first lease.
    pub fn lease_revision(&self) -> u64 {
        self.lease.as_ref().map_or(0, |l| l.seen.revision)
    }

    pub fn running(&self) -> bool {
        self.guard.is_some_and(|g| g.pid.is_some())
    }

    /// The votes that count for the lease as it is.
    pub fn valid_votes(&self) -> Votes {
        let revision = self.lease_revision();
        self.votes
            .iter()
            .filter(|(_, v)| v.lease_revision == revision)
            .map(|(n, v)| (n.clone(), *v))
            .collect()
    }

    /// How far this node's log goes: all that it has received or replayed. Unknown until what it has on disk is read.
    pub fn end_of_log(&self) -> Option<WalPoint> {
        let view = self.view.as_ref()?;
        let known = view.received.is_some() || view.drained;
        let lsn = view.received.max(view.replayed).filter(|_| known)?;
        Some(WalPoint { timeline: self.timeline?, lsn })
    }
}

/// A step. Each names the epoch it was decided in where that matters; `act.rs` refuses it in another.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Say in the ledger that this node creates the database.
    ClaimInit,
    /// `initdb`. Long.
    Create,
    /// `pg_basebackup`. Long.
    Clone {
        from: NodeName,
    },
    /// The same, because what is here does not start; its log is kept. Long.
    CloneBroken {
        from: NodeName,
    },
    /// Keep the fork, `pg_rewind`, else clone. Long. PostgreSQL is stopped first.
    Rejoin {
        from: NodeName,
        epoch: Epoch,
        have: WalPoint,
        fork: Lsn,
    },
    /// As a standby, which is the only way PostgreSQL is ever started; it follows nobody, unless it was just rewound.
    Start {
        follow: Option<NodeName>,
    },
    /// What was rewound is consistent by now.
    ForgetRewind,
    /// At once: it has no right to go on.
    Stop {
        why: String,
    },
    Fence,
    /// The walreceiver still runs although the stream is closed.
    EndReceiver {
        pid: u32,
    },
    Follow {
        primary: NodeName,
        epoch: Epoch,
    },
    Vote(Vote),
    /// All in one transaction, if the lease is still at this revision and those votes are unchanged.
    TakeLease {
        lease: Box<Lease>,
        expected: Option<u64>,
        sync: SyncRegister,
    },
    /// This process did not know that it holds the lease: it was restarted, or an answer was lost.
    AdoptLease {
        epoch: Epoch,
    },
    SetSlots {
        make: BTreeSet<String>,
        drop: BTreeSet<String>,
    },
    SetStandbyNames(String),
    /// After this, every part of PostgreSQL knows that commits wait; see `plan/sync.rs`. Long.
    Checkpoint {
        names: String,
    },
    /// After this, whoever has to rewind to this primary may. Long.
    CheckpointPromotion {
        epoch: Epoch,
    },
    WriteSync {
        sync: SyncRegister,
        expected: Option<u64>,
    },
    Promote {
        epoch: Epoch,
        from: Timeline,
        timeline: Timeline,
    },
    /// Prepare what routers need, then tell the ledger that this node accepts writes.
    Announce {
        epoch: Epoch,
    },
    /// Give the lease back. Only when PostgreSQL is gone, every process of it.
    Release {
        epoch: Epoch,
        why: String,
    },
    WriteIdent {
        roles: BTreeSet<String>,
    },
}

/// What the plan says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// Why no node can accept writes, if so.
    pub stopped_because: Option<String>,
    /// What this node waits for, for people.
    pub note: Option<String>,
    /// Something is about to change by itself: look again soon instead of at the next tick.
    pub soon: bool,
}

impl Plan {
    pub fn of(action: Action) -> Self {
        Self { actions: vec![action], ..Self::default() }
    }

    pub fn wait(note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..Self::default() }
    }

    pub fn soon(note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), soon: true, ..Self::default() }
    }
}

/// The set that a register aims at, before it was ever written.
impl Default for SyncSet {
    fn default() -> Self {
        Self::alone()
    }
}
