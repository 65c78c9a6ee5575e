//! openraft's view of the log and the vote: every answer is given after the bytes are durable. All work is `disk`'s.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};

use crate::disk::{Change, Disk};
use crate::raft::{Id, Kind, LogEntry, LogId, StorageError, Vote};

/// Entries that are read at once to be sent to a peer. More go with the next message. Small, because openraft gives
/// a message no more time than a heartbeat.
const READ_MAX_BYTES: usize = 256 << 10;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    disk: Arc<Disk>,
}

impl Log {
    pub fn new(disk: Arc<Disk>) -> Self {
        Self { disk }
    }

    async fn write(&self, change: Change) -> Result<(), StorageError> {
        self.disk.write(change).await.map_err(|e| StorageIOError::write_logs(AnyError::new(&e)).into())
    }
}

impl RaftLogReader<Kind> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, StorageError> {
        let range: (Bound<u64>, Bound<u64>) = (range.start_bound().cloned(), range.end_bound().cloned());
        if is_empty(range) {
            return Ok(Vec::new());
        }
        read(&self.disk, range, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, StorageError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let found = read(&self.disk, (Bound::Included(start), Bound::Excluded(end)), READ_MAX_BYTES).await?;
        // A follower would take later entries for those that it lacks.
        match found.first().map(|entry| entry.log_id.index) {
            Some(first) if first == start => Ok(found),
            // Dropped meanwhile. openraft takes this for a heartbeat and asks anew; an error would stop the whole node
            // for the sake of a message that a former leader had still to send.
            _ if self.disk.ends().purged.is_some_and(|purged| start <= purged.index) => Ok(Vec::new()),
            first => {
                let text = format!("the log has no entry {start} to send to a peer, only from {first:?} on");
                Err(StorageIOError::read_logs(AnyError::error(text)).into())
            }
        }
    }
}

impl RaftLogStorage<Kind> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Kind>, StorageError> {
        let ends = self.disk.ends();
        Ok(LogState { last_purged_log_id: ends.purged, last_log_id: ends.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let written = self.disk.write(Change::Vote(*vote)).await;
        written.map_err(|e| StorageIOError::write_vote(AnyError::new(&e)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.disk.vote())
    }

    /// Not durable by itself: it goes along with the next append. It only spares the state machine from waiting for
    /// the leader after a restart, so that it may be a little behind.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.disk.write_along(Change::Committed(committed)).await;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.disk.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Kind>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().collect();
        let written = self.write(Change::Append(entries)).await;
        callback.log_io_completed(match &written {
            Ok(()) => Ok(()),
            Err(e) => Err(std::io::Error::other(e.to_string())),
        });
        written
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        self.write(Change::Truncate(from.index)).await
    }

    /// openraft asks for this as soon as a snapshot is on its way to the state machine. Until it is in the file, the log
    /// is all that holds the entries. The state machine's task does not wait for the one that waits here.
    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let held = self.disk.snapshot_holds(upto).await;
        held.map_err(|e| StorageIOError::write_logs(AnyError::new(&e)))?;
        self.write(Change::Purge(upto)).await
    }
}

async fn read(
    disk: &Arc<Disk>,
    range: (Bound<u64>, Bound<u64>),
    bytes_max: usize,
) -> Result<Vec<LogEntry>, StorageError> {
    let read = disk.entries(range, bytes_max).await;
    read.map_err(|e| openraft::StorageError::<Id>::from(StorageIOError::read_logs(AnyError::new(&e))))
}

/// redb takes an empty range for a mistake.
fn is_empty(range: (Bound<u64>, Bound<u64>)) -> bool {
    let start = match range.0 {
        Bound::Included(n) => n,
        Bound::Excluded(n) => n.saturating_add(1),
        Bound::Unbounded => 0,
    };
    match range.1 {
        Bound::Included(n) => start > n,
        Bound::Excluded(n) => start >= n,
        Bound::Unbounded => false,
    }
}
