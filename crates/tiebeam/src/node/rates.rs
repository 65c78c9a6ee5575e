//! Rates and quantiles from counters that only grow: what changed since the last look, by the time between. Pure.

use tiebeam_topology::Moment;

/// How long a rate looks back at least; asked again sooner, it answers as before.
const WINDOW_MS: u64 = 900;

/// A counter seen twice.
#[derive(Debug, Default)]
pub struct Rate {
    last: Option<(Moment, u64)>,
    per_s: f64,
}

impl Rate {
    /// The counter's growth per second. A counter that shrank began anew.
    pub fn of(&mut self, total: u64, now: Moment) -> f64 {
        match self.last {
            None => self.last = Some((now, total)),
            Some((at, before)) => {
                let ms = now.since(at).as_millis() as u64;
                if ms >= WINDOW_MS {
                    let grown = if total >= before { total - before } else { total };
                    self.per_s = grown as f64 * 1000.0 / ms as f64;
                    self.last = Some((now, total));
                }
            }
        }
        self.per_s
    }
}

/// A histogram of counters seen twice: the quantiles of what came in between.
#[derive(Debug, Default)]
pub struct Quantiles {
    last: Option<(Moment, Vec<u64>)>,
    p50_p95_p99_ms: [Option<f64>; 3],
}

impl Quantiles {
    /// The median, the 95th and the 99th percentile. `counts[i]` counts what took at most `bounds_ms[i]`, the last one all that took longer.
    pub fn of(&mut self, bounds_ms: &[f64], counts: &[u64], now: Moment) -> [Option<f64>; 3] {
        let due = self.last.as_ref().is_none_or(|(at, _)| now.since(*at).as_millis() as u64 >= WINDOW_MS);
        if due {
            if let Some((_, before)) = &self.last {
                let grown: Vec<u64> =
                    counts.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect();
                self.p50_p95_p99_ms = [0.50, 0.95, 0.99].map(|q| quantile(bounds_ms, &grown, q));
            }
            self.last = Some((now, counts.to_vec()));
        }
        self.p50_p95_p99_ms
    }
}

/// The upper bound of the bucket in which the quantile lies: never less than the truth. `None` without any.
fn quantile(bounds_ms: &[f64], counts: &[u64], q: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    let rank = (all as f64 * q).ceil() as u64;
    let mut sum = 0;
    for (i, count) in counts.iter().enumerate() {
        sum += count;
        if all > 0 && sum >= rank.max(1) {
            return bounds_ms.get(i).or(bounds_ms.last()).copied();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_growth_over_time() {
        let at = Moment::from_ms;
        let mut rate = Rate::default();
        assert_eq!(rate.of(100, at(0)), 0.0);
        assert_eq!(rate.of(300, at(1000)), 200.0);
        assert_eq!(rate.of(301, at(1010)), 200.0, "too soon to say");
        assert_eq!(rate.of(50, at(2000)), 50.0, "it began anew");
    }

    #[test]
    fn quantiles_are_of_what_came_in_between() {
        let bounds = [1.0, 10.0, 100.0];
        let mut q = Quantiles::default();
        assert_eq!(q.of(&bounds, &[1000, 0, 0, 0], Moment::from_ms(0)), [None; 3]);
        assert_eq!(
            q.of(&bounds, &[1000, 90, 10, 0], Moment::from_ms(1000)),
            [Some(10.0), Some(100.0), Some(100.0)]
        );
        assert_eq!(q.of(&bounds, &[1000, 90, 10, 0], Moment::from_ms(2000)), [None; 3]);
        assert_eq!(q.of(&bounds, &[1000, 90, 10, 1], Moment::from_ms(3000)), [Some(100.0); 3]);
    }
}
