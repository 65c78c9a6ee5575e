//! What happened, in plain language. The agent sends each once; whoever listens records or shows it.

use std::fmt;

use serde::Serialize;
use tiebeam_topology::{Epoch, Lsn, NodeName, Timeline};

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warning,
    /// Writes are, or may soon be, refused.
    Critical,
}

/// One thing that happened to this node's part of the database.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    Created {
        node: NodeName,
    },
    Started {
        node: NodeName,
        pid: u32,
        adopted: bool,
    },
    Exited {
        node: NodeName,
        why: String,
    },
    BecamePrimary {
        node: NodeName,
        epoch: Epoch,
        timeline: Timeline,
        because: String,
    },
    Released {
        node: NodeName,
        epoch: Epoch,
        why: String,
    },
    LostLease {
        node: NodeName,
        epoch: Epoch,
        why: String,
    },
    Voted {
        node: NodeName,
        epoch: Epoch,
        timeline: Timeline,
        lsn: Lsn,
    },
    Following {
        node: NodeName,
        primary: NodeName,
        epoch: Epoch,
    },
    SyncSet {
        primary: NodeName,
        members: Vec<NodeName>,
        alone: bool,
    },
    ForkKept {
        node: NodeName,
        from: Lsn,
        to: Lsn,
        folder: String,
    },
    /// What did not start is about to be cloned.
    LogKept {
        node: NodeName,
        folder: String,
    },
    Rewound {
        node: NodeName,
        from: NodeName,
    },
    Cloned {
        node: NodeName,
        from: NodeName,
    },
    Failed {
        node: NodeName,
        what: String,
        why: String,
    },
    /// The disk of the data is full, in words that say where; `None`: there is room again.
    Disk {
        node: NodeName,
        full: Option<String>,
    },
    /// Nobody can be promoted.
    Stopped {
        why: String,
    },
}

impl Event {
    pub fn level(&self) -> Level {
        match self {
            Self::Created { .. }
            | Self::Started { .. }
            | Self::Voted { .. }
            | Self::Following { .. }
            | Self::Rewound { .. }
            | Self::Cloned { .. }
            | Self::Disk { full: None, .. }
            | Self::SyncSet { alone: false, .. } => Level::Info,
            Self::Exited { .. }
            | Self::BecamePrimary { .. }
            | Self::Released { .. }
            | Self::ForkKept { .. }
            | Self::LogKept { .. }
            | Self::Failed { .. }
            | Self::SyncSet { alone: true, .. } => Level::Warning,
            Self::LostLease { .. } | Self::Stopped { .. } | Self::Disk { full: Some(_), .. } => {
                Level::Critical
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { node } => write!(f, "{node} created the database"),
            Self::Started { node, pid, adopted: false } => write!(f, "{node} started PostgreSQL (pid {pid})"),
            Self::Started { node, pid, adopted: true } => {
                write!(
                    f,
                    "{node} found its PostgreSQL running under its guard (pid {pid}) and went on with it"
                )
            }
            Self::Exited { node, why } => write!(f, "PostgreSQL of {node} ended: {why}"),
            Self::BecamePrimary { node, epoch, timeline, because } => {
                write!(f, "{node} became primary (epoch {epoch}, timeline {timeline}): {because}")
            }
            Self::Released { node, epoch, why } => {
                write!(f, "{node} gave up the lease of epoch {epoch}: {why}")
            }
            Self::LostLease { node, epoch, why } => {
                write!(f, "{node} lost the lease of epoch {epoch}: {why}; its PostgreSQL is being stopped")
            }
            Self::Voted { node, epoch, timeline, lsn } => {
                write!(
                    f,
                    "{node} closed its stream and voted for epoch {epoch}: it has timeline {timeline} up to {lsn}"
                )
            }
            Self::Following { node, primary, epoch } => write!(f, "{node} follows {primary} (epoch {epoch})"),
            Self::SyncSet { primary, alone: true, .. } => write!(
                f,
                "{primary} acknowledges writes alone: no replica keeps up, so no other node may be promoted until one does"
            ),
            Self::SyncSet { primary, members, .. } => {
                let names: Vec<_> = members.iter().map(NodeName::as_str).collect();
                write!(f, "writes on {primary} wait for one of: {}", names.join(", "))
            }
            Self::ForkKept { node, from, to, folder } => write!(
                f,
                "{node} had written on from {from} to {to} when it was replaced; what only it has is kept in {folder}"
            ),
            Self::LogKept { node, folder } => {
                write!(
                    f,
                    "PostgreSQL of {node} does not start; its log is kept in {folder} before it is cloned"
                )
            }
            Self::Rewound { node, from } => write!(f, "{node} was rewound to the history of {from}"),
            Self::Cloned { node, from } => write!(f, "{node} was cloned from {from}"),
            Self::Failed { node, what, why } => write!(f, "{node} could not {what}: {why}"),
            Self::Disk { node, full: Some(full) } => {
                write!(f, "{node}: {full}; PostgreSQL there refuses what does not fit")
            }
            Self::Disk { node, full: None } => write!(f, "{node}: there is room on the disk again"),
            Self::Stopped { why } => write!(f, "no node accepts writes: {why}"),
        }
    }
}
