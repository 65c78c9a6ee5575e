//! Answers what other nodes ask of this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use openraft::EmptyNode;
use openraft::raft::InstallSnapshotRequest;
use tiebeam_topology::NodeName;
use tokio::time::timeout;

use crate::core::{Core, Lead};
use crate::raft::{Id, Kind};
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
            Ask::Append(request) => match core.may_follow(&request.vote) {
                Ok(()) => Reply::Append(core.raft.append_entries(request).await),
                Err(why) => Reply::Unable(why),
            },
            Ask::Vote { request, first } => match core.may_vote(from, &request, first).await {
                Ok(()) => Reply::Vote(core.raft.vote(request).await),
                Err(why) => Reply::Unable(why),
            },
            Ask::Snapshot(request) => match core.may_follow(&request.vote) {
                Ok(()) => self.snapshot(request).await,
                Err(why) => Reply::Unable(why),
            },
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
    /// While a snapshot is installed, openraft hears no heartbeat; the leader is not gone for that.
    async fn snapshot(&self, request: InstallSnapshotRequest<Kind>) -> Reply {
        let _rest = request.done.then(|| self.core.rest_from_elections());
        Reply::Snapshot(self.core.raft.install_snapshot(request).await)
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
            // Of the file and not of openraft, which at first says zero for everything.
            pristine: core.disk.ends().last.is_none() && core.disk.vote().is_none(),
            new: core.is_new(),
            vote: core.disk.vote().unwrap_or_default().leader_id,
            leader: metrics.current_leader.and_then(|id| id.name()),
            // A leader that hangs shows its last figures for ever.
            confirmed_ms_ago: if alone { Some(0) } else { metrics.millis_since_quorum_ack }.filter(|_| leads),
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
