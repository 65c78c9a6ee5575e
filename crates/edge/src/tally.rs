//! What is counted by site and route: one set of counters for each, kept from one configuration to the next.
//!
//! A file may hold any number of routes; the sets are bounded, and what is beyond counts as `other`. The control side
//! makes them; a worker adds with plain stores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::counters::{Count, Latency};

/// Sets of counters by site and route. The routes that come after share one.
pub const TALLIES_MAX: usize = 200;

/// Of one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RouteCounters {
    /// 2xx, 3xx, 4xx, 5xx.
    pub classes: [Count; 4],
    /// Those whose client saw no end of its answer.
    pub cut: Count,
    pub to_clients: Count,
    pub latency: Latency,
}

impl RouteCounters {
    /// An answer ended; `status` 0: there was none.
    pub fn ended(&self, status: u16, is_cut: bool, bytes: u64, took: Duration) {
        if let Some(class) = usize::from(status / 100).checked_sub(2) {
            self.classes[class.min(3)].add(1);
        }
        if is_cut {
            self.cut.add(1);
        }
        self.to_clients.add(bytes);
        self.latency.took(took);
    }
}

/// A route, or what a site has besides its routes.
pub struct Tally {
    pub name: TallyName,
    workers: Vec<RouteCounters>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TallyName {
    /// Path of a route; `None`: no route of the site has it.
    Of { site: String, route: Option<String> },
    /// No site has that name, or the client is sent to HTTPS before a site is asked.
    NoSite,
    /// Beyond [`TALLIES_MAX`].
    Other,
}

impl Tally {
    fn new(name: TallyName, workers: usize) -> Arc<Self> {
        Arc::new(Self { name, workers: (0..workers).map(|_| RouteCounters::default()).collect() })
    }

    pub fn of(&self, worker: usize) -> &RouteCounters {
        &self.workers[worker]
    }

    pub fn sum(&self, count: impl Fn(&RouteCounters) -> u64) -> u64 {
        self.workers.iter().map(count).sum()
    }
}

/// All that are kept. What the next configuration does not name is forgotten.
pub struct Tallies {
    workers: usize,
    known: BTreeMap<TallyName, Arc<Tally>>,
    next: BTreeMap<TallyName, Arc<Tally>>,
}

impl Tallies {
    pub fn new(workers: usize) -> Self {
        Self { workers, known: BTreeMap::new(), next: BTreeMap::new() }
    }

    pub fn get(&mut self, name: TallyName) -> Arc<Tally> {
        let is_beyond = self.next.len() >= TALLIES_MAX && !self.next.contains_key(&name);
        let name = if is_beyond { TallyName::Other } else { name };
        let known = self.known.get(&name).cloned();
        let workers = self.workers;
        let made = || known.unwrap_or_else(|| Tally::new(name.clone(), workers));
        self.next.entry(name.clone()).or_insert_with(made).clone()
    }

    /// Ends a round of [`Tallies::get`], and gives all that it named.
    pub fn finish(&mut self) -> Vec<Arc<Tally>> {
        self.known = std::mem::take(&mut self.next);
        self.known.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> TallyName {
        TallyName::Of { site: "a".into(), route: Some(format!("/{n}")) }
    }

    #[test]
    fn counts_go_on_as_long_as_a_route_is_named() {
        let mut tallies = Tallies::new(2);
        tallies.get(name(1)).of(1).ended(200, false, 5, Duration::from_millis(3));
        tallies.finish();
        let again = tallies.get(name(1));
        assert_eq!(again.sum(|c| c.classes[0].get() + c.to_clients.get()), 6);
        tallies.get(name(2));
        assert_eq!(tallies.finish().len(), 2);
        assert_eq!(tallies.finish().len(), 0);
        assert_eq!(tallies.get(name(1)).sum(|c| c.classes[0].get()), 0);
    }

    #[test]
    fn what_is_beyond_the_bound_shares_one() {
        let mut tallies = Tallies::new(1);
        for n in 0..TALLIES_MAX + 3 {
            tallies.get(name(n)).of(0).ended(500, n % 2 == 0, 0, Duration::ZERO);
        }
        let all = tallies.finish();
        assert_eq!(all.len(), TALLIES_MAX + 1);
        let other = all.iter().find(|tally| tally.name == TallyName::Other).unwrap();
        assert_eq!(other.sum(|c| c.classes[3].get()), 3);
        assert_eq!(other.sum(|c| c.cut.get()), 2);
    }
}
