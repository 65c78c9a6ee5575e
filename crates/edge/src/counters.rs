//! What a worker counts: plain stores to cache lines that only it writes, read by whoever asks for the statistics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::codec::Fault;
use crate::tls::Failure;

/// A number with one writer: adding is a load and a store, no locked instruction.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One for each value of an enumeration.
#[derive(Debug)]
pub struct Counts<const N: usize>([Count; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

impl<const N: usize> std::ops::Index<usize> for Counts<N> {
    type Output = Count;
    fn index(&self, index: usize) -> &Count {
        &self.0[index]
    }
}

/// Why a request was not answered as its client hoped, other than a [`Fault`] in it or in a server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 408: the head did not arrive in `edge.limits.header_time`.
    HeaderTime,
    /// 408: the body stood still for `edge.limits.response_time`.
    BodyTime,
    /// The client read nothing for `edge.limits.idle_time`.
    ReaderTime,
    /// The client asked nothing for `edge.limits.idle_time`; its connection was closed.
    IdleTime,
    /// The edge ended before the request could be answered whole.
    DrainTime,
    /// 421: no site has that name, or another site's certificate was asked for.
    Misdirected,
    /// 503: the site or the route is being worked on.
    Maintenance,
    /// 404: no route of the site.
    NoRoute,
    /// 404 or 405 of a files route.
    NoFile,
    /// 503: no server of the pool serves.
    NoServer,
    /// 503: no server accepted a connection.
    NoConnection,
    /// 503: all servers were at `in_flight`, and `queue` requests waited already.
    QueueFull,
    /// 503: it waited for `queue_time` for a server.
    QueueTime,
    /// 504: a server was silent for `edge.limits.response_time`.
    ResponseTime,
    /// 502: a server closed before it had answered.
    ServerClosed,
    /// 502: a server's answer was malformed or ambiguous.
    BadResponse,
    /// A server's answer ended early, after it had begun.
    AnswerCut,
    /// The client left.
    ClientGone,
    /// The process had no descriptor, port or buffer left for a connection to a server or for a file.
    NoResources,
    /// Nothing moved through a tunnel for `edge.limits.tunnel_idle_time`, or `idle_time` once one side had ended.
    TunnelIdleTime,
    /// A server broke a tunnel.
    ServerGone,
    /// A file was sent whole: more parts of it were asked for than are sent.
    RangeCount,
    /// A file was sent as it is: enough was being compressed, or `edge.limits.compressed_bytes` was used up.
    CompressBusy,
    /// A client of HTTP/2 asked and took back too often; its connection was closed.
    ResetFlood,
    /// 408: a body came more slowly than `edge.limits.body_rate`, after `body_grace`.
    BodyRate,
    /// A connection was reset at once: its address had `edge.limits.connections_per_address`.
    ConnectionsPerAddress,
    /// A connection was reset at once: it needs a header of the PROXY protocol, and came from no trusted proxy.
    ProxyUntrusted,
    /// A connection of a trusted proxy was reset: it did not begin with a header of the PROXY protocol.
    ProxyHeader,
}

impl Reason {
    pub const ALL: &'static [Self] = {
        use Reason::*;
        &[
            HeaderTime,
            BodyTime,
            ReaderTime,
            IdleTime,
            DrainTime,
            Misdirected,
            Maintenance,
            NoRoute,
            NoFile,
            NoServer,
            NoConnection,
            QueueFull,
            QueueTime,
            ResponseTime,
            ServerClosed,
            BadResponse,
            AnswerCut,
            ClientGone,
            NoResources,
            TunnelIdleTime,
            ServerGone,
            RangeCount,
            CompressBusy,
            ResetFlood,
            BodyRate,
            ConnectionsPerAddress,
            ProxyUntrusted,
            ProxyHeader,
        ]
    };

    pub const fn label(self) -> &'static str {
        match self {
            Self::HeaderTime => "header_time",
            Self::BodyTime => "body_time",
            Self::ReaderTime => "reader_time",
            Self::IdleTime => "idle_time",
            Self::DrainTime => "drain_time",
            Self::Misdirected => "misdirected",
            Self::Maintenance => "maintenance",
            Self::NoRoute => "no_route",
            Self::NoFile => "no_file",
            Self::NoServer => "no_server",
            Self::NoConnection => "no_connection",
            Self::QueueFull => "queue_full",
            Self::QueueTime => "queue_time",
            Self::ResponseTime => "response_time",
            Self::ServerClosed => "server_closed",
            Self::BadResponse => "bad_response",
            Self::AnswerCut => "answer_cut",
            Self::ClientGone => "client_gone",
            Self::NoResources => "no_resources",
            Self::TunnelIdleTime => "tunnel_idle_time",
            Self::ServerGone => "server_gone",
            Self::RangeCount => "range_count",
            Self::CompressBusy => "compress_busy",
            Self::ResetFlood => "reset_flood",
            Self::BodyRate => "body_rate",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::ProxyUntrusted => "proxy_untrusted",
            Self::ProxyHeader => "proxy_header",
        }
    }
}

/// The names of all reasons: what `why` of the access log may be, besides that of a [`Fault`].
pub fn reasons() -> impl Iterator<Item = &'static str> {
    Reason::ALL.iter().map(|reason| reason.label())
}

/// Upper bounds of the latency histogram, milliseconds.
pub const LATENCY_BOUNDS_MS: &[f64] = &[
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0,
];

/// How long something took, by [`LATENCY_BOUNDS_MS`].
#[derive(Debug, Default)]
pub struct Latency {
    pub counts: [Count; LATENCY_BOUNDS_MS.len() + 1],
    pub sum_us: Count,
}

impl Latency {
    pub fn took(&self, took: Duration) {
        let ms = took.as_secs_f64() * 1000.0;
        self.counts[LATENCY_BOUNDS_MS.partition_point(|bound| *bound < ms)].add(1);
        self.sum_us.add(took.as_micros() as u64);
    }
}

/// Of one worker. Aligned so that two workers never write to one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    pub open: Count,
    pub accepted: Count,
    pub paused_at_bound: Count,
    pub paused_without_descriptors: Count,
    pub tls_failures: [Count; Failure::ALL.len()],
    pub http2_connections: Count,
    /// Connections of HTTP/2 that ended because of what the client sent.
    pub http2_errors: Count,
    pub requests: Count,
    pub in_flight: Count,
    /// Open now, and ever.
    pub tunnels: Count,
    pub tunnels_opened: Count,
    /// 2xx, 3xx, 4xx, 5xx.
    pub classes: [Count; 4],
    pub cut: Count,
    pub from_clients: Count,
    pub to_clients: Count,
    pub from_servers: Count,
    pub to_servers: Count,
    pub retries: Count,
    pub log_lines_dropped: Count,
    /// Of clients.
    pub faults: Counts<{ Fault::ALL.len() }>,
    /// The same, of servers.
    pub server_faults: Counts<{ Fault::ALL.len() }>,
    pub reasons: Counts<{ Reason::ALL.len() }>,
    /// Lines that the sample leaves out.
    pub log_lines_left_out: Count,
    pub latency: Latency,
}

impl Counters {
    pub fn fault(&self, fault: Fault) {
        self.faults[fault as usize].add(1);
    }

    pub fn server_fault(&self, fault: Fault) {
        self.server_faults[fault as usize].add(1);
    }

    pub fn reason(&self, reason: Reason) {
        self.reasons[reason as usize].add(1);
    }

    /// A client was told `status`; 0 is none.
    pub fn told(&self, status: u16) {
        if let Some(class) = usize::from(status / 100).checked_sub(2) {
            self.classes[class.min(3)].add(1);
        }
    }

    /// A request was answered after `took`. What was refused as no request has no latency.
    pub fn took(&self, took: Duration) {
        self.latency.took(took);
    }
}

/// Counts a request as being answered while it lives: also if what answers it panics.
pub struct Answering<'w>(&'w Counters);

impl<'w> Answering<'w> {
    pub fn new(counters: &'w Counters) -> Self {
        counters.in_flight.add(1);
        Self(counters)
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.in_flight.sub(1);
    }
}

/// Counts a request as being answered by a server while it lives.
pub struct InFlight<'s>(&'s ServerCounters);

impl<'s> InFlight<'s> {
    pub fn new(counters: &'s ServerCounters) -> Self {
        counters.in_flight.add(1);
        Self(counters)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.sub(1);
    }
}

/// Of one worker, for one server.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ServerCounters {
    pub in_flight: Count,
    pub requests: Count,
    pub picks: Count,
    /// Picks for requests that had not been sent anywhere before.
    pub firsts: Count,
    /// Attempts that ended with an answer's beginning, or without one through the server's fault.
    pub tried: Count,
    /// Of those: without, or 502 to 504.
    pub failed: Count,
    /// How long they took for that.
    pub took_us: Count,
    /// Picks for requests that another server had been picked for before.
    pub retries: Count,
    /// What it answered: 2xx, 3xx, 4xx, 5xx.
    pub classes: [Count; 4],
    /// From the moment it was asked to the first byte of its answer.
    pub response: Latency,
    /// To it and from it, of requests that it answered.
    pub sent: Count,
    pub received: Count,
    pub connects: Count,
    pub connect_failures: Count,
    pub timeouts: Count,
    pub bad_responses: Count,
}

impl ServerCounters {
    /// It began to answer, `took` after it had been asked.
    pub fn answered(&self, status: u16, took: Duration) {
        self.requests.add(1);
        if let Some(class) = usize::from(status / 100).checked_sub(2) {
            self.classes[class.min(3)].add(1);
        }
        self.response.took(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_panics_is_in_flight_no_more() {
        let counters = Counters::default();
        let answer = std::panic::AssertUnwindSafe(|| {
            let _answering = Answering::new(&counters);
            assert_eq!(counters.in_flight.get(), 1);
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(std::panic::catch_unwind(answer).is_err());
        assert_eq!(counters.in_flight.get(), 0);
    }
}
