//! A view as OpenMetrics text (OpenMetrics 1.0.0, "Text format"). Every label is a name of the file or one of a few
//! fixed words, so the number of series is bounded by the file. It never reads the world: a node that is not alive
//! says only that.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::{DatabaseRole, ServerState, View};

/// The `Content-Type` of what [`metrics`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its samples are named `…_total`; the name is given without it.
    Counter,
    Gauge,
}

/// Metrics of the caller's own, written with those of the view. Names without `tiebeam_`.
#[derive(Clone, Debug)]
pub struct Extra {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    pub value: u64,
}

/// The text, ending in `# EOF`.
pub fn metrics(view: Arc<View>, extra: Vec<Extra>) -> String {
    let mut registry = Registry::with_prefix("tiebeam");
    registry.register_collector(Box::new(Scrape { view, extra }));
    let mut text = String::with_capacity(16 * 1024);
    // A String takes every write, and the collector returns only the errors of its writer.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Scrape {
    view: Arc<View>,
    extra: Vec<Extra>,
}

type Labels = Vec<(&'static str, String)>;
type Samples = Vec<(Labels, f64)>;

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out { encoder };
        self.cluster(&mut out)?;
        self.nodes(&mut out)?;
        self.edges(&mut out)?;
        self.servers(&mut out)?;
        self.apps(&mut out)?;
        self.sql(&mut out)?;
        self.databases(&mut out)?;
        for e in &self.extra {
            out.write(e.kind, e.name, e.help, None, vec![(vec![], e.value as f64)])?;
        }
        Ok(())
    }
}

impl Scrape {
    fn cluster(&self, out: &mut Out<'_>) -> fmt::Result {
        let view = &self.view;
        let ledger = &view.ledger;
        out.gauge(
            "verdict",
            "0: nothing is wrong, 1: a warning, 2: an alarm",
            one(view.verdict.level as u8),
        )?;
        out.gauge("ledger_quorum", "1: more than half of the voters agree", one(ledger.quorum as u8))?;
        out.gauge("ledger_term", "The term of Raft", one(ledger.term as f64))?;
        out.gauge("ledger_revision", "The last applied revision", one(ledger.revision as f64))?;
        let leads = view.nodes.keys().filter(|n| ledger.voters.contains(*n));
        let leads = leads.map(|n| (node(n), (ledger.leader.as_ref() == Some(n)) as u8 as f64)).collect();
        out.gauge("ledger_leader", "1: this voter leads", leads)?;
        if let Some(database) = &view.database {
            out.gauge(
                "database_epoch",
                "The number of the right to be primary",
                one(database.epoch.0 as f64),
            )?;
            let stopped = database.stopped_because.is_some();
            out.gauge("database_writes_stopped", "1: writes are stopped on purpose", one(stopped as u8))?;
        }
        if let Some(c) = &view.checked {
            let help = "Writes that a checker had acknowledged";
            out.counter("checked_writes", help, one(c.acknowledged_total as f64))?;
            out.counter(
                "lost_writes",
                "Acknowledged writes not there when read back",
                one(c.lost_total as f64),
            )?;
        }
        Ok(())
    }

    fn nodes(&self, out: &mut Out<'_>) -> fmt::Result {
        let each = |value: &dyn Fn(&crate::NodeView) -> Option<f64>| -> Samples {
            self.view.nodes.iter().filter_map(|(name, n)| Some((node(name), value(n)?))).collect()
        };
        out.gauge("node_up", "1: the node reported lately", each(&|n| Some(n.alive as u8 as f64)))?;
        let age = each(&|n| n.report_age_ms.map(|ms| ms as f64 / 1000.0));
        out.write(Kind::Gauge, "node_report_age", "Since the last report", Some(Unit::Seconds), age)?;
        let uptime = each(&|n| n.alive.then_some(n.uptime_s as f64));
        out.write(Kind::Gauge, "node_uptime", "Since the daemon started", Some(Unit::Seconds), uptime)?;
        let memory = each(&|n| n.alive.then_some(n.memory_bytes as f64));
        out.write(Kind::Gauge, "node_memory_resident", "Of the daemon", Some(Unit::Bytes), memory)
    }

    fn edges(&self, out: &mut Out<'_>) -> fmt::Result {
        let each = |value: &dyn Fn(&crate::EdgeView) -> Option<f64>| -> Samples {
            self.view.edges_alive().filter_map(|(name, e)| Some((node(name), value(e)?))).collect()
        };
        out.gauge("edge_connections", "Client connections open now", each(&|e| Some(e.connections as f64)))?;
        out.counter("edge_requests", "Requests taken", each(&|e| Some(e.requests_total as f64)))?;
        let mut answers = Samples::new();
        for (name, e) in self.view.edges_alive() {
            let classes =
                [("ok", e.ok_total), ("4xx", e.client_errors_total), ("5xx", e.server_errors_total)];
            answers.extend(classes.map(|(class, n)| (with(node(name), "class", class), n as f64)));
        }
        out.counter("edge_answers", "Answers by class of status", answers)?;
        let mut times = Samples::new();
        for (name, e) in self.view.edges_alive() {
            for (quantile, ms) in [("0.5", e.p50_ms), ("0.99", e.p99_ms)] {
                times.extend(ms.map(|ms| (with(node(name), "percentile", quantile), ms / 1000.0)));
            }
        }
        let help = "From a request's first byte to its answer's last, of the last seconds";
        out.write(Kind::Gauge, "edge_answer_time", help, Some(Unit::Seconds), times)?;
        let mut turns = Samples::new();
        for (name, pool) in self.view.edges_alive().flat_map(|(n, e)| e.pools.iter().map(move |p| (n, p))) {
            turns.push((with(node(name), "pool", &pool.name), pool.out_of_turn_total as f64));
        }
        out.counter("edge_out_of_turn", "Requests that strict round robin had sent elsewhere", turns)
    }

    fn servers(&self, out: &mut Out<'_>) -> fmt::Result {
        let (mut states, mut flights) = (Samples::new(), Samples::new());
        let (mut requests, mut failures) = (Samples::new(), Samples::new());
        for (name, pool) in self.view.edges_alive().flat_map(|(n, e)| e.pools.iter().map(move |p| (n, p))) {
            for server in &pool.servers {
                let labels = with(with(node(name), "pool", &pool.name), "server", &server.id);
                for state in ServerState::ALL {
                    let is = (state == server.state) as u8 as f64;
                    states.push((with(labels.clone(), "state", state.word()), is));
                }
                flights.push((labels.clone(), server.in_flight as f64));
                requests.push((labels.clone(), server.requests_total as f64));
                failures.push((labels, server.failures_total as f64));
            }
        }
        out.gauge("server_state", "1: the edge sees the server in this state", states)?;
        out.gauge("server_in_flight", "Requests that wait for the server's answer", flights)?;
        out.counter("server_requests", "Requests sent to the server", requests)?;
        out.counter("server_failures", "Requests that the server failed", failures)
    }

    fn apps(&self, out: &mut Out<'_>) -> fmt::Result {
        let alive = || self.view.nodes.values().filter(|n| n.alive).flat_map(|n| &n.apps);
        let label = |id: &String| vec![("instance", id.clone())];
        let ready = alive().map(|a| (label(&a.id), a.ready as u8 as f64)).collect();
        out.gauge("app_ready", "1: the instance answered its last health check", ready)?;
        let restarts = alive().map(|a| (label(&a.id), a.restarts_total as f64)).collect();
        out.counter("app_restarts", "Starts after the first", restarts)
    }

    fn sql(&self, out: &mut Out<'_>) -> fmt::Result {
        let alive = || {
            self.view
                .nodes
                .iter()
                .filter(|(_, n)| n.alive)
                .filter_map(|(name, n)| Some((name, n.sql.as_ref()?)))
        };
        let clients = alive().map(|(name, s)| (node(name), s.clients as f64)).collect();
        out.gauge("sql_clients", "Client sessions open now", clients)?;
        let held = alive().map(|(name, s)| (node(name), s.held as f64)).collect();
        out.gauge("sql_held", "Sessions that wait for a primary", held)?;
        let writes = alive().map(|(name, s)| (node(name), s.writes_total as f64)).collect();
        out.counter("sql_writes", "Statements sent to the primary as writes", writes)?;
        let mut reads = Samples::new();
        for (name, s) in alive() {
            reads.push((with(node(name), "to", "primary"), s.reads_primary_total as f64));
            for (replica, n) in &s.reads_replica_total {
                reads.push((with(with(node(name), "to", "replica"), "replica", replica.as_str()), *n as f64));
            }
        }
        out.counter("sql_reads", "Reads by where they were sent", reads)
    }

    fn databases(&self, out: &mut Out<'_>) -> fmt::Result {
        let alive = || {
            let alive = self.view.nodes.iter().filter(|(_, n)| n.alive);
            alive.filter_map(|(name, n)| Some((name, n.database.as_ref()?)))
        };
        let mut roles = Samples::new();
        for (name, d) in alive() {
            for role in DatabaseRole::ALL {
                roles.push((with(node(name), "role", role.word()), (role == d.role) as u8 as f64));
            }
        }
        out.gauge("database_role", "1: the instance has this role", roles)?;
        let writable = alive().map(|(name, d)| (node(name), d.accepting_writes as u8 as f64)).collect();
        out.gauge("database_accepts_writes", "1: clients may write here", writable)?;
        let streaming = alive().map(|(name, d)| (node(name), d.streaming as u8 as f64)).collect();
        out.gauge("database_streaming", "1: the replica receives from the primary", streaming)?;
        let timeline = alive().map(|(name, d)| (node(name), f64::from(d.timeline.0))).collect();
        out.gauge("database_timeline", "PostgreSQL's timeline id", timeline)?;
        let lag = alive().filter_map(|(name, d)| Some((node(name), d.lag_bytes? as f64))).collect();
        out.write(Kind::Gauge, "database_lag", "Log not replayed yet", Some(Unit::Bytes), lag)?;
        let lag = alive().filter_map(|(name, d)| Some((node(name), d.lag_ms? as f64 / 1000.0))).collect();
        out.write(Kind::Gauge, "database_lag", "Age of what is not replayed yet", Some(Unit::Seconds), lag)
    }
}

fn one(value: impl Into<f64>) -> Samples {
    vec![(vec![], value.into())]
}

fn node(name: &tiebeam_topology::NodeName) -> Labels {
    vec![("node", name.to_string())]
}

fn with(mut labels: Labels, key: &'static str, value: &str) -> Labels {
    labels.push((key, value.to_owned()));
    labels
}

struct Out<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, samples: Samples) -> fmt::Result {
        self.write(Kind::Gauge, name, help, None, samples)
    }

    fn counter(&mut self, name: &str, help: &str, samples: Samples) -> fmt::Result {
        self.write(Kind::Counter, name, help, None, samples)
    }

    /// One family; nothing at all where it has no samples.
    fn write(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: Samples,
    ) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let metric = match kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        let put = |sample: MetricEncoder<'_>, value: f64| match kind {
            Kind::Counter => ConstCounter::new(value as u64).encode(sample),
            Kind::Gauge => ConstGauge::new(value).encode(sample),
        };
        let mut family = self.encoder.encode_descriptor(name, help, unit.as_ref(), metric)?;
        if let [(labels, value)] = samples.as_slice()
            && labels.is_empty()
        {
            return put(family, *value);
        }
        for (labels, value) in samples {
            put(family.encode_family(&labels)?, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
