//! The cluster at one moment, as one node sees it. The wiring fills it about twice a second from what every node
//! reports; the pages, the metrics and `tiebeam status` only read it.
//!
//! Numbers are as reported: a node that is not `alive` keeps its last report, with its age. Every fraction is finite:
//! JSON, in which views travel, has no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::figures::{ServerFigures, SiteView};
use serde::{Deserialize, Deserializer, Serialize};
use tiebeam_topology::{ClusterName, Epoch, Lsn, NodeName, Role, Timeline};

/// Events that a view carries; older ones fall off. A bound on memory and on the page.
pub const EVENTS_MAX: usize = 100;
/// Longest text of an event, characters; the rest is cut where it is told.
pub const EVENT_TEXT_MAX: usize = 500;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub cluster: ClusterName,
    /// The node that made this view.
    pub this_node: NodeName,
    /// When it was made, wall clock of `this_node`, milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
    pub ledger: LedgerView,
    /// Every node of the file, alive or not.
    pub nodes: BTreeMap<NodeName, NodeView>,
    /// Present exactly when the file has a `[database]`.
    pub database: Option<ClusterDatabaseView>,
    /// Newest first, at most [`EVENTS_MAX`].
    pub events: Vec<Event>,
    /// What [`crate::judge`] said of the rest; [`View::judged`] fills it.
    pub verdict: Verdict,
}

impl View {
    /// An empty view to fill: no nodes, no leader.
    pub fn new(cluster: ClusterName, this_node: NodeName, unix_ms: u64) -> Self {
        Self {
            cluster,
            this_node,
            unix_ms,
            ledger: LedgerView::default(),
            nodes: BTreeMap::new(),
            database: None,
            events: Vec::new(),
            verdict: Verdict::default(),
        }
    }

    /// The same view with its verdict computed and its events bounded. Call it last.
    pub fn judged(mut self) -> Self {
        self.events.truncate(EVENTS_MAX);
        self.verdict = crate::judge(&self);
        self
    }

    /// Nodes that the file gives this role.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = (&NodeName, &NodeView)> {
        self.nodes.iter().filter(move |(_, n)| n.roles.contains(&role))
    }

    /// Every edge of a node that is alive.
    pub fn edges_alive(&self) -> impl Iterator<Item = (&NodeName, &EdgeView)> {
        self.nodes.iter().filter(|(_, n)| n.alive).filter_map(|(name, n)| Some((name, n.edge.as_ref()?)))
    }
}

/// The replicated store, as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LedgerView {
    pub leader: Option<NodeName>,
    /// More than half of the voters agree now; without it nothing new is decided.
    pub quorum: bool,
    /// Raft's term.
    pub term: u64,
    /// The last applied revision.
    pub revision: u64,
    pub voters: BTreeSet<NodeName>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    pub address: IpAddr,
    /// Empty for a witness.
    #[serde(deserialize_with = "roles")]
    pub roles: BTreeSet<Role>,
    /// It reported lately.
    pub alive: bool,
    /// Its last report says that it ends in order.
    #[serde(default)]
    pub ended: bool,
    /// Since its last report; `None` if it never reported.
    pub report_age_ms: Option<u64>,
    /// When it made that report by its own wall clock, milliseconds since 1970; 0 if it never reported.
    #[serde(default)]
    pub reported_unix_ms: u64,
    /// Of Tiebeam, as `tiebeam --version` prints it.
    pub version: String,
    pub uptime_s: u64,
    /// Resident memory of the daemon.
    pub memory_bytes: u64,
    pub edge: Option<EdgeView>,
    pub apps: Vec<InstanceView>,
    pub sql: Option<SqlView>,
    pub database: Option<DatabaseView>,
}

impl NodeView {
    /// A node that has not reported yet.
    pub fn silent(address: IpAddr, roles: BTreeSet<Role>) -> Self {
        Self {
            address,
            roles,
            alive: false,
            ended: false,
            report_age_ms: None,
            reported_unix_ms: 0,
            version: String::new(),
            uptime_s: 0,
            memory_bytes: 0,
            edge: None,
            apps: Vec::new(),
            sql: None,
            database: None,
        }
    }
}

/// One HTTP load balancer. Totals count since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EdgeView {
    pub http: Option<SocketAddr>,
    pub https: Option<SocketAddr>,
    /// Client connections open now.
    pub connections: u64,
    pub requests_total: u64,
    /// Answers with a status below 400.
    pub ok_total: u64,
    /// Answers 400 to 499.
    pub client_errors_total: u64,
    /// Answers 500 to 599, and requests that got none.
    pub server_errors_total: u64,
    pub requests_per_s: f64,
    /// From a request's first byte to its answer's last, over the last seconds; `None` without requests.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub pools: Vec<PoolView>,
    /// As many as are told apart.
    #[serde(default)]
    pub sites: Vec<SiteView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolView {
    pub name: String,
    /// Requests that went to another server than the one whose turn it was.
    pub out_of_turn_total: u64,
    /// Requests that wait now because all servers have as many as they may.
    pub waiting: u64,
    pub waited_total: u64,
    /// Servers that were taken out for what clients met.
    pub ejections_total: u64,
    /// Requests that were sent to a second server, since the first was slow.
    pub hedges_total: u64,
    /// Requests that were not sent again, since the budget for that was spent.
    pub over_budget_total: u64,
    /// Requests that were sent whatever the state of the server, since too few served.
    pub panics_total: u64,
    pub servers: Vec<ServerView>,
}

/// A server of a pool, as one edge sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerView {
    /// `a/web.1` for an instance of an app, `10.0.0.9:3000` for a server of the file.
    pub id: String,
    pub state: ServerState,
    pub in_flight: u64,
    pub requests_total: u64,
    pub failures_total: u64,
    #[serde(default)]
    pub figures: ServerFigures,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    Serving,
    Draining,
    Ejected,
    Probing,
}

impl ServerState {
    pub const ALL: [Self; 4] = [Self::Serving, Self::Draining, Self::Ejected, Self::Probing];

    pub fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Ejected => "ejected",
            Self::Probing => "probing",
        }
    }
}

/// One process of an app on its node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    /// `a/web.1`: the node, the app, the number.
    pub id: String,
    pub state: InstanceState,
    pub pid: Option<u32>,
    pub port: u16,
    pub restarts_total: u64,
    /// It answered its last health check.
    pub ready: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    Starting,
    Running,
    Stopping,
    Stopped,
    /// It ended by itself and waits for its next start.
    Failed,
}

impl InstanceState {
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// One router for PostgreSQL. Totals count since its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SqlView {
    pub address: SocketAddr,
    /// Client sessions open now.
    pub clients: u64,
    /// Sessions that wait for a primary now.
    pub held: u64,
    /// Reads that could have gone to a replica, by the role of the server that had them.
    pub reads_primary_total: u64,
    pub reads_replica_total: u64,
    /// The same reads by server, whatever its role was: a node changes it with each failover.
    pub reads_by_server_total: BTreeMap<NodeName, u64>,
    pub writes_total: u64,
    pub statements_per_s: f64,
}

/// One PostgreSQL instance, as its own node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatabaseView {
    pub role: DatabaseRole,
    pub timeline: Timeline,
    /// Written (primary) or replayed (replica) up to here.
    pub lsn: Lsn,
    /// Behind the primary; `None` on a primary and where it is not known.
    pub lag_bytes: Option<u64>,
    pub lag_ms: Option<u64>,
    /// A replica: it receives from the primary now.
    pub streaming: bool,
    /// A replica: commits wait for it, or may.
    pub sync: bool,
    /// A primary: clients may write now.
    pub accepting_writes: bool,
    /// Why no node accepts writes although one should, as this node's agent sees it.
    #[serde(default)]
    pub stopped_because: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseRole {
    Primary,
    Replica,
    /// Becomes the primary now.
    Promoting,
    /// An ex-primary goes back to where it left the new primary's history.
    Rewinding,
    /// Copies the primary anew.
    Cloning,
    Starting,
    Stopped,
}

impl DatabaseRole {
    pub const ALL: [Self; 7] = [
        Self::Primary,
        Self::Replica,
        Self::Promoting,
        Self::Rewinding,
        Self::Cloning,
        Self::Starting,
        Self::Stopped,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Promoting => "promoting",
            Self::Rewinding => "rewinding",
            Self::Cloning => "cloning",
            Self::Starting => "starting",
            Self::Stopped => "stopped",
        }
    }
}

/// What the ledger says of the database as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterDatabaseView {
    pub epoch: Epoch,
    /// Who has the lease.
    pub holder: Option<NodeName>,
    /// Who acknowledges writes now; `None` during a failover.
    pub primary: Option<NodeName>,
    /// `quorum`, `strict` or `async`, and what it means at this moment, for people.
    pub durability: String,
    /// Why writes are stopped on purpose, as a sentence; `None` when they are not.
    pub stopped_because: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub unix_ms: u64,
    /// Where it happened; `None` for the cluster.
    pub node: Option<NodeName>,
    pub level: Level,
    /// One sentence in plain language. Not trusted: each reader escapes it for its medium.
    pub text: String,
}

/// How bad. Ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    #[default]
    Info,
    /// Everything answers, but something is missing or near.
    Warning,
    /// Something does not answer, or is about to be lost.
    Alarm,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Alarm => "alarm",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What is wrong, and what would die with which node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The worst of the findings; `Info` when nothing is wrong.
    pub level: Level,
    /// One sentence for the top of a page.
    pub headline: String,
    /// Worst first. Empty when nothing is wrong.
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub level: Level,
    /// A sentence, with what to do next where there is something.
    pub text: String,
}

/// Roles come as their words; `topology` only writes them.
fn roles<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<Role>, D::Error> {
    let words = Vec::<String>::deserialize(from)?;
    words
        .into_iter()
        .map(|word| match word.as_str() {
            "edge" => Ok(Role::Edge),
            "app" => Ok(Role::App),
            "database" => Ok(Role::Database),
            _ => Err(serde::de::Error::unknown_variant(&word, &["edge", "app", "database"])),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_view_travels_as_json() {
        for view in [fixtures::healthy(), fixtures::failover(), fixtures::many(20)] {
            let text = serde_json::to_string(&view).unwrap();
            assert_eq!(serde_json::from_str::<View>(&text).unwrap(), view);
        }
        assert!(serde_json::from_str::<View>("{}").is_err());
    }

    #[test]
    fn a_view_stays_small_whatever_was_told() {
        let mut view = fixtures::many(20);
        let event = Event { text: "x".repeat(EVENT_TEXT_MAX), ..view.events[0].clone() };
        view.events = vec![event; 3 * EVENTS_MAX];
        let bytes = serde_json::to_string(&view.judged()).unwrap().len();
        assert!(bytes < 160 << 10, "{bytes}");
    }

    #[test]
    fn events_are_bounded() {
        let mut view = fixtures::healthy();
        let event = view.events[0].clone();
        view.events = vec![event; 3 * EVENTS_MAX];
        assert_eq!(view.judged().events.len(), EVENTS_MAX);
    }
}
