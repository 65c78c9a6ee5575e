//! Takes from a server connection what other sessions left there of sequences, before a session that asks for it has the
//! connection for itself.
//!
//! Called before anything of a batch is sent, so that another connection may be tried when this one fails.

use std::time::Duration;

use tokio::time::timeout;

use super::Session;
use super::acquire::Stop;
use super::pump::is_stranded;
use crate::pool::Conn;
use crate::server::ServerError;
use crate::stats::Count;

/// What functions remember of sequences in a connection: why such a session is pinned.
pub(super) const SEQUENCE_STATE: &str = "sequence state";
/// A server that lives has forgotten it in this time.
const FORGET_TIME: Duration = Duration::from_secs(2);

impl Session {
    /// `Ok(Err(_))`: the connection did not do it, in these words, and is of no use any more.
    pub(super) async fn forget_sequences(&mut self, conn: &mut Conn) -> Result<Result<(), String>, Stop> {
        let (worker, pool) = (self.worker.clone(), conn.pool().clone());
        let mut views = worker.shared.views.clone();
        views.mark_unchanged();
        let stranded = async {
            while !is_stranded(&worker.snapshot().view, &pool) {
                if views.changed().await.is_err() {
                    // The router stops: no other primary will come.
                    std::future::pending::<()>().await;
                }
            }
        };
        let server = &mut conn.server;
        let asking = async {
            match timeout(FORGET_TIME, server.ask("DISCARD SEQUENCES", &[])).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(ServerError::Timeout(FORGET_TIME).to_string()),
            }
        };
        let asked = async {
            tokio::select! {
                biased;
                () = stranded => Err("another server became primary".to_owned()),
                answer = asking => answer,
            }
        };
        let answer = self.waiting(asked).await?;
        if answer.is_err() {
            self.worker.counters.count(Count::SequencesKept);
            pool.counters.errors.add(1);
        }
        Ok(answer)
    }
}
