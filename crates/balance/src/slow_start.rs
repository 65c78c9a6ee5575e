//! How much a server gets that has just begun to serve: its caches are cold, so its share grows in time.

use std::time::Duration;

use crate::units::{Millis, below, mixed};

/// A whole share.
pub const WHOLE: u32 = 1024;

/// What a server has at its first moment: a tenth.
const FIRST: u32 = WHOLE / 10;

/// The share at `now` of a server that began to serve at `since`, growing evenly over `period`: 102 to [`WHOLE`].
pub fn share(since: Millis, now: Millis, period: Duration) -> u32 {
    let (passed, period) = (now.since(since).as_millis(), period.as_millis());
    if passed >= period {
        return WHOLE;
    }
    // Below `WHOLE`, since `passed` is below `period`.
    FIRST + (u128::from(WHOLE - FIRST) * passed / period) as u32
}

/// Whether a server with this share takes a turn of its own, or leaves it to the next. `random` decides, and the same
/// number decides the same for the same server.
pub fn takes_turn(share: u32, index: usize, random: u64) -> bool {
    share >= WHOLE || below(mixed(random ^ index as u64), u64::from(WHOLE)) < u64::from(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_grow() {
        let period = Duration::from_millis(100);
        for (now, expected) in [(0, 102), (7, 102), (57, 563), (106, 1014), (107, WHOLE), (9999, WHOLE)] {
            assert_eq!(share(Millis(7), Millis(now), period), expected, "{now}");
        }
        assert_eq!(share(Millis(7), Millis(7), Duration::ZERO), WHOLE);
    }

    #[test]
    fn turns_are_taken_as_often_as_the_share_says() {
        let taken = (0..10_000).filter(|random| takes_turn(WHOLE / 4, 3, *random)).count();
        assert!((2300..2700).contains(&taken), "{taken}");
        assert!((0..1000).all(|random| takes_turn(WHOLE, 3, random)));
    }
}
