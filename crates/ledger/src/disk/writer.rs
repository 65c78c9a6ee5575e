//! The thread that writes: it takes all that waits, makes it one durable redb transaction, then answers.
//!
//! After the first error it writes nothing any more and says so to everyone: half a log is worse than none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{Database, Durability};
use tokio::sync::{mpsc, oneshot};

use super::change::put_meta;
use super::seal::Seal;
use super::{Change, DiskError, Kept, Shared};

/// Most jobs in one transaction.
const GROUP_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Job {
    pub change: Change,
    /// `None`: nobody waits, and it need not be durable before something else must be.
    pub done: Option<oneshot::Sender<Result<(), DiskError>>>,
}

pub(super) struct Writer {
    pub database: Arc<Database>,
    pub seal: Seal,
    /// The number of the last commit.
    pub commit: u64,
    pub shared: Arc<Shared>,
}

impl Writer {
    pub fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut group: Vec<Job> = Vec::new();
        while let Some(job) = queue.blocking_recv() {
            group.push(job);
            while group.len() < GROUP_MAX
                && let Ok(job) = queue.try_recv()
            {
                group.push(job);
            }
            let stop = group.iter().any(|job| matches!(job.change, Change::Stop));
            // At the end, what only went along is written too.
            if group.iter().any(|job| job.done.is_some()) || (stop && group.len() > 1) {
                self.write(&mut group);
            } else {
                // Of what need not be durable yet only the last is of interest.
                group.drain(..group.len() - 1);
            }
            if stop {
                return;
            }
        }
    }

    fn write(&mut self, group: &mut Vec<Job>) {
        let outcome = match self.shared.failed.get() {
            Some(error) => Err(error.clone()),
            None => catch_unwind(AssertUnwindSafe(|| self.transaction(group)))
                .unwrap_or_else(|_| Err("redb broke off while writing".into()))
                .map_err(|reason| self.fail(reason)),
        };
        for done in group.drain(..).filter_map(|job| job.done) {
            // Who asked may have given up.
            let _ = done.send(outcome.clone());
        }
    }

    fn transaction(&mut self, group: &[Job]) -> Result<(), String> {
        let mut kept: Kept = self.shared.kept.borrow().clone();
        let mut write = self.database.begin_write().map_err(|e| e.to_string())?;
        write.set_durability(Durability::Immediate).map_err(|e| e.to_string())?;
        for job in group {
            job.change.apply(&write, &mut kept)?;
        }
        put_meta(&write, "commit", &(self.commit + 1))?;
        write.commit().map_err(|e| e.to_string())?;
        self.commit += 1;
        self.seal.write(self.commit).map_err(|e| format!("cannot write ledger.seal: {e}"))?;
        self.shared.kept.send_modify(|now| *now = Kept { over: now.over.take(), ..kept });
        self.shared.fsyncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn fail(&self, reason: String) -> DiskError {
        let error = DiskError(format!("the ledger's file cannot be written: {reason}"));
        tracing::error!("{error}; this node's ledger stops, the data that it acknowledged stays");
        self.shared.over(error.clone());
        self.shared.failed.get_or_init(|| error).clone()
    }
}
