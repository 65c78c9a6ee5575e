//! Reads that are not older than any acknowledged write: the leader names the index, this node waits until it has applied it.

use std::sync::atomic::Ordering;

use tokio::time::{Instant, timeout};

use crate::StoreError;
use crate::core::{Core, Lead};
use crate::wire::message::{Ask, Refusal, Reply};

impl Core {
    /// Returns when this node has applied all that was acknowledged anywhere before the call.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let started = Instant::now();
        let mut detail = String::from("no leader is known");
        match timeout(self.settings.call_timeout, self.apply_all(&mut detail)).await {
            Ok(result) => result,
            Err(_) => {
                self.tally.no_quorum.fetch_add(1, Ordering::Relaxed);
                Err(StoreError::no_quorum(started.elapsed(), detail))
            }
        }
    }

    /// As [`Core::catch_up`], without a bound in time. `detail` says at any moment what is waited for.
    pub async fn apply_all(&self, detail: &mut String) -> Result<(), StoreError> {
        let index = self.confirmed_index(detail).await?;
        *detail = "this node has not caught up with the leader yet".into();
        // Ends only with the node.
        let caught_up = self.applied.next_index().wait_for(|next| *next >= index).await.map(|_| ());
        caught_up.map_err(|_| StoreError::ShuttingDown)
    }

    async fn confirmed_index(&self, detail: &mut String) -> Result<u64, StoreError> {
        loop {
            self.usable()?;
            let lead = self.lead();
            let attempt = async {
                match &lead {
                    Lead::Here => {
                        self.read_index().await.map_err(|_| "no majority confirms this node as leader".into())
                    }
                    Lead::At(leader) => {
                        let peer = self
                            .peers
                            .get(leader)
                            .ok_or_else(|| format!("leader {leader} is not in the file"))?;
                        match peer.call(&Ask::ReadIndex, self.settings.call_timeout).await {
                            Ok(Reply::ReadIndex(Ok(index))) => Ok(index),
                            Ok(_) => Err(format!("no majority confirms {leader} as leader")),
                            Err(error) => Err(format!("leader {leader}: {error}")),
                        }
                    }
                    Lead::Nobody(reason) => Err(reason.clone()),
                }
            };
            let outcome = tokio::select! {
                outcome = attempt => outcome,
                () = self.lead_changes(&lead) => Err("the leader changed".into()),
            };
            match outcome {
                Ok(index) => return Ok(index),
                Err(reason) => *detail = reason,
            }
            self.look_again().await;
        }
    }

    /// Of the leader: the index after the last entry that may have been acknowledged, after a majority has confirmed
    /// that this node still leads.
    pub async fn read_index(&self) -> Result<u64, Refusal> {
        if self.lead() != Lead::Here {
            return Err(Refusal::NotLeader);
        }
        let (last, _) = self.raft.get_read_log_id().await.map_err(|_| Refusal::NotLeader)?;
        Ok(last.map_or(0, |id| id.index + 1))
    }
}
