//! Compressed forms of files, made once and kept in bounded memory, so that one request pays and the others do not.
//!
//! One for an edge, shared by its workers' blocking threads; a worker itself never takes its lock. A form belongs to
//! one state of one file: a file that changes is another one here.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use lru::LruCache;

use super::encoding::Coding;
use super::open::Opened;

/// Files that are compressed at the same time, of all workers: the others are sent as they are meanwhile.
const AT_ONCE: usize = 2;
/// Forms that are remembered, those that are not worth it included.
const MOST_FORMS: NonZeroUsize = NonZeroUsize::new(10_000).expect("is not zero");

/// A file's bytes in a coding. Counted as long as anybody still sends it.
#[derive(Debug)]
pub struct Form {
    pub bytes: Vec<u8>,
    live: Arc<AtomicUsize>,
}

impl Drop for Form {
    fn drop(&mut self) {
        self.live.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// One state of one file, in one coding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: SystemTime,
    coding: Coding,
}

impl Key {
    pub fn of(opened: &Opened, coding: Coding) -> Self {
        let &Opened { bytes, modified, device, inode, .. } = opened;
        Self { device, inode, bytes, modified, coding }
    }
}

/// What there is for a file.
#[derive(Debug)]
pub enum Found {
    Form(Arc<Form>),
    /// Compressed it would not be smaller.
    NotWorth,
    /// Enough is being compressed already, or all the memory for forms is in use.
    Busy,
}

pub struct Forms {
    /// `None`: compressing that file is not worth it.
    kept: Mutex<LruCache<Key, Option<Arc<Form>>>>,
    at_work: AtomicUsize,
    /// Bytes of all forms: those that are kept, and those that are only sent to their end.
    live: Arc<AtomicUsize>,
}

impl Default for Forms {
    fn default() -> Self {
        Self {
            kept: Mutex::new(LruCache::new(MOST_FORMS)),
            at_work: AtomicUsize::new(0),
            live: Arc::default(),
        }
    }
}

impl Forms {
    /// The form of a file, made by `make` if it is not there, within `most_bytes` for all forms together.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn find(
        &self,
        key: Key,
        most_bytes: usize,
        make: impl FnOnce() -> io::Result<Option<Vec<u8>>>,
    ) -> io::Result<Found> {
        if let Some(kept) = self.kept().get(&key) {
            return Ok(kept.clone().map_or(Found::NotWorth, Found::Form));
        }
        let Some(_turn) = self.turn() else { return Ok(Found::Busy) };
        // A form is smaller than its file.
        let room = usize::try_from(key.bytes).unwrap_or(usize::MAX);
        if !self.make_room(room, most_bytes) {
            return Ok(Found::Busy);
        }
        let form = make()?.map(|bytes| {
            self.live.fetch_add(bytes.len(), Ordering::Relaxed);
            Arc::new(Form { bytes, live: self.live.clone() })
        });
        self.kept().put(key, form.clone());
        Ok(form.map_or(Found::NotWorth, Found::Form))
    }

    /// Forgets what was used longest ago until `bytes` more fit; false if they do not even then.
    fn make_room(&self, bytes: usize, most_bytes: usize) -> bool {
        // Those who work at the same time take as much.
        let fits = || self.live.load(Ordering::Relaxed).saturating_add(bytes * AT_ONCE) <= most_bytes;
        while !fits() {
            if self.kept().pop_lru().is_none() {
                return false;
            }
        }
        true
    }

    fn turn(&self) -> Option<Turn<'_>> {
        let turn = Turn(&self.at_work);
        (self.at_work.fetch_add(1, Ordering::Relaxed) < AT_ONCE).then_some(turn)
    }

    fn kept(&self) -> MutexGuard<'_, LruCache<Key, Option<Arc<Form>>>> {
        // A panic while it was held is one of the cache's own: at worst an entry is lost.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of [`AT_ONCE`], given back when it is dropped.
struct Turn<'f>(&'f AtomicUsize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(inode: u64, bytes: u64) -> Key {
        Key { device: 1, inode, bytes, modified: SystemTime::UNIX_EPOCH, coding: Coding::Gzip }
    }

    fn made(forms: &Forms, inode: u64, bytes: u64) -> Found {
        forms.find(key(inode, bytes), 1000, || Ok(Some(vec![0; bytes as usize / 2]))).unwrap()
    }

    fn is_kept(forms: &Forms, inode: u64, bytes: u64) -> bool {
        forms.kept().contains(&key(inode, bytes))
    }

    #[test]
    fn made_once() {
        let forms = Forms::default();
        assert!(matches!(made(&forms, 1, 100), Found::Form(form) if form.bytes.len() == 50));
        let never = || panic!("it is kept");
        assert!(matches!(forms.find(key(1, 100), 1000, never).unwrap(), Found::Form(_)));
        assert!(matches!(forms.find(key(2, 100), 1000, || Ok(None)).unwrap(), Found::NotWorth));
        assert!(matches!(forms.find(key(2, 100), 1000, never).unwrap(), Found::NotWorth));
    }

    #[test]
    fn the_memory_is_bounded_and_what_is_being_sent_counts() {
        let forms = Forms::default();
        // 200 bytes each, and there must be room for twice the next file.
        let Found::Form(sent) = made(&forms, 1, 400) else { panic!("there is room") };
        drop(made(&forms, 2, 400));
        assert!(is_kept(&forms, 1, 400) && is_kept(&forms, 2, 400));
        // The one used longest ago goes first, but that gives nothing back while it is being sent.
        let Found::Form(third) = made(&forms, 3, 400) else { panic!("there is room") };
        assert!(!is_kept(&forms, 1, 400) && !is_kept(&forms, 2, 400));
        assert!(matches!(made(&forms, 4, 400), Found::Busy));
        drop(sent);
        assert!(matches!(made(&forms, 4, 400), Found::Form(_)));
        drop(third);
        assert_eq!(forms.live.load(Ordering::Relaxed), 200);
        assert!(matches!(made(&forms, 5, 600), Found::Busy), "twice 600 never fit");
    }

    #[test]
    fn only_so_many_at_once() {
        let forms = Forms::default();
        let nested = forms
            .find(key(1, 10), 1000, || {
                let inner = forms.find(key(2, 10), 1000, || {
                    assert!(matches!(made(&forms, 3, 10), Found::Busy));
                    Ok(None)
                });
                assert!(matches!(inner, Ok(Found::NotWorth)));
                Err(io::ErrorKind::Other.into())
            })
            .is_err();
        assert!(nested && matches!(made(&forms, 3, 10), Found::Form(_)));
    }
}
