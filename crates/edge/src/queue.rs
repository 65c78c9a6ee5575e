//! Requests that wait for a place at a server of their pool: a bounded number, each for a bounded time, in the order in
//! which they came.
//!
//! It knows nothing of servers: who waits looks for itself when it is told to.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Timer;

#[derive(Default)]
pub struct Queue {
    waiting: AtomicUsize,
    look: Notify,
    /// Requests that waited.
    pub waited: AtomicU64,
}

/// Why a request did not get a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// As many wait as may.
    Full,
    TimeUp,
}

impl Queue {
    /// How many wait now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Waits until `look` finds something, in a queue of at most `bound`, for at most `within`.
    ///
    /// # Errors
    /// [`NoPlace`]; `TimeUp` also when the edge ends.
    pub async fn wait<T>(
        &self,
        timer: &Timer,
        bound: usize,
        within: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, NoPlace> {
        let enters = |waiting: usize| (waiting < bound).then_some(waiting + 1);
        if self.waiting.fetch_update(SeqCst, SeqCst, enters).is_err() {
            return Err(NoPlace::Full);
        }
        let _waits = Waits(self);
        self.waited.fetch_add(1, Relaxed);
        let found = async {
            loop {
                // Listening begins before the look: a place that is freed in between is not missed.
                let told = self.look.notified();
                let mut told = std::pin::pin!(told);
                told.as_mut().enable();
                match look() {
                    Some(found) => return found,
                    None => told.await,
                }
            }
        };
        timer.within(within, found).await.map_err(|_| NoPlace::TimeUp)
    }

    /// A place is free.
    pub fn let_one_look(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.look.notify_one();
        }
    }

    /// Servers may have come back.
    pub fn look_again(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.look.notify_waiters();
        }
    }
}

struct Waits<'q>(&'q Queue);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}
