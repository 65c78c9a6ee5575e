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
    is_over: Cell<bool>,
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
            is_over: Cell::new(false),
        })
    }

    /// As of the last tick.
    pub fn now(&self) -> Instant {
        self.started + Duration::from_millis(self.now_ms.get())
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

    /// All time is up, now and from now on: the worker ends.
    pub fn end(&self) {
        self.is_over.set(true);
        self.wake_all();
    }

    pub fn is_over(&self) -> bool {
        self.is_over.get()
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
    /// Since the worker started, as of the last tick.
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.clock.now_ms.get())
    }

    pub fn arm(&self, after: Duration) {
        let after_ms = u64::try_from(after.saturating_add(TICK).as_millis()).unwrap_or(u64::MAX);
        let deadline = self.clock.now_ms.get().saturating_add(after_ms);
        self.clock.slots.borrow_mut()[self.index].deadline_ms = deadline;
    }

    /// Is the time up? If not, the task is woken when it is.
    pub fn poll_expired(&self, cx: &Context<'_>) -> bool {
        let slot = &mut self.clock.slots.borrow_mut()[self.index];
        if slot.deadline_ms <= self.clock.now_ms.get() || self.clock.is_over.get() {
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

/// The one way in which whoever takes part in an answer is given up: nothing has moved for as long as it may stand
/// still. The time begins anew with every byte, and when somebody else is waited for.
///
/// The kernel may hold megabytes for a slow reader and take nothing new for long. So when the time is up it is asked how
/// much it still holds: as long as that becomes less, the client reads.
pub struct Stall {
    moved: u64,
    within: Duration,
    /// What the kernel held when the time was up before; `u64::MAX`: it was not asked yet.
    held: u64,
}

impl Stall {
    pub fn begin(timer: &Timer, moved: u64, within: Duration) -> Self {
        timer.arm(within);
        Self { moved, within, held: u64::MAX }
    }

    /// To be asked whenever there is nothing to do but wait. `moved` counts the bytes that got through in all, `within`
    /// is the time of who is waited for now, and `held` what the kernel holds for it, if it is a reader.
    pub fn poll(
        &mut self,
        cx: &Context<'_>,
        timer: &Timer,
        moved: u64,
        within: Duration,
        held: impl FnOnce() -> Option<u64>,
    ) -> bool {
        if (moved, within) != (self.moved, self.within) {
            *self = Self::begin(timer, moved, within);
        }
        if !timer.poll_expired(cx) {
            return false;
        }
        match held() {
            Some(held) if held < self.held => {
                self.held = held;
                timer.arm(within);
                timer.poll_expired(cx)
            }
            _ => true,
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let slot = &mut self.clock.slots.borrow_mut()[self.index];
        (slot.deadline_ms, slot.waker) = (u64::MAX, None);
        self.clock.free.borrow_mut().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_stall_begins_anew_with_each_move() {
        let started = Instant::now();
        let clock = Clock::new(started);
        let timer = clock.timer();
        let cx = Context::from_waker(Waker::noop());
        let mut stall = Stall::begin(&timer, 0, SECOND);
        // Tenths of a second, bytes moved, the time of who is waited for, what is held for a reader, and whether the
        // time is up.
        for (tenths, moved, within, held, is_up) in [
            (9, 0, SECOND, None, false),
            (10, 1, SECOND, None, false),
            (20, 1, SECOND, None, false),
            (20, 2, SECOND, None, false),
            (29, 2, SECOND, None, false),
            (29, 2, 2 * SECOND, None, false),
            (49, 2, 2 * SECOND, None, false),
            (50, 2, 2 * SECOND, None, true),
            (50, 3, SECOND, Some(900), false),
            (61, 3, SECOND, Some(900), false),
            (72, 3, SECOND, Some(899), false),
            (83, 3, SECOND, Some(899), true),
            (84, 4, SECOND, Some(899), false),
            (95, 4, SECOND, Some(899), false),
            (106, 4, SECOND, Some(899), true),
        ] {
            clock.tick(started + SECOND * tenths / 10);
            assert_eq!(stall.poll(&cx, &timer, moved, within, || held), is_up, "{tenths} {moved} {held:?}");
        }
        let other = clock.timer();
        other.arm(SECOND);
        assert!(!other.poll_expired(&cx));
        clock.end();
        assert!(other.poll_expired(&cx) && clock.is_over());
    }
}
