//! What this node is doing, once and again: made from the rooms' own numbers, written to the ledger for the others, and
//! given to this node's board.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tiebeam_apps::{Instance, State as Supervised};
use tiebeam_edge::Edge;
use tiebeam_ledger::{Key, Register, Store, StoreError, Txn};
use tiebeam_postgres::{MemberRole, State};
use tiebeam_sql::Router;
use tiebeam_topology::{Database, Moment, NodeName, Role, Timeline};
use tiebeam_watch::{
    ClusterDatabaseView, DatabaseRole, DatabaseView, EdgeView, InstanceState, InstanceView, NodeView,
    PoolView, SqlView,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::board::{Board, REPORTS, durability_words, unix_ms};
use super::figures::Figures;
use super::rates::{Quantiles, Rate};
use super::{Here, counts, memory};

/// How often a node looks at itself.
const EVERY: Duration = Duration::from_millis(500);
/// How often it tells the others, unless its database's role changed.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Where the numbers come from.
pub struct Sources {
    pub edge: Option<Arc<Edge>>,
    pub router: Option<Arc<Router>>,
    pub apps: Option<watch::Receiver<Vec<Instance>>>,
    pub database: Option<watch::Receiver<Arc<State>>>,
}

pub struct Part {
    task: JoinHandle<()>,
    here: Arc<Here>,
}

impl Part {
    pub fn start(here: &Arc<Here>, board: &Arc<Board>, sources: Sources) -> Self {
        let reporter = Reporter {
            here: here.clone(),
            board: board.clone(),
            sources,
            started: Moment::now(),
            requests: Rate::default(),
            latency: Quantiles::default(),
            figures: Figures::default(),
            statements: Rate::default(),
        };
        Self { task: tokio::spawn(reporter.run()), here: here.clone() }
    }

    /// Another process tells from now on.
    pub fn leave(self) {
        self.task.abort();
    }

    /// Says that this node ends in order: it is not one that fell silent. Without a quorum nobody could hear it.
    pub async fn stop(self, time: Duration) {
        self.task.abort();
        if !self.here.ledger.status().quorum {
            return;
        }
        let node = &self.here.cluster.nodes[&self.here.name];
        let last = NodeView { ended: true, ..stamped(NodeView::silent(node.address, node.roles.clone())) };
        let _ = tokio::time::timeout(time, tell(&self.here, &last)).await;
    }
}

struct Reporter {
    here: Arc<Here>,
    board: Arc<Board>,
    sources: Sources,
    started: Moment,
    requests: Rate,
    latency: Quantiles,
    figures: Figures,
    statements: Rate,
}

impl Reporter {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told_at: Option<Moment> = None;
        loop {
            tick.tick().await;
            let now = Moment::now();
            let mine = self.look(now);
            if told_at.is_none_or(|at| now.since(at) >= TELL_EVERY) {
                match tell(&self.here, &mine).await {
                    Ok(()) => told_at = Some(now),
                    Err(error) => tracing::debug!(%error, "the report could not be written"),
                }
            }
            let database = self.cluster_database();
            let own = counts::own(&self.here, &self.board, &self.sources);
            self.board.refresh(mine, database, own).await;
        }
    }

    fn look(&mut self, now: Moment) -> NodeView {
        let node = &self.here.cluster.nodes[&self.here.name];
        let mut mine = NodeView::silent(node.address, node.roles.clone());
        mine.version = env!("CARGO_PKG_VERSION").into();
        mine.uptime_s = memory::uptime_s(self.started, now);
        mine.memory_bytes = memory::resident_bytes();
        mine.edge = self.sources.edge.clone().map(|edge| self.edge(&edge, now));
        mine.sql = self.sources.router.clone().and_then(|router| self.sql(&router, now));
        if let Some(instances) = &self.sources.apps {
            mine.apps = instances.borrow().iter().map(|i| instance(&self.here.name, i)).collect();
        }
        if mine.roles.contains(&Role::Database) {
            mine.database = self.sources.database.as_ref().map(|s| database(&s.borrow()));
        }
        stamped(mine)
    }

    fn edge(&mut self, edge: &Edge, now: Moment) -> EdgeView {
        let stats = edge.stats();
        let addresses = edge.addresses();
        let [p50_ms, _, p99_ms] = self.latency.of(stats.latency.bounds_ms, &stats.latency.counts, now);
        let pools = stats.pools.iter().map(|(name, pool)| self.figures.pool(name.as_str(), pool, now));
        let pools: Vec<PoolView> = pools.collect();
        EdgeView {
            http: addresses.http,
            https: addresses.https,
            connections: stats.connections.open,
            requests_total: stats.requests,
            ok_total: stats.responses.successful + stats.responses.redirection,
            client_errors_total: stats.responses.client_error,
            server_errors_total: stats.responses.server_error + stats.responses.cut,
            requests_per_s: self.requests.of(stats.requests, now),
            p50_ms,
            p99_ms,
            pools,
            sites: self.figures.sites(&stats.routes, now),
        }
    }

    fn sql(&mut self, router: &Router, now: Moment) -> Option<SqlView> {
        let address = self.here.cluster.sql_address(&self.here.name)?;
        let stats = router.stats();
        let writes_total = stats.servers.values().map(|s| s.writes).sum();
        let statements = stats.servers.values().map(|s| s.reads + s.writes).sum();
        Some(SqlView {
            address,
            clients: stats.clients,
            held: stats.waiting,
            reads_primary_total: stats.reads_primary.values().sum(),
            reads_replica_total: stats.reads_replica,
            reads_by_server_total: stats.servers.iter().map(|(n, s)| (n.clone(), s.reads)).collect(),
            writes_total,
            statements_per_s: self.statements.of(statements, now),
        })
    }

    /// What the ledger says of the database as a whole.
    fn cluster_database(&self) -> Option<ClusterDatabaseView> {
        let Some(Database::Managed(file)) = &self.here.cluster.database else { return None };
        let state = self.sources.database.as_ref()?.borrow().clone();
        let sync: BTreeMap<NodeName, bool> = state.members.iter().map(|(n, m)| (n.clone(), m.sync)).collect();
        Some(ClusterDatabaseView {
            epoch: state.lease.as_ref().map(|l| l.epoch).unwrap_or_default(),
            holder: state
                .lease
                .as_ref()
                .filter(|l| l.released.is_none() && !l.expired)
                .map(|l| l.holder.clone()),
            primary: state.primary.clone(),
            durability: durability_words(file, &sync),
            stopped_because: state.stopped_because.clone(),
        })
    }
}

/// With the moment at which it is told. It stays in the ledger when its node has died: who asks later must learn for how
/// long it has been silent.
fn stamped(mine: NodeView) -> NodeView {
    NodeView { reported_unix_ms: unix_ms(), ..mine }
}

async fn tell(here: &Here, mine: &NodeView) -> Result<(), StoreError> {
    let Ok(key) = Key::new(format!("{REPORTS}{}", here.name)) else { return Ok(()) };
    let Ok(put) = Register::new(key).put(mine, None) else { return Ok(()) };
    here.ledger.transact(Txn { compare: Vec::new(), then: vec![put] }).await.map(|_| ())
}

fn instance(node: &NodeName, i: &Instance) -> InstanceView {
    InstanceView {
        id: format!("{node}/{}", i.id),
        state: match i.state {
            Supervised::Starting => InstanceState::Starting,
            Supervised::Ready | Supervised::Unhealthy => InstanceState::Running,
            Supervised::Backoff { .. } => InstanceState::Failed,
            Supervised::Stopping => InstanceState::Stopping,
        },
        pid: i.pid,
        port: i.address.port(),
        restarts_total: i.restarts,
        ready: matches!(i.state, Supervised::Ready),
    }
}

fn database(state: &State) -> DatabaseView {
    let m = &state.me;
    DatabaseView {
        role: match m.role {
            MemberRole::Primary => DatabaseRole::Primary,
            MemberRole::Replica => DatabaseRole::Replica,
            MemberRole::Recovering => DatabaseRole::Starting,
            MemberRole::Copying => DatabaseRole::Cloning,
            MemberRole::Stopped => DatabaseRole::Stopped,
        },
        timeline: m.timeline.unwrap_or(Timeline(0)),
        lsn: m.current.or(m.replayed).unwrap_or_default(),
        lag_bytes: m.lag_bytes,
        lag_ms: m.lag_ms,
        streaming: m.streaming,
        sync: m.sync,
        accepting_writes: m.accepting_writes,
        stopped_because: state.stopped_because.clone(),
    }
}
