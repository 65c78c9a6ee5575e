//! The ledger's file: opening and checking it, reading from it, and the one thread that writes to it.
//!
//! `ledger.redb` holds the vote, the log and the last snapshot; each value is a [`record`] with its own checksum. A file
//! that is damaged is refused by name and never made anew. Called by `log.rs` and `machine.rs` (openraft's storage).

mod change;
mod record;
mod seal;
mod writer;

#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File};
use std::ops::RangeBounds;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use tiebeam_topology::{ClusterName, NodeName};
use tokio::sync::{mpsc, oneshot};

pub(crate) use change::Change;
use seal::Seal;
use writer::Job;

use crate::OpenError;
use crate::error::CORRUPT_ADVICE;
use crate::raft::{LogEntry, LogId, SnapshotMeta, Vote};

const FILE: &str = "ledger.redb";
/// Small facts by name.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Log entries by index.
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// Pieces of the last snapshot by number.
const SNAPSHOT: TableDefinition<u64, &[u8]> = TableDefinition::new("snapshot");
/// Pages of the file kept in memory. The log is short and the snapshot is read seldom.
const CACHE_BYTES: usize = 16 << 20;
/// Jobs that wait for the writer. openraft has few at once; more wait for room.
const JOBS_MAX: usize = 256;

/// Why the file cannot be written or read any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DiskError(pub String);

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    cluster: ClusterName,
    node: NodeName,
}

/// Where the log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogEnds {
    /// The last entry that was dropped because a snapshot holds it.
    pub purged: Option<LogId>,
    /// The last entry; as `purged` if there is none.
    pub last: Option<LogId>,
}

/// What the file held when it was opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub committed: Option<LogId>,
    pub ends: LogEnds,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Disk {
    database: RwLock<Option<Arc<Database>>>,
    jobs: mpsc::Sender<Job>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    shared: Arc<Shared>,
    pub found: Found,
}

/// What the writer tells everyone.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub ends: Mutex<LogEnds>,
    /// Set once: why nothing is written any more.
    pub failed: OnceLock<DiskError>,
    pub fsyncs: std::sync::atomic::AtomicU64,
}

impl Disk {
    /// Opens or creates the data directory. Blocks: reads and checks the whole file.
    pub fn open(directory: &Path, cluster: &ClusterName, node: &NodeName) -> Result<Arc<Self>, OpenError> {
        let io = |what| {
            let path = directory.to_owned();
            move |source| OpenError::Io { what, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io("create"))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(io("set the mode of"))?;
        let seal = Seal::open(directory, cluster, node)?;
        let path = directory.join(FILE);
        if !path.exists() {
            if seal.number() > 0 {
                return Err(corrupt(&path, "it is missing, though its seal is there".into()));
            }
            create(directory, cluster, node)?;
        }
        let (database, found, commit) = guarded(&path, || load(&path, cluster, node, seal.number()))?;
        Self::start(database, seal, found, commit).map_err(io("start the writer of"))
    }

    fn start(database: Database, seal: Seal, found: Found, commit: u64) -> std::io::Result<Arc<Self>> {
        let database = Arc::new(database);
        let shared = Arc::new(Shared { ends: Mutex::new(found.ends), ..Shared::default() });
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let writer = writer::Writer { database: database.clone(), seal, commit, shared: shared.clone() };
        let thread =
            std::thread::Builder::new().name("ledger-disk".into()).spawn(move || writer.run(queue))?;
        Ok(Arc::new(Self {
            database: RwLock::new(Some(database)),
            jobs,
            thread: Mutex::new(Some(thread)),
            shared,
            found,
        }))
    }

    /// Makes `change` durable. Returns after it is.
    pub async fn write(&self, change: Change) -> Result<(), DiskError> {
        let (done, answer) = oneshot::channel();
        let gone = || DiskError("the ledger's file is closed".into());
        self.jobs.send(Job { change, done: Some(done) }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Lets `change` become durable together with the next [`Disk::write`].
    pub async fn write_along(&self, change: Change) {
        // A closed file has no next write either.
        let _ = self.jobs.send(Job { change, done: None }).await;
    }

    pub fn ends(&self) -> LogEnds {
        *self.shared.ends.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.read(move |database| entries(database, range, bytes_max)).await
    }

    /// The last vote written.
    pub async fn vote(self: &Arc<Self>) -> Result<Option<Vote>, DiskError> {
        self.read(|database| meta(database, "vote")).await
    }

    /// The last snapshot.
    pub async fn snapshot(self: &Arc<Self>) -> Result<Option<(SnapshotMeta, Vec<u8>)>, DiskError> {
        self.read(snapshot).await
    }

    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Database) -> Result<T, String> + Send + 'static,
    ) -> Result<T, DiskError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner).clone();
        let database = database.ok_or_else(|| DiskError("the ledger's file is closed".into()))?;
        let task = tokio::task::spawn_blocking(move || read(&database));
        match task.await {
            Ok(result) => result.map_err(DiskError),
            Err(panic) => Err(DiskError(format!("reading the ledger's file broke off: {panic}"))),
        }
    }

    /// Ends the writer after its last job and gives the file free. Blocks for as long as a write takes.
    pub fn close(&self) {
        let held = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let stop = Job { change: Change::Stop, done: None };
        let mut stop = Some(stop);
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Some(job) = stop.take()
            && Instant::now() < deadline
        {
            if let Err(mpsc::error::TrySendError::Full(job)) = self.jobs.try_send(job) {
                stop = Some(job);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The writer catches its own panics.
            let _ = thread.join();
        }
        // A read that is still running holds the file a moment longer.
        while let Some(database) = &held
            && Arc::strong_count(database) > 1
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Makes a file with a header under another name, so that a file of the right name is always whole.
fn create(directory: &Path, cluster: &ClusterName, node: &NodeName) -> Result<(), OpenError> {
    let (path, fresh) = (directory.join(FILE), directory.join("ledger.redb.new"));
    let io = |what| {
        let path = fresh.clone();
        move |source| OpenError::Io { what, path, source }
    };
    if fresh.exists() {
        fs::remove_file(&fresh).map_err(io("remove the unfinished"))?;
    }
    let header = Header { format: seal::FORMAT, cluster: cluster.clone(), node: node.clone() };
    let made = guarded(&fresh, || {
        let text = |e: redb::Error| e.to_string();
        let database = Database::builder().create(&fresh).map_err(|e| text(e.into()))?;
        let write = database.begin_write().map_err(|e| text(e.into()))?;
        {
            let mut meta = write.open_table(META).map_err(|e| text(e.into()))?;
            for (name, value) in [
                ("header", record::encode(b"header", &header)?),
                ("commit", record::encode(b"commit", &1u64)?),
            ] {
                meta.insert(name, value.as_slice()).map_err(|e| text(e.into()))?;
            }
            write.open_table(LOG).map_err(|e| text(e.into()))?;
            write.open_table(SNAPSHOT).map_err(|e| text(e.into()))?;
        }
        write.commit().map_err(|e| text(e.into()))?;
        Ok(())
    });
    made?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).map_err(io("set the mode of"))?;
    fs::rename(&fresh, &path).map_err(io("rename"))?;
    File::open(directory).and_then(|d| d.sync_all()).map_err(io("make durable the folder of"))
}

/// Opens the file and reads all of it, so that damage is found now and not when it is needed.
fn load(
    path: &Path,
    cluster: &ClusterName,
    node: &NodeName,
    sealed: u64,
) -> Result<(Database, Found, u64), String> {
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .open(path)
        .map_err(|e| e.to_string())?;
    let header: Header = meta(&database, "header")?.ok_or("its header is missing")?;
    if header.format != seal::FORMAT || header.cluster != *cluster || header.node != *node {
        return Err(format!(
            "its header (format {}, cluster {}, node {}) is not what its seal says",
            header.format, header.cluster, header.node
        ));
    }
    let commit: u64 = meta(&database, "commit")?.ok_or("the number of its last commit is missing")?;
    if commit < sealed {
        return Err(format!(
            "it ends with commit {commit}, but commit {sealed} was acknowledged: it is an older copy, or its end was lost"
        ));
    }
    let snapshot = snapshot(&database)?.and_then(|(meta, _)| meta.last_log_id);
    let purged: Option<LogId> = meta(&database, "purged")?;
    if purged > snapshot {
        return Err("its log begins after its snapshot ends".into());
    }
    let mut last = purged;
    for index in log_indexes(&database)? {
        let expected = last.map_or(0, |id| id.index + 1);
        let entry = entries(&database, index..=index, 0)?.pop().ok_or("a log entry vanished")?;
        if index != expected || entry.log_id.index != index {
            return Err(format!("its log has entry {index} where {expected} should be"));
        }
        last = Some(entry.log_id);
    }
    // Read for its checksum.
    meta::<Vote>(&database, "vote")?;
    let found = Found {
        committed: meta::<Option<LogId>>(&database, "committed")?.flatten(),
        ends: LogEnds { purged, last },
    };
    Ok((database, found, commit))
}

fn meta<T: serde::de::DeserializeOwned>(database: &Database, name: &str) -> Result<Option<T>, String> {
    let read = database.begin_read().map_err(|e| e.to_string())?;
    let table = read.open_table(META).map_err(|e| e.to_string())?;
    let found = table.get(name).map_err(|e| e.to_string())?;
    found.map(|value| record::decode(name.as_bytes(), value.value())).transpose()
}

fn log_indexes(database: &Database) -> Result<Vec<u64>, String> {
    let read = database.begin_read().map_err(|e| e.to_string())?;
    let table = read.open_table(LOG).map_err(|e| e.to_string())?;
    let indexes = table.iter().map_err(|e| e.to_string())?;
    indexes.map(|row| row.map(|(index, _)| index.value()).map_err(|e| e.to_string())).collect()
}

fn entries(
    database: &Database,
    range: impl RangeBounds<u64>,
    bytes_max: usize,
) -> Result<Vec<LogEntry>, String> {
    let read = database.begin_read().map_err(|e| e.to_string())?;
    let table = read.open_table(LOG).map_err(|e| e.to_string())?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    for row in table.range(range).map_err(|e| e.to_string())? {
        let (index, value) = row.map_err(|e| e.to_string())?;
        bytes += value.value().len();
        if !found.is_empty() && bytes > bytes_max {
            break;
        }
        found.push(record::decode(&log_place(index.value()), value.value())?);
    }
    Ok(found)
}

fn snapshot(database: &Database) -> Result<Option<(SnapshotMeta, Vec<u8>)>, String> {
    let Some((meta, pieces)) = meta::<(SnapshotMeta, u64)>(database, "snapshot")? else { return Ok(None) };
    let read = database.begin_read().map_err(|e| e.to_string())?;
    let table = read.open_table(SNAPSHOT).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    for number in 0..pieces {
        let piece = table.get(number).map_err(|e| e.to_string())?;
        let piece = piece.ok_or_else(|| format!("piece {number} of its snapshot is missing"))?;
        bytes.extend_from_slice(record::open(&snapshot_place(&meta, number), piece.value())?);
    }
    Ok(Some((meta, bytes)))
}

fn log_place(index: u64) -> Vec<u8> {
    format!("log entry {index}").into_bytes()
}

fn snapshot_place(meta: &SnapshotMeta, piece: u64) -> Vec<u8> {
    format!("snapshot {} piece {piece}", meta.snapshot_id).into_bytes()
}

/// redb panics on some damaged files; here that is one more reason to refuse them.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, String>) -> Result<T, OpenError> {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    outcome
        .unwrap_or_else(|_| Err("redb cannot make sense of it".into()))
        .map_err(|reason| corrupt(path, reason))
}

fn corrupt(path: &Path, reason: String) -> OpenError {
    OpenError::Corrupt { path: PathBuf::from(path), reason, advice: CORRUPT_ADVICE }
}
