//! The typed values that database nodes keep in the ledger, and their keys. All are JSON; unknown fields are ignored,
//! so that two versions of Tiebeam can share a ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tiebeam_topology::{Epoch, Lsn, NodeName, Timeline};

use crate::quorum::SyncSet;
use crate::state::MemberStatus;

/// The keys of this room.
pub mod keys {
    use tiebeam_topology::NodeName;

    /// Everything of this room except secrets is below this.
    pub const PREFIX: &str = "database/";
    pub const LEASE: &str = "database/lease";
    pub const SYNC: &str = "database/sync";
    pub const INIT: &str = "database/init";
    pub const VOTES: &str = "database/votes/";
    pub const MEMBERS: &str = "database/members/";
    /// [`crate::AppSecret`]: how applications log in.
    pub const APP_SECRET: &str = "secrets/app";

    pub fn vote(node: &NodeName) -> String {
        format!("{VOTES}{node}")
    }

    pub fn member(node: &NodeName) -> String {
        format!("{MEMBERS}{node}")
    }
}

/// `database/lease`: the right to be primary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    pub epoch: Epoch,
    pub holder: NodeName,
    pub length_ms: u64,
    /// Counts renewals, so that each is a new value.
    pub renewed: u64,
    /// Set when the holder gave the lease back: its PostgreSQL is stopped, every process of it.
    pub released: Option<String>,
    /// The timeline that this epoch's promotion starts. Planned when the lease is taken, so that no two promotions
    /// ever share one.
    pub timeline: Timeline,
    /// What the holder had when it took the lease: the end of its log.
    pub from: WalPoint,
    /// The holder is promoted, prepared and accepts writes.
    pub promoted: bool,
    /// Where each earlier timeline of the holder's history ended; known once promoted.
    pub ends: Vec<WalPoint>,
    /// A checkpoint on this epoch's timeline has ended. Until then the holder's control file names the timeline before,
    /// and `pg_rewind` before PostgreSQL 16 takes a forked history for one that needs no rewind.
    #[serde(default)]
    pub checkpointed: bool,
    /// A sentence: why there is this epoch.
    pub because: String,
}

impl Lease {
    pub fn length(&self) -> Duration {
        Duration::from_millis(self.length_ms)
    }
}

/// A place in the write-ahead log: on which timeline, and how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WalPoint {
    pub timeline: Timeline,
    pub lsn: Lsn,
}

/// `database/sync`: who must answer before anybody is promoted. See [`crate::quorum`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRegister {
    /// Each that may be in force. Empty under `async`: whoever answers may be promoted, with what it has.
    pub sets: Vec<SyncSet>,
    /// The one that the primary brings, or has brought, into force.
    pub target: SyncSet,
}

impl SyncRegister {
    /// Whether commits wait for `node`, and that is believed: as long as the primary may have acknowledged alone, what a
    /// replica has proves nothing.
    pub fn counts(&self, node: &NodeName) -> bool {
        self.target.members.contains(node) && !self.sets.contains(&SyncSet::alone())
    }
}

/// `database/votes/NODE`: "I have closed my stream, and this is all I have."
///
/// It counts only for the revision of the lease it was given for. A voter opens its stream again only when it has
/// seen a newer revision, and then whoever counts this vote fails: taking the lease compares that revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    pub for_epoch: Epoch,
    /// The revision of `database/lease` that had ended.
    pub lease_revision: u64,
    pub at: WalPoint,
}

/// `database/init`: who creates the database, and its identity once it exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    pub node: NodeName,
    /// PostgreSQL's system identifier, in decimal; `None` while `initdb` runs.
    pub system_identifier: Option<String>,
    /// The major version that created it.
    pub major: Option<u32>,
}

/// `database/members/NODE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Counts reports, so that each is a new value and silence can be seen.
    pub report: u64,
    pub status: MemberStatus,
}

/// `secrets/app`: how applications log in. The password is random; the database holds only its SCRAM verifier.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSecret {
    pub user: String,
    pub password: String,
    pub database: String,
}

impl std::fmt::Debug for AppSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppSecret")
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// The votes of one moment, by node.
pub type Votes = BTreeMap<NodeName, Vote>;
