//! The file: openraft's own suite, and what happens to it when it is cut, flipped, swapped, full or foreign.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::sync::atomic::{AtomicI64, Ordering};

use openraft::EntryPayload;
use openraft::testing::{StoreBuilder, Suite};
use redb::StorageBackend;
use redb::backends::FileBackend;
use tempfile::TempDir;
use tiebeam_topology::Moment;

use super::*;
use crate::log::Log;
use crate::machine::{Applied, Machine};
use crate::raft::{Batch, Id, Kind};

pub(super) fn owner() -> Owner {
    Owner { cluster: "shop".parse().unwrap(), node: "a".parse().unwrap(), authority: None }
}

pub(super) fn open(directory: &Path) -> Result<Arc<Disk>, OpenError> {
    Disk::open(directory, &owner())
}

pub(super) fn id(index: u64) -> LogId {
    LogId::new(openraft::CommittedLeaderId::new(1, Id::default()), index)
}

pub(super) fn log_entry(index: u64) -> LogEntry {
    LogEntry { log_id: id(index), payload: EntryPayload::Normal(Batch::default()) }
}

/// The suite drops entries that no snapshot holds, which openraft itself never does.
async fn pretend_snapshots(disk: Arc<Disk>) {
    let everything = Some(LogId::new(openraft::CommittedLeaderId::new(u64::MAX, Id::default()), u64::MAX));
    let mut kept = disk.shared.kept.subscribe();
    while kept.wait_for(|kept| kept.snapshot < everything).await.is_ok() {
        disk.shared.kept.send_modify(|kept| kept.snapshot = everything);
    }
}

struct Builder;

impl StoreBuilder<Kind, Log, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, Machine), crate::raft::StorageError> {
        let directory = TempDir::new().unwrap();
        let disk = open(directory.path()).unwrap();
        tokio::spawn(pretend_snapshots(disk.clone()));
        let machine = Machine::open(disk.clone(), Applied::new(Moment::now)).await.unwrap();
        Ok((directory, Log::new(disk), machine))
    }
}

#[test]
fn openraft_finds_nothing_wrong_with_the_storage() {
    Suite::<Kind, Log, Machine, Builder, TempDir>::test_all(Builder).unwrap();
}

/// A file with a vote, 20 entries and a snapshot of some pieces.
async fn filled(directory: &Path) {
    let disk = open(directory).unwrap();
    disk.write(Change::Append((0..20).map(log_entry).collect())).await.unwrap();
    let meta =
        SnapshotMeta { last_log_id: Some(id(4)), snapshot_id: "one".into(), ..SnapshotMeta::default() };
    disk.write(Change::Snapshot(meta, vec![7; 600 << 10])).await.unwrap();
    disk.write(Change::Purge(id(4))).await.unwrap();
    disk.write(Change::Vote(Vote::new(3, Id::default()))).await.unwrap();
    disk.close();
}

/// Everything that the file holds, as text.
async fn contents(disk: &Arc<Disk>) -> String {
    let entries = disk.entries(.., usize::MAX).await;
    let snapshot = disk.snapshot().await.unwrap();
    let snapshot = snapshot.map(|(meta, bytes)| (meta.to_string(), crc32fast::hash(&bytes)));
    format!("{:?} {:?} {:?} {entries:?} {snapshot:?}", disk.vote(), disk.ends(), disk.standing())
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let directory = TempDir::new().unwrap();
    filled(directory.path()).await;
    let disk = open(directory.path()).unwrap();
    assert_eq!(disk.ends(), LogEnds { purged: Some(id(4)), last: Some(id(19)) });
    assert_eq!(disk.entries(5..8, usize::MAX).await.unwrap(), (5..8).map(log_entry).collect::<Vec<_>>());
    assert_eq!(disk.entries(5..8, 1).await.unwrap().len(), 1);
    assert_eq!(disk.snapshot().await.unwrap().unwrap().1.len(), 600 << 10);
    disk.write(Change::Truncate(10)).await.unwrap();
    assert_eq!(disk.ends().last, Some(id(9)));
    for (file, mode) in [("", 0o700), ("ledger.redb", 0o600), ("ledger.seal", 0o600)] {
        let found = fs::metadata(directory.path().join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file:?}");
    }
    assert!(matches!(open(directory.path()), Err(OpenError::Locked { .. })));
    assert!(is_held(directory.path()));
    disk.close();
    drop(disk);
    assert!(!is_held(directory.path()) && !is_held(&directory.path().join("nothing")));
    open(directory.path()).unwrap().close();
}

#[tokio::test]
async fn a_foreign_newer_or_older_ledger_is_refused_untouched() {
    let directory = TempDir::new().unwrap();
    filled(directory.path()).await;
    let read = |file| fs::read(directory.path().join(file)).unwrap();
    let (redb, seal) = (read(FILE), read("ledger.seal"));
    let try_as = |cluster: &str, node: &str| {
        let owner = Owner { cluster: cluster.parse().unwrap(), node: node.parse().unwrap(), authority: None };
        Disk::open(directory.path(), &owner).unwrap_err()
    };
    assert!(matches!(try_as("shop", "b"), OpenError::Foreign { .. }));
    let error = try_as("other", "a").to_string();
    assert!(error.contains("belongs to node a of cluster shop"), "{error}");

    let write = |file: &str, bytes: &[u8]| fs::write(directory.path().join(file), bytes).unwrap();
    write("ledger.seal", seal::line(2, &owner(), 5).as_bytes());
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 2, known: 1, .. }), "{error}");
    assert_eq!(read(FILE), redb, "untouched");

    // An older copy of the file, a missing file, a missing seal, a damaged seal.
    write("ledger.seal", seal::line(1, &owner(), 500).as_bytes());
    let error = open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("commit 500 was acknowledged"), "{error}");
    fs::rename(directory.path().join(FILE), directory.path().join("away")).unwrap();
    assert!(matches!(open(directory.path()), Err(OpenError::Corrupt { .. })));
    fs::rename(directory.path().join("away"), directory.path().join(FILE)).unwrap();
    fs::remove_file(directory.path().join("ledger.seal")).unwrap();
    assert!(matches!(open(directory.path()), Err(OpenError::Corrupt { .. })));
    for at in 0..seal.len() - 1 {
        let mut damaged = seal.clone();
        damaged[at] ^= 4;
        write("ledger.seal", &damaged);
        assert!(open(directory.path()).is_err(), "byte {at}");
    }
    write("ledger.seal", &seal);
    open(directory.path()).unwrap().close();
}

/// Opens a damaged copy: it must be refused, with the reason, or hold exactly what the whole file held.
async fn refused_or_right(redb: &[u8], seal: &[u8], right: &str, what: &str) -> Option<String> {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join(FILE), redb).unwrap();
    fs::write(directory.path().join("ledger.seal"), seal).unwrap();
    match open(directory.path()) {
        Ok(disk) => {
            assert_eq!(contents(&disk).await, right, "{what}: silently other data");
            disk.close();
            None
        }
        Err(OpenError::Corrupt { path, reason, .. }) => {
            assert!(path.ends_with(FILE), "{what}: {}", path.display());
            Some(reason)
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_by_name_or_all_right() {
    let directory = TempDir::new().unwrap();
    filled(directory.path()).await;
    let read = |file| fs::read(directory.path().join(file)).unwrap();
    let clean = (read(FILE), read("ledger.seal"));
    let disk = open(directory.path()).unwrap();
    let right = contents(&disk).await;
    // The file as it is while it is open, so that redb must repair it too.
    let dirty = (read(FILE), read("ledger.seal"));
    disk.close();

    let mut refused = 0;
    for (name, (whole, seal)) in [("clean", &clean), ("dirty", &dirty)] {
        assert_eq!(refused_or_right(whole, seal, &right, name).await, None, "{name}");
        for length in [0, 1, 100, 4096, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
            let what = format!("{name}, cut to {length}");
            refused += usize::from(refused_or_right(&whole[..length], seal, &right, &what).await.is_some());
        }
        let mut zeroed = whole.clone();
        zeroed[..4096].fill(0);
        assert!(refused_or_right(&zeroed, seal, &right, &format!("{name}, header zeroed")).await.is_some());
        // Every byte of the header, then some in each page.
        let places = (0..320).step_by(8).chain((4096..whole.len()).step_by(17_977));
        for at in places {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            let what = format!("{name}, bit {} of byte {at} flipped", at % 8);
            refused += usize::from(refused_or_right(&flipped, seal, &right, &what).await.is_some());
        }
        // The byte that says which of redb's two commits is the last, every bit of it.
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[9] ^= 1 << bit;
            refused_or_right(&flipped, seal, &right, &format!("{name}, bit {bit} of byte 9 flipped")).await;
        }
    }
    assert!(refused > 20, "only {refused} damages were noticed: the test does not reach the data");
}

/// A disk that is full after so many bytes.
#[derive(Debug)]
struct Full {
    file: FileBackend,
    room: Arc<AtomicI64>,
}

impl StorageBackend for Full {
    fn len(&self) -> Result<u64, Error> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> Result<(), Error> {
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        if self.room.fetch_sub(data.len() as i64, Ordering::Relaxed) < data.len() as i64 {
            return Err(Error::from(ErrorKind::StorageFull));
        }
        self.file.write(offset, data)
    }
    fn close(&self) -> Result<(), Error> {
        self.file.close()
    }
}

#[tokio::test]
async fn a_full_disk_stops_the_writer_and_loses_nothing() {
    for room in [0, 5_000, 40_000, 100_000, 300_000] {
        let directory = TempDir::new().unwrap();
        filled(directory.path()).await;
        let path = directory.path().join(FILE);
        let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let backend = Full { file: FileBackend::new(file).unwrap(), room: left.clone() };
        let disk = gate::on(directory.path(), &owner(), backend);

        left.store(room, Ordering::Relaxed);
        let mut acknowledged = BTreeMap::new();
        for index in 20..200 {
            match disk.write(Change::Append(vec![log_entry(index)])).await {
                Ok(()) => acknowledged.insert(index, log_entry(index)),
                Err(error) => {
                    assert!(disk.failed().is_some());
                    assert!(error.to_string().contains("cannot be written"), "{error}");
                    break;
                }
            };
        }
        assert!(disk.failed().is_some(), "the disk had room for everything: {room}");
        let again = disk.write(Change::Vote(Vote::new(9, Id::default()))).await.unwrap_err();
        assert_eq!(Some(again), disk.failed(), "nothing is written after the first error");
        disk.close();
        drop(disk);

        let disk = open(directory.path()).unwrap();
        let kept = disk.entries(20.., usize::MAX).await.unwrap();
        assert!(kept.len() >= acknowledged.len(), "{room}: {} of {}", kept.len(), acknowledged.len());
        assert!(acknowledged.values().eq(kept.iter().take(acknowledged.len())));
        assert_eq!(disk.vote(), Some(Vote::new(3, Id::default())));
        disk.close();
    }
}
