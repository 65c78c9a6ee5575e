//! How slowly a body may arrive: a grace, and a rate for what is beyond it.
//!
//! Only the time in which nobody but the sender was waited for counts, so a slow server is never its client's fault.
//! [`Pace`] decides; it reads no clock. [`crate::attempt`] asks it.

use std::time::Duration;

/// What is asked of a sender.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    pub grace: Duration,
    /// Bytes a second; 0: none.
    pub rate: u64,
}

/// How long a sender was waited for.
#[derive(Debug, Default)]
pub struct Pace {
    waited: Duration,
    /// It is waited for now, since then.
    since: Option<Duration>,
}

impl Pace {
    /// `now` counts from any moment and never goes back. Is the sender waited for from now on?
    pub fn note(&mut self, now: Duration, is_awaited: bool) {
        if let Some(since) = self.since {
            self.waited += now.saturating_sub(since);
        }
        self.since = is_awaited.then_some(now);
    }

    /// How much longer may the sender be waited for, after `bytes` from it? Zero: it is too slow.
    pub fn left(&self, bytes: u64, floor: Floor) -> Duration {
        let earned =
            Duration::from_millis(bytes.saturating_mul(1000).checked_div(floor.rate).unwrap_or(u64::MAX));
        floor.grace.saturating_add(earned).saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sender_that_is_waited_for_can_be_slow() {
        let floor = Floor { grace: Duration::from_secs(10), rate: 100 };
        let mut pace = Pace::default();
        // Seconds, whether the sender is waited for from then on, bytes so far, and seconds that are left.
        for (now, is_awaited, bytes, left) in [
            (100, true, 0, 10),
            (104, true, 0, 6),
            // The server takes its time.
            (108, false, 0, 2),
            (200, true, 0, 2),
            (201, true, 500, 6),
            (207, true, 500, 0),
            (207, true, 600, 1),
            (300, true, 600, 0),
        ] {
            pace.note(Duration::from_secs(now), is_awaited);
            assert_eq!(pace.left(bytes, floor), Duration::from_secs(left), "{now} {bytes}");
        }
        assert!(pace.left(0, Floor { rate: 0, ..floor }) > Duration::from_secs(1 << 40));
    }
}
