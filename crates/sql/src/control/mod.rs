//! What a router learns about the servers, on a thread of its own: a monitor for each, the verifiers of users, the
//! catalogs of databases. It publishes snapshots and answers logins; it is never on the path of a statement.
//!
//! Started by `router`.

mod catalog;
mod lookup;
mod monitor;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

pub(crate) use lookup::Lookup;

use crate::classify::Volatility;
use crate::server::{Proof, Server, ServerError};
use crate::snapshot::Snapshot;
use crate::worker::{Shared, Stage};
use crate::{ServerLogin, Target, View};

/// The role of the router's own connections in a managed cluster.
const OWN_ROLE: &str = "tiebeam_router";
const OWN_DATABASE: &str = "postgres";
/// Of the router's own connections. Whoever owns a database may give it other defaults, functions and operators; these
/// come before all that (PostgreSQL documentation, "Parameter Interaction via the Configuration File"), so that a
/// question calls what it names in `pg_catalog`, reads as it is written, and is not refused by a standby.
const OWN_PARAMETERS: &[(&str, &str)] = &[
    ("application_name", "tiebeam"),
    ("client_encoding", "UTF8"),
    ("search_path", "pg_catalog"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_isolation", "read committed"),
];

pub(crate) struct Control {
    pub shared: Arc<Shared>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    published: Published,
    /// Databases that sessions use.
    databases: RefCell<BTreeSet<String>>,
    more_databases: Notify,
}

/// Wakes those who wait for a snapshot.
pub(crate) struct Published {
    /// Counts snapshots.
    pub samples: watch::Sender<u64>,
    /// The serial of the view.
    pub views: watch::Sender<u64>,
}

impl Control {
    /// The thread's whole life.
    pub async fn run(
        shared: Arc<Shared>,
        published: Published,
        view: watch::Receiver<Arc<View>>,
        lookups: mpsc::Receiver<Lookup>,
    ) {
        let mut stage = shared.stage.clone();
        let control = Rc::new(Self {
            snapshot: shared.snapshot.clone(),
            shared,
            published,
            databases: RefCell::default(),
            more_databases: Notify::new(),
        });
        tokio::select! {
            () = control.follow(view) => {}
            () = lookup::serve(&control, lookups) => {}
            () = catalog::keep(&control) => {}
            _ = stage.wait_for(|stage| *stage == Stage::Ended) => {}
        }
    }

    /// Publishes each view and keeps a monitor for each server of it.
    async fn follow(self: &Rc<Self>, mut view: watch::Receiver<Arc<View>>) {
        let mut monitors: HashMap<Target, AbortOnDrop> = HashMap::new();
        loop {
            let now_seen = view.borrow_and_update().clone();
            if *now_seen != *self.snapshot.load().view {
                let snapshot = self.snapshot.load().with_view(now_seen.clone(), Instant::now());
                self.publish(snapshot);
            }
            let all = || now_seen.primary.iter().chain(&now_seen.replicas);
            monitors.retain(|target, _| all().any(|t| t == target));
            for target in all() {
                if !monitors.contains_key(target) {
                    let task = tokio::task::spawn_local(monitor::watch(self.clone(), target.clone()));
                    monitors.insert(target.clone(), AbortOnDrop(task));
                }
            }
            if view.changed().await.is_err() {
                // Who published is gone: the router goes on with what it last knew.
                std::future::pending::<()>().await;
            }
        }
    }

    fn publish(&self, snapshot: Snapshot) {
        let serial = snapshot.serial;
        self.snapshot.store(Arc::new(snapshot));
        self.published.samples.send_modify(|n| *n += 1);
        self.published.views.send_if_modified(|seen| std::mem::replace(seen, serial) != serial);
    }

    /// Opens a connection of the router's own.
    async fn connect(&self, target: &Target, database: &str) -> Result<Server, ServerError> {
        let (proof, user) = match &self.shared.settings.login {
            ServerLogin::Certificate(config) => (Proof::Certificate(config.clone()), OWN_ROLE),
            ServerLogin::PassThrough { user, password } => (Proof::Password(password.clone()), &**user),
        };
        let own = [("user", user), ("database", database)];
        let params: Vec<_> = own
            .iter()
            .chain(OWN_PARAMETERS)
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Server::connect(target, &proof, &params).await
    }

    /// The servers in the order in which to ask them what any can answer.
    fn targets(&self) -> Vec<Target> {
        let view = &self.snapshot.load().view;
        view.primary.iter().chain(&view.replicas).cloned().collect()
    }

    /// A session of this database started; a server has let it in.
    fn use_database(&self, database: &str) {
        if self.databases.borrow_mut().insert(database.to_owned()) {
            self.more_databases.notify_one();
        }
    }

    /// There is no such database any more.
    fn forget_database(&self, database: &str) {
        self.databases.borrow_mut().remove(database);
        let mut snapshot = (*self.snapshot.load_full()).clone();
        if Arc::make_mut(&mut snapshot.catalogs).remove(database).is_some() {
            self.publish(snapshot);
        }
    }

    fn publish_catalog(&self, database: &str, catalog: Volatility) {
        let mut snapshot = (*self.snapshot.load_full()).clone();
        Arc::make_mut(&mut snapshot.catalogs).insert(database.to_owned(), Arc::new(catalog));
        self.publish(snapshot);
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
