//! What a process that takes over from another one does otherwise than at a usual start: it makes sure of what it can
//! before, waits for what the other one lets go, and serves only when it can take all requests.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tiebeam_ledger::{Embedded, OpenError};
use tiebeam_topology::Role;
use tokio::time::Instant;

use super::board::Board;
use super::{Options, Parts, failure};
use crate::cli::{WrongUse, ports};
use crate::handover::{LOCK_TIME, SERVERS_TIME};

/// Between two tries to open the ledger.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// How long the servers of the pools may be looked at for the first time: then they are believed to serve.
const PROBE_TIME: Duration = Duration::from_secs(2);
/// For the ledger to list the servers of this process, beyond their own time.
const LIST_TIME: Duration = Duration::from_secs(2);

/// Whether this process could run the node, by what can be seen while another one does.
///
/// # Errors
/// [`WrongUse`].
pub fn is_fit(options: &Options) -> anyhow::Result<()> {
    let node = options.cluster.nodes.get(&options.name).context("this node is in the file")?;
    let data = options.data.join("postgres");
    if node.roles.contains(&Role::Database) {
        tiebeam_postgres::find_binaries(Some(&data)).map_err(|e| WrongUse(e.to_string()))?;
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
    /// Serves in the place of the process before this one, once the servers of this one are there or their time is over;
    /// what is not as it should be then, in words.
    pub async fn take_over(&self, board: &Board) -> anyhow::Result<Vec<String>> {
        let mut notes = Vec::new();
        if let Some(apps) = &self.apps {
            notes = apps.replaced(SERVERS_TIME + LIST_TIME).await;
        }
        if let Some(edge) = &self.edge {
            edge.probed(PROBE_TIME).await;
            edge.open(board).await?;
        }
        for note in &notes {
            tracing::warn!("this process serves, but {note}");
        }
        Ok(notes)
    }
}
