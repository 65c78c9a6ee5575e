//! The SQL router of this node: tells it which PostgreSQL is the primary and which are replicas.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tiebeam_postgres::{MemberRole, State};
use tiebeam_sql::{Router, Secret, ServerLogin, Settings, Target, View};
use tiebeam_topology::{Cluster, Database, ManagedDatabase, NodeName, Reads};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Here;
use crate::cli::WrongUse;

pub struct Part {
    router: Arc<Router>,
    feeder: Option<JoinHandle<()>>,
    /// Held so that a view that never changes stays open.
    _view: watch::Sender<Arc<View>>,
}

/// Whether [`Part::start`] will find what it reads besides the file.
///
/// # Errors
/// [`WrongUse`].
pub fn is_fit(cluster: &Cluster, node: &NodeName) -> anyhow::Result<()> {
    match &cluster.database {
        Some(Database::Foreign { password_file, .. }) if cluster.sql_address(node).is_some() => {
            password(password_file.as_deref()).map(|_| ())
        }
        _ => Ok(()),
    }
}

impl Part {
    /// A router for this node, if the file describes a database.
    pub fn start(
        here: &Arc<Here>,
        state: Option<watch::Receiver<Arc<State>>>,
        inherited: Vec<TcpListener>,
    ) -> anyhow::Result<Option<Self>> {
        let (Some(file), Some(listen)) = (&here.cluster.sql, here.cluster.sql_address(&here.name)) else {
            return Ok(None);
        };
        let (login, reads) = match &here.cluster.database {
            None => return Ok(None),
            Some(Database::Managed(d)) => {
                (ServerLogin::Certificate(here.identities.node.client_config()), d.reads)
            }
            Some(Database::Foreign { reads, user, password_file, .. }) => {
                (pass_through(user, password_file.as_deref())?, *reads)
            }
        };
        let settings = Settings {
            node: here.name.clone(),
            listen,
            workers: file.workers.map_or(0, std::num::NonZeroUsize::get),
            hold: file.hold,
            hold_queue: file.hold_queue,
            fresh_wait: file.fresh_wait,
            pool_size: file.pool_size,
            clients: file.clients,
            reads,
            login,
        };
        let (sender, view) = watch::channel(Arc::new(View::default()));
        let router = Router::start_on(inherited, settings, view).map_err(|e| WrongUse(e.to_string()))?;
        let router = Arc::new(router);
        let feeder = match (&here.cluster.database, state) {
            (Some(Database::Managed(d)), Some(state)) => {
                Some(tokio::spawn(feed(here.cluster.clone(), d.clone(), state, sender.clone())))
            }
            (Some(Database::Foreign { servers, user, password_file, .. }), _) => {
                let login = control_login(user, password_file.as_deref())?;
                Some(tokio::spawn(super::foreign::detect(servers.clone(), login, sender.clone())))
            }
            _ => None,
        };
        Ok(Some(Self { router, feeder, _view: sender }))
    }

    pub fn handle(&self) -> Arc<Router> {
        self.router.clone()
    }

    pub async fn stop(self, time: Duration) {
        self.router.drain(time).await;
        if let Some(feeder) = self.feeder {
            feeder.abort();
        }
    }
}

/// Turns each state of the database into what the router needs of it.
async fn feed(
    cluster: Arc<Cluster>,
    database: ManagedDatabase,
    mut state: watch::Receiver<Arc<State>>,
    view: watch::Sender<Arc<View>>,
) {
    loop {
        let next = Arc::new(routed(&cluster, &database, &state.borrow_and_update()));
        view.send_if_modified(|old| {
            let changed = **old != *next;
            if changed {
                *old = next;
            }
            changed
        });
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Who is who: only replicas that say they replay are offered; how fresh they are the router sees for itself.
fn routed(cluster: &Cluster, database: &ManagedDatabase, state: &State) -> View {
    let target = |node: &NodeName| {
        let address = SocketAddr::new(cluster.nodes.get(node)?.address, database.port.get());
        Some(Target { node: node.clone(), address, identity: cluster.identity(node) })
    };
    let replicas = match database.reads {
        Reads::Primary => Vec::new(),
        Reads::Replicas => {
            let others = state.members.iter().filter(|(n, m)| {
                Some(*n) != state.primary.as_ref() && m.role == MemberRole::Replica && m.streaming
            });
            others.filter_map(|(n, _)| target(n)).collect()
        }
    };
    View {
        epoch: state.lease.as_ref().map(|l| l.epoch).unwrap_or_default(),
        primary: state.primary.as_ref().and_then(target),
        replicas,
    }
}

fn pass_through(user: &str, password_file: Option<&Path>) -> anyhow::Result<ServerLogin> {
    Ok(ServerLogin::PassThrough {
        user: user.to_owned(),
        password: password(password_file)?.map(Secret::new),
    })
}

/// The same log-in for the question who is primary.
fn control_login(user: &str, password_file: Option<&Path>) -> anyhow::Result<tokio_postgres::Config> {
    let mut login = tokio_postgres::Config::new();
    login.user(user).dbname("postgres").application_name("tiebeam");
    // Whatever the defaults of the role and the database are, only PostgreSQL's own functions are called.
    login.options("-c search_path=pg_catalog");
    if let Some(password) = password(password_file)? {
        login.password(password);
    }
    Ok(login)
}

fn password(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(path) = file else { return Ok(None) };
    let wrong = |what: String| WrongUse(format!("[database] password_file {} {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let mode = std::fs::metadata(path).map_err(|e| wrong(format!("cannot be read: {e}")))?.mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(wrong(format!("may be read by everyone (mode {mode:04o}): `chmod 600` it")).into());
    }
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}
