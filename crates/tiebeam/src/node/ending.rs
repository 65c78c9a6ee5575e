//! The end of a node within its time: one deadline from the moment that it was told to end, shared out over its parts.

use std::time::{Duration, Instant};

/// From the signal to the end of the last part; what then still runs is left to the end of the process. Ten seconds are
/// what init systems and people wait without a second thought.
pub const STOP_TIME: Duration = Duration::from_secs(9);

/// When everything must have ended.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn of(told: Instant) -> Self {
        Self(told + STOP_TIME)
    }

    /// The time of the next part: what it asks for, as far as enough is left for all that come after it.
    pub fn share(&self, now: Instant, asked: Duration, kept: Duration) -> Duration {
        asked.min(self.0.saturating_duration_since(now).saturating_sub(kept))
    }

    /// Ends a part with its share, and goes on without it if it takes longer. A part that bounds itself by its share is
    /// given a moment more to say so.
    pub async fn end<F: Future<Output = ()>>(
        &self,
        part: &str,
        (asked, kept): (Duration, Duration),
        ending: impl FnOnce(Duration) -> F,
    ) {
        const GRACE: Duration = Duration::from_millis(200);
        let time = self.share(Instant::now(), asked, kept);
        if tokio::time::timeout(time + GRACE, ending(time)).await.is_err() {
            let ms = time.as_millis() as u64;
            tracing::warn!(part, ms, "did not end in its time: the node ends without waiting for it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_leaves_enough_for_the_rest() {
        let told = Instant::now();
        let deadline = Deadline::of(told);
        let s = Duration::from_secs;
        for (passed, asked, kept, share) in [
            (s(0), s(3), s(4), s(3)),
            (s(3), s(3), s(4), s(2)),
            (s(5), s(3), s(4), s(0)),
            (s(7), s(30), s(1), s(1)),
            (s(60), s(3), s(1), s(0)),
        ] {
            assert_eq!(deadline.share(told + passed, asked, kept), share, "after {passed:?}");
        }
    }

    #[tokio::test]
    async fn what_hangs_is_left_behind() {
        let deadline = Deadline::of(Instant::now());
        let asked = Duration::from_millis(50);
        deadline.end("what hangs", (asked, Duration::ZERO), |_| std::future::pending()).await;
        assert!(deadline.share(Instant::now(), STOP_TIME, Duration::ZERO) > STOP_TIME / 2);
    }
}
