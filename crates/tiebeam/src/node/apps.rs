//! The application servers of this node: gives them what they need to run, and writes the ready ones to the ledger,
//! where every edge finds them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tiebeam_apps::{Happening, Instance, Secret, State, Supervisor};
use tiebeam_ledger::{Key, LeaseId, Op, Read, Register, Store, StoreError, Txn};
use tiebeam_postgres::{AppSecret, keys};
use tiebeam_topology::{AppName, Cluster, Database, HealthCheck, Members, NodeName};
use tiebeam_watch::Level;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::Here;
use super::board::Board;

/// Instances that take requests: `apps/web/a/web.1`.
pub const APPS: &str = "apps/";
/// A node that dies takes its instances out of the pools after this long, if no edge has noticed before.
const LEASE: Duration = Duration::from_secs(5);
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// The end of a node waits no longer for the ledger to take its instances out; without a quorum the lease does.
const DEREGISTER_TIME: Duration = Duration::from_millis(500);
/// Apps that wait longer for the database's log-in are told of, once.
const SECRET_TIME: Duration = Duration::from_secs(10);
const SECRET_EVERY: Duration = Duration::from_millis(100);

/// An instance as edges know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub node: NodeName,
    pub address: SocketAddr,
}

pub struct Part {
    instances: watch::Receiver<Vec<Instance>>,
    /// The ledger lists them, none of an earlier process.
    registered: watch::Receiver<bool>,
    register: JoinHandle<()>,
    run: JoinHandle<()>,
    stop: oneshot::Sender<Duration>,
    here: Arc<Here>,
}

impl Part {
    /// The instances that the ledger lists are kept there for `replacing`, if they are of a process before this one that
    /// still runs them: then this one's take their places together, once all are ready.
    pub fn start(here: &Arc<Here>, board: &Arc<Board>, replacing: Option<Duration>) -> Self {
        let (publish, instances) = watch::channel(Vec::new());
        let (stop, stopped) = oneshot::channel();
        let (tell, registered) = watch::channel(false);
        let run = tokio::spawn(run(here.clone(), board.clone(), publish, stopped));
        let (of, mut seen) = (here.clone(), instances.clone());
        let register = tokio::spawn(async move {
            if let (Some(time), false) = (replacing, of.cluster.apps.is_empty()) {
                let _ = tokio::time::timeout(time, seen.wait_for(|all| are_ready(all))).await;
            }
            register(of, seen, tell).await;
        });
        Self { instances, registered, register, run, stop, here: here.clone() }
    }

    /// Waits until the ledger lists this process's instances; which of them are not ready then, in words.
    pub async fn replaced(&self, time: Duration) -> Vec<String> {
        let _ = tokio::time::timeout(time, self.registered.clone().wait_for(|is_listed| *is_listed)).await;
        let instances = self.instances.borrow();
        let late = instances.iter().filter(|i| i.state != State::Ready);
        let mut notes: Vec<String> = late.map(|i| format!("{} is not ready", i.id)).collect();
        if instances.is_empty() && !self.here.cluster.apps.is_empty() {
            notes.push("no app has been started yet".into());
        }
        notes
    }

    /// Keeps the ready instances in the ledger for `time`, although this process looks after them there no more.
    pub async fn stay_registered(&self, time: Duration) {
        self.register.abort();
        let wanted = ready(&self.here, &self.instances.borrow());
        let staying = async {
            let lease = self.here.ledger.grant(time).await?;
            write(&self.here, lease, &wanted).await
        };
        match tokio::time::timeout(DEREGISTER_TIME, staying).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the instances of this node may leave the pools for a while")
            }
            Err(_) => tracing::warn!(
                "the ledger is slow: the instances of this node may leave the pools for a while"
            ),
        }
    }

    /// Ended within `time`; what the ledger lists is another process's.
    pub async fn end(self, time: Duration) {
        self.register.abort();
        // It may have ended already, if it could not start.
        let _ = self.stop.send(time);
        let _ = self.run.await;
    }

    pub fn instances(&self) -> watch::Receiver<Vec<Instance>> {
        self.instances.clone()
    }

    /// Out of the pools first, then ended; both within `time`.
    pub async fn stop(self, time: Duration) {
        let began = Instant::now();
        self.register.abort();
        let ops = self
            .here
            .cluster
            .apps
            .keys()
            .map(|app| Op::DeletePrefix { prefix: prefix(app, &self.here.name) });
        let gone = self.here.ledger.transact(Txn { compare: Vec::new(), then: ops.collect() });
        let _ = tokio::time::timeout(DEREGISTER_TIME, gone).await;
        self.end(time.saturating_sub(began.elapsed())).await;
    }
}

/// Runs the apps once their environment is known, until told to stop.
async fn run(
    here: Arc<Here>,
    board: Arc<Board>,
    publish: watch::Sender<Vec<Instance>>,
    mut stopped: oneshot::Receiver<Duration>,
) {
    let env = tokio::select! {
        env = environment(&here, &board) => env,
        _ = &mut stopped => return,
    };
    let mut supervisor = match Supervisor::start(tiebeam_apps::Settings {
        node: here.name.clone(),
        address: here.cluster.nodes[&here.name].address,
        apps: here.cluster.apps.clone(),
        env,
        log_dir: here.options.data.join("apps"),
        folder: here.options.folder.clone(),
        health: health(&here.cluster),
        descriptors: here.options.descriptors,
    }) {
        Ok(supervisor) => supervisor,
        Err(error) => {
            board.tell(Level::Alarm, format!("no app runs on {}: {error}", here.name));
            return;
        }
    };
    let mut instances = supervisor.instances();
    // proof: it is taken once, here.
    let Some(mut events) = supervisor.events() else { return };
    let time = loop {
        tokio::select! {
            changed = instances.changed() => {
                if changed.is_err() {
                    return;
                }
                publish.send_replace(instances.borrow_and_update().clone());
            }
            Some(event) = events.recv() => {
                let level = match event.what {
                    Happening::Ready { .. } | Happening::Stopped { killed: false, .. } => Level::Info,
                    _ => Level::Warning,
                };
                board.tell(level, event.to_string());
            }
            time = &mut stopped => break time.unwrap_or_default(),
        }
    };
    supervisor.shutdown(time).await;
}

fn prefix(app: &AppName, node: &NodeName) -> String {
    format!("{APPS}{app}/{node}/")
}

/// Each app is checked as the first pool that uses it says.
pub fn health(cluster: &Cluster) -> BTreeMap<AppName, HealthCheck> {
    let used = cluster.pools.values().rev().filter_map(|pool| match &pool.members {
        Members::App(app) => Some((app.clone(), pool.health.clone())),
        Members::Servers(_) => None,
    });
    used.collect()
}

/// What every instance is given. Waits until the database's log-in for applications is in the ledger, if there is a
/// database.
async fn environment(here: &Here, board: &Board) -> BTreeMap<String, Secret> {
    let mut env = BTreeMap::new();
    if let (Some(Database::Managed(_)), Some(at)) =
        (&here.cluster.database, here.cluster.sql_address(&here.name))
    {
        let secret = app_secret(here, board).await;
        let url = format!("postgres://{}:{}@{at}/{}", secret.user, secret.password, secret.database);
        env.insert("DATABASE_URL".to_owned(), Secret::new(url));
    }
    env
}

async fn app_secret(here: &Here, board: &Board) -> AppSecret {
    let late = tokio::time::Instant::now() + SECRET_TIME;
    let mut told = false;
    loop {
        let why = match held_secret(here).await {
            Ok(Some(secret)) => return secret,
            Ok(None) => "the first primary has not written it yet".to_owned(),
            Err(error) => error.to_string(),
        };
        if !told && tokio::time::Instant::now() >= late {
            told = true;
            let node = &here.name;
            board.tell(
                Level::Warning,
                format!("no app is started on {node}: the database's log-in for apps is not known: {why}"),
            );
        }
        tokio::time::sleep(SECRET_EVERY).await;
    }
}

async fn held_secret(here: &Here) -> anyhow::Result<Option<AppSecret>> {
    let register = Register::<AppSecret>::new(Key::new(keys::APP_SECRET)?);
    Ok(register.get(&*here.ledger, Read::Local).await?.map(|held| held.value))
}

/// Keeps the ledger's list of this node's ready instances as it is, under a lease.
async fn register(
    here: Arc<Here>,
    mut instances: watch::Receiver<Vec<Instance>>,
    registered: watch::Sender<bool>,
) {
    let mut lease: Option<LeaseId> = None;
    let mut written: Option<BTreeMap<Key, Registered>> = None;
    let mut keep = tokio::time::interval(KEEP_EVERY);
    keep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = instances.changed() => if changed.is_err() { return },
            _ = keep.tick() => {}
        }
        let wanted = ready(&here, &instances.borrow_and_update());
        match publish(&here, lease, &wanted, written.as_ref()).await {
            Ok(id) => {
                (lease, written) = (Some(id), Some(wanted));
                registered.send_if_modified(|is_listed| !std::mem::replace(is_listed, true));
            }
            // Begin anew: what was under the lease is gone, or it is not known what was written.
            Err(error) => {
                tracing::debug!(%error, "the instances could not be registered yet");
                lease = lease.filter(|_| !matches!(error, StoreError::LeaseGone(_)));
                written = None;
            }
        }
    }
}

async fn publish(
    here: &Here,
    lease: Option<LeaseId>,
    wanted: &BTreeMap<Key, Registered>,
    written: Option<&BTreeMap<Key, Registered>>,
) -> Result<LeaseId, StoreError> {
    let lease = match lease {
        Some(id) => here.ledger.keep(id).await.map(|()| id)?,
        None => here.ledger.grant(LEASE).await?,
    };
    if written != Some(wanted) {
        write(here, lease, wanted).await?;
    }
    Ok(lease)
}

async fn write(here: &Here, lease: LeaseId, wanted: &BTreeMap<Key, Registered>) -> Result<(), StoreError> {
    // All at once: a list that is written whole cannot keep what an earlier life of this node left.
    let mut then: Vec<Op> =
        here.cluster.apps.keys().map(|app| Op::DeletePrefix { prefix: prefix(app, &here.name) }).collect();
    for (key, registered) in wanted {
        if let Ok(put) = Register::new(key.clone()).put(registered, Some(lease)) {
            then.push(put);
        }
    }
    here.ledger.transact(Txn { compare: Vec::new(), then }).await.map(|_| ())
}

fn are_ready(instances: &[Instance]) -> bool {
    !instances.is_empty() && instances.iter().all(|i| i.state == State::Ready)
}

/// Instances that have been ready and still run: whether they answer at this moment is for each edge to see.
fn ready(here: &Here, instances: &[Instance]) -> BTreeMap<Key, Registered> {
    let serving = instances.iter().filter(|i| matches!(i.state, State::Ready | State::Unhealthy));
    let named = serving.filter_map(|i| {
        let key = Key::new(format!("{}{}", prefix(&i.app, &here.name), i.id)).ok()?;
        Some((key, Registered { node: here.name.clone(), address: i.address }))
    });
    named.collect()
}

/// The servers of an app on all nodes, by identity (`a/web.1`), as the ledger lists them.
pub async fn registered(here: &Here, app: &AppName) -> BTreeMap<String, Registered> {
    let Ok(listing) = here.ledger.list(&format!("{APPS}{app}/"), Read::Local).await else {
        return BTreeMap::new();
    };
    let known: BTreeSet<&NodeName> = here.cluster.nodes.keys().collect();
    let decoded = listing.entries.iter().filter_map(|entry| {
        let registered: Registered = Register::new(entry.key.clone()).decode(entry).ok()?.value;
        let (_, id) = entry.key.as_str().strip_prefix(APPS)?.split_once('/')?;
        known.contains(&registered.node).then(|| (id.to_owned(), registered))
    });
    decoded.collect()
}
