//! How fast a server answers, for who compares servers: it believes a slow answer at once and a fast one slowly.
//!
//! A peak-sensitive exponentially weighted moving average, as Finagle and linkerd use it. The estimate and its moment
//! stand in one atomic word, so workers share it without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::units::Millis;

/// After this time without an answer an estimate counts for a third of what it was: a server that was slow once is
/// tried again.
const DECAY_MS: f64 = 5_000.0;

/// An answer is never taken as faster than this: below it, noise decides.
const LEAST_MS: f32 = 0.1;

/// What a request in flight costs at a server that has not answered anything yet: such a one gets one request, and more
/// only when it has answered.
const UNKNOWN_MS: f64 = 1e9;

/// Bits 63 to 32: the estimate as `f32`, milliseconds; 0 is none yet. Bits 31 to 0: its moment, milliseconds, which may
/// wrap.
#[derive(Debug, Default)]
pub struct PeakEwma(AtomicU64);

impl PeakEwma {
    /// The server took `latency` for an answer that came at `now`.
    pub fn observe(&self, latency: Duration, now: Millis) {
        let sample = (latency.as_secs_f64() * 1000.0) as f32;
        let sample = sample.max(LEAST_MS);
        // Failing means that another worker has just put its own sample there: then this one is added to that.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let (old, at) = unpacked(word);
            let kept = decay(at, now) as f32;
            let new = if old < sample { sample } else { old * kept + sample * (1.0 - kept) };
            Some(pack(new, now))
        });
    }

    /// The estimate of now, milliseconds; 0 before the first answer.
    pub fn estimate_ms(&self, now: Millis) -> f64 {
        let (old, at) = unpacked(self.0.load(Relaxed));
        if old == 0.0 { 0.0 } else { (f64::from(old) * decay(at, now)).max(f64::from(LEAST_MS)) }
    }

    /// What one more request would cost with `load` of them in flight: the time that all of them would take.
    pub fn cost(&self, load: u32, now: Millis) -> f64 {
        let estimate = self.estimate_ms(now);
        if estimate == 0.0 { UNKNOWN_MS * f64::from(load) } else { estimate * (f64::from(load) + 1.0) }
    }
}

fn pack(estimate: f32, at: Millis) -> u64 {
    u64::from(estimate.to_bits()) << 32 | at.0 & 0xffff_ffff
}

fn unpacked(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

/// How much of an estimate is left.
fn decay(at: u32, now: Millis) -> f64 {
    let passed = (now.0 as u32).wrapping_sub(at);
    // Workers' moments differ a little: what seems to be from the future is from now.
    let passed = if passed > u32::MAX / 2 { 0 } else { passed };
    (-f64::from(passed) / DECAY_MS).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_peak_is_believed_at_once_and_forgotten_slowly() {
        let latency = PeakEwma::default();
        assert_eq!(latency.estimate_ms(Millis(0)), 0.0);
        latency.observe(10 * MS, Millis(1000));
        latency.observe(500 * MS, Millis(1001));
        assert_eq!(latency.estimate_ms(Millis(1001)), 500.0);
        latency.observe(10 * MS, Millis(1002));
        assert!(latency.estimate_ms(Millis(1002)) > 490.0);
        assert!(latency.estimate_ms(Millis(6002)) < 200.0);
        assert!(latency.estimate_ms(Millis(10_000_000)) >= f64::from(LEAST_MS));
    }

    #[test]
    fn an_unknown_server_gets_one_request() {
        let (unknown, known) = (PeakEwma::default(), PeakEwma::default());
        known.observe(200 * MS, Millis(5));
        assert!(unknown.cost(0, Millis(5)) < known.cost(0, Millis(5)));
        assert!(unknown.cost(1, Millis(5)) > known.cost(1000, Millis(5)));
        assert_eq!(known.cost(3, Millis(5)), 800.0);
    }

    #[test]
    fn moments_may_wrap_and_differ() {
        let latency = PeakEwma::default();
        let wrap = u64::from(u32::MAX);
        latency.observe(100 * MS, Millis(wrap - 1));
        assert!(latency.estimate_ms(Millis(wrap + 3)) > 99.0);
        assert_eq!(latency.estimate_ms(Millis(wrap - 5)), 100.0);
    }
}
