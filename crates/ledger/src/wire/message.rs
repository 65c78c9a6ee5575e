//! What nodes say to one another.

use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use tiebeam_topology::{ClusterName, NodeName};

use crate::raft::{Id, Kind, LeaderId};
use crate::state::{Answer, Proposal};

/// The version of all messages. Nodes of different versions refuse each other by name.
pub(crate) const PROTOCOL: u32 = 1;

/// The first message of who connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub protocol: u32,
    pub cluster: ClusterName,
    pub from: NodeName,
    /// Whom it wants to reach.
    pub to: NodeName,
}

/// The answer to [`Hello`]: an error says why the connection is closed.
pub(crate) type Welcome = Result<(), String>;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    Append(AppendEntriesRequest<Kind>),
    Vote {
        request: VoteRequest<Id>,
        /// The asker begins a new cluster, and no log anywhere has more than the first entry.
        first: bool,
    },
    Snapshot(InstallSnapshotRequest<Kind>),
    /// To the leader: do this.
    Propose(Proposal),
    /// To the leader: up to where must I have applied so that I see all that was acknowledged until now?
    ReadIndex,
    /// How are you, and who leads?
    Pulse,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Append(Result<AppendEntriesResponse<Id>, RaftError<Id>>),
    Vote(Result<VoteResponse<Id>, RaftError<Id>>),
    Snapshot(Result<InstallSnapshotResponse<Id>, RaftError<Id, InstallSnapshotError>>),
    Propose(Result<Answer, Refusal>),
    /// The index after the last entry that must be applied.
    ReadIndex(Result<u64, Refusal>),
    Pulse(Pulse),
    /// The node cannot answer, for this reason.
    Unable(String),
}

/// Why a leader did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// It does not lead, or no majority follows it: certainly not done.
    NotLeader,
    /// Certainly not done.
    Busy,
    /// More than the leader's limits allow: certainly not done.
    TooLarge { bytes: usize, max_bytes: usize },
    /// It stopped leading while it was at it: done or not.
    Unclear,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pulse {
    /// Has neither voted nor a log.
    pub pristine: bool,
    /// Its file was made new, so what it says of its past is worth nothing.
    pub new: bool,
    /// The highest vote that it has written down.
    pub vote: LeaderId,
    pub leader: Option<NodeName>,
    /// Of a leader: since when a majority has not confirmed it. `None`: it does not lead.
    pub confirmed_ms_ago: Option<u64>,
}
