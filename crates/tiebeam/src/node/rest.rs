//! What of a node the old process of a handover gives free, what it keeps, and how that ends.

use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use tiebeam_postgres::MemberRole;
use tokio::sync::watch;

use super::{DRAIN_TIME, Here, LAST_TIME, Parts, SESSIONS_TIME, apps, edge, router, settled};
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
    /// Why this process cannot hand the node over now.
    pub fn blocked(&self, here: &Here) -> Option<String> {
        if std::process::id() == 1 {
            let why = "this process is the first one of its container, which ends with it: start another container instead";
            return Some(why.into());
        }
        // A file that this version cannot read is judged by the new one.
        self.copies()
            .or_else(|| settled::blocked(&here.cluster, &cli::load(&here.options.file).ok()?, &here.name))
    }

    /// Why PostgreSQL cannot be left by its agent now.
    pub fn copies(&self) -> Option<String> {
        let role = self.database.as_ref()?.state().borrow().me.role;
        (role == MemberRole::Copying).then(|| {
            "PostgreSQL is being created or copied here, which would begin anew: upgrade when that is done, `tiebeam status` shows it".into()
        })
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
            settled: settled::of(&here.cluster, &here.name),
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
    /// From the outside in, as at a stop; until `hurry` all of it takes the time it needs. What came through the edges of
    /// other nodes has the same time as what came through this one's.
    pub async fn end(self, mut hurry: watch::Receiver<bool>) {
        let end = Instant::now() + handover::DRAIN_TIME;
        if let Some(edge) = &self.edge {
            let time = end.saturating_duration_since(Instant::now());
            let gently = edge.stop_gently(time, IDLE_TIME);
            if unless_hurried(&mut hurry, gently).await.is_none() {
                let _ = tokio::time::timeout(DRAIN_TIME + GRACE, edge.stop(DRAIN_TIME)).await;
            }
            let cut = edge.handle().stats().connections.open;
            if cut > 0 {
                tracing::warn!(cut, "connections are cut: they ran longer than the drain");
            }
        }
        let rest = |least: Duration| end.saturating_duration_since(Instant::now()).max(least);
        if let Some(apps) = self.apps {
            let _ = unless_hurried(&mut hurry, tokio::time::sleep(POOLS_TIME)).await;
            let is_hurried = *hurry.borrow();
            let time = if is_hurried { DRAIN_TIME } else { rest(DRAIN_TIME) };
            // Each app has its own time to stop, within this one.
            let mut ending = pin!(tokio::time::timeout(time + GRACE, apps.end(time)));
            if is_hurried || unless_hurried(&mut hurry, &mut ending).await.is_none() {
                // Those that are not done by then end with this process.
                let _ = tokio::time::timeout(DRAIN_TIME + GRACE, ending).await;
            }
        }
        if let Some(router) = self.router {
            let sessions = router.handle();
            if unless_hurried(&mut hurry, sessions.drain(rest(SESSIONS_TIME))).await.is_none() {
                let _ = tokio::time::timeout(SESSIONS_TIME + GRACE, sessions.drain(SESSIONS_TIME)).await;
            }
        }
    }
}

/// `None`: there is no more time than at a stop, and it is not done.
async fn unless_hurried<T>(hurry: &mut watch::Receiver<bool>, doing: impl Future<Output = T>) -> Option<T> {
    let hurried = async {
        if hurry.wait_for(|hurry| *hurry).await.is_err() {
            std::future::pending().await
        }
    };
    tokio::select! {
        biased;
        () = hurried => None,
        done = doing => Some(done),
    }
}
