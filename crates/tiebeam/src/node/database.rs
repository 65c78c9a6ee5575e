//! The database of this node: starts its agent, passes its events on, and gives everyone its state.

use std::sync::Arc;

use anyhow::Context;
use tiebeam_postgres::{Agent, Owner, Peer, Settings, Shutdown, State, TlsFiles};
use tiebeam_topology::{Database, Role};
use tiebeam_watch::Level;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::board::Board;
use super::{Here, failure};
use crate::cli::WrongUse;

/// Who owns PostgreSQL when the node runs as root: the user that the distribution's package makes.
const OWNER: &str = "postgres";

pub struct Part {
    agent: Agent,
    events: JoinHandle<()>,
}

/// `None`: PostgreSQL is the daemon's own user's.
///
/// # Errors
/// [`WrongUse`]: there is no such user.
pub fn owner() -> anyhow::Result<Option<Owner>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    Ok(Some(Owner::of_user(OWNER).map_err(|e| WrongUse(e.to_string()))?))
}

impl Part {
    pub async fn start(here: &Arc<Here>, board: &Arc<Board>) -> anyhow::Result<Self> {
        let Some(Database::Managed(database)) = &here.cluster.database else {
            anyhow::bail!("a node with the role database has a managed [database]");
        };
        let certs = here.options.data.join("certs/node");
        let peers = here.cluster.with_role(Role::Database).map(|(name, node)| {
            (name.clone(), Peer { address: node.address, identity: here.cluster.identity(name) })
        });
        let data = here.options.data.join("postgres");
        let settings = Settings {
            node: here.name.clone(),
            cluster: here.cluster.name.clone(),
            address: here.cluster.nodes[&here.name].address,
            peers: peers.collect(),
            database: database.clone(),
            bin_dir: tiebeam_postgres::find_binaries(Some(&data)).map_err(|e| WrongUse(e.to_string()))?,
            data,
            run: here.options.data.join("run"),
            tls: TlsFiles {
                ca: certs.join("ca.pem"),
                cert: certs.join("node.pem"),
                key: certs.join("node.key"),
            },
            guard_command: vec![here.options.program.path.clone().into(), "guard".into()],
            linger: here.options.linger,
            owner: owner()?,
        };
        let agent = Agent::start(settings, here.ledger.clone()).await.map_err(failure::database)?;
        let mut events = agent.events().context("the agent's events are taken once, here")?;
        let board = board.clone();
        let events = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let level = match event.level() {
                    tiebeam_postgres::Level::Info => Level::Info,
                    tiebeam_postgres::Level::Warning => Level::Warning,
                    tiebeam_postgres::Level::Critical => Level::Alarm,
                };
                board.post(level, event.to_string());
            }
        });
        Ok(Self { agent, events })
    }

    pub fn state(&self) -> watch::Receiver<Arc<State>> {
        self.agent.state()
    }

    pub async fn stop(self) {
        self.end(Shutdown::Stop).await;
    }

    /// PostgreSQL and its guard go on, for the next agent to adopt before the lease ends.
    pub async fn leave(self) {
        self.end(Shutdown::Leave).await;
    }

    async fn end(self, how: Shutdown) {
        self.agent.shutdown(how).await;
        self.events.abort();
    }
}
