//! Answers what other nodes ask of this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use openraft::EmptyNode;
use openraft::raft::VoteRequest;
use tiebeam_topology::NodeName;
use tokio::time::timeout;

use crate::core::{Core, Lead};
use crate::raft::Id;
use crate::wire::message::{Ask, Pulse, Refusal, Reply};
use crate::wire::server::Handler;

/// See the module.
pub(crate) struct Desk {
    pub core: Arc<Core>,
    /// A learner is being added; others wait for their next pulse.
    pub adding: Arc<AtomicBool>,
}

#[async_trait]
impl Handler for Desk {
    async fn answer(&self, from: &NodeName, ask: Ask) -> Reply {
        let core = &self.core;
        match ask {
            Ask::Append(request) => Reply::Append(core.raft.append_entries(request).await),
            Ask::Vote(request) => self.vote(request).await,
            Ask::Snapshot(request) => Reply::Snapshot(core.raft.install_snapshot(request).await),
            Ask::Propose(proposal) => {
                let handed = timeout(core.settings.call_timeout, core.hand(proposal)).await;
                Reply::Propose(handed.unwrap_or(Err(Refusal::Unclear)))
            }
            Ask::ReadIndex => {
                let index = timeout(core.settings.call_timeout, core.read_index()).await;
                Reply::ReadIndex(index.unwrap_or(Err(Refusal::NotLeader)))
            }
            Ask::Pulse => self.pulse(from),
        }
    }
}

impl Desk {
    /// A voter whose data was lost has forgotten what it acknowledged; while its log is empty it votes only as
    /// long as nothing can have been acknowledged: for a candidate that holds just the first entry.
    async fn vote(&self, request: VoteRequest<Id>) -> Reply {
        let empty = self.core.raft.metrics().borrow().last_log_index.is_none();
        if empty && request.last_log_id.is_some_and(|id| id.index > 0) {
            return Reply::Unable("this voter's log is empty; it votes again when it has received it".into());
        }
        Reply::Vote(self.core.raft.vote(request).await)
    }

    fn pulse(&self, from: &NodeName) -> Reply {
        let core = &self.core;
        let metrics = core.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let leads = core.lead() == Lead::Here;
        let member = membership.get_node(&Id::of(from)).is_some();
        if leads && !member && !self.adding.swap(true, Ordering::AcqRel) {
            self.add(from);
        }
        let alone = membership.voter_ids().count() == 1;
        Reply::Pulse(Pulse {
            pristine: metrics.last_log_index.is_none() && metrics.current_term == 0,
            leader: metrics.current_leader.and_then(|id| id.name()),
            confirmed_ms_ago: if leads && alone { Some(0) } else { metrics.millis_since_quorum_ack },
        })
    }

    fn add(&self, learner: &NodeName) {
        let (core, adding, learner) = (self.core.clone(), self.adding.clone(), learner.clone());
        tokio::spawn(async move {
            let added = core.raft.add_learner(Id::of(&learner), EmptyNode {}, false).await;
            match added {
                Ok(_) => tracing::info!(%learner, "a node learns from the ledger now"),
                Err(error) => tracing::warn!(%learner, "a node cannot be added to the ledger yet: {error}"),
            }
            adding.store(false, Ordering::Release);
        });
    }
}
