//! The plain quantities of this room: a moment in milliseconds, a share in percent, and numbers made from keys.

use std::time::Duration;

use serde::Serialize;

/// Milliseconds since a moment that the caller chose once and for all. It never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// Zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment and `time` more, in whole milliseconds.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// 0 to 100 of a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Percent(u8);

impl Percent {
    pub const ZERO: Self = Self(0);

    /// What is above 100 is 100.
    pub const fn new(percent: u8) -> Self {
        Self(if percent > 100 { 100 } else { percent })
    }

    pub const fn get(self) -> u8 {
        self.0
    }

    /// As a factor, 0 to 1.
    pub fn factor(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// How many whole ones of `count` this is, rounded down.
    pub const fn of(self, count: usize) -> usize {
        count.saturating_mul(self.0 as usize) / 100
    }
}

/// The number of a key or an identity. It is the same on every edge and in every version: FNV-1a, then [`mixed`], since
/// its low bits alone are weak.
pub fn number(bytes: &[u8]) -> u64 {
    let fnv = |number: u64, byte: &u8| (number ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mixed(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// Spreads a number over all 64 bits: the finaliser of SplitMix64.
pub const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A number below `bound` (0 for a bound of 0), as evenly as 64 random bits make it.
pub const fn below(random: u64, bound: u64) -> u64 {
    ((random as u128 * bound as u128) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_shares() {
        assert_eq!(Millis(5).since(Millis(7)), Duration::ZERO);
        assert_eq!(Millis(5).after(Duration::MAX), Millis(u64::MAX));
        for (percent, count, expected) in
            [(50, 1, 0), (50, 2, 1), (50, 3, 1), (100, 3, 3), (0, 9, 0), (10, 9, 0)]
        {
            assert_eq!(Percent::new(percent).of(count), expected, "{percent} of {count}");
        }
        assert_eq!(Percent::new(101).get(), 100);
    }

    #[test]
    fn numbers_of_keys_never_change() {
        // Another value here moves every client of a hashed pool to another server at the next upgrade.
        assert_eq!(number(b""), 0xc381_7c01_6ba4_ff30);
        assert_eq!(number(b"10.0.0.9:3000"), 0x2f24_f71c_54ab_9a93);
        assert_ne!(number(b"10.0.0.9:3000"), number(b"10.0.0.9:3001"));
    }

    #[test]
    fn below_stays_below() {
        for bound in [0, 1, 3, u64::MAX] {
            for random in [0, 1, u64::MAX / 2, u64::MAX] {
                assert!(below(random, bound) < bound.max(1));
            }
        }
    }
}
