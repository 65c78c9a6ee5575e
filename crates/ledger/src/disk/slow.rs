//! Tests: what a crash leaves while a snapshot is on its way, and a disk that is slow, hangs or fails.

use openraft::storage::{RaftLogStorage, RaftStateMachine};
use tempfile::TempDir;
use tiebeam_topology::Moment;

use super::gate::{self, Gate};
use super::tests::{id, log_entry, open, owner};
use super::*;
use crate::log::Log;
use crate::machine::tests::empty_snapshot;
use crate::machine::{Applied, Machine};

/// A directory with ten entries, and its disk behind a gate.
async fn ten_entries() -> (TempDir, Arc<Gate>, Arc<Disk>) {
    let (directory, gate) = (TempDir::new().unwrap(), Arc::new(Gate::default()));
    let owner = owner();
    let data = directory.path().join("ledger");
    let disk = gate::open(&data, &owner, gate.clone());
    disk.write(Change::Append((0..10).map(log_entry).collect())).await.unwrap();
    (directory, gate, disk)
}

fn meta_of(last: u64) -> SnapshotMeta {
    SnapshotMeta { last_log_id: Some(id(last)), snapshot_id: "leader's".into(), ..SnapshotMeta::default() }
}

#[tokio::test]
async fn a_crash_at_any_commit_of_a_snapshots_installation_leaves_a_file_that_opens() {
    let (directory, gate, disk) = ten_entries().await;
    let mut machine = Machine::open(disk.clone(), Applied::new(Moment::now)).await.unwrap();
    let mut log = Log::new(disk.clone());
    let copies = directory.path().join("copies");
    fs::create_dir(&copies).unwrap();
    gate.copy_to(&copies);

    // As openraft does it: the log is purged at once, while the state machine still reads the snapshot.
    let purging = tokio::spawn(async move { log.purge(id(40)).await.map(|()| log) });
    tokio::time::sleep(Duration::from_millis(100)).await;
    disk.write(Change::Vote(Vote::new(7, Default::default()))).await.unwrap();
    assert!(!purging.is_finished());
    machine.install_snapshot(&meta_of(40), empty_snapshot()).await.unwrap();
    purging.await.unwrap().unwrap();
    disk.write(Change::Append(vec![log_entry(41)])).await.unwrap();
    assert!(disk.close());

    let owner = owner();
    let mut seen = Vec::new();
    for number in 0..fs::read_dir(&copies).unwrap().count() {
        let copy = Disk::open(&copies.join(format!("{number:04}")), &owner).unwrap();
        seen.push((copy.shared.kept.borrow().snapshot, copy.ends().last));
        copy.close();
    }
    seen.dedup();
    let (ten, forty) = (Some(id(9)), Some(id(40)));
    assert_eq!(seen, [(None, ten), (forty, ten), (forty, forty), (forty, Some(id(41)))]);
}

#[tokio::test]
async fn a_purge_ends_when_its_snapshot_will_never_come() {
    for ending in ["unreadable", "closed", "failed"] {
        let (_directory, gate, disk) = ten_entries().await;
        let mut machine = Machine::open(disk.clone(), Applied::new(Moment::now)).await.unwrap();
        let mut log = Log::new(disk.clone());
        let purging = tokio::spawn(async move { log.purge(id(40)).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        match ending {
            "unreadable" => {
                let damaged = Box::new(std::io::Cursor::new(vec![1, 2, 3]));
                machine.install_snapshot(&meta_of(40), damaged).await.unwrap_err();
            }
            "closed" => assert!(disk.close()),
            _ => {
                gate.fail();
                machine.install_snapshot(&meta_of(40), empty_snapshot()).await.unwrap_err();
            }
        }
        let ended = tokio::time::timeout(Duration::from_secs(5), purging).await;
        ended.expect(ending).unwrap().unwrap_err();
        assert_eq!(disk.ends().purged, None);
        disk.close();
    }
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_refused_with_its_file() {
    for (first, text) in [(9u8, "was written in format 9"), (1, "checksum")] {
        let (_directory, _gate, disk) = ten_entries().await;
        let mut bytes = empty_snapshot().into_inner();
        bytes[0] = first;
        bytes[1] ^= 1;
        disk.write(Change::Snapshot(meta_of(9), bytes)).await.unwrap();
        let error = Machine::open(disk.clone(), Applied::new(Moment::now)).await.unwrap_err().to_string();
        assert!(error.contains("ledger.redb") && error.contains(text), "{error}");
        assert!(error.contains("Run the newer program") || error.contains("move the data directory away"));
        disk.close();
    }
}

#[tokio::test]
async fn a_flush_that_fails_stops_the_writer_and_what_was_acknowledged_stays() {
    let (directory, gate, disk) = ten_entries().await;
    gate.fail();
    let error = disk.write(Change::Append(vec![log_entry(10)])).await.unwrap_err();
    assert_eq!(disk.failed(), Some(error));
    disk.write(Change::Append(vec![log_entry(10)])).await.unwrap_err();
    disk.close();
    drop(disk);
    let disk = open(&directory.path().join("ledger")).unwrap();
    assert_eq!(disk.ends().last.filter(|last| last.index >= 9), disk.ends().last);
    disk.close();
}

#[tokio::test]
async fn a_seal_that_cannot_be_written_stops_the_writer() {
    let directory = TempDir::new().unwrap();
    open(directory.path()).unwrap().close();
    let owner = owner();
    let seal = Seal::open(directory.path(), &owner).unwrap().read_only();
    let loaded = file::load(&directory.path().join(FILE), &owner, seal.number()).unwrap();
    let disk = Disk::start(&directory.path().join(FILE), loaded, seal).unwrap();
    let error = disk.write(Change::Append(vec![log_entry(0)])).await.unwrap_err();
    assert!(error.to_string().contains("ledger.seal"), "{error}");
    assert_eq!(disk.failed(), Some(error));
    disk.close();
    drop(disk);
    open(directory.path()).unwrap().close();
}

#[tokio::test]
async fn a_hung_disk_is_noticed_while_it_hangs_and_closing_does_not_wait_for_it() {
    let (_directory, gate, disk) = ten_entries().await;
    assert_eq!(disk.silent(), Duration::ZERO);
    gate.shut(true);
    // A snapshot alone may take its time.
    let saving = tokio::spawn({
        let disk = disk.clone();
        async move { disk.write(Change::Snapshot(meta_of(9), vec![0; 1 << 20])).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(disk.silent(), Duration::ZERO);
    let voting = tokio::spawn({
        let disk = disk.clone();
        async move { disk.write(Change::Vote(Vote::new(7, Default::default()))).await }
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(disk.silent() >= Duration::from_millis(100), "{:?}", disk.silent());

    let begun = Instant::now();
    let closing = disk.clone();
    assert!(!tokio::task::spawn_blocking(move || closing.close()).await.unwrap());
    assert!(begun.elapsed() >= CLOSE_TIME && begun.elapsed() < CLOSE_TIME * 2, "{:?}", begun.elapsed());
    gate.shut(false);
    saving.await.unwrap().unwrap();
    voting.await.unwrap().unwrap();
    assert_eq!(disk.silent(), Duration::ZERO);
}
