//! What an edge counts, as this node reports it: pools with their servers, and sites. The times are those of the last
//! second, so what was seen before is kept here.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use tiebeam_edge::{Histogram, PoolStats, RouteStats, ServerStats, State};
use tiebeam_topology::Moment;
use tiebeam_watch::{PoolView, ServerFigures, ServerState, ServerView, SiteView};

use super::rates::Quantiles;

/// Sites that a report tells apart; those that come after are one.
const SITES_MAX: usize = 50;

#[derive(Debug, Default)]
pub struct Figures {
    /// By pool and server.
    servers: BTreeMap<(String, String), Quantiles>,
    sites: BTreeMap<String, Quantiles>,
}

impl Figures {
    pub fn pool(&mut self, name: &str, pool: &PoolStats, now: Moment) -> PoolView {
        let ids = || pool.servers.keys().map(ToString::to_string);
        self.servers.retain(|(of, id), _| of != name || ids().any(|known| known == *id));
        PoolView {
            name: name.to_owned(),
            out_of_turn_total: pool.out_of_turn,
            waiting: pool.waiting,
            waited_total: pool.waited,
            ejections_total: pool.ejections,
            hedges_total: pool.hedges,
            over_budget_total: pool.over_budget,
            panics_total: pool.panics,
            servers: pool
                .servers
                .iter()
                .map(|(id, server)| {
                    let id = id.to_string();
                    let times = self.servers.entry((name.to_owned(), id.clone())).or_default();
                    self::server(id, server, times, now)
                })
                .collect(),
        }
    }

    /// Routes added up by site, in the order of their names.
    pub fn sites(&mut self, routes: &[RouteStats], now: Moment) -> Vec<SiteView> {
        let mut all: BTreeMap<&str, (SiteView, Histogram)> = BTreeMap::new();
        for route in routes {
            let is_known = all.contains_key(route.site.as_str()) || all.len() < SITES_MAX;
            let name = if is_known { route.site.as_str() } else { "other" };
            let empty = || Histogram { counts: vec![0; route.latency.counts.len()], ..route.latency.clone() };
            let made = || (SiteView { name: name.to_owned(), ..SiteView::default() }, empty());
            let (site, times) = all.entry(name).or_insert_with(made);
            let r = &route.responses;
            site.requests_total += route.latency.counts.iter().sum::<u64>();
            site.client_errors_total += r.client_error;
            site.server_errors_total += r.server_error + r.cut;
            site.bytes_total += route.to_clients;
            times.counts.iter_mut().zip(&route.latency.counts).for_each(|(sum, n)| *sum += n);
        }
        self.sites.retain(|name, _| all.contains_key(name.as_str()));
        let told = all.into_values().filter(|(site, _)| site.name != "-" || site.requests_total > 0);
        told.map(|(site, times)| {
            let seen = self.sites.entry(site.name.clone()).or_default();
            let [p50_ms, p95_ms, _] = seen.of(times.bounds_ms, &times.counts, now);
            SiteView { p50_ms, p95_ms, ..site }
        })
        .collect()
    }
}

fn server(id: String, s: &ServerStats, times: &mut Quantiles, now: Moment) -> ServerView {
    let [p50_ms, p95_ms, _] = times.of(s.response_time.bounds_ms, &s.response_time.counts, now);
    let since = s.since.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    ServerView {
        id,
        state: match s.state {
            State::Serving => ServerState::Serving,
            State::Draining => ServerState::Draining,
            State::Ejected => ServerState::Ejected,
            State::Probing => ServerState::Probing,
        },
        in_flight: s.in_flight,
        requests_total: s.requests,
        failures_total: s.failures.connect + s.failures.timeout + s.failures.bad_response,
        figures: ServerFigures {
            since_unix_ms: since.map(|d| d.as_millis() as u64),
            why: s.why.map(str::to_owned),
            server_errors_total: s.responses.server_error,
            connect_failures_total: s.failures.connect,
            timeouts_total: s.failures.timeout,
            bad_answers_total: s.failures.bad_response,
            retries_total: s.retries,
            p50_ms,
            p95_ms,
            sent_bytes_total: s.sent,
            received_bytes_total: s.received,
        },
    }
}
