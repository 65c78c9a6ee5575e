//! The types that openraft is filled with: who a node is to Raft, what an entry of the log carries.

use std::fmt;
use std::io::Cursor;

use openraft::EmptyNode;
use serde::{Deserialize, Serialize};
use tiebeam_topology::NodeName;

use crate::state::{Answer, Proposal};

openraft::declare_raft_types!(
    /// What openraft must know about the ledger.
    pub(crate) Kind:
        D = Batch,
        R = Answers,
        NodeId = Id,
        Node = EmptyNode,
        SnapshotData = Cursor<Vec<u8>>,
);

pub(crate) type Raft = openraft::Raft<Kind>;
pub(crate) type LogEntry = openraft::Entry<Kind>;
pub(crate) type LogId = openraft::LogId<Id>;
pub(crate) type Vote = openraft::Vote<Id>;
pub(crate) type LeaderId = openraft::LeaderId<Id>;
pub(crate) type Membership = openraft::StoredMembership<Id, EmptyNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<Id, EmptyNode>;
pub(crate) type StorageError = openraft::StorageError<Id>;

/// One log entry: what a leader had gathered while the entry before it was made durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch(pub Vec<Proposal>);

/// The answers to a [`Batch`], in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answers(pub Vec<Answer>);

/// A node's name in the shape that openraft demands of ids: `Copy`, with a default, which is no node.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Id([u8; Id::BYTES]);

impl Id {
    /// As long as the longest `NodeName`; shorter ones are followed by zeros.
    const BYTES: usize = 32;

    pub fn of(name: &NodeName) -> Self {
        let mut bytes = [0; Self::BYTES];
        for (to, from) in bytes.iter_mut().zip(name.as_str().bytes()) {
            *to = from;
        }
        Self(bytes)
    }

    /// `None` for the default.
    pub fn name(&self) -> Option<NodeName> {
        self.text().parse().ok()
    }

    fn text(&self) -> &str {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(Self::BYTES);
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.text().to_owned()
    }
}

impl TryFrom<String> for Id {
    type Error = tiebeam_topology::NameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() { Ok(Self::default()) } else { Ok(Self::of(&text.parse()?)) }
    }
}

#[cfg(test)]
impl From<u64> for Id {
    /// For openraft's own suite, which numbers its nodes.
    fn from(number: u64) -> Self {
        if number == 0 { Self::default() } else { Self::of(&format!("n{number:03}").parse().unwrap()) }
    }
}
