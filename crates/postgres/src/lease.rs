//! The arithmetic of the lease. Pure.
//!
//! The holder counts from the moment it *sent* a renewal that was then committed; everyone else counts from the moment
//! they *saw* that renewal, which is later, on their own clock. Boot clocks do not jump but may run at slightly different
//! rates, so the others wait longer than the length, by [`RATE_MARGIN_PERCENT`] and [`LATE_MARGIN`]. The holder's end
//! is therefore always before anybody else's, whatever was delayed or paused.

use std::time::Duration;

use tiebeam_topology::Moment;

/// How much longer than the length the others wait, because clocks run at different rates. Twice what two clocks that
/// are each 0.5 % wrong need; crystals are wrong by 0.01 %.
pub const RATE_MARGIN_PERCENT: u32 = 2;

/// And this on top: the guard's timer and its kill are allowed to be this late.
pub const LATE_MARGIN: Duration = Duration::from_millis(100);

/// When the holder must have stopped: on its own clock, from the moment it sent the last committed renewal.
pub fn holder_end(sent: Moment, length: Duration) -> Moment {
    sent + length
}

/// When another node may count the lease as expired: on its own clock, from the moment it first saw the last renewal.
pub fn observer_end(seen: Moment, length: Duration) -> Moment {
    seen + length + length * RATE_MARGIN_PERCENT / 100 + LATE_MARGIN
}

/// What a node that is not the holder remembers of the lease: when it first saw its present revision.
///
/// It counts from its own first sight, not from what the ledger tells, so that a ledger that was restored or a
/// machine that was restarted can only make it wait longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub revision: u64,
    pub at: Moment,
}

impl Seen {
    /// After looking at the ledger at `now` and finding `revision` there.
    pub fn look(before: Option<Seen>, revision: u64, now: Moment) -> Seen {
        match before {
            Some(seen) if seen.revision == revision => seen,
            _ => Seen { revision, at: now },
        }
    }

    pub fn expired(&self, length: Duration, now: Moment) -> bool {
        now >= observer_end(self.at, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A clock that reads `offset` at true time 0 and runs at a rate of 1 + `ppm`/1e6.
    #[derive(Clone, Copy, Debug)]
    struct Clock {
        offset: u64,
        ppm: i64,
    }
    impl Clock {
        fn read(&self, true_us: u64) -> Moment {
            let us = true_us as i64 + true_us as i64 * self.ppm / 1_000_000;
            Moment::from_ms(self.offset + us as u64 / 1000)
        }
        /// The first true microsecond at which the clock shows `moment`.
        fn when(&self, moment: Moment) -> u64 {
            let us = (moment.as_ms() - self.offset) as f64 * 1000.0;
            (us / (1.0 + self.ppm as f64 / 1e6)) as u64
        }
    }

    fn clock() -> impl Strategy<Value = Clock> {
        (0u64..1 << 40, -5_000i64..=5_000).prop_map(|(offset, ppm)| Clock { offset, ppm })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever the delays between sending, commit, sight and the pauses between: the holder's end comes first.
        #[test]
        fn the_holder_ends_before_anyone_counts_it_out(
            holder in clock(), observer in clock(),
            renewals in prop::collection::vec((0u64..5_000_000, 0u64..5_000_000, 0u64..5_000_000, any::<bool>()), 1..12),
            length_ms in 300u64..60_000,
        ) {
            let length = Duration::from_millis(length_ms);
            let (mut now, mut end, mut seen) = (0u64, None::<Moment>, None::<Seen>);
            let mut revision = 0;
            for (pause, to_commit, to_sight, answered) in renewals {
                now += pause;
                let sent = holder.read(now);
                now += to_commit;
                revision += 1;
                // An answer that was lost leaves the holder with its earlier end.
                if answered { end = Some(holder_end(sent, length)); }
                seen = Some(Seen::look(seen, revision, observer.read(now + to_sight)));
            }
            if let (Some(end), Some(seen)) = (end, seen) {
                prop_assert!(holder.when(end) <= observer.when(observer_end(seen.at, length)));
                prop_assert!(!seen.expired(length, seen.at + length));
            }
        }
    }

    #[test]
    fn an_unchanged_revision_keeps_its_first_sight() {
        let first = Seen::look(None, 4, Moment::from_ms(1000));
        assert_eq!(Seen::look(Some(first), 4, Moment::from_ms(9000)), first);
        assert_eq!(Seen::look(Some(first), 5, Moment::from_ms(9000)).at, Moment::from_ms(9000));
        let length = Duration::from_secs(3);
        assert!(!first.expired(length, Moment::from_ms(1000 + 3159)));
        assert!(first.expired(length, Moment::from_ms(1000 + 3160)));
    }
}
