//! What an edge counts by route and by server, as families of metrics. The labels are bounded: the edge keeps a bounded
//! number of routes apart, and of servers the first ones here; what is beyond is `other`.

use tiebeam_edge::{ClassStats, Histogram, RouteStats, ServerStats, Stats};
use tiebeam_watch::{Extra, Kind, Labels, Sample};

/// Servers that are told apart, of all pools.
const SERVERS_MAX: usize = 200;

/// A value of a label, and the number that it has.
type Named = (&'static str, fn(&ServerStats) -> u64);

pub fn families(stats: &Stats) -> Vec<Extra> {
    let mut all = routes(&stats.routes);
    all.extend(servers(stats));
    let help = "From a request's whole head to the last byte of its answer";
    let whole = vec![(Labels::new(), times(&stats.latency))];
    all.push(Extra { name: "edge_request", help, kind: Kind::Seconds, samples: whole });
    all
}

fn routes(routes: &[RouteStats]) -> Vec<Extra> {
    let labels = |r: &RouteStats| vec![("site", r.site.clone()), ("route", r.route.clone())];
    let mut answers = Vec::new();
    for r in routes {
        let c = &r.responses;
        let classes = ClassStats {
            successful: c.successful,
            redirection: c.redirection,
            client_error: c.client_error,
            server_error: c.server_error,
        };
        answers.extend(by_class(&labels(r), &classes));
        answers.push((with(labels(r), "class", "cut"), Sample::Number(c.cut)));
    }
    let bytes = routes.iter().map(|r| (labels(r), Sample::Number(r.to_clients))).collect();
    let took = routes.iter().map(|r| (labels(r), times(&r.latency))).collect();
    vec![
        family("edge_route_answers", "Answers by site, route and class of status", Kind::Counter, answers),
        family("edge_route_bytes", "Bytes of bodies to clients", Kind::Counter, bytes),
        family("edge_route_request", "As edge_request, by site and route", Kind::Seconds, took),
    ]
}

fn servers(stats: &Stats) -> Vec<Extra> {
    let all = stats.pools.iter().flat_map(|(pool, p)| p.servers.iter().map(move |(id, s)| (pool, id, s)));
    let mut apart: Vec<(Labels, ServerStats)> = Vec::new();
    for (pool, id, s) in all {
        if apart.len() < SERVERS_MAX {
            apart.push((vec![("pool", pool.to_string()), ("server", id.to_string())], s.clone()));
        } else if let Some((_, other)) = apart.get_mut(SERVERS_MAX) {
            add(other, s);
        } else {
            apart.push((vec![("pool", "other".into()), ("server", "other".into())], s.clone()));
        }
    }
    let each = |number: fn(&ServerStats) -> u64| -> Vec<(Labels, Sample)> {
        apart.iter().map(|(labels, s)| (labels.clone(), Sample::Number(number(s)))).collect()
    };
    let by = |label: &'static str, values: &[Named]| -> Vec<(Labels, Sample)> {
        let one = |(labels, s): &(Labels, ServerStats)| {
            let of =
                |(value, number): &Named| (with(labels.clone(), label, value), Sample::Number(number(s)));
            values.iter().map(of).collect::<Vec<_>>()
        };
        apart.iter().flat_map(one).collect()
    };
    let kinds: &[Named] = &[
        ("connect", |s| s.failures.connect),
        ("timeout", |s| s.failures.timeout),
        ("bad_response", |s| s.failures.bad_response),
    ];
    let ways: &[Named] = &[("to", |s| s.sent), ("from", |s| s.received)];
    let answers = apart.iter().flat_map(|(labels, s)| by_class(labels, &s.responses)).collect();
    let took = apart.iter().map(|(labels, s)| (labels.clone(), times(&s.response_time))).collect();
    vec![
        family("server_answers", "Answers of the server by class of status", Kind::Counter, answers),
        family("server_faults", "How the server failed requests", Kind::Counter, by("kind", kinds)),
        family(
            "server_retries",
            "Requests that came after another was tried",
            Kind::Counter,
            each(|s| s.retries),
        ),
        family("server_connects", "Connections opened to the server", Kind::Counter, each(|s| s.connects)),
        family("server_bytes", "Bytes to and from the server", Kind::Counter, by("way", ways)),
        family("server_response", "From asking to the answer's first byte", Kind::Seconds, took),
    ]
}

fn add(sum: &mut ServerStats, s: &ServerStats) {
    let (c, other) = (&mut sum.responses, &s.responses);
    c.successful += other.successful;
    c.redirection += other.redirection;
    c.client_error += other.client_error;
    c.server_error += other.server_error;
    sum.failures.connect += s.failures.connect;
    sum.failures.timeout += s.failures.timeout;
    sum.failures.bad_response += s.failures.bad_response;
    sum.retries += s.retries;
    sum.connects += s.connects;
    sum.sent += s.sent;
    sum.received += s.received;
    sum.response_time.sum_ms += s.response_time.sum_ms;
    let counts = sum.response_time.counts.iter_mut().zip(&s.response_time.counts);
    counts.for_each(|(sum, n)| *sum += n);
}

fn by_class(labels: &Labels, c: &ClassStats) -> Vec<(Labels, Sample)> {
    [("2xx", c.successful), ("3xx", c.redirection), ("4xx", c.client_error), ("5xx", c.server_error)]
        .map(|(class, n)| (with(labels.clone(), "class", class), Sample::Number(n)))
        .into()
}

fn times(h: &Histogram) -> Sample {
    Sample::Times { bounds_ms: h.bounds_ms, counts: h.counts.clone(), sum_ms: h.sum_ms }
}

fn with(mut labels: Labels, label: &'static str, value: &str) -> Labels {
    labels.push((label, value.to_owned()));
    labels
}

fn family(name: &'static str, help: &'static str, kind: Kind, samples: Vec<(Labels, Sample)>) -> Extra {
    Extra { name, help, kind, samples }
}
