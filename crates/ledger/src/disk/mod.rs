//! The ledger's file: opening and checking it, reading from it, and the one thread that writes to it.
//!
//! `ledger.redb` holds the vote, the log and the last snapshot; each value is a [`record`] with its own checksum. A file
//! that is damaged is refused by name and never made anew. Called by `log.rs` and `machine.rs` (openraft's storage).

mod change;
mod fault;
mod file;
mod record;
mod seal;
mod waits;
mod writer;

#[cfg(test)]
pub(crate) mod gate;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder};
use std::ops::RangeBounds;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::Database;
use serde::{Deserialize, Serialize};
use tiebeam_topology::{ClusterName, NodeName};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use change::Change;
pub(crate) use fault::Fault;
use file::{FILE, Loaded};
use seal::Seal;
pub(crate) use seal::is_held;
use waits::Waits;
use writer::Job;

use crate::OpenError;
use crate::raft::{LogEntry, LogId, SnapshotMeta, Vote};

/// Jobs that wait for the writer. openraft has few at once; more wait for room.
const JOBS_MAX: usize = 256;
/// How long closing waits for the writer to end. A disk that hangs longer keeps its thread; the process can end without it.
const CLOSE_TIME: Duration = Duration::from_secs(3);

/// Why the file cannot be written or read any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DiskError(pub String);

/// Whose the file is.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub cluster: ClusterName,
    pub node: NodeName,
    /// Which authority makes the cluster's certificates, as far as they tell.
    pub authority: Option<String>,
}

/// Where the log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogEnds {
    /// The last entry that was dropped because a snapshot holds it.
    pub purged: Option<LogId>,
    /// The last entry; as `purged` if there is none.
    pub last: Option<LogId>,
}

/// What this node's vote is worth, by what its file has lived through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// The file was made new. The node takes part for the first time, or it has lost its data and forgotten for whom it
    /// voted and what it acknowledged; it cannot know which. See `recovery.rs`.
    New,
    /// The node begins the cluster, and no log anywhere has more than its first entry.
    Beginning,
    /// The file holds all that the node ever promised.
    #[default]
    Member,
}

/// What is durable in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub ends: LogEnds,
    /// Of the log's entries together, as they are in the file.
    pub log_bytes: u64,
    /// The last entry that the snapshot holds.
    pub snapshot: Option<LogId>,
    pub standing: Standing,
    pub vote: Option<Vote>,
    /// Why no snapshot is written any more.
    pub over: Option<DiskError>,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Disk {
    pub path: PathBuf,
    database: RwLock<Option<Arc<Database>>>,
    jobs: mpsc::Sender<Job>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    shared: Arc<Shared>,
    waits: Waits,
    /// The last entry that was known to be committed when the file was opened.
    pub committed: Option<LogId>,
}

/// What the writer tells everyone.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub kept: watch::Sender<Kept>,
    /// Set once: why nothing is written any more.
    pub failed: OnceLock<DiskError>,
    pub fsyncs: std::sync::atomic::AtomicU64,
}

impl Disk {
    /// Opens or creates the data directory. Blocks: reads and checks the whole file.
    pub fn open(directory: &Path, owner: &Owner) -> Result<Arc<Self>, OpenError> {
        let io = |what| {
            let path = directory.to_owned();
            move |source| OpenError::Io { what, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io("create"))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(io("set the mode of"))?;
        let seal = Seal::open(directory, owner)?;
        let path = directory.join(FILE);
        if !path.exists() {
            if seal.number() > 0 {
                return Err(OpenError::corrupt(path, "it is missing, though its seal is there".into()));
            }
            file::create(directory, owner)?;
        }
        let loaded = file::load(&path, owner, seal.number())?;
        Self::start(&path, loaded, seal).map_err(io("start the writer of"))
    }

    fn start(path: &Path, loaded: Loaded, seal: Seal) -> std::io::Result<Arc<Self>> {
        let Loaded { database, kept, committed, commit } = loaded;
        let database = Arc::new(database);
        let shared = Arc::new(Shared { kept: watch::Sender::new(kept), ..Shared::default() });
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let writer = writer::Writer { database: database.clone(), seal, commit, shared: shared.clone() };
        let thread =
            std::thread::Builder::new().name("ledger-disk".into()).spawn(move || writer.run(queue))?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
            jobs,
            thread: Mutex::new(Some(thread)),
            shared,
            waits: Waits::default(),
            committed,
        }))
    }

    /// Makes `change` durable. Returns after it is.
    pub async fn write(&self, change: Change) -> Result<(), DiskError> {
        // A snapshot may be large; only who waits behind it shows that the disk is too slow.
        let _wait = (!matches!(change, Change::Snapshot(..))).then(|| self.waits.begin());
        let (done, answer) = oneshot::channel();
        let gone = || DiskError("the ledger's file is closed".into());
        self.jobs.send(Job { change, done: Some(done) }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Lets `change` become durable together with the next [`Disk::write`].
    pub async fn write_along(&self, change: Change) {
        let _wait = self.waits.begin();
        // A closed file has no next write either.
        let _ = self.jobs.send(Job { change, done: None }).await;
    }

    /// Returns when the snapshot in the file holds everything up to `upto`.
    pub async fn snapshot_holds(&self, upto: LogId) -> Result<(), DiskError> {
        let mut kept = self.shared.kept.subscribe();
        // The sender is `self.shared`, which outlives this.
        match kept.wait_for(|kept| kept.snapshot >= Some(upto) || kept.over.is_some()).await {
            Ok(kept) if kept.snapshot >= Some(upto) => Ok(()),
            Ok(kept) => Err(kept.over.clone().unwrap_or_else(|| DiskError("no snapshot comes".into()))),
            Err(_) => Err(DiskError("the ledger's file is closed".into())),
        }
    }

    /// Tells who waits in [`Disk::snapshot_holds`] that no snapshot comes any more.
    pub fn no_snapshot(&self, why: &str) {
        self.shared.over(DiskError(why.to_owned()));
    }

    pub fn ends(&self) -> LogEnds {
        self.shared.kept.borrow().ends
    }

    pub fn standing(&self) -> Standing {
        self.shared.kept.borrow().standing
    }

    /// The last vote written.
    pub fn vote(&self) -> Option<Vote> {
        self.shared.kept.borrow().vote
    }

    pub fn log_bytes(&self) -> u64 {
        self.shared.kept.borrow().log_bytes
    }

    /// How long the oldest write has been waiting for the disk. Zero if none is.
    pub fn silent(&self) -> Duration {
        self.waits.oldest()
    }

    pub fn failed(&self) -> Option<DiskError> {
        self.shared.failed.get().cloned()
    }

    pub fn fsyncs(&self) -> u64 {
        self.shared.fsyncs.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The log entries of `range`, at most so many that they do not exceed `bytes_max` together, but at least one.
    pub async fn entries(
        self: &Arc<Self>,
        range: impl RangeBounds<u64> + Send + 'static,
        bytes_max: usize,
    ) -> Result<Vec<LogEntry>, DiskError> {
        Ok(self.read(move |database| file::entries(database, range, bytes_max)).await?)
    }

    /// The last snapshot.
    pub async fn snapshot(self: &Arc<Self>) -> Result<Option<(SnapshotMeta, Vec<u8>)>, Fault> {
        self.read(file::snapshot).await
    }

    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Database) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner).clone();
        let database = database.ok_or_else(|| Fault::Io(std::io::Error::other("the file is closed")))?;
        let task = tokio::task::spawn_blocking(move || read(&database));
        task.await.unwrap_or_else(|panic| Err(Fault::Corrupt(format!("reading it broke off: {panic}"))))
    }

    /// Ends the writer after its last job and gives the file free; says whether it did within [`CLOSE_TIME`]. Blocks.
    pub fn close(&self) -> bool {
        self.no_snapshot("the ledger's file is closed");
        let held = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let deadline = Instant::now() + CLOSE_TIME;
        let mut stop = Some(Job { change: Change::Stop, done: None });
        while let Some(job) = stop.take()
            && Instant::now() < deadline
        {
            if let Err(mpsc::error::TrySendError::Full(job)) = self.jobs.try_send(job) {
                stop = Some(job);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writing = || thread.as_ref().is_some_and(|thread| !thread.is_finished());
        // A read that is still running holds the file a moment longer.
        let reading = || held.as_ref().is_some_and(|database| Arc::strong_count(database) > 1);
        while writing() || reading() {
            if Instant::now() >= deadline {
                let path = self.path.display();
                tracing::error!(
                    "{path} cannot be closed: its disk does not answer; the node ends without it"
                );
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

impl Shared {
    pub(super) fn over(&self, why: DiskError) {
        self.kept.send_modify(|kept| {
            kept.over.get_or_insert(why);
        });
    }
}
