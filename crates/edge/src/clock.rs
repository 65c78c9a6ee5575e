//! A worker's coarse timers: arming one is a store, because almost none of them ever fires.
//!
//! One tick every [`TICK`] looks at all of them. A deadline is met up to two ticks late; early only by as long as the
//! worker itself was held up.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub const TICK: Duration = Duration::from_millis(50);

/// One for each worker; [`Clock::tick`] is called by the worker's ticker.
pub struct Clock {
    started: Instant,
    now_ms: Cell<u64>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
}

struct Slot {
    /// `u64::MAX`: not armed.
    deadline_ms: u64,
    waker: Option<Waker>,
}

impl Clock {
    pub fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            started: now,
            now_ms: Cell::new(0),
            slots: RefCell::default(),
            free: RefCell::default(),
        })
    }

    pub fn tick(&self, now: Instant) {
        let now_ms = now.duration_since(self.started).as_millis() as u64;
        self.now_ms.set(now_ms);
        for slot in self.slots.borrow_mut().iter_mut().filter(|s| s.deadline_ms <= now_ms) {
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// Lets every waiting connection look around: the worker drains.
    pub fn wake_all(&self) {
        for waker in self.slots.borrow_mut().iter_mut().filter_map(|s| s.waker.take()) {
            waker.wake();
        }
    }

    pub fn timer(self: &Rc<Self>) -> Timer {
        let slot = Slot { deadline_ms: u64::MAX, waker: None };
        let mut slots = self.slots.borrow_mut();
        let index = match self.free.borrow_mut().pop() {
            Some(index) => {
                slots[index] = slot;
                index
            }
            None => {
                slots.push(slot);
                slots.len() - 1
            }
        };
        Timer { clock: self.clone(), index }
    }
}

/// One deadline of one task.
pub struct Timer {
    clock: Rc<Clock>,
    index: usize,
}

/// The time was up first.
#[derive(Debug, PartialEq, Eq)]
pub struct Elapsed;

impl Timer {
    pub fn arm(&self, after: Duration) {
        let deadline = self.clock.now_ms.get() + (after + TICK).as_millis() as u64;
        self.clock.slots.borrow_mut()[self.index].deadline_ms = deadline;
    }

    /// Is the time up? If not, the task is woken when it is.
    pub fn poll_expired(&self, cx: &Context<'_>) -> bool {
        let slot = &mut self.clock.slots.borrow_mut()[self.index];
        if slot.deadline_ms <= self.clock.now_ms.get() {
            return true;
        }
        if !slot.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        false
    }

    pub async fn within<F: Future>(&self, after: Duration, future: F) -> Result<F::Output, Elapsed> {
        self.arm(after);
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending if self.poll_expired(cx) => Poll::Ready(Err(Elapsed)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let slot = &mut self.clock.slots.borrow_mut()[self.index];
        (slot.deadline_ms, slot.waker) = (u64::MAX, None);
        self.clock.free.borrow_mut().push(self.index);
    }
}
