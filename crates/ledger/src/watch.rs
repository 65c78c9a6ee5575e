//! Watches: what changed, in order, as this node applied it.
//!
//! One bounded ring for all watchers; who is slower than it is told so and lists again. Called by `Store::watch`; the
//! state machine feeds the ring and never waits for a watcher.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::{Entry, Key, Revision};

/// How many changes a watcher may be behind before it is [`WatchError::Lagged`].
pub const WATCH_RING_CHANGES: usize = 1024;

/// The changes of one revision, as far as they concern the watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    pub revision: Revision,
    /// New values, in the order of keys.
    pub puts: Vec<Entry>,
    /// Keys that are gone, in order.
    pub deletes: Vec<Key>,
}

/// Why a watch has no next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Changes were missed. The watch goes on from the oldest that is left; list again to know what is.
    #[error("the watcher was too slow and missed {missed} changes; it must list again")]
    Lagged { missed: u64 },
    /// The ledger was shut down.
    #[error("the ledger was closed")]
    Closed,
}

/// A stream of [`Changes`] below a prefix.
#[derive(Debug)]
pub struct Watch {
    prefix: String,
    ring: broadcast::Receiver<Arc<Changes>>,
}

impl Watch {
    /// For implementations of [`crate::Store`]: filters what `ring` carries.
    pub fn new(prefix: &str, ring: broadcast::Receiver<Arc<Changes>>) -> Self {
        Self { prefix: prefix.to_owned(), ring }
    }

    /// The next change. Waits as long as there is none. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Changes, WatchError> {
        loop {
            match self.ring.recv().await {
                Ok(all) => {
                    if let Some(mine) = below(&all, &self.prefix) {
                        return Ok(mine);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    return Err(WatchError::Lagged { missed });
                }
                Err(broadcast::error::RecvError::Closed) => return Err(WatchError::Closed),
            }
        }
    }
}

fn below(all: &Changes, prefix: &str) -> Option<Changes> {
    let puts: Vec<_> = all.puts.iter().filter(|e| e.key.as_str().starts_with(prefix)).cloned().collect();
    let deletes: Vec<_> = all.deletes.iter().filter(|k| k.as_str().starts_with(prefix)).cloned().collect();
    (!puts.is_empty() || !deletes.is_empty()).then_some(Changes { revision: all.revision, puts, deletes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64, deleted: &str) -> Arc<Changes> {
        let deletes = vec![deleted.parse().unwrap()];
        Arc::new(Changes { revision: Revision(revision), puts: Vec::new(), deletes })
    }

    #[tokio::test]
    async fn a_watcher_sees_its_prefix_and_is_told_when_it_was_too_slow() {
        let ring = broadcast::Sender::new(WATCH_RING_CHANGES);
        let mut watch = Watch::new("a/", ring.subscribe());
        for (revision, deleted) in [(1, "a/1"), (2, "b/1"), (3, "a/2")] {
            ring.send(change(revision, deleted)).unwrap();
        }
        assert_eq!(watch.next().await.unwrap(), *change(1, "a/1"));
        assert_eq!(watch.next().await.unwrap(), *change(3, "a/2"));
        for revision in 4..4 + WATCH_RING_CHANGES as u64 + 7 {
            ring.send(change(revision, "a/3")).unwrap();
        }
        assert_eq!(watch.next().await, Err(WatchError::Lagged { missed: 7 }));
        assert_eq!(watch.next().await.unwrap().revision, Revision(11));
        let mut other = Watch::new("c/", ring.subscribe());
        drop(ring);
        assert_eq!(other.next().await, Err(WatchError::Closed));
    }
}
