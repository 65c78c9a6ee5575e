//! The redb file itself: making it, checking all of it when it is opened, reading from it.

use std::fs::{self, File};
use std::ops::RangeBounds;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use tiebeam_topology::{ClusterName, NodeName};

use super::fault::{Fault, redb};
use super::{Kept, LogEnds, Owner, Standing, record, seal};
use crate::OpenError;
use crate::raft::{LogEntry, LogId, SnapshotMeta};

pub(super) const FILE: &str = "ledger.redb";
/// Small facts by name.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Log entries by index.
pub(super) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// Pieces of the last snapshot by number.
pub(super) const SNAPSHOT: TableDefinition<u64, &[u8]> = TableDefinition::new("snapshot");
/// Pages of the file kept in memory. The log is short and the snapshot is read seldom.
const CACHE_BYTES: usize = 16 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    cluster: ClusterName,
    node: NodeName,
}

/// A file that was opened and found whole.
pub(super) struct Loaded {
    pub database: Database,
    pub kept: Kept,
    pub committed: Option<LogId>,
    /// The number of the last commit.
    pub commit: u64,
}

/// Makes a file with a header under another name, so that a file of the right name is always whole.
pub(super) fn create(directory: &Path, owner: &Owner) -> Result<(), OpenError> {
    let (path, fresh) = (directory.join(FILE), directory.join("ledger.redb.new"));
    let io = |what| {
        let path = fresh.clone();
        move |source| OpenError::Io { what, path, source }
    };
    if fresh.exists() {
        fs::remove_file(&fresh).map_err(io("remove the unfinished"))?;
    }
    let header = Header { format: seal::FORMAT, cluster: owner.cluster.clone(), node: owner.node.clone() };
    let made = guarded("create", &fresh, || {
        let database = Database::builder().create(&fresh).map_err(redb)?;
        let write = database.begin_write().map_err(redb)?;
        {
            let mut meta = write.open_table(META).map_err(redb)?;
            for (name, value) in [
                ("header", record::encode(b"header", &header)?),
                ("commit", record::encode(b"commit", &1u64)?),
                ("standing", record::encode(b"standing", &Standing::New)?),
            ] {
                meta.insert(name, value.as_slice()).map_err(redb)?;
            }
            write.open_table(LOG).map_err(redb)?;
            write.open_table(SNAPSHOT).map_err(redb)?;
        }
        write.commit().map_err(redb)
    });
    made?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).map_err(io("set the mode of"))?;
    fs::rename(&fresh, &path).map_err(io("rename"))?;
    File::open(directory).and_then(|d| d.sync_all()).map_err(io("make durable the folder of"))
}

/// Opens the file and reads all of it, so that damage is found now and not when it is needed.
pub(super) fn load(path: &Path, owner: &Owner, sealed: u64) -> Result<Loaded, OpenError> {
    guarded("open", path, || {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        check(builder.open(path).map_err(redb)?, owner, sealed)
    })
}

pub(super) fn check(database: Database, owner: &Owner, sealed: u64) -> Result<Loaded, Fault> {
    let header: Header = meta(&database, "header")?.ok_or("its header is missing")?;
    if header.format != seal::FORMAT || header.cluster != owner.cluster || header.node != owner.node {
        return Err(Fault::Corrupt(format!(
            "its header (format {}, cluster {}, node {}) is not what its seal says",
            header.format, header.cluster, header.node
        )));
    }
    let commit: u64 = meta(&database, "commit")?.ok_or("the number of its last commit is missing")?;
    if commit < sealed {
        return Err(Fault::Corrupt(format!(
            "it ends with commit {commit}, but commit {sealed} was acknowledged: it is an older copy, or its end was lost"
        )));
    }
    let snapshot = snapshot(&database)?.and_then(|(meta, _)| meta.last_log_id);
    let purged: Option<LogId> = meta(&database, "purged")?;
    if purged > snapshot {
        return Err("its log begins after its snapshot ends".into());
    }
    let (mut last, mut log_bytes) = (purged, 0);
    for (index, bytes) in log_indexes(&database)? {
        let expected = last.map_or(0, |id| id.index + 1);
        let entry = entries(&database, index..=index, 0)?.pop().ok_or("a log entry vanished")?;
        if index != expected || entry.log_id.index != index {
            return Err(Fault::Corrupt(format!("its log has entry {index} where {expected} should be")));
        }
        last = Some(entry.log_id);
        log_bytes += bytes;
    }
    let kept = Kept {
        ends: LogEnds { purged, last },
        log_bytes,
        snapshot,
        vote: meta(&database, "vote")?,
        standing: meta(&database, "standing")?.unwrap_or_default(),
        over: None,
    };
    let committed = meta::<Option<LogId>>(&database, "committed")?.flatten();
    Ok(Loaded { database, kept, committed, commit })
}

pub(super) fn meta<T: serde::de::DeserializeOwned>(
    database: &Database,
    name: &str,
) -> Result<Option<T>, Fault> {
    let read = database.begin_read().map_err(redb)?;
    let table = read.open_table(META).map_err(redb)?;
    let found = table.get(name).map_err(redb)?;
    Ok(found.map(|value| record::decode(name.as_bytes(), value.value())).transpose()?)
}

/// The indexes of the log's entries, and how many bytes each has in the file.
fn log_indexes(database: &Database) -> Result<Vec<(u64, u64)>, Fault> {
    let read = database.begin_read().map_err(redb)?;
    let table = read.open_table(LOG).map_err(redb)?;
    let rows = table.iter().map_err(redb)?;
    rows.map(|row| row.map(|(index, value)| (index.value(), value.value().len() as u64)).map_err(redb))
        .collect()
}

pub(super) fn entries(
    database: &Database,
    range: impl RangeBounds<u64>,
    bytes_max: usize,
) -> Result<Vec<LogEntry>, Fault> {
    let read = database.begin_read().map_err(redb)?;
    let table = read.open_table(LOG).map_err(redb)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    for row in table.range(range).map_err(redb)? {
        let (index, value) = row.map_err(redb)?;
        bytes += value.value().len();
        if !found.is_empty() && bytes > bytes_max {
            break;
        }
        found.push(record::decode(&log_place(index.value()), value.value())?);
    }
    Ok(found)
}

pub(super) fn snapshot(database: &Database) -> Result<Option<(SnapshotMeta, Vec<u8>)>, Fault> {
    let Some((meta, pieces)) = meta::<(SnapshotMeta, u64)>(database, "snapshot")? else { return Ok(None) };
    let read = database.begin_read().map_err(redb)?;
    let table = read.open_table(SNAPSHOT).map_err(redb)?;
    let mut bytes = Vec::new();
    for number in 0..pieces {
        let piece = table.get(number).map_err(redb)?;
        let piece = piece.ok_or_else(|| format!("piece {number} of its snapshot is missing"))?;
        bytes.extend_from_slice(record::open(&snapshot_place(&meta, number), piece.value())?);
    }
    Ok(Some((meta, bytes)))
}

pub(super) fn log_place(index: u64) -> Vec<u8> {
    format!("log entry {index}").into_bytes()
}

pub(super) fn snapshot_place(meta: &SnapshotMeta, piece: u64) -> Vec<u8> {
    format!("snapshot {} piece {piece}", meta.snapshot_id).into_bytes()
}

/// redb panics on some damaged files; here that is one more reason to refuse them.
fn guarded<T>(
    what: &'static str,
    path: &Path,
    work: impl FnOnce() -> Result<T, Fault>,
) -> Result<T, OpenError> {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    outcome
        .unwrap_or_else(|_| Err("redb cannot make sense of it".into()))
        .map_err(|fault| fault.at(what, path))
}
