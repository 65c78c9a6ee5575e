//! Strict round robin over the members of a pool: one after another, over all workers, skipping who is not serving.
//!
//! It never waits for a lock and never remembers who is serving: the caller says so at each pick. Each pool has one,
//! shared by all workers of an edge or a router, so that the order holds over all of them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The place in the circle. It is worth a cache line of its own: all workers write to it.
#[derive(Debug)]
#[repr(align(64))]
pub struct RoundRobin {
    /// The index picked last; [`NONE_YET`] before the first pick.
    last: AtomicUsize,
}

/// Not below any length, so the first pick starts at index 0.
const NONE_YET: usize = usize::MAX;

impl RoundRobin {
    pub const fn new() -> Self {
        Self { last: AtomicUsize::new(NONE_YET) }
    }

    /// The next index below `len` after the last one picked for which `serving` is true, wrapping; `None`, and no
    /// step taken, if there is none.
    ///
    /// While the set of serving members does not change, each of them is picked once before any is picked again, by
    /// however many threads: the counts of any two differ by at most one. A member that is skipped gives its turn to
    /// the one after it, and nothing is made up for later. If the pool has shrunk below the last index, the circle
    /// starts again at 0.
    ///
    /// `serving` may be called several times for one index (another thread may have picked in between), in at most
    /// `len` calls an attempt; it should be cheap, such as one atomic load.
    pub fn pick(&self, len: usize, serving: impl Fn(usize) -> bool) -> Option<usize> {
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = after(last, len).find(|&index| serving(index))?;
            // Relaxed: the index guards no other memory, and a single atomic has one order for all threads.
            match self.last.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(next),
                Err(seen) => last = seen,
            }
        }
    }
}

impl Default for RoundRobin {
    fn default() -> Self {
        Self::new()
    }
}

/// All indexes below `len` once, starting after `last`.
fn after(last: usize, len: usize) -> impl Iterator<Item = usize> {
    let first = if last < len { last + 1 } else { 0 };
    (first..len).chain(0..first)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use proptest::prelude::*;

    use super::*;

    fn picks(circle: &RoundRobin, serving: &[bool], times: usize) -> Vec<usize> {
        (0..times).map_while(|_| circle.pick(serving.len(), |i| serving[i])).collect()
    }

    #[test]
    fn one_after_another() {
        let circle = RoundRobin::new();
        assert_eq!(picks(&circle, &[true; 3], 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn who_is_not_serving_is_skipped_and_comes_back_in_its_place() {
        let circle = RoundRobin::new();
        assert_eq!(picks(&circle, &[true, false, true], 4), [0, 2, 0, 2]);
        assert_eq!(picks(&circle, &[true, true, true], 4), [0, 1, 2, 0]);
    }

    #[test]
    fn none_when_nobody_serves_and_the_place_is_kept() {
        let circle = RoundRobin::new();
        assert_eq!(circle.pick(0, |_| true), None);
        assert_eq!(circle.pick(3, |i| i == 0), Some(0));
        assert_eq!(circle.pick(3, |_| false), None);
        assert_eq!(circle.pick(3, |_| true), Some(1));
    }

    #[test]
    fn a_pool_may_shrink_and_grow() {
        let circle = RoundRobin::new();
        assert_eq!(picks(&circle, &[true; 5], 5), [0, 1, 2, 3, 4]);
        assert_eq!(picks(&circle, &[true; 2], 3), [0, 1, 0]);
        assert_eq!(picks(&circle, &[true; 4], 4), [1, 2, 3, 0]);
        assert_eq!(picks(&circle, &[true; 1], 3), [0, 0, 0]);
    }

    #[test]
    fn many_threads_share_one_order() {
        for threads in [2, 3, 7] {
            let circle = RoundRobin::new();
            let counts = [const { AtomicUsize::new(0) }; 3];
            let left = AtomicUsize::new(300);
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        while left
                            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                            .is_ok()
                        {
                            let picked = circle.pick(3, |_| true).unwrap();
                            counts[picked].fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(counts.map(AtomicUsize::into_inner), [100, 100, 100]);
        }
    }

    proptest! {
        /// Over any sequence of stable sets: only serving members are picked, and within each set no two counts
        /// differ by more than one, wherever the circle stood before.
        #[test]
        fn counts_differ_by_at_most_one(sets in prop::collection::vec(
            (prop::collection::vec(any::<bool>(), 0..9), 0usize..40), 1..8))
        {
            let circle = RoundRobin::new();
            for (serving, times) in sets {
                let members: Vec<usize> = (0..serving.len()).filter(|&i| serving[i]).collect();
                let picked = picks(&circle, &serving, times);
                prop_assert_eq!(picked.len(), if members.is_empty() { 0 } else { times });
                prop_assert!(picked.iter().all(|i| members.contains(i)));
                let count = |member: &usize| picked.iter().filter(|i| *i == member).count();
                let most = members.iter().map(count).max().unwrap_or(0);
                let least = members.iter().map(count).min().unwrap_or(0);
                prop_assert!(most - least <= 1, "{:?}", picked);
            }
        }

        /// A change of the set costs at most one extra turn in a row: nobody is picked twice in a row while another
        /// serves.
        #[test]
        fn never_twice_in_a_row_while_another_serves(
            steps in prop::collection::vec(prop::collection::vec(any::<bool>(), 4), 1..60))
        {
            let circle = RoundRobin::new();
            let mut before = None;
            for serving in steps {
                let picked = circle.pick(4, |i| serving[i]);
                prop_assert_eq!(picked.is_some(), serving.contains(&true));
                if let Some(index) = picked {
                    let alone = serving.iter().filter(|s| **s).count() == 1;
                    prop_assert!(alone || before != Some(index));
                    before = Some(index);
                }
            }
        }
    }
}
