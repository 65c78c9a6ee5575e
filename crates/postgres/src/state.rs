//! What an agent tells the rest of its node, as plain values: routers, pages and `tiebeam status` read it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tiebeam_topology::{Epoch, Lsn, NodeName, Timeline};

/// The database as this node sees it now.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct State {
    pub lease: Option<LeaseView>,
    /// Who accepts writes: set only once the holder of the lease is promoted, prepared and accepting, and for as
    /// long as its lease has not ended as seen from here.
    pub primary: Option<NodeName>,
    pub me: MemberStatus,
    /// Every database node that has reported to the ledger, this one included.
    pub members: BTreeMap<NodeName, MemberStatus>,
    /// Why no node accepts writes although one should; says what has to happen.
    pub stopped_because: Option<String>,
}

/// The right to be primary, as seen from here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeaseView {
    pub epoch: Epoch,
    pub holder: NodeName,
    /// The holder gave it back, and why.
    pub released: Option<String>,
    /// It was not renewed for its length and the margins of `lease.rs`.
    pub expired: bool,
    /// The holder's PostgreSQL is promoted and accepts writes in this epoch.
    pub promoted: bool,
    /// `None` until promoted.
    pub timeline: Option<Timeline>,
}

/// What a member's PostgreSQL is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    Primary,
    Replica,
    /// Running, but not yet ready to answer: replaying after a crash, or starting.
    Recovering,
    /// Being created, cloned or rewound.
    Copying,
    #[default]
    Stopped,
}

/// One member, by its own words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    pub role: MemberRole,
    pub timeline: Option<Timeline>,
    /// Flushed from the stream; replicas only.
    pub received: Option<Lsn>,
    /// Visible to readers; replicas only.
    pub replayed: Option<Lsn>,
    /// Flushed; the primary only.
    pub current: Option<Lsn>,
    /// Received and not yet replayed, or, told by the primary, not yet received.
    pub lag_bytes: Option<u64>,
    pub lag_ms: Option<u64>,
    /// Its stream from the primary is up.
    pub streaming: bool,
    /// It is in the set whose answers commits wait for.
    pub sync: bool,
    pub accepting_writes: bool,
    pub pid: Option<u32>,
    pub guard_pid: Option<u32>,
    /// A sentence for people, when something is being done or is wrong.
    pub note: Option<String>,
}
