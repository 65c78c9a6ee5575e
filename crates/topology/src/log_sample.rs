//! Which requests an access log holds.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// Which requests the access log holds: a share of all, and always those that went wrong, were tried again, or took long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LogSample {
    #[serde(rename = "access_log_sample")]
    pub share: Share,
    #[serde(rename = "access_log_slow")]
    pub slow: Duration,
}

impl Default for LogSample {
    fn default() -> Self {
        Self { share: Share::ALL, slow: Duration::from_secs(1) }
    }
}

/// A part of all, from none to all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    pub const ALL: Self = Self(1_000_000);

    /// `None`: more than all.
    pub const fn of_a_million(parts: u32) -> Option<Self> {
        if parts <= Self::ALL.0 { Some(Self(parts)) } else { None }
    }

    /// Parts of a million.
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// Whether it holds one of all whose `random` number is any of 2^32 alike.
    pub const fn holds(self, random: u32) -> bool {
        random as u64 * 1_000_000 < (self.0 as u64) << 32
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
