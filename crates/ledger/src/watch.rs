//! Watches: what changed, in order, as this node applied it.
//!
//! One ring for all watchers, bounded in changes and in bytes; who is slower than it is told so and lists again. Called
//! by `Store::watch`; the state machine feeds the ring and never waits for a watcher.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};

use crate::{Entry, Key, Revision};

/// How many changes a watcher may be behind before it is [`WatchError::Lagged`].
pub const WATCH_RING_CHANGES: usize = 1024;
/// How many bytes of keys and values it may be behind. The last change is kept however large it is.
pub const WATCH_RING_BYTES: usize = 16 << 20;

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
    source: Source,
}

#[derive(Debug)]
enum Source {
    Ring(Reader),
    Broadcast(broadcast::Receiver<Arc<Changes>>),
}

impl Watch {
    /// For implementations of [`crate::Store`]: filters what `ring` carries.
    pub fn new(prefix: &str, ring: broadcast::Receiver<Arc<Changes>>) -> Self {
        Self { prefix: prefix.to_owned(), source: Source::Broadcast(ring) }
    }

    pub(crate) fn of(prefix: &str, ring: &Arc<Ring>) -> Self {
        Self { prefix: prefix.to_owned(), source: Source::Ring(ring.reader()) }
    }

    /// The next change. Waits as long as there is none. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Changes, WatchError> {
        loop {
            let all = match &mut self.source {
                Source::Ring(reader) => reader.next().await?,
                Source::Broadcast(ring) => ring.recv().await.map_err(|error| match error {
                    broadcast::error::RecvError::Lagged(missed) => WatchError::Lagged { missed },
                    broadcast::error::RecvError::Closed => WatchError::Closed,
                })?,
            };
            if let Some(mine) = below(&all, &self.prefix) {
                return Ok(mine);
            }
        }
    }
}

/// The last changes, for every watcher.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    kept: Mutex<Kept>,
    /// Changes whenever `kept` does.
    news: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Kept {
    changes: VecDeque<(Arc<Changes>, usize)>,
    /// The number of the oldest in `changes`; each has the next.
    first: u64,
    bytes: usize,
    closed: bool,
}

/// A watcher's place in the ring.
#[derive(Debug)]
struct Reader {
    ring: Arc<Ring>,
    news: watch::Receiver<()>,
    next: u64,
}

impl Ring {
    pub fn push(&self, change: Changes) {
        let bytes = weight(&change);
        let mut kept = self.kept();
        if kept.closed {
            return;
        }
        if self.news.receiver_count() == 0 {
            // Who watches later begins after it.
            kept.first += kept.changes.len() as u64 + 1;
            kept.changes.clear();
            kept.bytes = 0;
            return;
        }
        kept.bytes += bytes;
        kept.changes.push_back((Arc::new(change), bytes));
        while kept.changes.len() > WATCH_RING_CHANGES
            || kept.bytes > WATCH_RING_BYTES && kept.changes.len() > 1
        {
            if let Some((_, bytes)) = kept.changes.pop_front() {
                kept.bytes -= bytes;
                kept.first += 1;
            }
        }
        drop(kept);
        self.news.send_replace(());
    }

    /// Ends all watches, after what they have still to read.
    pub fn close(&self) {
        self.kept().closed = true;
        self.news.send_replace(());
    }

    /// From now on.
    fn reader(self: &Arc<Self>) -> Reader {
        let news = self.news.subscribe();
        let kept = self.kept();
        Reader { ring: self.clone(), news, next: kept.first + kept.changes.len() as u64 }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    async fn next(&mut self) -> Result<Arc<Changes>, WatchError> {
        loop {
            self.news.mark_unchanged();
            if let Some(found) = self.look() {
                return found;
            }
            // The ring, which this holds, has the sender.
            if self.news.changed().await.is_err() {
                return Err(WatchError::Closed);
            }
        }
    }

    /// `None`: nothing new.
    fn look(&mut self) -> Option<Result<Arc<Changes>, WatchError>> {
        let kept = self.ring.kept();
        if self.next < kept.first {
            let missed = kept.first - self.next;
            self.next = kept.first;
            return Some(Err(WatchError::Lagged { missed }));
        }
        let found = usize::try_from(self.next - kept.first).ok().and_then(|at| kept.changes.get(at));
        match found {
            Some((change, _)) => {
                self.next += 1;
                Some(Ok(change.clone()))
            }
            None => kept.closed.then_some(Err(WatchError::Closed)),
        }
    }
}

fn weight(change: &Changes) -> usize {
    let puts: usize = change.puts.iter().map(|entry| entry.key.as_str().len() + entry.value.len()).sum();
    puts + change.deletes.iter().map(|key| key.as_str().len()).sum::<usize>()
}

fn below(all: &Changes, prefix: &str) -> Option<Changes> {
    let puts: Vec<_> = all.puts.iter().filter(|e| e.key.as_str().starts_with(prefix)).cloned().collect();
    let deletes: Vec<_> = all.deletes.iter().filter(|k| k.as_str().starts_with(prefix)).cloned().collect();
    (!puts.is_empty() || !deletes.is_empty()).then_some(Changes { revision: all.revision, puts, deletes })
}

#[cfg(test)]
mod tests {
    use tiebeam_topology::Moment;

    use super::*;

    fn change(revision: u64, deleted: &str) -> Changes {
        let deletes = vec![deleted.parse().unwrap()];
        Changes { revision: Revision(revision), puts: Vec::new(), deletes }
    }

    fn large(revision: u64, bytes: usize) -> Changes {
        let (revision, applied_at) = (Revision(revision), Moment::now());
        let (key, value) = ("a/large".parse().unwrap(), vec![0; bytes]);
        let put = Entry { key, value, revision, created: revision, applied_at, lease: None };
        Changes { revision, puts: vec![put], deletes: Vec::new() }
    }

    #[tokio::test]
    async fn a_watcher_sees_its_prefix_and_is_told_when_it_was_too_slow() {
        let ring = Arc::new(Ring::default());
        ring.push(change(0, "a/before"));
        let mut watch = Watch::of("a/", &ring);
        for (revision, deleted) in [(1, "a/1"), (2, "b/1"), (3, "a/2")] {
            ring.push(change(revision, deleted));
        }
        assert_eq!(watch.next().await.unwrap(), change(1, "a/1"));
        assert_eq!(watch.next().await.unwrap(), change(3, "a/2"));
        for revision in 4..4 + WATCH_RING_CHANGES as u64 + 7 {
            ring.push(change(revision, "a/3"));
        }
        assert_eq!(watch.next().await, Err(WatchError::Lagged { missed: 7 }));
        assert_eq!(watch.next().await.unwrap().revision, Revision(11));
        let mut other = Watch::of("c/", &ring);
        ring.close();
        assert_eq!(other.next().await, Err(WatchError::Closed));
        // What was there before the end is still read.
        assert_eq!(watch.next().await.unwrap().revision, Revision(12));
        assert_eq!(Watch::of("a/", &ring).next().await, Err(WatchError::Closed));
    }

    #[tokio::test]
    async fn few_large_changes_fill_the_ring_too() {
        let ring = Arc::new(Ring::default());
        let mut watch = Watch::of("a/", &ring);
        for revision in 1..=40 {
            ring.push(large(revision, 1 << 20));
            assert!(ring.kept().bytes <= WATCH_RING_BYTES);
        }
        // 15 of 1 MiB and their keys are within 16 MiB.
        assert_eq!(watch.next().await, Err(WatchError::Lagged { missed: 25 }));
        assert_eq!(watch.next().await.unwrap().revision, Revision(26));
        ring.push(large(41, WATCH_RING_BYTES * 2));
        assert_eq!(watch.next().await, Err(WatchError::Lagged { missed: 14 }));
        assert_eq!(watch.next().await.unwrap().revision, Revision(41));
    }

    #[tokio::test]
    async fn a_waiting_watcher_is_woken() {
        let ring = Arc::new(Ring::default());
        let mut watch = Watch::of("a/", &ring);
        let waiting = tokio::spawn(async move { (watch.next().await, watch.next().await) });
        tokio::task::yield_now().await;
        ring.push(change(1, "b/1"));
        tokio::task::yield_now().await;
        ring.push(change(2, "a/1"));
        tokio::task::yield_now().await;
        ring.close();
        assert_eq!(waiting.await.unwrap(), (Ok(change(2, "a/1")), Err(WatchError::Closed)));
    }

    #[tokio::test]
    async fn another_stores_broadcast_is_filtered_likewise() {
        let ring = broadcast::Sender::new(2);
        let mut watch = Watch::new("a/", ring.subscribe());
        for revision in 1..=4 {
            ring.send(Arc::new(change(revision, "a/1"))).unwrap();
        }
        assert_eq!(watch.next().await, Err(WatchError::Lagged { missed: 2 }));
        assert_eq!(watch.next().await.unwrap(), change(3, "a/1"));
        drop(ring);
        assert_eq!(watch.next().await.unwrap(), change(4, "a/1"));
        assert_eq!(watch.next().await, Err(WatchError::Closed));
    }
}
