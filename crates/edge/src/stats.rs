//! The numbers of an edge as one plain value, merged over its workers when somebody asks.
//!
//! Counters only grow while the edge runs, except those that say what is open now. Nothing here is on the path of
//! a request: workers count in [`crate::counters`].

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;
use tiebeam_balance::health::State;
use tiebeam_topology::{NodeName, PoolName};

use crate::config::ServerId;

/// Everything an edge counted since its start.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    pub node: NodeName,
    pub connections: ConnectionStats,
    /// Heads that were parsed and accepted. What was refused in the parser is in `refused`.
    pub requests: u64,
    /// Requests that are being answered now.
    pub in_flight: u64,
    /// Of `in_flight`, those that a server answered with 101.
    pub tunnels: TunnelStats,
    /// Final answers by class of status, the edge's own included.
    pub responses: ResponseStats,
    pub bytes: ByteStats,
    /// How often each bound was hit, or each rule of the protocol was broken by a client, by name.
    pub refused: BTreeMap<&'static str, u64>,
    /// The rules of the protocol that servers broke, by the same names. Each such answer is a `bad_response` above, too.
    pub server_faults: BTreeMap<&'static str, u64>,
    /// TLS handshakes that failed, by why.
    pub tls_failures: BTreeMap<&'static str, u64>,
    /// Attempts after the first, whatever the reason.
    pub retries: u64,
    /// From a request's whole head to the last byte of its answer, or to the opening of a tunnel; of `requests`, without what was refused in the parser.
    pub latency: Histogram,
    /// Lines of the access log that were dropped because its writer was behind, or lost because its disk failed.
    pub log_lines_dropped: u64,
    /// Lines of the access log that its sample left out.
    pub log_lines_left_out: u64,
    pub pools: BTreeMap<PoolName, PoolStats>,
    /// By site and route, as many as are kept apart.
    pub routes: Vec<RouteStats>,
}

/// What went to one route.
#[derive(Clone, Debug, Serialize)]
pub struct RouteStats {
    /// As in the file; `-`: none; `other`: those beyond the bound.
    pub site: String,
    /// Its path; `-`: none of the site.
    pub route: String,
    pub responses: ResponseStats,
    /// Bytes of bodies.
    pub to_clients: u64,
    /// As of all requests.
    pub latency: Histogram,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionStats {
    /// Client connections open now.
    pub open: u64,
    /// How many may be: `edge.limits.connections`, or what the process has file descriptors for.
    pub bound: usize,
    pub accepted: u64,
    /// Pauses of accepting because `bound` was reached.
    pub paused_at_bound: u64,
    /// Pauses of accepting because the process had no file descriptor left.
    pub paused_without_descriptors: u64,
    pub tls_handshakes_failed: u64,
    /// Of `accepted`, those that spoke HTTP/2.
    pub http2: u64,
    /// Connections of HTTP/2 that ended because of what the client sent.
    pub http2_errors: u64,
}

/// WebSockets, which have no end of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TunnelStats {
    /// Now.
    pub open: u64,
    pub opened: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResponseStats {
    #[serde(rename = "2xx")]
    pub successful: u64,
    #[serde(rename = "3xx")]
    pub redirection: u64,
    #[serde(rename = "4xx")]
    pub client_error: u64,
    #[serde(rename = "5xx")]
    pub server_error: u64,
    /// The client saw no end of its answer: cut short by a server or the end of the edge, or the client left.
    pub cut: u64,
}

/// Bytes of HTTP, without TLS and TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ByteStats {
    pub from_clients: u64,
    pub to_clients: u64,
    pub from_servers: u64,
    pub to_servers: u64,
}

/// `counts[i]` holds what took at most `bounds_ms[i]`; the last count is all that took longer.
#[derive(Clone, Debug, Serialize)]
pub struct Histogram {
    pub bounds_ms: &'static [f64],
    pub counts: Vec<u64>,
    pub sum_ms: f64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct PoolStats {
    /// Requests answered by another server than the one whose turn it was.
    pub out_of_turn: u64,
    /// Servers ejected for what clients met.
    pub ejections: u64,
    /// Requests sent without a look at states, since fewer than `panic` of the servers served.
    pub panics: u64,
    /// Requests sent to a second server because the first was slow.
    pub hedges: u64,
    /// Requests that were not sent again because `retries.budget` was spent.
    pub over_budget: u64,
    /// Requests that wait for a server now, all being at `in_flight`.
    pub waiting: u64,
    /// How many have waited so far.
    pub waited: u64,
    pub servers: BTreeMap<ServerId, ServerStats>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ServerStats {
    pub state: State,
    /// Where it is reached now.
    pub address: std::net::SocketAddr,
    /// Requests it is answering now, of this edge.
    pub in_flight: u64,
    /// Requests it answered, with whatever status.
    pub requests: u64,
    /// How often its turn came.
    pub picks: u64,
    pub failures: FailureStats,
    /// Connections opened to it for requests.
    pub connects: u64,
    /// Picks for requests that another server had been picked for before.
    pub retries: u64,
    /// What it answered.
    pub responses: ClassStats,
    /// Bytes to it and from it, of requests that it answered.
    pub sent: u64,
    pub received: u64,
    /// From the moment it was asked to the first byte of its answer.
    pub response_time: Histogram,
    /// When its state changed last, by the wall clock, and why; `None`: it did not.
    pub since: Option<SystemTime>,
    pub why: Option<&'static str>,
}

/// Answers by class of status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClassStats {
    #[serde(rename = "2xx")]
    pub successful: u64,
    #[serde(rename = "3xx")]
    pub redirection: u64,
    #[serde(rename = "4xx")]
    pub client_error: u64,
    #[serde(rename = "5xx")]
    pub server_error: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FailureStats {
    /// Refused, unreachable or not accepted within `edge.limits.connect_time`.
    pub connect: u64,
    /// Silent for `edge.limits.response_time`.
    pub timeout: u64,
    /// Closed early, reset, or said what is not HTTP.
    pub bad_response: u64,
}
