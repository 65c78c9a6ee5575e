//! What all parts of a running node share, and the question that most of them ask: who leads?

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use openraft::ServerState;
use tiebeam_topology::{Moment, NodeName};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::disk::Disk;
use crate::machine::Applied;
use crate::propose::Handed;
use crate::raft::{Id, LeaderId, Raft};
use crate::requests::Requests;
use crate::status::Tally;
use crate::wire::peer::Peer;
use crate::{Settings, StoreError};

/// A leader that no majority confirmed for so long is not taken for one.
pub(crate) const CONFIRMED_TIME: Duration = Duration::from_secs(1);
/// A leader whose disk has not answered for so long is not taken for one.
pub(crate) const DISK_ANSWER_TIME: Duration = Duration::from_secs(1);
/// Between two looks at the disk while a leader is at work.
const LOOK_AT_DISK: Duration = Duration::from_millis(250);
/// How long a node that was busy hears its leader before it may take it for gone.
const ELECTION_REST: Duration = Duration::from_secs(1);
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
    /// See `recovery.rs`: whom this node may follow at least, while it is new.
    pub floor: OnceLock<LeaderId>,
    /// How many reasons there are not to stand for election just now.
    pub resting: AtomicUsize,
    /// The term that this node was last seen to lead, and since when.
    pub leading: Mutex<Option<(u64, Moment)>>,
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

/// What there is to see of who leads.
#[derive(Clone, Debug)]
struct Sight {
    me: Id,
    /// The leader that openraft knows, and the one that others have named to a node that is no member yet.
    leader: Option<Id>,
    hint: Option<Id>,
    /// Of this node, if it is the leader that openraft knows.
    state: ServerState,
    alone: bool,
    leading: Duration,
    since_quorum: Option<Duration>,
    disk_silent: Duration,
}

fn judge(sight: &Sight) -> Lead {
    let Some(leader) = sight.leader else {
        return sight
            .hint
            .filter(|hint| *hint != sight.me)
            .map_or_else(|| Lead::Nobody("no leader is known, an election is going on".into()), Lead::At);
    };
    if leader != sight.me {
        return Lead::At(leader);
    }
    if let Some(silent) = silent(sight.disk_silent) {
        return Lead::Nobody(silent);
    }
    if sight.state != ServerState::Leader {
        return Lead::Nobody("this node has just stopped leading".into());
    }
    // A leader that has not been confirmed yet has that long for it.
    let unconfirmed = sight.since_quorum.unwrap_or(sight.leading);
    if !sight.alone && unconfirmed > CONFIRMED_TIME {
        let ms = unconfirmed.as_millis();
        return Lead::Nobody(format!("this node led, but no majority has answered it for {ms} ms"));
    }
    Lead::Here
}

/// That the disk does not answer, if it has not for so long.
fn silent(time: Duration) -> Option<String> {
    let late = time > DISK_ANSWER_TIME;
    late.then(|| format!("this node's disk has not answered for {} ms", time.as_millis()))
}

impl Core {
    pub fn lead(&self) -> Lead {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let member = membership.get_node(&self.id).is_some();
        let here = metrics.current_leader == Some(self.id);
        judge(&Sight {
            me: self.id,
            leader: metrics.current_leader,
            hint: self.seen().hint.as_ref().filter(|_| !member).map(Id::of),
            state: metrics.state,
            alone: membership.voter_ids().count() == 1,
            leading: self.leading(here.then_some(metrics.current_term)),
            since_quorum: metrics.millis_since_quorum_ack.map(Duration::from_millis),
            disk_silent: self.disk.silent(),
        })
    }

    /// How long this node has been the leader of `term`, as far as it was asked.
    fn leading(&self, term: Option<u64>) -> Duration {
        let mut leading = self.leading.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match (term, *leading) {
            (Some(term), Some((before, since))) if term == before => Some((term, since)),
            (Some(term), _) => Some((term, Moment::now())),
            (None, _) => None,
        };
        *leading = since;
        since.map_or(Duration::ZERO, |(_, since)| Moment::now().since(since))
    }

    /// What keeps this node from doing all of its part, in words.
    pub fn trouble(&self) -> Option<String> {
        silent(self.disk.silent()).or_else(|| self.why_new())
    }

    /// Lets openraft stand for election if this node may.
    pub fn allow_elections(&self) {
        let resting = self.resting.load(Ordering::Acquire) > 0;
        self.raft.runtime_config().elect(!resting && !self.is_new());
    }

    /// No election of this node's until a moment after the return value is dropped.
    pub fn rest_from_elections(self: &Arc<Self>) -> Rest {
        self.resting.fetch_add(1, Ordering::AcqRel);
        self.allow_elections();
        Rest(self.clone())
    }

    /// Returns when somebody else may lead than `lead`.
    pub async fn lead_changes(&self, lead: &Lead) {
        let mut metrics = self.raft.metrics();
        while self.lead() == *lead {
            // A disk that hangs changes who leads, and openraft does not tell.
            if let Ok(Err(_)) = tokio::time::timeout(LOOK_AT_DISK, metrics.changed()).await {
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

/// See [`Core::rest_from_elections`].
pub(crate) struct Rest(Arc<Core>);

impl Drop for Rest {
    fn drop(&mut self) {
        let core = self.0.clone();
        // Without a runtime this node has ended.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            tokio::time::sleep(ELECTION_REST).await;
            core.resting.fetch_sub(1, Ordering::AcqRel);
            core.allow_elections();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_counts_only_while_a_majority_and_its_disk_answer() {
        let id = |name: &str| Id::of(&name.parse().unwrap());
        let ms = Duration::from_millis;
        let here = Sight {
            me: id("a"),
            leader: Some(id("a")),
            hint: None,
            state: ServerState::Leader,
            alone: false,
            leading: ms(5000),
            since_quorum: Some(ms(200)),
            disk_silent: ms(100),
        };
        let nobody = |text: &str| Err(text.to_owned());
        for (what, sight, expected) in [
            ("well", here.clone(), Ok(Lead::Here)),
            ("another leads", Sight { leader: Some(id("b")), ..here.clone() }, Ok(Lead::At(id("b")))),
            (
                "another leads, and our disk hangs",
                Sight { leader: Some(id("b")), disk_silent: ms(9000), ..here.clone() },
                Ok(Lead::At(id("b"))),
            ),
            ("nobody", Sight { leader: None, ..here.clone() }, nobody("no leader is known")),
            ("named", Sight { leader: None, hint: Some(id("b")), ..here.clone() }, Ok(Lead::At(id("b")))),
            (
                "named itself",
                Sight { leader: None, hint: Some(id("a")), ..here.clone() },
                nobody("no leader"),
            ),
            (
                "stepping down",
                Sight { state: ServerState::Follower, ..here.clone() },
                nobody("just stopped leading"),
            ),
            ("at the bound", Sight { since_quorum: Some(ms(1000)), ..here.clone() }, Ok(Lead::Here)),
            (
                "cut off",
                Sight { since_quorum: Some(ms(1001)), ..here.clone() },
                nobody("answered it for 1001 ms"),
            ),
            ("just elected", Sight { since_quorum: None, leading: ms(900), ..here.clone() }, Ok(Lead::Here)),
            (
                "never confirmed",
                Sight { since_quorum: None, leading: ms(1001), ..here.clone() },
                nobody("answered it for 1001 ms"),
            ),
            ("alone", Sight { since_quorum: None, alone: true, ..here.clone() }, Ok(Lead::Here)),
            ("slow disk", Sight { disk_silent: ms(1000), ..here.clone() }, Ok(Lead::Here)),
            (
                "hung disk",
                Sight { disk_silent: ms(1001), ..here.clone() },
                nobody("this node's disk has not answered for 1001 ms"),
            ),
            (
                "alone with a hung disk",
                Sight { disk_silent: ms(1001), alone: true, ..here },
                nobody("has not answered for 1001 ms"),
            ),
        ] {
            match (judge(&sight), expected) {
                (Lead::Nobody(why), Err(text)) => assert!(why.contains(&text), "{what}: {why}"),
                (found, expected) => assert_eq!(Ok(found), expected, "{what}"),
            }
        }
    }
}
