//! The keys of TLS session tickets that all edges of a cluster share: made of one secret, by period of time.
//!
//! A secret gives the next period's, never the one before: who learns it opens no ticket of a period that it was moved
//! on from. Pure: the secret's randomness and the time are parameters; where it is kept is not this file's business.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use serde::{Deserialize, Serialize};

/// How long a key seals tickets. They are opened in the next period, too, and in none after that.
pub const PERIOD: Duration = Duration::from_secs(6 * 3600);
/// Periods that a secret is moved on by at once: two hundred years. A clock that says more is wrong.
const STEPS_MAX: u64 = 300_000;

/// The secret of a period, counted from 1970.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketSeed {
    period: u64,
    secret: [u8; 32],
}

/// The key of a period: its name is the period's number.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketSecret {
    pub period: u64,
    pub secret: [u8; 32],
}

/// The keys of a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketSecrets {
    pub current: TicketSecret,
    /// Those of the period before, and of the next, for edges whose clock is a little ahead.
    pub others: Vec<TicketSecret>,
}

impl TicketSeed {
    /// `secret` is random. Tickets of the period before `now` are opened as well.
    pub fn new(secret: [u8; 32], now: SystemTime) -> Self {
        Self { period: period(now).saturating_sub(1), secret }
    }

    /// The same, without what periods before the last one need; `None` if it is so already.
    pub fn moved_on(&self, now: SystemTime) -> Option<Self> {
        let first = period(now).saturating_sub(1);
        if first == self.period { None } else { self.at(first) }
    }

    /// `None` if the clock is far from where the seed was made.
    pub fn secrets(&self, now: SystemTime) -> Option<TicketSecrets> {
        let now = period(now);
        let of = |period| self.at(period).map(|seed| seed.secret());
        let others = [now.checked_sub(1), now.checked_add(1)].into_iter().flatten().filter_map(of);
        Some(TicketSecrets { current: of(now)?, others: others.collect() })
    }

    fn at(&self, period: u64) -> Option<Self> {
        let steps = period.checked_sub(self.period).filter(|steps| *steps <= STEPS_MAX)?;
        let mut secret = self.secret;
        for _ in 0..steps {
            secret = derived(&secret, b"next");
        }
        Some(Self { period, secret })
    }

    fn secret(&self) -> TicketSecret {
        TicketSecret { period: self.period, secret: derived(&self.secret, b"key") }
    }
}

fn period(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / PERIOD.as_secs()
}

/// RFC 5869. Whatever comes out, `label` and `secret` alone decide it.
fn derived(secret: &[u8; 32], label: &[u8]) -> [u8; 32] {
    let prk: Prk = Salt::new(HKDF_SHA256, b"tiebeam tickets").extract(secret);
    let mut out = [0; 32];
    prk.expand(&[label], Bytes32)
        .and_then(|okm| okm.fill(&mut out))
        .expect("32 bytes are within the bound of RFC 5869, and the length that was asked for");
    out
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

impl fmt::Debug for TicketSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketSeed").field("period", &self.period).finish_non_exhaustive()
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketSecret").field("period", &self.period).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(periods: u64) -> SystemTime {
        UNIX_EPOCH + PERIOD * u32::try_from(periods).unwrap() + Duration::from_secs(7)
    }

    fn names(seed: &TicketSeed, periods: u64) -> (u64, Vec<u64>) {
        let found = seed.secrets(at(periods)).unwrap();
        (found.current.period, found.others.iter().map(|o| o.period).collect())
    }

    #[test]
    fn a_key_opens_for_one_period_after_its_own() {
        let seed = TicketSeed::new([7; 32], at(100));
        assert_eq!(names(&seed, 100), (100, vec![99, 101]));
        let sealed = seed.secrets(at(100)).unwrap().current;
        for (later, opens) in [(0, true), (1, true), (2, false), (3, false)] {
            let now = seed.secrets(at(100 + later)).unwrap();
            assert_eq!(now.current == sealed || now.others.contains(&sealed), opens, "{later} periods later");
        }
    }

    #[test]
    fn what_is_moved_on_gives_the_same_keys_and_no_older_ones() {
        let seed = TicketSeed::new([7; 32], at(100));
        assert_eq!(seed.moved_on(at(100)), None);
        let moved = seed.moved_on(at(103)).unwrap();
        assert_eq!(moved.secrets(at(103)), seed.secrets(at(103)));
        assert_eq!(moved.moved_on(at(103)), None);
        assert_eq!(moved.secrets(at(101)), None);
        // A clock a little behind has a key, one far ahead has none.
        assert_eq!(names(&moved, 102), (102, vec![103]));
        assert_eq!(seed.secrets(at(100 + STEPS_MAX)), None);
        assert_eq!(seed.moved_on(at(99)), None);
    }

    #[test]
    fn keys_and_seeds_are_not_each_other() {
        let seed = TicketSeed::new([7; 32], at(100));
        let one = seed.secrets(at(100)).unwrap();
        let all = [&one.current.secret, &one.others[0].secret, &one.others[1].secret, &seed.secret];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
        assert_ne!(TicketSeed::new([8; 32], at(100)).secrets(at(100)), Some(one));
        assert_eq!(format!("{seed:?}"), "TicketSeed { period: 99, .. }");
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let seed = TicketSeed::new([7; 32], at(100));
        assert_eq!(serde_json::from_str::<TicketSeed>(&serde_json::to_string(&seed).unwrap()).unwrap(), seed);
    }
}
