//! What can go wrong, in words for the person who must act on it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::LeaseId;

/// Why a call to a [`crate::Store`] has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Certainly not done.
    #[error(
        "the ledger has no leader that a majority follows ({waited_ms} ms tried); nothing was written. \
         See that a majority of the voters runs and that they reach one another: {detail}"
    )]
    NoQuorum { waited_ms: u64, detail: String },
    /// The request was handed to a leader and no answer came: it may have happened, or happen yet.
    ///
    /// A read alone does not settle it, because the request may still be under way. A later write by the same node does,
    /// once it is acknowledged and no older call of the node is under way: from then on what has not happened never will.
    #[error(
        "the ledger's leader took the request and did not answer within {waited_ms} ms: it may have happened or not, \
         or happen yet; the next acknowledged write of this node settles it"
    )]
    Unknown { waited_ms: u64 },
    #[error("lease {0} has ended, and its keys are deleted; grant a new one")]
    LeaseGone(LeaseId),
    #[error("{what} of {bytes} bytes is larger than the ledger takes ({max_bytes} bytes)")]
    TooLarge { what: &'static str, bytes: usize, max_bytes: usize },
    /// Certainly not done.
    #[error("{in_flight} requests to the ledger are in flight already, which is the bound; try again later")]
    Busy { in_flight: usize },
    #[error("the ledger of this node is shutting down")]
    ShuttingDown,
    /// The ledger of this node has stopped for good: see `Status::failed`.
    #[error("the ledger of this node has stopped: {0}")]
    Failed(String),
}

impl StoreError {
    pub(crate) fn no_quorum(waited: Duration, detail: impl Into<String>) -> Self {
        Self::NoQuorum { waited_ms: waited.as_millis() as u64, detail: detail.into() }
    }

    pub(crate) fn unknown(waited: Duration) -> Self {
        Self::Unknown { waited_ms: waited.as_millis() as u64 }
    }
}

/// Why the ledger of this node cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the settings of the ledger contradict themselves: {0}")]
    Settings(String),
    #[error("cannot {what} {}: {source}. {}", path.display(), io_advice(source))]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot listen on {address} for the ledger's peers: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(
        "{} is open in another process; only one may run with this data directory: stop the other one first",
        path.display()
    )]
    Locked { path: PathBuf },
    #[error(
        "{} belongs to {found}, not to {ours}; it is left untouched. Give the right data directory{or_else}",
        path.display()
    )]
    Foreign {
        path: PathBuf,
        /// Which node of which cluster; if the names are the same, with the authority that makes its certificates.
        found: String,
        ours: String,
        /// What else may be done, if anything.
        or_else: String,
    },
    #[error(
        "{} was written in format {found}, this program knows formats up to {known}; it is left untouched. Run the newer program",
        path.display()
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("{} is damaged: {reason}. {advice}", path.display())]
    Corrupt { path: PathBuf, reason: String, advice: &'static str },
    #[error("the ledger cannot start: {0}")]
    Start(String),
}

impl OpenError {
    pub(crate) fn corrupt(path: PathBuf, reason: String) -> Self {
        Self::Corrupt { path, reason, advice: CORRUPT_ADVICE }
    }
}

/// What a person can do about a file that cannot be reached. Never to delete anything: the data may be well.
fn io_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "Nothing was changed. See that the user that runs this program owns the data directory and may write there"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Nothing is lost. Make room on its disk and start the node again"
        }
        _ => {
            "Nothing is known to be damaged; delete nothing. Look for the disk in the kernel's log (dmesg) and start the node again"
        }
    }
}

/// What a person can do about a damaged ledger.
pub(crate) const CORRUPT_ADVICE: &str = "Nothing was changed. If the other voters are well, move the data directory away and start \
     the node with an empty one: it takes everything from them. Never do so on a majority of the voters; restore a copy there";
