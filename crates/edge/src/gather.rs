//! Counters of all workers summed into the plain values of [`crate::stats`], when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::counters::{LATENCY_BOUNDS_MS, Latency, ServerCounters};
use crate::servers::{Pool, Server};
use crate::stats::*;
use crate::tally::{Tally, TallyName};

/// Sums each count of a histogram.
pub fn histogram(sum: impl Fn(&dyn Fn(&Latency) -> u64) -> u64) -> Histogram {
    Histogram {
        bounds_ms: LATENCY_BOUNDS_MS,
        counts: (0..=LATENCY_BOUNDS_MS.len()).map(|i| sum(&|l: &Latency| l.counts[i].get())).collect(),
        sum_ms: sum(&|l: &Latency| l.sum_us.get()) as f64 / 1000.0,
    }
}

pub fn route(tally: &Tally) -> RouteStats {
    let (site, route) = match &tally.name {
        TallyName::Of { site, route } => (site.clone(), route.clone().unwrap_or_else(|| "-".to_owned())),
        TallyName::NoSite => ("-".to_owned(), "-".to_owned()),
        TallyName::Other => ("other".to_owned(), "other".to_owned()),
    };
    RouteStats {
        site,
        route,
        responses: ResponseStats {
            successful: tally.sum(|c| c.classes[0].get()),
            redirection: tally.sum(|c| c.classes[1].get()),
            client_error: tally.sum(|c| c.classes[2].get()),
            server_error: tally.sum(|c| c.classes[3].get()),
            cut: tally.sum(|c| c.cut.get()),
        },
        to_clients: tally.sum(|c| c.to_clients.get()),
        latency: histogram(|count| tally.sum(|c| count(&c.latency))),
    }
}

pub fn pool(pool: &Pool) -> PoolStats {
    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    PoolStats {
        out_of_turn: get(&pool.shared.out_of_turn),
        ejections: get(&pool.shared.ejections),
        panics: get(&pool.shared.panics),
        hedges: get(&pool.shared.hedges),
        over_budget: get(&pool.shared.over_budget),
        waiting: pool.shared.queue.waiting() as u64,
        waited: get(&pool.shared.queue.waited),
        servers: pool.servers.iter().map(|s| (s.id.clone(), server(s))).collect(),
    }
}

pub fn server(server: &Server) -> ServerStats {
    let sum = |count: fn(&ServerCounters) -> u64| server.sum(count);
    ServerStats {
        state: server.state(),
        address: server.address,
        in_flight: sum(|c| c.in_flight.get()),
        requests: sum(|c| c.requests.get()),
        picks: sum(|c| c.picks.get()),
        failures: FailureStats {
            connect: sum(|c| c.connect_failures.get()),
            timeout: sum(|c| c.timeouts.get()),
            bad_response: sum(|c| c.bad_responses.get()),
        },
        connects: sum(|c| c.connects.get()),
        retries: sum(|c| c.retries.get()),
        responses: ClassStats {
            successful: sum(|c| c.classes[0].get()),
            redirection: sum(|c| c.classes[1].get()),
            client_error: sum(|c| c.classes[2].get()),
            server_error: sum(|c| c.classes[3].get()),
        },
        sent: sum(|c| c.sent.get()),
        received: sum(|c| c.received.get()),
        response_time: histogram(|count| server.counters.iter().map(|c| count(&c.response)).sum()),
        since: server.last_change().map(|(at, _)| at),
        why: server.last_change().map(|(_, why)| why),
    }
}
