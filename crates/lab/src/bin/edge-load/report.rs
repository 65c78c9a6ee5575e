//! What a run says: its figures as one line of JSON, or why there are none.

use std::io::{self, Write};
use std::time::Duration;

/// Why a run has no figures. Its words are for whoever reads the bench's complaints.
#[derive(Debug)]
pub enum Failure {
    Io(io::Error),
    Tls(rustls::Error),
    /// What the balancer answered is nothing that can be counted.
    Answer(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Answer(words) => f.write_str(words),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

/// Prints the figures of a run that took `took`: how many requests were answered, how many were not, and how long half
/// and 99 in a hundred took at most.
pub fn print(mut latencies: Vec<Duration>, errors: usize, took: Duration) -> Result<(), Failure> {
    latencies.sort_unstable();
    let line = serde_json::json!({
        "requests": latencies.len(),
        "errors": errors,
        "seconds": took.as_secs_f64(),
        "p50_us": percentile_us(&latencies, 50),
        "p99_us": percentile_us(&latencies, 99),
    });
    print_line(&line)
}

pub fn print_line(line: &serde_json::Value) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// The smallest of `sorted` that `percent` in a hundred do not exceed, in microseconds (nearest rank).
fn percentile_us(sorted: &[Duration], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map(|latency| latency.as_nanos() as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        for (of, percent, expected) in [
            (&sorted[..], 50, Some(100.0)),
            (&sorted[..], 99, Some(198.0)),
            (&sorted[..3], 50, Some(2.0)),
            (&sorted[..1], 99, Some(1.0)),
            (&sorted[..0], 99, None),
        ] {
            assert_eq!(percentile_us(of, percent), expected, "{percent} of {}", of.len());
        }
    }
}
