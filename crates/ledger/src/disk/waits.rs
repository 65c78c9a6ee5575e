//! Who waits for the disk, and since when, so that a disk that hangs is noticed while it hangs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(super) struct Waits {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

/// Waits until it is dropped.
pub(super) struct Wait<'a> {
    waits: &'a Waits,
    number: u64,
}

impl Waits {
    pub fn begin(&self) -> Wait<'_> {
        let mut book = self.book();
        let number = book.next;
        book.next += 1;
        book.since.insert(number, Instant::now());
        Wait { waits: self, number }
    }

    /// How long the oldest has been waiting.
    pub fn oldest(&self) -> Duration {
        self.book().since.first_key_value().map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.waits.book().since.remove(&self.number);
    }
}
