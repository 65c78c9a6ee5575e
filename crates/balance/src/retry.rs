//! How much may be asked for a second time: a budget for repeats, and when a slow answer is asked for elsewhere too.
//!
//! Whether a request is safe to repeat is not decided here. A server that fails must not be met with more requests than
//! it had before: what repeats add is a share of the traffic, whatever the traffic does.

use std::time::Duration;

use crate::units::{Millis, Percent};

/// What is not spent is kept this long.
const WINDOW: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetPolicy {
    /// Of the requests of the time: as many of them may be repeated.
    pub share: Percent,
    /// Repeats a second that are there without any traffic, so that a quiet pool is not refused its only repeat.
    pub floor: u32,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self { share: Percent::new(20), floor: 10 }
    }
}

/// The repeats that a pool may still make.
///
/// It costs nothing while nothing is repeated: the requests are counted elsewhere anyway, and only looked at here. What it
/// grants from its start to any moment is at most `share` of the requests, `floor` for each second, and what `floor` gives
/// in ten seconds.
#[derive(Debug, Default)]
pub struct RetryBudget {
    /// Repeats that are there.
    left: f64,
    /// About as many requests as came in the last [`WINDOW`]: older ones fade.
    recent: f64,
    /// As told at the last time.
    requests: u64,
    /// `None` before the first time.
    at: Option<Millis>,
}

impl RetryBudget {
    /// Takes one repeat from the budget, if it is there. `requests` is how many first attempts the pool has made so far;
    /// it never shrinks.
    pub fn spend(&mut self, policy: &BudgetPolicy, requests: u64, now: Millis) -> bool {
        self.refill(policy, requests, now);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }

    fn refill(&mut self, policy: &BudgetPolicy, requests: u64, now: Millis) {
        let new = requests.saturating_sub(self.requests) as f64;
        let floor = f64::from(policy.floor);
        let reserve = floor * WINDOW.as_secs_f64();
        let Some(at) = self.at.replace(now) else {
            (self.requests, self.recent) = (requests, new);
            self.left = reserve;
            return;
        };
        let passed = now.since(at).as_secs_f64() / WINDOW.as_secs_f64();
        // Of a longer time than the window only the window's part counts.
        let new = if passed > 1.0 { new / passed } else { new };
        self.requests = self.requests.max(requests);
        self.recent = self.recent * (-passed).exp() + new;
        let share = policy.share.factor();
        let earned = new * share + floor * (passed * WINDOW.as_secs_f64()).min(WINDOW.as_secs_f64());
        self.left = (self.left + earned).min(reserve.max(self.recent * share));
        if passed > 1.0 {
            self.left = self.left.min(earned);
        }
    }
}

/// What is known of a request that waits for its server's first byte.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// GET, which asks for nothing to be done.
    pub is_get: bool,
    pub has_body: bool,
    /// Since it was wholly sent.
    pub waited: Duration,
    /// A second server has been asked already.
    pub is_hedged: bool,
    /// Another server serves that was not asked.
    pub has_other: bool,
}

/// Whether a second server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedge {
    Never,
    /// Look again after this time, unless the answer has begun.
    In(Duration),
    /// Now, if the budget has a repeat left.
    Now,
}

/// When a second server is asked for the same; whoever answers first is heard, the other is given up.
pub fn hedge(waiting: &Waiting, after: Duration) -> Hedge {
    if !waiting.is_get || waiting.has_body || waiting.is_hedged || !waiting.has_other {
        return Hedge::Never;
    }
    match after.checked_sub(waiting.waited) {
        Some(left) if !left.is_zero() => Hedge::In(left),
        _ => Hedge::Now,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: BudgetPolicy = BudgetPolicy { share: Percent::new(20), floor: 1 };

    fn spent(budget: &mut RetryBudget, requests: u64, now: u64, wanted: u32) -> u32 {
        (0..wanted).filter(|_| budget.spend(&POLICY, requests, Millis(now))).count() as u32
    }

    #[test]
    fn a_quiet_pool_has_the_floor_and_no_more() {
        let mut budget = RetryBudget::default();
        assert_eq!(spent(&mut budget, 0, 0, 50), 10);
        assert_eq!(spent(&mut budget, 0, 999, 50), 0);
        assert_eq!(spent(&mut budget, 0, 2000, 50), 2);
        // An hour later it has not saved more than ten seconds' worth.
        assert_eq!(spent(&mut budget, 0, 3_600_000, 50), 10);
    }

    #[test]
    fn a_busy_pool_has_its_share() {
        let mut budget = RetryBudget::default();
        assert_eq!(spent(&mut budget, 0, 0, 50), 10);
        assert_eq!(spent(&mut budget, 1000, 1000, 500), 200);
        // After an hour at 100 a second: what ten seconds earn.
        let later = spent(&mut budget, 361_000, 3_601_000, 5000);
        assert!((200..=211).contains(&later), "{later}");
    }

    #[test]
    fn zero_is_none() {
        let none = BudgetPolicy { share: Percent::ZERO, floor: 0 };
        let mut budget = RetryBudget::default();
        assert!(!budget.spend(&none, 0, Millis(0)));
        assert!(!budget.spend(&none, 1_000_000, Millis(1000)));
    }

    #[test]
    fn hedges() {
        let ms = Duration::from_millis;
        let waiting =
            Waiting { is_get: true, has_body: false, waited: ms(30), is_hedged: false, has_other: true };
        assert_eq!(hedge(&waiting, ms(100)), Hedge::In(ms(70)));
        assert_eq!(hedge(&waiting, ms(30)), Hedge::Now);
        assert_eq!(hedge(&waiting, ms(1)), Hedge::Now);
        for never in [
            Waiting { is_get: false, ..waiting },
            Waiting { has_body: true, ..waiting },
            Waiting { is_hedged: true, ..waiting },
            Waiting { has_other: false, ..waiting },
        ] {
            assert_eq!(hedge(&never, ms(1)), Hedge::Never, "{never:?}");
        }
    }

    proptest! {
        /// Whatever comes, at no moment has more been granted than the traffic so far allows.
        #[test]
        fn the_budget_is_kept(steps in prop::collection::vec((0u64..20_000, 0u64..500, 0u32..200), 1..60)) {
            let (mut budget, mut now, mut requests, mut granted) = (RetryBudget::default(), 0, 0, 0);
            for (passed, came, wanted) in steps {
                (now, requests) = (now + passed, requests + came);
                granted += spent(&mut budget, requests, now, wanted);
                let most = requests as f64 * 0.2 + now as f64 / 1000.0 + 10.0;
                prop_assert!(f64::from(granted) <= most + 1e-6, "{granted} of {most}");
            }
        }
    }
}
