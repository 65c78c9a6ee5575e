//! The faults that wait for their turn, and when that is: a pure function of the time and of whether the cluster is
//! whole. A fault hits a whole cluster only, so that its drill measures that fault alone.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::drills::Fault;

/// How long the cluster may take to be whole once a fault's turn has come.
pub const WHOLE_TIME: Duration = Duration::from_secs(60);
/// Undisturbed load before the first fault and between two: that is part of what is measured.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(1);
/// Faults of keys that wait at once; one more is refused, with a word.
pub const PRESSED_MAX: usize = 4;

/// Who wants a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The command line: the run is judged by it, so what cannot be done ends the run.
    Words,
    /// A key: what cannot be done is said, and the run goes on.
    Key,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Wait,
    Start(Fault, By),
    /// The cluster did not become whole for it.
    GiveUp(Fault, By),
}

pub struct Queue {
    waiting: VecDeque<(Fault, By)>,
    next_at: Instant,
    /// Until when the cluster must be whole, since the first fault's turn has come.
    whole_by: Option<Instant>,
}

impl Queue {
    pub fn new(faults: &[Fault], now: Instant) -> Self {
        let waiting = faults.iter().map(|f| (*f, By::Words)).collect();
        Self { waiting, next_at: now + FIRST_PAUSE, whole_by: None }
    }

    /// A key. `false`: too many wait already.
    pub fn press(&mut self, fault: Fault) -> bool {
        let fits = self.waiting.len() < PRESSED_MAX;
        if fits {
            self.waiting.push_back((fault, By::Key));
        }
        fits
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A drill is over.
    pub fn over(&mut self, now: Instant) {
        self.next_at = now + PAUSE;
    }

    /// What to do now, while no drill is under way.
    pub fn step(&mut self, now: Instant, whole: bool) -> Step {
        let Some(&(fault, by)) = self.waiting.front() else { return Step::Wait };
        if now < self.next_at {
            return Step::Wait;
        }
        let late = now > *self.whole_by.get_or_insert(now + WHOLE_TIME);
        if !whole && !late {
            return Step::Wait;
        }
        self.waiting.pop_front();
        self.whole_by = None;
        if whole { Step::Start(fault, by) } else { Step::GiveUp(fault, by) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_fault_starts_when_its_turn_has_come_and_the_cluster_is_whole() {
        let t = Instant::now();
        let mut queue = Queue::new(&[Fault::KillApp, Fault::KillNode], t);
        assert_eq!(queue.step(t + S(1), true), Step::Wait, "the load runs undisturbed first");
        assert_eq!(queue.step(t + S(2), false), Step::Wait, "not whole yet");
        assert_eq!(queue.step(t + S(3), true), Step::Start(Fault::KillApp, By::Words));
        queue.over(t + S(10));
        assert_eq!(queue.step(t + S(10), true), Step::Wait);
        assert_eq!(queue.step(t + S(11), true), Step::Start(Fault::KillNode, By::Words));
        assert_eq!(queue.step(t + S(99), true), Step::Wait);
    }

    #[test]
    fn the_time_to_be_whole_begins_with_the_faults_turn_not_with_the_run() {
        let t = Instant::now();
        let mut queue = Queue::new(&[], t);
        // An hour of watching, then a key while a replica is away.
        let pressed = t + S(3600);
        assert!(queue.press(Fault::KillEdge));
        assert_eq!(queue.step(pressed, false), Step::Wait);
        assert_eq!(queue.step(pressed + WHOLE_TIME, false), Step::Wait);
        assert_eq!(queue.step(pressed + WHOLE_TIME + S(1), false), Step::GiveUp(Fault::KillEdge, By::Key));
        assert_eq!(queue.step(pressed + WHOLE_TIME + S(2), false), Step::Wait, "it is given up once");
        assert!(queue.press(Fault::KillApp));
        let again = pressed + WHOLE_TIME + S(3);
        assert_eq!(queue.step(again, false), Step::Wait, "the next fault has its own time");
        assert_eq!(queue.step(again + S(1), true), Step::Start(Fault::KillApp, By::Key));
    }

    #[test]
    fn keys_that_wait_are_bounded() {
        let mut queue = Queue::new(&[], Instant::now());
        assert!((0..PRESSED_MAX).all(|_| queue.press(Fault::KillApp)));
        assert!(!queue.press(Fault::KillApp));
        assert_eq!(queue.len(), PRESSED_MAX);
    }
}
