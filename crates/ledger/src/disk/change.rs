//! What can be done to the file, as plain values, and doing it within a redb transaction.

use redb::{ReadableTable, WriteTransaction};

use super::{LOG, LogEnds, META, SNAPSHOT, log_place, record, snapshot_place};
use crate::raft::{LogEntry, LogId, SnapshotMeta, Vote};

/// Snapshots are kept in pieces so that redb needs no huge runs of pages.
const PIECE_BYTES: usize = 256 << 10;

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Vote(Vote),
    Committed(Option<LogId>),
    Append(Vec<LogEntry>),
    /// Drops the log from this index on.
    Truncate(u64),
    /// Drops the log up to this entry, which a snapshot holds.
    Purge(LogId),
    Snapshot(SnapshotMeta, Vec<u8>),
    /// Ends the writer.
    Stop,
}

impl Change {
    /// Writes the change into `write` and follows the ends of the log.
    pub(super) fn apply(&self, write: &WriteTransaction, ends: &mut LogEnds) -> Result<(), String> {
        match self {
            Self::Vote(vote) => put_meta(write, "vote", vote),
            Self::Committed(committed) => put_meta(write, "committed", committed),
            Self::Append(entries) => append(write, entries, ends),
            Self::Truncate(from) => truncate(write, *from, ends),
            Self::Purge(upto) => purge(write, *upto, ends),
            Self::Snapshot(meta, bytes) => snapshot(write, meta, bytes),
            Self::Stop => Ok(()),
        }
    }
}

pub(super) fn put_meta<T: serde::Serialize>(
    write: &WriteTransaction,
    name: &str,
    value: &T,
) -> Result<(), String> {
    let mut meta = write.open_table(META).map_err(text)?;
    let value = record::encode(name.as_bytes(), value)?;
    meta.insert(name, value.as_slice()).map_err(text)?;
    Ok(())
}

fn append(write: &WriteTransaction, entries: &[LogEntry], ends: &mut LogEnds) -> Result<(), String> {
    let mut log = write.open_table(LOG).map_err(text)?;
    for entry in entries {
        let index = entry.log_id.index;
        let value = record::encode(&log_place(index), entry)?;
        log.insert(index, value.as_slice()).map_err(text)?;
        ends.last = Some(entry.log_id);
    }
    Ok(())
}

fn truncate(write: &WriteTransaction, from: u64, ends: &mut LogEnds) -> Result<(), String> {
    let mut log = write.open_table(LOG).map_err(text)?;
    log.retain_in(from.., |_, _| false).map_err(text)?;
    let last = log.last().map_err(text)?;
    let last: Option<LogEntry> =
        last.map(|(index, value)| record::decode(&log_place(index.value()), value.value())).transpose()?;
    ends.last = last.map(|entry| entry.log_id).or(ends.purged);
    Ok(())
}

fn purge(write: &WriteTransaction, upto: LogId, ends: &mut LogEnds) -> Result<(), String> {
    let mut log = write.open_table(LOG).map_err(text)?;
    log.retain_in(..=upto.index, |_, _| false).map_err(text)?;
    drop(log);
    put_meta(write, "purged", &upto)?;
    ends.purged = Some(upto);
    ends.last = ends.last.max(Some(upto));
    Ok(())
}

fn snapshot(write: &WriteTransaction, meta: &SnapshotMeta, bytes: &[u8]) -> Result<(), String> {
    let mut table = write.open_table(SNAPSHOT).map_err(text)?;
    table.retain(|_, _| false).map_err(text)?;
    let mut pieces = 0u64;
    for piece in bytes.chunks(PIECE_BYTES) {
        let value = record::seal(&snapshot_place(meta, pieces), piece);
        table.insert(pieces, value.as_slice()).map_err(text)?;
        pieces += 1;
    }
    drop(table);
    put_meta(write, "snapshot", &(meta, pieces))
}

fn text(error: impl Into<redb::Error>) -> String {
    error.into().to_string()
}
