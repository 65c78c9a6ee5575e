//! What all parts of a running node share, and the question that most of them ask: who leads?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use openraft::ServerState;
use tiebeam_topology::{Moment, NodeName};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::disk::Disk;
use crate::machine::Applied;
use crate::propose::Handed;
use crate::raft::{Id, Raft};
use crate::requests::Requests;
use crate::status::Tally;
use crate::wire::peer::Peer;
use crate::{Settings, StoreError};

/// A leader that no majority confirmed for so long is not taken for one.
pub(crate) const CONFIRMED_TIME: Duration = Duration::from_secs(1);
/// Between two looks for a leader while there is none.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// See the module.
pub(crate) struct Core {
    pub settings: Settings,
    pub id: Id,
    pub raft: Raft,
    pub applied: Arc<Applied>,
    pub disk: Arc<Disk>,
    pub peers: Arc<BTreeMap<Id, Peer>>,
    pub tally: Arc<Tally>,
    /// To the task that fills the log while this node leads.
    pub proposals: mpsc::Sender<Handed>,
    pub requests: Requests,
    pub in_flight: Semaphore,
    pub seen: Mutex<Seen>,
    pub stop: watch::Sender<bool>,
    pub failed: OnceLock<String>,
}

/// What the other nodes told by their pulses.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// When a majority last followed a leader, as far as this node knows.
    pub confirmed: Option<Moment>,
    /// The leader that others name, for a node that is not a member yet.
    pub hint: Option<NodeName>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    Here,
    At(Id),
    /// Why nobody does.
    Nobody(String),
}

impl Core {
    pub fn lead(&self) -> Lead {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        match metrics.current_leader {
            Some(leader) if leader == self.id => {
                let alone = membership.voter_ids().count() == 1;
                let since_ms = metrics.millis_since_quorum_ack.unwrap_or(0);
                if metrics.state != ServerState::Leader {
                    Lead::Nobody("this node has just stopped leading".into())
                } else if !alone && u128::from(since_ms) > CONFIRMED_TIME.as_millis() {
                    Lead::Nobody(format!("this node led, but no majority has answered it for {since_ms} ms"))
                } else {
                    Lead::Here
                }
            }
            Some(leader) => Lead::At(leader),
            None => {
                let member = membership.get_node(&self.id).is_some();
                let hint = self.seen().hint.as_ref().filter(|_| !member).map(Id::of);
                hint.filter(|hint| *hint != self.id).map_or_else(
                    || Lead::Nobody("no leader is known, an election is going on".into()),
                    Lead::At,
                )
            }
        }
    }

    /// Returns when somebody else may lead than `lead`.
    pub async fn lead_changes(&self, lead: &Lead) {
        let mut metrics = self.raft.metrics();
        while self.lead() == *lead {
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits a moment for a leader to appear.
    pub async fn look_again(&self) {
        let mut metrics = self.raft.metrics();
        let change = async {
            // Ends with raft; then the pause has to do.
            if metrics.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let _ = tokio::time::timeout(LOOK_AGAIN, change).await;
    }

    /// Whether it makes sense to try at all.
    pub fn usable(&self) -> Result<(), StoreError> {
        if *self.stop.borrow() {
            return Err(StoreError::ShuttingDown);
        }
        self.failed.get().map_or(Ok(()), |reason| Err(StoreError::Failed(reason.clone())))
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }
}
