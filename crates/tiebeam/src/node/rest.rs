//! What of a node the old process of a handover gives free, what it keeps, and how that ends.

use std::io;
use std::time::Duration;

use tokio::sync::watch;

use super::{DRAIN_TIME, Here, LAST_TIME, Parts, SESSIONS_TIME, apps, edge, router};
use crate::cli;
use crate::handover::link::FromOld;
use crate::handover::old::Successor;
use crate::handover::sockets::{Room, Sockets};
use crate::handover::{self, IDLE_TIME, REGISTERED_TIME};

/// The agent may be in a step; PostgreSQL goes on in any case.
const LEAVE_TIME: Duration = Duration::from_secs(2);
/// By then every edge has seen that other servers are listed in the place of this process's.
const POOLS_TIME: Duration = Duration::from_secs(1);
/// What bounds itself is given a moment more.
const GRACE: Duration = Duration::from_millis(200);

/// What still serves in the old process.
pub struct Rest {
    pub edge: Option<edge::Part>,
    apps: Option<apps::Part>,
    router: Option<router::Part>,
}

impl Parts {
    /// Why the file cannot be taken by a process that adopts a running PostgreSQL.
    pub fn blocked(&self, here: &Here) -> Option<String> {
        self.database.as_ref()?;
        // One that this version cannot read is judged by the new one.
        let new = cli::load(&here.options.file).ok()?;
        let own = format!("node.{}", here.name);
        let changes = here.cluster.difference(&new);
        let mut keys = changes.iter().map(|change| change.key.as_str());
        let key = keys.find(|key| key.starts_with("database") || key.starts_with(&own))?;
        Some(format!("{key} is another one, which needs a start of PostgreSQL: restart the node for that"))
    }

    /// Starts the process that is to take over.
    pub async fn successor(&self, here: &Here) -> io::Result<Successor> {
        let mut sockets = Sockets::default();
        if let Some(edge) = &self.edge {
            edge.handle().listening()?.into_iter().for_each(|socket| sockets.add(Room::Edge, socket));
        }
        if let Some(router) = &self.router {
            router.handle().listening()?.into_iter().for_each(|socket| sockets.add(Room::Router, socket));
        }
        if let Some(console) = &self.console {
            sockets.add(Room::Console, console.listening()?);
        }
        let hello = FromOld::Hello {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            descriptors: here.options.descriptors,
            ledger: here.cluster.ledger_address(&here.name).filter(|_| here.cluster.nodes.len() > 1),
            sockets: sockets.iter().count(),
        };
        let program = &here.options.program;
        Successor::start(&program.path, &program.arguments, &hello, &sockets).await
    }

    /// Gives free all that only one process can have. The edge serves on with the servers it knows, and the apps and the
    /// sessions of the router run on for it.
    pub async fn let_go(self, here: &Here) -> Rest {
        let Parts { admin, console, database, router, apps, edge, report } = self;
        if let Some(admin) = admin {
            admin.stop();
        }
        report.leave();
        if let Some(edge) = &edge {
            edge.stay();
        }
        if let Some(router) = &router {
            router.handle().stop_accepting();
        }
        if let Some(console) = console {
            let _ = tokio::time::timeout(LAST_TIME, console.shutdown()).await;
        }
        if let Some(apps) = &apps {
            apps.stay_registered(REGISTERED_TIME).await;
        }
        // From here on PostgreSQL lives by its lease alone, until the new process renews it.
        if let Some(database) = database {
            let _ = tokio::time::timeout(LEAVE_TIME, database.leave()).await;
        }
        here.ledger.shutdown().await;
        Rest { edge, apps, router }
    }
}

impl Rest {
    /// From the outside in, as at a stop; until `hurry` the edge takes the time it needs.
    pub async fn end(self, mut hurry: watch::Receiver<bool>) {
        if let Some(edge) = &self.edge {
            let is_hurried = tokio::select! {
                biased;
                told = hurry.wait_for(|hurry| *hurry) => told.is_ok(),
                () = edge.stop_gently(handover::DRAIN_TIME, IDLE_TIME) => false,
            };
            if is_hurried {
                let _ = tokio::time::timeout(DRAIN_TIME + GRACE, edge.stop(DRAIN_TIME)).await;
            }
            let cut = edge.handle().stats().connections.open;
            if cut > 0 {
                tracing::warn!(cut, "connections are cut: they ran longer than the drain");
            }
        }
        if let Some(apps) = self.apps {
            let _ = tokio::time::timeout(POOLS_TIME, hurry.wait_for(|hurry| *hurry)).await;
            let _ = tokio::time::timeout(DRAIN_TIME + GRACE, apps.end(DRAIN_TIME)).await;
        }
        if let Some(router) = self.router {
            let _ = tokio::time::timeout(SESSIONS_TIME + GRACE, router.stop(SESSIONS_TIME)).await;
        }
    }
}
