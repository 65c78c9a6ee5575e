//! What one node tells a scraper, as OpenMetrics text (OpenMetrics 1.0.0, "Text format").
//!
//! Every node is scraped, so each exports what is its own, with the label `node`: sums over all scrapes count everything
//! once. What it knows of the whole cluster comes as gauges named `tiebeam_cluster_…`, which every node exports and
//! nobody should add up. Every label is a name of the file or one of a few fixed words, so the number of series is
//! bounded by the file. It never reads the world.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::extra::{Extra, Kind, Labels, Sample};
use crate::{
    DatabaseRole, DatabaseView, EdgeView, InstanceView, NodeView, PoolView, ServerState, SqlView, View,
};

/// The `Content-Type` of what [`metrics`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

type Samples = Vec<(Labels, f64)>;

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out { encoder };
        self.cluster(&mut out)?;
        self.ledger(&mut out)?;
        if let Some(own) = self.view.nodes.get(&self.view.this_node) {
            self.node(own, &mut out)?;
            own.edge.as_ref().map_or(Ok(()), |edge| self.edge(edge, &mut out))?;
            self.apps(own, &mut out)?;
            own.sql.as_ref().map_or(Ok(()), |sql| self.sql(sql, &mut out))?;
            own.database.as_ref().map_or(Ok(()), |database| self.database(database, &mut out))?;
        }
        for e in &self.extra {
            let labels = |of: &Labels| self.own().into_iter().chain(of.iter().cloned()).collect();
            let samples = e.samples.iter().map(|(of, sample)| (labels(of), sample));
            out.extra(e, samples.collect())?;
        }
        Ok(())
    }
}

impl Scrape {
    /// The label of all that is this node's own.
    fn own(&self) -> Labels {
        node(&self.view.this_node)
    }

    fn mine(&self, value: impl Into<f64>) -> Samples {
        vec![(self.own(), value.into())]
    }

    fn cluster(&self, out: &mut Out<'_>) -> fmt::Result {
        let view = &self.view;
        let each = |value: &dyn Fn(&NodeView) -> Option<f64>| -> Samples {
            view.nodes.iter().filter_map(|(name, n)| Some((node(name), value(n)?))).collect()
        };
        let help = "0: nothing is wrong, 1: a warning, 2: an alarm";
        out.gauge("cluster_verdict", help, one(view.verdict.level as u8))?;
        out.gauge("cluster_node_up", "1: the node reported lately", each(&|n| Some(n.alive as u8 as f64)))?;
        let age = each(&|n| n.report_age_ms.map(|ms| ms as f64 / 1000.0));
        let help = "Since the node's last report";
        out.write(Kind::Gauge, "cluster_node_report_age", help, Some(Unit::Seconds), age)?;
        let Some(database) = &view.database else { return Ok(()) };
        let help = "The number of the right to be primary";
        out.gauge("cluster_database_epoch", help, one(database.epoch.0 as f64))?;
        let help = "1: there is a primary";
        out.gauge("cluster_database_primary", help, one(database.primary.is_some() as u8))?;
        let stopped = database.stopped_because.is_some();
        out.gauge("cluster_database_writes_stopped", "1: writes are stopped on purpose", one(stopped as u8))
    }

    fn ledger(&self, out: &mut Out<'_>) -> fmt::Result {
        let ledger = &self.view.ledger;
        let leads = ledger.leader.as_ref() == Some(&self.view.this_node);
        let help = "1: as this node sees it, more than half of the voters agree";
        out.gauge("ledger_quorum", help, self.mine(ledger.quorum as u8))?;
        out.gauge("ledger_leads", "1: this node leads", self.mine(leads as u8))?;
        out.gauge("ledger_term", "The term of Raft", self.mine(ledger.term as f64))?;
        out.gauge("ledger_revision", "The last applied revision", self.mine(ledger.revision as f64))
    }

    fn node(&self, own: &NodeView, out: &mut Out<'_>) -> fmt::Result {
        let uptime = self.mine(own.uptime_s as f64);
        out.write(Kind::Gauge, "node_uptime", "Since the daemon started", Some(Unit::Seconds), uptime)?;
        let memory = self.mine(own.memory_bytes as f64);
        out.write(Kind::Gauge, "node_memory_resident", "Of the daemon", Some(Unit::Bytes), memory)
    }

    fn edge(&self, e: &EdgeView, out: &mut Out<'_>) -> fmt::Result {
        out.gauge("edge_connections", "Client connections open now", self.mine(e.connections as f64))?;
        out.counter("edge_requests", "Requests taken", self.mine(e.requests_total as f64))?;
        let classes = [("ok", e.ok_total), ("4xx", e.client_errors_total), ("5xx", e.server_errors_total)];
        let answers = classes.map(|(class, n)| (with(self.own(), "class", class), n as f64));
        out.counter("edge_answers", "Answers by class of status", answers.into())?;
        let times = [("0.5", e.p50_ms), ("0.99", e.p99_ms)].into_iter();
        let times = times.filter_map(|(q, ms)| Some((with(self.own(), "percentile", q), ms? / 1000.0)));
        let help = "From a request's first byte to its answer's last, of the last seconds";
        out.write(Kind::Gauge, "edge_answer_time", help, Some(Unit::Seconds), times.collect())?;
        self.pools(e, out)?;
        self.servers(e, out)
    }

    fn pools(&self, e: &EdgeView, out: &mut Out<'_>) -> fmt::Result {
        let each = |value: fn(&PoolView) -> u64| -> Samples {
            e.pools.iter().map(|p| (with(self.own(), "pool", &p.name), value(p) as f64)).collect()
        };
        let help = "Requests answered by another server than the one whose turn it was";
        out.counter("edge_out_of_turn", help, each(|p| p.out_of_turn_total))?;
        let help = "Requests that wait for a server, all having as many as they may";
        out.gauge("pool_waiting", help, each(|p| p.waiting))?;
        out.counter("pool_waited", "Requests that have waited so", each(|p| p.waited_total))?;
        let help = "Servers taken out for what clients met";
        out.counter("pool_ejections", help, each(|p| p.ejections_total))?;
        let help = "Requests sent to a second server, since the first was slow";
        out.counter("pool_hedges", help, each(|p| p.hedges_total))?;
        let help = "Requests not sent again, since the budget for that was spent";
        out.counter("pool_over_budget", help, each(|p| p.over_budget_total))?;
        let help = "Requests sent whatever the server's state, since too few served";
        out.counter("pool_panics", help, each(|p| p.panics_total))
    }

    fn servers(&self, e: &EdgeView, out: &mut Out<'_>) -> fmt::Result {
        let (mut states, mut flights) = (Samples::new(), Samples::new());
        let (mut requests, mut failures) = (Samples::new(), Samples::new());
        for (pool, server) in e.pools.iter().flat_map(|p| p.servers.iter().map(move |s| (p, s))) {
            let labels = with(with(self.own(), "pool", &pool.name), "server", &server.id);
            for state in ServerState::ALL {
                let is = (state == server.state) as u8 as f64;
                states.push((with(labels.clone(), "state", state.word()), is));
            }
            flights.push((labels.clone(), server.in_flight as f64));
            requests.push((labels.clone(), server.requests_total as f64));
            failures.push((labels, server.failures_total as f64));
        }
        out.gauge("server_state", "1: the edge sees the server in this state", states)?;
        out.gauge("server_in_flight", "Requests that wait for the server's answer", flights)?;
        out.counter("server_requests", "Requests sent to the server", requests)?;
        out.counter("server_failures", "Requests that the server failed", failures)
    }

    fn apps(&self, own: &NodeView, out: &mut Out<'_>) -> fmt::Result {
        let each = |value: &dyn Fn(&InstanceView) -> f64| -> Samples {
            own.apps.iter().map(|a| (with(self.own(), "instance", &a.id), value(a))).collect()
        };
        let help = "1: the instance answered its last health check";
        out.gauge("app_ready", help, each(&|a| a.ready as u8 as f64))?;
        out.counter("app_restarts", "Starts after the first", each(&|a| a.restarts_total as f64))
    }

    fn sql(&self, s: &SqlView, out: &mut Out<'_>) -> fmt::Result {
        out.gauge("sql_clients", "Client sessions open now", self.mine(s.clients as f64))?;
        out.gauge("sql_held", "Sessions that wait for a primary", self.mine(s.held as f64))?;
        let help = "Statements sent to the primary as writes";
        out.counter("sql_writes", help, self.mine(s.writes_total as f64))?;
        let roles = [("primary", s.reads_primary_total), ("replica", s.reads_replica_total)];
        let reads = roles.map(|(role, n)| (with(self.own(), "to", role), n as f64));
        out.counter("sql_reads", "Reads by the role of the server that had them", reads.into())?;
        let servers = s.reads_by_server_total.iter();
        let reads = servers.map(|(server, n)| (with(self.own(), "server", server.as_str()), *n as f64));
        out.counter("sql_server_reads", "The same reads by server", reads.collect())
    }

    fn database(&self, d: &DatabaseView, out: &mut Out<'_>) -> fmt::Result {
        let role = |r: DatabaseRole| (with(self.own(), "role", r.word()), (r == d.role) as u8 as f64);
        out.gauge(
            "database_role",
            "1: the instance has this role",
            DatabaseRole::ALL.into_iter().map(role).collect(),
        )?;
        let help = "1: clients may write here";
        out.gauge("database_accepts_writes", help, self.mine(d.accepting_writes as u8))?;
        let help = "1: the replica receives from the primary";
        out.gauge("database_streaming", help, self.mine(d.streaming as u8))?;
        out.gauge("database_timeline", "PostgreSQL's timeline id", self.mine(f64::from(d.timeline.0)))?;
        let lag = d.lag_bytes.map_or(vec![], |n| self.mine(n as f64));
        out.write(Kind::Gauge, "database_lag", "Log not replayed yet", Some(Unit::Bytes), lag)?;
        let lag = d.lag_ms.map_or(vec![], |ms| self.mine(ms as f64 / 1000.0));
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

    fn extra(&mut self, family: &Extra, samples: Vec<(Labels, &Sample)>) -> fmt::Result {
        if family.kind != Kind::Seconds {
            let number = |(labels, sample)| match sample {
                &Sample::Number(n) => Some((labels, n as f64)),
                Sample::Times { .. } => None,
            };
            let samples = samples.into_iter().filter_map(number).collect();
            return self.write(family.kind, family.name, family.help, None, samples);
        }
        if samples.is_empty() {
            return Ok(());
        }
        let (name, help) = (family.name, family.help);
        let mut encoder =
            self.encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, sample) in samples {
            let Sample::Times { bounds_ms, counts, sum_ms } = sample else { continue };
            let bounds = bounds_ms.iter().map(|ms| ms / 1000.0).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
            let count = counts.iter().sum();
            encoder.encode_family(&labels)?.encode_histogram::<Labels>(
                sum_ms / 1000.0,
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
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
            Kind::Gauge | Kind::Seconds => MetricType::Gauge,
        };
        let put = |sample: MetricEncoder<'_>, value: f64| match kind {
            Kind::Counter => ConstCounter::new(value as u64).encode(sample),
            Kind::Gauge | Kind::Seconds => ConstGauge::new(value).encode(sample),
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
