//! What the picture says, before anything is placed: of each node its parts, and the words on the lines between them.

use tiebeam_topology::{NodeName, Role};
use tiebeam_watch::words::{age, bytes, count, list, rate, uptime};
use tiebeam_watch::{
    DatabaseRole, DatabaseView, EdgeView, InstanceState, InstanceView, NodeView, ServerState, SqlView, View,
};

use super::Tone;

/// Instances of apps that a node shows; the rest are counted.
const INSTANCES_MAX: usize = 4;

pub struct Picture {
    pub title: String,
    pub clients: String,
    pub columns: Vec<Column>,
    /// Between routers and databases: words for writes and for reads, and whether they flow.
    pub writes: Flowing,
    pub reads: Flowing,
    pub replication: Flowing,
    pub ledger: Flowing,
    pub has_database: bool,
}

pub struct Flowing {
    pub text: String,
    pub flows: bool,
}

pub struct Column {
    pub name: String,
    pub address: String,
    /// `up 3 h`, `DOWN, 4.2 s`.
    pub state: String,
    pub alive: bool,
    /// It should answer clients, and whether it does.
    pub edge: Option<Part>,
    pub apps: Vec<Part>,
    pub sql: Option<Part>,
    pub database: Option<Part>,
    pub is_primary: bool,
    /// It receives from the primary.
    pub is_replica: bool,
    /// Reads go to it: it receives, or there is no primary that it could receive from.
    pub is_read: bool,
    pub voter: Option<Part>,
}

#[derive(Clone)]
pub struct Part {
    /// `edge of a`, for those who hear the picture.
    pub of: String,
    pub title: String,
    pub mark: String,
    pub tone: Tone,
    pub details: Vec<String>,
}

impl Part {
    pub fn tip(&self) -> String {
        let details: String = self.details.iter().map(|d| format!(", {d}")).collect();
        format!("{}: {}{details}", self.of, self.mark)
    }

    pub fn works(&self) -> bool {
        matches!(self.tone, Tone::Quiet | Tone::Good | Tone::Strong)
    }
}

pub fn picture(view: &View, narrow: bool) -> Picture {
    let columns: Vec<Column> = view.nodes.iter().map(|(name, n)| column(view, name, n, narrow)).collect();
    let requests: f64 = view.edges_alive().map(|(_, e)| e.requests_per_s).sum();
    let database = view.database.as_ref();
    let primary = database.and_then(|d| d.primary.as_ref());
    let held: u64 =
        view.nodes.values().filter(|n| n.alive).filter_map(|n| n.sql.as_ref()).map(|s| s.held).sum();
    let read = columns.iter().any(|c| c.is_read);
    let writes = match primary {
        Some(_) if database.is_some_and(|d| d.stopped_because.is_some()) => "writes are stopped".to_owned(),
        Some(_) => "writes".into(),
        None if held > 0 => format!("writes wait: {}", count(held)),
        None => "writes wait".into(),
    };
    Picture {
        title: title(view, primary),
        clients: format!("clients: {} requests/s", rate(requests)),
        writes: Flowing { text: writes, flows: primary.is_some() },
        reads: Flowing {
            text: match (primary, read) {
                (Some(_), false) => "reads: primary only".into(),
                _ => "reads".into(),
            },
            flows: primary.is_some() || read,
        },
        replication: replication(view, primary),
        ledger: ledger(view, narrow),
        has_database: database.is_some(),
        columns,
    }
}

fn title(view: &View, primary: Option<&NodeName>) -> String {
    let down: Vec<&NodeName> = view.nodes.iter().filter(|(_, n)| !n.alive).map(|(name, _)| name).collect();
    let down =
        if down.is_empty() { "all nodes are up".into() } else { format!("down: {}", list(down, "and")) };
    let primary = match (view.database.is_some(), primary) {
        (false, _) => String::new(),
        (true, Some(p)) => format!("; the primary is {p}"),
        (true, None) => "; there is no primary".into(),
    };
    format!("Cluster {}, {} nodes, {down}{primary}", view.cluster, view.nodes.len())
}

fn streaming(view: &View) -> impl Iterator<Item = &DatabaseView> {
    let databases = view.nodes.values().filter(|n| n.alive).filter_map(|n| n.database.as_ref());
    databases.filter(|d| d.role == DatabaseRole::Replica && d.streaming)
}

fn replication(view: &View, primary: Option<&NodeName>) -> Flowing {
    let replicas = streaming(view).count();
    if primary.is_none() {
        return Flowing { text: "nothing is replicated".into(), flows: false };
    }
    let lag = streaming(view).filter_map(|d| d.lag_bytes).max();
    let text = match (replicas, lag) {
        (0, _) => "no replica receives".into(),
        (_, Some(lag)) => format!("replication, at most {} behind", bytes(lag)),
        _ => "replication".into(),
    };
    Flowing { text, flows: replicas > 0 }
}

fn ledger(view: &View, narrow: bool) -> Flowing {
    let l = &view.ledger;
    let alive = l.voters.iter().filter(|v| view.nodes.get(*v).is_some_and(|n| n.alive)).count();
    let leader = l.leader.as_ref().map_or("no leader".into(), |n| format!("leader {n}"));
    let quorum = if l.quorum { "quorum" } else { "NO QUORUM" };
    let mut text = format!("ledger: {quorum}, {alive} of {} voters, {leader}", l.voters.len());
    if !narrow {
        text += &format!(", term {}, revision {}", l.term, count(l.revision));
    }
    Flowing { text, flows: l.quorum }
}

fn column(view: &View, name: &NodeName, n: &NodeView, narrow: bool) -> Column {
    let state = match (n.alive, n.report_age_ms) {
        (true, _) => format!("up {}", uptime(n.uptime_s)),
        (false, Some(ms)) if n.ended => format!("✕ ENDED {}", age(ms)),
        (false, Some(ms)) => format!("✕ DOWN {}", age(ms)),
        (false, None) => "✕ DOWN".into(),
    };
    let dead = |of: &str, title: String| Part {
        of: format!("{of} of {name}"),
        title,
        mark: "down".into(),
        tone: Tone::Bad,
        details: Vec::new(),
    };
    let edge = n.roles.contains(&Role::Edge).then(|| match &n.edge {
        Some(e) if n.alive => edge(name, e, narrow),
        _ => dead("edge", "edge".into()),
    });
    let mut apps: Vec<Part> = n.apps.iter().map(|a| instance(view, name, a, n.alive, narrow)).collect();
    if apps.len() > INSTANCES_MAX {
        let rest = apps.split_off(INSTANCES_MAX - 1);
        let work = rest.iter().filter(|p| p.works()).count();
        let tone = if work == rest.len() { Tone::Good } else { Tone::Busy };
        apps.push(Part {
            of: format!("more instances on {name}"),
            title: format!("+ {}", rest.len()),
            mark: format!("{work} serving"),
            tone,
            details: Vec::new(),
        });
    }
    let sql = n.sql.as_ref().map(|s| {
        if n.alive {
            router(name, s, narrow)
        } else {
            dead("router", if narrow { "sql" } else { "sql router" }.into())
        }
    });
    let database = n.roles.contains(&Role::Database).then(|| match &n.database {
        Some(d) if n.alive => database(view, name, d, narrow),
        Some(d) => {
            Part { details: vec![format!("was {}", d.role.word())], ..dead("database", "database".into()) }
        }
        None => dead("database", "database".into()),
    });
    let voter = view.ledger.voters.contains(name).then(|| {
        let leads = view.ledger.leader.as_ref() == Some(name);
        if !n.alive {
            return dead("voter", "voter".into());
        }
        let mark = if leads { "leader" } else { "follows" };
        let tone = if leads { Tone::Good } else { Tone::Quiet };
        Part { of: format!("voter {name}"), title: "voter".into(), mark: mark.into(), tone, details: vec![] }
    });
    let primary = view.database.as_ref().and_then(|d| d.primary.as_ref());
    let replica = n.database.as_ref().filter(|d| n.alive && d.role == DatabaseRole::Replica);
    Column {
        name: name.to_string(),
        address: n.address.to_string(),
        state,
        alive: n.alive,
        edge,
        apps,
        sql,
        database,
        is_primary: primary == Some(name),
        is_replica: replica.is_some_and(|d| d.streaming),
        is_read: replica.is_some_and(|d| d.streaming || primary.is_none()),
        voter,
    }
}

fn edge(name: &NodeName, e: &EdgeView, narrow: bool) -> Part {
    let requests = format!("{} req/s", rate(e.requests_per_s));
    let p99 = e.p99_ms.map(|p| format!("p99 {} ms", rate(p)));
    let connections = format!("{} connections", count(e.connections));
    let details = match (narrow, p99) {
        (true, p99) => vec![requests, p99.unwrap_or_else(|| "p99 –".into())],
        (false, Some(p99)) => vec![format!("{requests} · {p99}"), connections],
        (false, None) => vec![requests, connections],
    };
    Part {
        of: format!("edge of {name}"),
        title: "edge".into(),
        mark: "answers".into(),
        tone: Tone::Good,
        details,
    }
}

/// An instance is what the edges say of it; one that no edge knows is what its own node says.
fn instance(view: &View, name: &NodeName, a: &InstanceView, alive: bool, narrow: bool) -> Part {
    let seen = view.edges_alive().flat_map(|(_, e)| &e.pools).flat_map(|p| &p.servers);
    let state = seen.filter(|s| s.id == a.id).map(|s| s.state).min();
    let (mark, tone) = match (alive, state, a.state) {
        (false, ..) => ("down", Tone::Bad),
        (_, _, InstanceState::Failed) => ("failed", Tone::Bad),
        (_, Some(ServerState::Serving), _) => ("serving", Tone::Good),
        (_, Some(ServerState::Ejected), _) => ("ejected", Tone::Bad),
        (_, Some(other), _) => (other.word(), Tone::Busy),
        (_, None, InstanceState::Running) if a.ready => ("ready", Tone::Good),
        (_, None, other) => (other.word(), Tone::Busy),
    };
    let short = a.id.rsplit('/').next().unwrap_or(&a.id).to_owned();
    let restarts = (a.restarts_total > 0).then(|| format!("{} restarts", count(a.restarts_total)));
    let details = match (alive, narrow, restarts) {
        (false, ..) => vec![],
        (_, true, Some(restarts)) => vec![restarts],
        (_, _, None) => vec![format!("port {}", a.port)],
        (_, false, Some(restarts)) => vec![format!("port {} · {restarts}", a.port)],
    };
    Part { of: format!("{short} on {name}"), title: short, mark: mark.into(), tone, details }
}

fn router(name: &NodeName, s: &SqlView, narrow: bool) -> Part {
    let speed = format!("{} stmt/s", rate(s.statements_per_s));
    let (mark, tone) = match s.held {
        0 => ("routes".to_owned(), Tone::Good),
        n => (format!("holds {}", count(n)), Tone::Busy),
    };
    let details = if narrow { vec![speed] } else { vec![format!("{} · {speed}", s.address)] };
    let title = if narrow { "sql" } else { "sql router" };
    Part { of: format!("router of {name}"), title: title.into(), mark, tone, details }
}

fn database(view: &View, name: &NodeName, d: &DatabaseView, narrow: bool) -> Part {
    let lag = match (d.lag_bytes, d.lag_ms) {
        (Some(b), Some(ms)) if narrow => vec![bytes(b), format!("{} behind", age(ms))],
        (Some(b), Some(ms)) => vec![format!("{} · {} behind", bytes(b), age(ms))],
        (Some(b), None) => vec![format!("{} behind", bytes(b))],
        _ => vec!["lag not known".into()],
    };
    let epoch = view.database.as_ref().map_or(0, |c| c.epoch.0);
    let timeline = format!("timeline {}", d.timeline);
    let position = (!narrow).then(|| format!("at {}", d.lsn));
    let (mark, tone, mut details) = match d.role {
        DatabaseRole::Primary if d.accepting_writes && narrow => {
            ("writes", Tone::Strong, vec![format!("epoch {epoch}"), timeline])
        }
        DatabaseRole::Primary if d.accepting_writes => {
            ("writes", Tone::Strong, vec![format!("epoch {epoch}, {timeline}")])
        }
        DatabaseRole::Primary => ("no writes", Tone::Busy, vec![timeline]),
        DatabaseRole::Replica if d.streaming && d.sync => ("sync", Tone::Good, lag),
        DatabaseRole::Replica if d.streaming => ("streams", Tone::Good, lag),
        DatabaseRole::Replica => ("cut off", Tone::Busy, vec![timeline]),
        DatabaseRole::Stopped => ("stopped", Tone::Bad, vec![]),
        other => (other.word(), Tone::Busy, vec![]),
    };
    details.extend(position.filter(|_| d.role != DatabaseRole::Stopped));
    let title = match d.role {
        DatabaseRole::Primary | DatabaseRole::Replica => d.role.word(),
        _ => "database",
    };
    Part { of: format!("{title} on {name}"), title: title.into(), mark: mark.into(), tone, details }
}
