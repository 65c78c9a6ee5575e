//! The last quarter of an hour, a sample a second: what the curves of the page show. Memory is bounded in both
//! directions; time is a parameter, in whole seconds since 1970. It never interpolates: a second without a sample is
//! a gap.

use std::collections::BTreeMap;

use serde::Serialize;
use tiebeam_topology::NodeName;

use crate::View;

/// How far back the samples go, seconds.
pub const SERIES_SECONDS: usize = 900;
/// Named series kept at once, about 3.6 KB each. A sample of one more is dropped and counted.
pub const SERIES_MAX: usize = 64;

/// The names of the series that [`Series::take`] records.
pub mod name {
    /// Requests of all edges that are alive.
    pub const REQUESTS_PER_S: &str = "requests_per_s";
    /// Answers 500 to 599 of all edges.
    pub const ERRORS_PER_S: &str = "errors_per_s";
    /// The slowest edge's.
    pub const P99_MS: &str = "p99_ms";
    /// One series a replica: `lag_bytes/b`.
    pub const LAG_BYTES: &str = "lag_bytes/";
}

#[derive(Debug, Default)]
pub struct Series {
    rings: BTreeMap<String, Ring>,
    /// The errors that each edge had counted when the rate was last made, and when.
    errors: Option<(u64, BTreeMap<NodeName, u64>)>,
    dropped_total: u64,
}

impl Series {
    /// Records what the curves need of one view. Several views in one second: the last one counts.
    pub fn take(&mut self, view: &View) {
        let at_s = view.unix_ms / 1000;
        let requests: f64 = view.edges_alive().map(|(_, e)| e.requests_per_s).sum();
        self.record(name::REQUESTS_PER_S, at_s, requests);
        if let Some(p99) = view.edges_alive().filter_map(|(_, e)| e.p99_ms).reduce(f64::max) {
            self.record(name::P99_MS, at_s, p99);
        }
        if let Some(rate) = self.error_rate(view) {
            self.record(name::ERRORS_PER_S, at_s, rate);
        }
        for (node, state) in view.nodes.iter().filter(|(_, n)| n.alive) {
            if let Some(lag) = state.database.as_ref().and_then(|d| d.lag_bytes) {
                self.record(&format!("{}{node}", name::LAG_BYTES), at_s, lag as f64);
            }
        }
        self.forget(at_s);
    }

    /// One sample. Of a second that has one, the newer sample wins; a second before all that is kept means that the
    /// clock was set back, and the series starts again.
    pub fn record(&mut self, name: &str, at_s: u64, value: f64) {
        if !self.rings.contains_key(name) {
            if self.rings.len() >= SERIES_MAX {
                self.dropped_total += 1;
                return;
            }
            self.rings.insert(name.to_owned(), Ring::new(at_s));
        }
        if let Some(ring) = self.rings.get_mut(name) {
            ring.record(at_s, value);
        }
    }

    /// The newest sample of a series, if it is of the last few seconds before `at_s`.
    pub fn latest(&self, name: &str, at_s: u64) -> Option<f64> {
        const FRESH_S: u64 = 5;
        let ring = self.rings.get(name)?;
        (ring.newest_s + FRESH_S >= at_s).then(|| ring.get(ring.newest_s)).flatten()
    }

    /// Samples dropped because [`SERIES_MAX`] series were kept already.
    pub fn dropped_total(&self) -> u64 {
        self.dropped_total
    }

    /// All series over the same seconds, from the first one that any of them knows.
    pub fn table(&self) -> Table {
        let Some(newest_s) = self.rings.values().map(|r| r.newest_s).max() else { return Table::default() };
        let oldest_s = (newest_s + 1).saturating_sub(SERIES_SECONDS as u64);
        let first_s = (oldest_s..=newest_s).find(|s| self.rings.values().any(|r| r.get(*s).is_some()));
        let seconds: Vec<u64> = (first_s.unwrap_or(newest_s)..=newest_s).collect();
        let row = |ring: &Ring| {
            seconds.iter().map(|s| ring.get(*s).map(|v| (v * 1000.0).round() / 1000.0)).collect()
        };
        let series = self.rings.iter().map(|(name, ring)| (name.clone(), row(ring))).collect();
        Table { seconds, series }
    }

    /// Errors a second since the last time this was made, at least a second ago. An edge that counts less than
    /// before has started anew, and all it counts is new; an edge not seen before has no rate yet.
    fn error_rate(&mut self, view: &View) -> Option<f64> {
        let now: BTreeMap<NodeName, u64> =
            view.edges_alive().map(|(node, edge)| (node.clone(), edge.server_errors_total)).collect();
        let Some((since_ms, before)) = &self.errors else {
            self.errors = Some((view.unix_ms, now));
            return None;
        };
        if view.unix_ms >= *since_ms && view.unix_ms - since_ms < 1000 {
            return None;
        }
        let passed_s = view.unix_ms.saturating_sub(*since_ms) as f64 / 1000.0;
        let new: u64 = now
            .iter()
            .filter_map(|(node, total)| {
                before.get(node).map(|then| total.checked_sub(*then).unwrap_or(*total))
            })
            .sum();
        self.errors = Some((view.unix_ms, now));
        (passed_s > 0.0).then(|| new as f64 / passed_s)
    }

    /// Drops series that have nothing left within the window: replicas that are no more.
    fn forget(&mut self, at_s: u64) {
        self.rings.retain(|_, ring| ring.newest_s + SERIES_SECONDS as u64 > at_s);
    }
}

/// Columns of one length, as `/series.json` gives them. `null` is a second without a sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Table {
    /// Since 1970-01-01 UTC; without holes.
    pub seconds: Vec<u64>,
    pub series: BTreeMap<String, Vec<Option<f64>>>,
}

/// A slot for each second, by the second's remainder; `NaN` where there is no sample.
#[derive(Debug)]
struct Ring {
    newest_s: u64,
    slots: Vec<f32>,
}

impl Ring {
    fn new(at_s: u64) -> Self {
        Self { newest_s: at_s, slots: vec![f32::NAN; SERIES_SECONDS] }
    }

    fn record(&mut self, at_s: u64, value: f64) {
        if at_s + SERIES_SECONDS as u64 <= self.newest_s || at_s >= self.newest_s + SERIES_SECONDS as u64 {
            *self = Self::new(at_s);
        }
        for missed in self.newest_s + 1..at_s {
            self.slots[slot(missed)] = f32::NAN;
        }
        self.newest_s = self.newest_s.max(at_s);
        self.slots[slot(at_s)] = value as f32;
    }

    fn get(&self, at_s: u64) -> Option<f64> {
        let kept = at_s <= self.newest_s && at_s + SERIES_SECONDS as u64 > self.newest_s;
        kept.then(|| self.slots[slot(at_s)]).filter(|v| v.is_finite()).map(f64::from)
    }
}

fn slot(at_s: u64) -> usize {
    (at_s % SERIES_SECONDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_second_without_a_sample_is_a_gap() {
        let mut series = Series::default();
        series.record("x", 100, 1.0);
        series.record("x", 103, 2.5);
        series.record("x", 103, 3.0);
        series.record("y", 101, 7.0);
        let table = series.table();
        assert_eq!(table.seconds, [100, 101, 102, 103]);
        assert_eq!(table.series["x"], [Some(1.0), None, None, Some(3.0)]);
        assert_eq!(table.series["y"], [None, Some(7.0), None, None]);
    }

    #[test]
    fn memory_is_bounded_in_seconds_and_in_names() {
        let mut series = Series::default();
        for s in 0..5000 {
            series.record("x", s, s as f64);
        }
        let table = series.table();
        assert_eq!((table.seconds.len(), table.seconds[0]), (SERIES_SECONDS, 5000 - SERIES_SECONDS as u64));
        assert_eq!(table.series["x"][0], Some(4100.0));
        for n in 0..SERIES_MAX + 9 {
            series.record(&format!("n{n}"), 5000, 0.0);
        }
        assert_eq!((series.table().series.len(), series.dropped_total()), (SERIES_MAX, 10));
    }

    #[test]
    fn a_clock_set_back_or_far_ahead_starts_anew() {
        let mut series = Series::default();
        series.record("x", 10_000, 1.0);
        series.record("x", 9_500, 2.0);
        assert_eq!(series.table().seconds.first(), Some(&9_500), "a small step back is kept");
        series.record("x", 100, 3.0);
        assert_eq!((series.table().seconds, series.latest("x", 100)), (vec![100], Some(3.0)));
        series.record("x", u64::MAX / 2, 4.0);
        assert_eq!(series.table().seconds, [u64::MAX / 2]);
    }

    #[test]
    fn errors_are_a_rate_that_survives_a_restart_of_an_edge() {
        let mut series = Series::default();
        let mut view = fixtures::healthy();
        let errors = |view: &mut View, node: &str, total| {
            let node = view.nodes.get_mut(&fixtures::node(node)).unwrap();
            node.edge.as_mut().unwrap().server_errors_total = total;
        };
        errors(&mut view, "a", 100);
        errors(&mut view, "b", 50);
        series.take(&view);
        assert_eq!(series.latest(name::ERRORS_PER_S, view.unix_ms / 1000), None, "one sample is no rate");
        view.unix_ms += 500;
        series.take(&view);
        view.unix_ms += 1500;
        errors(&mut view, "a", 110);
        errors(&mut view, "b", 6);
        series.take(&view);
        assert_eq!(series.latest(name::ERRORS_PER_S, view.unix_ms / 1000), Some(8.0));
    }

    #[test]
    fn a_replica_that_is_gone_is_forgotten() {
        let mut series = Series::default();
        let mut view = fixtures::healthy();
        series.take(&view);
        assert!(series.table().series.contains_key("lag_bytes/b"));
        view.nodes.remove(&fixtures::node("b"));
        view.unix_ms += 1000 * SERIES_SECONDS as u64;
        series.take(&view);
        assert!(!series.table().series.contains_key("lag_bytes/b"));
    }
}
