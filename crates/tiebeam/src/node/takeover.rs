//! What a process that takes over from another one does otherwise than at a usual start: it makes sure of what it can
//! before, waits for what the other one lets go, and serves only when it can take all requests.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tiebeam_ledger::{Embedded, OpenError, Settings};
use tiebeam_postgres::MemberRole;
use tiebeam_topology::Role;
use tokio::time::Instant;

use super::board::Board;
use super::{Here, Options, Parts, apps, database, edge, failure, router, settled};
use crate::cli::{WrongUse, ports};
use crate::handover::new::Predecessor;
use crate::handover::{LOCK_TIME, SERVERS_TIME};

/// Between two tries to open the ledger.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// How long the servers of the pools may be looked at for the first time: then they are believed to serve.
const PROBE_TIME: Duration = Duration::from_secs(2);
/// Without a quorum, or without PostgreSQL, the node serves what it can.
const QUORUM_TIME: Duration = Duration::from_secs(5);
const ADOPT_TIME: Duration = Duration::from_secs(10);
/// For the ledger to list the servers of this process, beyond their own time.
const LIST_TIME: Duration = Duration::from_secs(2);

/// Whether this process could run the node, by what can be seen while another one does.
///
/// # Errors
/// [`WrongUse`].
pub fn is_fit(options: &Options, ledger: &Settings, before: &Predecessor) -> anyhow::Result<()> {
    let Options { cluster, name, .. } = options;
    let node = cluster.nodes.get(name).context("this node is in the file")?;
    let is_same_version = before.version == env!("CARGO_PKG_VERSION");
    if let Some(why) = settled::differs(&before.settled, &settled::of(cluster, name), is_same_version) {
        return Err(WrongUse(why).into());
    }
    ledger.check().map_err(failure::ledger)?;
    router::is_fit(cluster, name)?;
    if node.roles.contains(&Role::Edge) {
        edge::is_fit(cluster, &options.data)?;
    }
    let data = options.data.join("postgres");
    if node.roles.contains(&Role::Database) {
        tiebeam_postgres::find_binaries(Some(&data)).map_err(|e| WrongUse(e.to_string()))?;
        database::owner()?;
    } else if ports::runs(&data.join("main/postmaster.pid")) {
        let why =
            "the file takes the database from this node, whose PostgreSQL runs: restart the node for that";
        return Err(WrongUse(why.into()).into());
    }
    Ok(())
}

/// Opens the ledger; `is_held` by the process before this one for a moment more, perhaps.
pub async fn ledger<F>(is_held: bool, open: impl Fn() -> F) -> anyhow::Result<Arc<Embedded>>
where
    F: Future<Output = Result<Arc<Embedded>, OpenError>>,
{
    let end = Instant::now() + LOCK_TIME;
    loop {
        match open().await {
            Err(OpenError::Locked { .. } | OpenError::Listen { .. }) if is_held && Instant::now() < end => {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            opened => return opened.map_err(failure::ledger),
        }
    }
}

impl Parts {
    /// Serves in the place of the process before this one, once all of the node is there or its time is over; what is not as
    /// it should be then, in words. Whoever upgrades node after node goes on to the next one then.
    pub async fn take_over(
        &self,
        here: &Here,
        board: &Board,
        before: &Predecessor,
    ) -> anyhow::Result<Vec<String>> {
        let whole = async {
            let (ledger, database, apps) =
                tokio::join!(quorum(here), adopted(self.database.as_ref()), replaced(self.apps.as_ref()));
            if let Some(edge) = &self.edge {
                edge.probed(PROBE_TIME).await;
            }
            ledger.into_iter().chain(database).chain(apps).collect()
        };
        let notes: Vec<String> = tokio::select! {
            notes = whole => notes,
            // Nobody serves now: some of it is better than nothing.
            () = before.gone() => vec!["the process before it has ended too early".into()],
        };
        if let Some(edge) = &self.edge {
            edge.open(board).await?;
        }
        for note in &notes {
            tracing::warn!("this process serves, but {note}");
        }
        Ok(notes)
    }
}

async fn quorum(here: &Here) -> Option<String> {
    let mut status = here.ledger.status_changes();
    let known = tokio::time::timeout(QUORUM_TIME, status.wait_for(|status| status.quorum)).await;
    known.is_err().then(|| "the ledger has no quorum".to_owned())
}

async fn adopted(database: Option<&database::Part>) -> Option<String> {
    let mut state = database?.state();
    let runs = state.wait_for(|state| state.me.role != MemberRole::Stopped);
    tokio::time::timeout(ADOPT_TIME, runs).await.is_err().then(|| "PostgreSQL does not run".to_owned())
}

async fn replaced(apps: Option<&apps::Part>) -> Vec<String> {
    match apps {
        Some(apps) => apps.replaced(SERVERS_TIME + LIST_TIME).await,
        None => Vec::new(),
    }
}
