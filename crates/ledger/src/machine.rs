//! openraft's view of the state: applies what is committed, takes snapshots and installs them.
//!
//! The state is in memory; what makes it survive is the log and the last snapshot, both in the file before anything is
//! answered. Readers take a short lock that is never held over a wait.

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use tiebeam_topology::Moment;
use tokio::sync::watch;

use crate::disk::{Change, Disk, DiskError};
use crate::raft::{Answers, Id, Kind, LogEntry, LogId, Membership, SnapshotMeta, StorageError};
use crate::state::{Answer, State};
use crate::watch::Ring;
use crate::{Changes, OpenError, Watch};

/// The version of a snapshot's bytes, its first byte.
const SNAPSHOT_FORMAT: u8 = 1;

/// What this node has applied, for all readers.
#[derive(Debug)]
pub(crate) struct Applied {
    state: RwLock<State>,
    /// The index after the last applied entry: 0 if there is none.
    next: watch::Sender<u64>,
    ring: Arc<Ring>,
    clock: fn() -> Moment,
}

impl Applied {
    pub fn new(clock: fn() -> Moment) -> Arc<Self> {
        let ring = Arc::default();
        Arc::new(Self { state: RwLock::default(), next: watch::Sender::new(0), ring, clock })
    }

    /// The state, for as short as possible: appliers wait meanwhile.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index after the last applied entry, and its changes.
    pub fn next_index(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    /// Changes below `prefix` from now on.
    pub fn watch(&self, prefix: &str) -> Watch {
        Watch::of(prefix, &self.ring)
    }

    /// Ends all watches.
    pub fn close(&self) {
        self.ring.close();
    }

    fn apply(&self, entry: &LogEntry) -> Answers {
        let mut changes = Vec::new();
        let answers = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            // Read under the lock, so that it is not earlier than the moment of the change.
            let now = (self.clock)();
            match &entry.payload {
                EntryPayload::Normal(batch) => {
                    batch.0.iter().map(|proposal| state.apply(proposal, now, &mut changes)).collect()
                }
                EntryPayload::Blank | EntryPayload::Membership(_) => Vec::<Answer>::new(),
            }
        };
        self.publish(changes, entry.log_id.index + 1);
        Answers(answers)
    }

    fn replace(&self, mut state: State, next: u64) {
        let change = {
            let mut current = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let change = state.succeed(&current, (self.clock)());
            *current = state;
            change
        };
        let empty = change.puts.is_empty() && change.deletes.is_empty();
        self.publish(if empty { Vec::new() } else { vec![change] }, next);
    }

    /// After the state has changed, never before: who watches and then lists misses nothing.
    fn publish(&self, changes: Vec<Changes>, next: u64) {
        for change in changes {
            self.ring.push(change);
        }
        self.next.send_replace(next);
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    applied: Arc<Applied>,
    disk: Arc<Disk>,
    last: Option<LogId>,
    membership: Membership,
    snapshots: u64,
}

impl Machine {
    /// Starts from the last snapshot; openraft then applies the log after it again.
    pub async fn open(disk: Arc<Disk>, applied: Arc<Applied>) -> Result<Self, OpenError> {
        let mut machine = Self { applied, disk, last: None, membership: Membership::default(), snapshots: 0 };
        let path = machine.disk.path.clone();
        let found = machine.disk.snapshot().await.map_err(|fault| fault.at("read the snapshot in", &path))?;
        if let Some((meta, bytes)) = found {
            let state = decode(&bytes).map_err(|unread| unread.at(path))?;
            machine.become_snapshot(&meta, state);
        }
        Ok(machine)
    }

    fn become_snapshot(&mut self, meta: &SnapshotMeta, state: State) {
        self.applied.replace(state, meta.last_log_id.map_or(0, |id| id.index + 1));
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
    }
}

impl RaftStateMachine<Kind> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answers>, StorageError>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            if let EntryPayload::Membership(membership) = &entry.payload {
                self.membership = Membership::new(Some(entry.log_id), membership.clone());
            }
            answers.push(self.applied.apply(&entry));
            self.last = Some(entry.log_id);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.snapshots += 1;
        let at = self.last.map_or_else(|| "empty".to_owned(), |id| format!("{}-{}", id.leader_id, id.index));
        Builder {
            state: self.applied.read().clone(),
            meta: SnapshotMeta {
                last_log_id: self.last,
                last_membership: self.membership.clone(),
                snapshot_id: format!("{at}-{}", self.snapshots),
            },
            disk: self.disk.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let bytes = snapshot.into_inner();
        let state = match decode(&bytes) {
            Ok(state) => state,
            Err(unread) => {
                self.disk.no_snapshot("the leader's snapshot cannot be read");
                let error = AnyError::error(unread);
                return Err(StorageIOError::<Id>::read_snapshot(Some(meta.signature()), error).into());
            }
        };
        save(&self.disk, meta, bytes).await?;
        self.become_snapshot(meta, state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Kind>>, StorageError> {
        let found = self.disk.snapshot().await;
        let found = found.map_err(|fault| {
            StorageIOError::<Id>::read_snapshot(None, AnyError::new(&DiskError::from(fault)))
        })?;
        Ok(found.map(|(meta, bytes)| Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) }))
    }
}

/// A copy of the state (values are shared, not copied) on its way to the file.
#[derive(Debug)]
pub(crate) struct Builder {
    state: State,
    meta: SnapshotMeta,
    disk: Arc<Disk>,
}

impl RaftSnapshotBuilder<Kind> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Kind>, StorageError> {
        let state = std::mem::take(&mut self.state);
        let failed = |e: String| StorageIOError::<Id>::write_snapshot(None, AnyError::error(e));
        let encoded = tokio::task::spawn_blocking(move || encode(&state)).await;
        let bytes = encoded.map_err(|e| failed(e.to_string()))?.map_err(failed)?;
        save(&self.disk, &self.meta, bytes.clone()).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Box::new(Cursor::new(bytes)) })
    }
}

async fn save(disk: &Disk, meta: &SnapshotMeta, bytes: Vec<u8>) -> Result<(), StorageError> {
    let written = disk.write(Change::Snapshot(meta.clone(), bytes)).await;
    Ok(written
        .map_err(|e| StorageIOError::<Id>::write_snapshot(Some(meta.signature()), AnyError::new(&e)))?)
}

/// The format, the checksum of the rest, the state.
fn encode(state: &State) -> Result<Vec<u8>, String> {
    let body = postcard::to_stdvec(state).map_err(|e| format!("cannot encode the state: {e}"))?;
    let mut bytes = vec![SNAPSHOT_FORMAT];
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Why a snapshot cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unread {
    #[error("the snapshot is of format {0}, this program knows {SNAPSHOT_FORMAT}")]
    Newer(u8),
    #[error("{0}")]
    Damaged(String),
}

impl Unread {
    /// Of the snapshot in the file at `path`.
    fn at(self, path: PathBuf) -> OpenError {
        match self {
            Self::Newer(found) => {
                OpenError::Newer { path, found: found.into(), known: SNAPSHOT_FORMAT.into() }
            }
            Self::Damaged(reason) => OpenError::corrupt(path, reason),
        }
    }
}

fn decode(bytes: &[u8]) -> Result<State, Unread> {
    let damaged = |reason: &str| Unread::Damaged(reason.to_owned());
    let (&format, rest) = bytes.split_first().ok_or_else(|| damaged("its snapshot is empty"))?;
    if format > SNAPSHOT_FORMAT {
        return Err(Unread::Newer(format));
    }
    let (crc, body) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("its snapshot is too short"))?;
    if format != SNAPSHOT_FORMAT || u32::from_le_bytes(*crc) != crc32fast::hash(body) {
        return Err(damaged("the checksum of its snapshot does not match"));
    }
    postcard::from_bytes(body).map_err(|e| Unread::Damaged(format!("its snapshot cannot be read: {e}")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn roundtrip(state: &State) -> State {
        decode(&encode(state).unwrap()).unwrap()
    }

    /// The bytes of a snapshot of nothing.
    pub(crate) fn empty_snapshot() -> Box<Cursor<Vec<u8>>> {
        Box::new(Cursor::new(encode(&State::default()).unwrap()))
    }

    #[test]
    fn damaged_snapshots_are_refused() {
        let bytes = encode(&State::default()).unwrap();
        assert_eq!(decode(&bytes), Ok(State::default()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged).is_err());
            assert!(decode(&bytes[..at]).is_err());
        }
    }
}
