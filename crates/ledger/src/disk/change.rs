//! What can be done to the file, as plain values, and doing it within a redb transaction.

use redb::{ReadableTable, WriteTransaction};

use super::file::{LOG, META, SNAPSHOT, log_place, snapshot_place};
use super::{Kept, Standing, record};
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
    Standing(Standing),
    /// Ends the writer.
    Stop,
}

impl Change {
    /// Writes the change into `write` and into what is kept.
    pub(super) fn apply(&self, write: &WriteTransaction, kept: &mut Kept) -> Result<(), String> {
        match self {
            Self::Vote(vote) => {
                kept.vote = Some(*vote);
                put_meta(write, "vote", vote)
            }
            Self::Committed(committed) => put_meta(write, "committed", committed),
            Self::Append(entries) => append(write, entries, kept),
            Self::Truncate(from) => truncate(write, *from, kept),
            Self::Purge(upto) => purge(write, *upto, kept),
            Self::Snapshot(meta, bytes) => snapshot(write, meta, bytes, kept),
            Self::Standing(standing) => stand(write, *standing, kept),
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

fn append(write: &WriteTransaction, entries: &[LogEntry], kept: &mut Kept) -> Result<(), String> {
    let mut log = write.open_table(LOG).map_err(text)?;
    for entry in entries {
        let index = entry.log_id.index;
        let value = record::encode(&log_place(index), entry)?;
        kept.log_bytes += value.len() as u64;
        if let Some(former) = log.insert(index, value.as_slice()).map_err(text)? {
            kept.log_bytes -= former.value().len() as u64;
        }
        kept.ends.last = Some(entry.log_id);
    }
    drop(log);
    // From its second entry on, the log may hold what was acknowledged.
    if kept.standing == Standing::Beginning && entries.iter().any(|entry| entry.log_id.index > 0) {
        stand(write, Standing::Member, kept)?;
    }
    Ok(())
}

fn truncate(write: &WriteTransaction, from: u64, kept: &mut Kept) -> Result<(), String> {
    let mut log = write.open_table(LOG).map_err(text)?;
    log.retain_in(from.., |_, value| dropped(value, &mut kept.log_bytes)).map_err(text)?;
    let last = log.last().map_err(text)?;
    let last: Option<LogEntry> =
        last.map(|(index, value)| record::decode(&log_place(index.value()), value.value())).transpose()?;
    kept.ends.last = last.map(|entry| entry.log_id).or(kept.ends.purged);
    Ok(())
}

fn purge(write: &WriteTransaction, upto: LogId, kept: &mut Kept) -> Result<(), String> {
    let mut log = write.open_table(LOG).map_err(text)?;
    log.retain_in(..=upto.index, |_, value| dropped(value, &mut kept.log_bytes)).map_err(text)?;
    drop(log);
    put_meta(write, "purged", &upto)?;
    kept.ends.purged = Some(upto);
    kept.ends.last = kept.ends.last.max(Some(upto));
    Ok(())
}

/// Counts an entry of the log as gone. It is not retained.
fn dropped(value: &[u8], log_bytes: &mut u64) -> bool {
    *log_bytes -= value.len() as u64;
    false
}

fn snapshot(
    write: &WriteTransaction,
    meta: &SnapshotMeta,
    bytes: &[u8],
    kept: &mut Kept,
) -> Result<(), String> {
    let mut table = write.open_table(SNAPSHOT).map_err(text)?;
    table.retain(|_, _| false).map_err(text)?;
    let mut pieces = 0u64;
    for piece in bytes.chunks(PIECE_BYTES) {
        let value = record::seal(&snapshot_place(meta, pieces), piece);
        table.insert(pieces, value.as_slice()).map_err(text)?;
        pieces += 1;
    }
    drop(table);
    kept.snapshot = meta.last_log_id;
    put_meta(write, "snapshot", &(meta, pieces))
}

fn stand(write: &WriteTransaction, standing: Standing, kept: &mut Kept) -> Result<(), String> {
    kept.standing = standing;
    put_meta(write, "standing", &standing)
}

fn text(error: impl Into<redb::Error>) -> String {
    error.into().to_string()
}
