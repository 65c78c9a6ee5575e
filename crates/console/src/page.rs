//! The page as values for its template: every number is made into words here, the template only places them. Pure;
//! `now` is a parameter.

use std::collections::BTreeMap;

use askama::Template;
use tiebeam_topology::Role;
use tiebeam_watch::words::{age, bytes, clock, count, list, rate, rfc3339, uptime};
use tiebeam_watch::{Level, ServerState, View, series_name};

use crate::routes::STALE_MS;
use crate::{Board, scene, svg};

/// Events that the page shows; `/view.json` has more.
const EVENTS_SHOWN: usize = 50;

pub fn render(board: &Board, now_ms: u64) -> Result<String, askama::Error> {
    let view = board.view();
    let errors_per_s = board.latest(series_name::ERRORS_PER_S, view.unix_ms / 1000);
    page(&view, errors_per_s, now_ms).render()
}

fn page(view: &View, errors_per_s: Option<f64>, now_ms: u64) -> Page {
    let age_ms = now_ms.saturating_sub(view.unix_ms);
    Page {
        cluster: view.cluster.to_string(),
        this_node: view.this_node.to_string(),
        as_of: Moment::of(view.unix_ms),
        stale: (age_ms > STALE_MS).then(|| age(age_ms)),
        level: view.verdict.level,
        headline: view.verdict.headline.clone(),
        findings: findings(view),
        cards: cards(view, errors_per_s),
        wide: svg::svg(&scene::wide(view), "wide"),
        tall: svg::svg(&scene::tall(view), "tall"),
        has_database: view.database.is_some(),
        durability: view.database.as_ref().map(|d| d.durability.clone()).unwrap_or_default(),
        nodes: nodes(view),
        pools: pools(view),
        routers: routers(view),
        events: events(view),
    }
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    cluster: String,
    this_node: String,
    as_of: Moment,
    /// How old the view is, if that is too old.
    stale: Option<String>,
    level: Level,
    headline: String,
    findings: Vec<(Level, String)>,
    cards: Vec<Card>,
    /// SVG, escaped where it is made.
    wide: String,
    tall: String,
    has_database: bool,
    durability: String,
    nodes: Vec<NodeRow>,
    pools: Vec<PoolTable>,
    routers: Vec<RouterRow>,
    events: Vec<EventRow>,
}

struct Moment {
    iso: String,
    clock: String,
}

impl Moment {
    fn of(unix_ms: u64) -> Self {
        Self { iso: rfc3339(unix_ms), clock: clock(unix_ms) }
    }
}

struct Card {
    name: &'static str,
    value: String,
    unit: &'static str,
    note: String,
    level: Level,
}

struct NodeRow {
    name: String,
    address: String,
    roles: String,
    state: String,
    level: Level,
    report: String,
    uptime: String,
    memory: String,
    version: String,
}

struct PoolTable {
    name: String,
    out_of_turn: String,
    servers: Vec<ServerRow>,
}

struct ServerRow {
    id: String,
    state: String,
    level: Level,
    in_flight: String,
    requests: String,
    failures: String,
}

struct RouterRow {
    node: String,
    address: String,
    clients: String,
    held: String,
    reads_primary: String,
    reads_replicas: String,
    reads_by_server: String,
    writes: String,
}

struct EventRow {
    at: Moment,
    level: Level,
    node: String,
    text: String,
}

fn findings(view: &View) -> Vec<(Level, String)> {
    let rest = view.verdict.findings.iter().filter(|f| f.text != view.verdict.headline);
    rest.map(|f| (f.level, f.text.clone())).collect()
}

fn cards(view: &View, errors_per_s: Option<f64>) -> Vec<Card> {
    let edges = || view.edges_alive().map(|(_, e)| e);
    let requests: f64 = edges().map(|e| e.requests_per_s).sum();
    let connections: u64 = edges().map(|e| e.connections).sum();
    let failed: u64 = edges().map(|e| e.server_errors_total).sum();
    let errors = errors_per_s.unwrap_or(0.0);
    let p99 = edges().filter_map(|e| e.p99_ms).reduce(f64::max);
    let p50 = edges().filter_map(|e| e.p50_ms).reduce(f64::max);
    let card = |name, value, unit, note, level| Card { name, value, unit, note, level };
    let mut cards = vec![
        card("Requests", rate(requests), "/s", format!("{} connections", count(connections)), Level::Info),
        card(
            "Errors",
            rate(errors),
            "/s",
            format!("{} so far (5xx)", count(failed)),
            if errors > 0.0 { Level::Warning } else { Level::Info },
        ),
        card(
            "99 of 100 within",
            p99.map_or("–".into(), rate),
            "ms",
            p50.map_or("no requests yet".into(), |p| format!("half within {} ms", rate(p))),
            Level::Info,
        ),
    ];
    let Some(database) = &view.database else { return cards };
    let primary = database.primary.as_ref();
    let timeline = primary.and_then(|p| view.nodes.get(p)?.database.as_ref()).map(|d| d.timeline);
    let note = match (primary, timeline) {
        (Some(_), Some(t)) => format!("epoch {}, timeline {t}", database.epoch),
        (Some(_), None) => format!("epoch {}", database.epoch),
        (None, _) => format!("last epoch {}", database.epoch),
    };
    let level = if primary.is_none() { Level::Alarm } else { Level::Info };
    cards.push(card("Primary", primary.map_or("none".into(), |p| p.to_string()), "", note, level));
    let lags = view.nodes.iter().filter(|(_, n)| n.alive).filter_map(|(name, n)| {
        let d = n.database.as_ref()?;
        Some((d.lag_bytes?, d.lag_ms, name))
    });
    cards.push(match lags.max() {
        Some((lag, ms, name)) => {
            let note = ms.map_or(format!("replica {name}"), |ms| format!("replica {name}, {}", age(ms)));
            card("Lag at most", bytes(lag), "", note, Level::Info)
        }
        None if view.with_role(Role::Database).count() < 2 => {
            card("Lag at most", "–".into(), "", "no replica in the file".into(), Level::Info)
        }
        None => card("Lag at most", "–".into(), "", "no replica receives".into(), Level::Warning),
    });
    cards
}

fn nodes(view: &View) -> Vec<NodeRow> {
    let role = |r: &Role| match r {
        Role::Edge => "edge",
        Role::App => "app",
        Role::Database => "database",
    };
    let row = |(name, n): (&tiebeam_topology::NodeName, &tiebeam_watch::NodeView)| NodeRow {
        name: name.to_string(),
        address: n.address.to_string(),
        roles: if n.roles.is_empty() { "witness".into() } else { list(n.roles.iter().map(role), "and") },
        state: match (n.alive, n.ended) {
            (true, _) => "alive",
            (false, true) => "ended in order",
            (false, false) => "down",
        }
        .into(),
        level: match (n.alive, n.ended) {
            (true, _) => Level::Info,
            (false, true) => Level::Warning,
            (false, false) => Level::Alarm,
        },
        report: n.report_age_ms.map_or("never".into(), |ms| format!("{} ago", age(ms))),
        uptime: if n.alive { uptime(n.uptime_s) } else { "–".into() },
        memory: if n.alive { bytes(n.memory_bytes) } else { "–".into() },
        version: if n.version.is_empty() { "–".into() } else { n.version.clone() },
    };
    view.nodes.iter().map(row).collect()
}

/// Each server once; where edges differ, each state with the edges that see it.
fn pools(view: &View) -> Vec<PoolTable> {
    #[derive(Default)]
    struct Sum {
        states: BTreeMap<ServerState, Vec<String>>,
        in_flight: u64,
        requests: u64,
        failures: u64,
    }
    let mut pools = BTreeMap::<&str, (u64, BTreeMap<&str, Sum>)>::new();
    for (edge, pool) in view.edges_alive().flat_map(|(n, e)| e.pools.iter().map(move |p| (n, p))) {
        let (out_of_turn, servers) = pools.entry(&pool.name).or_default();
        *out_of_turn += pool.out_of_turn_total;
        for s in &pool.servers {
            let sum = servers.entry(&s.id).or_default();
            sum.states.entry(s.state).or_default().push(edge.to_string());
            sum.in_flight += s.in_flight;
            sum.requests += s.requests_total;
            sum.failures += s.failures_total;
        }
    }
    let server = |(id, sum): (&str, Sum)| {
        let state = match sum.states.len() {
            1 => sum.states.keys().map(|s| s.word().to_owned()).collect(),
            _ => {
                let seen =
                    sum.states.iter().map(|(s, edges)| format!("{} by {}", s.word(), list(edges, "and")));
                seen.collect::<Vec<_>>().join(", ")
            }
        };
        let level = match sum.states.keys().max() {
            Some(ServerState::Serving) => Level::Info,
            Some(ServerState::Ejected) => Level::Alarm,
            _ => Level::Warning,
        };
        ServerRow {
            id: id.to_owned(),
            state,
            level,
            in_flight: count(sum.in_flight),
            requests: count(sum.requests),
            failures: count(sum.failures),
        }
    };
    let table = |(name, (out_of_turn, servers)): (&str, (u64, BTreeMap<&str, Sum>))| PoolTable {
        name: name.to_owned(),
        out_of_turn: count(out_of_turn),
        servers: servers.into_iter().map(server).collect(),
    };
    pools.into_iter().map(table).collect()
}

fn routers(view: &View) -> Vec<RouterRow> {
    let alive = view.nodes.iter().filter(|(_, n)| n.alive);
    let row = |(name, s): (&tiebeam_topology::NodeName, &tiebeam_watch::SqlView)| RouterRow {
        node: name.to_string(),
        address: s.address.to_string(),
        clients: count(s.clients),
        held: count(s.held),
        reads_primary: count(s.reads_primary_total),
        reads_replicas: count(s.reads_replica_total),
        reads_by_server: match s.reads_by_server_total.is_empty() {
            true => "–".into(),
            false => {
                let each =
                    s.reads_by_server_total.iter().map(|(server, n)| format!("{server}: {}", count(*n)));
                each.collect::<Vec<_>>().join(", ")
            }
        },
        writes: count(s.writes_total),
    };
    alive.filter_map(|(name, n)| Some((name, n.sql.as_ref()?))).map(row).collect()
}

fn events(view: &View) -> Vec<EventRow> {
    let row = |e: &tiebeam_watch::Event| EventRow {
        at: Moment::of(e.unix_ms),
        level: e.level,
        node: e.node.as_ref().map(|n| n.to_string()).unwrap_or_default(),
        text: e.text.clone(),
    };
    view.events.iter().take(EVENTS_SHOWN).map(row).collect()
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
