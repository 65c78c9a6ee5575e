//! What a node does by itself: begins the cluster, feels the leader's pulse, ends leases, tells how it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::EmptyNode;
use openraft::error::Fatal;
use tiebeam_topology::{Moment, NodeName};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::core::{CONFIRMED_TIME, Core, Lead};
use crate::disk::{Change, Standing};
use crate::expiry::Expiry;
use crate::raft::Id;
use crate::state::{Answer, Command, Proposal};
use crate::wire::message::{Ask, Pulse, Reply};
use crate::{Revision, Status};

const PULSE_EVERY: Duration = Duration::from_millis(250);
const STATUS_EVERY: Duration = Duration::from_millis(250);
const EXPIRY_EVERY: Duration = Duration::from_millis(100);
/// Leases that are ended at once; the others' turn comes next.
pub(crate) const EXPIRIES_AT_ONCE: usize = 256;
const BOUND_LOG_EVERY: Duration = Duration::from_millis(500);
/// Between two attempts to begin the cluster.
const BEGIN_EVERY: Duration = Duration::from_millis(100);

/// The voter with the lowest name begins the cluster, once a majority of the voters says that there is none yet. A voter
/// that knows one ends the attempt: then this node lost its data, and the leader will bring it up to date.
pub(crate) async fn begin(core: Arc<Core>) {
    let voters: Vec<NodeName> = core.settings.voters().cloned().collect();
    if voters.first() != Some(&core.settings.node) {
        return;
    }
    loop {
        if core.raft.is_initialized().await.unwrap_or(true) {
            return;
        }
        let mut pristine = 1;
        for voter in &voters[1..] {
            match feel(&core, voter).await {
                Some(pulse) if pulse.pristine => pristine += 1,
                Some(_) => {
                    tracing::warn!(%voter, "this node's ledger is empty, but the cluster exists: it waits for the leader");
                    return;
                }
                None => {}
            }
        }
        if pristine > voters.len() / 2 {
            if let Err(error) = core.disk.write(Change::Standing(Standing::Beginning)).await {
                return tracing::error!("the ledger cannot begin: {error}");
            }
            core.allow_elections();
            let members: BTreeMap<Id, EmptyNode> = voters.iter().map(|v| (Id::of(v), EmptyNode {})).collect();
            match core.raft.initialize(members).await {
                Ok(()) => return tracing::info!(?voters, "the ledger begins"),
                Err(error) => tracing::warn!("the ledger cannot begin yet: {error}"),
            }
        }
        tokio::time::sleep(BEGIN_EVERY).await;
    }
}

pub(crate) async fn feel(core: &Core, node: &NodeName) -> Option<Pulse> {
    let reply = core.peers.get(&Id::of(node))?.call(&Ask::Pulse, CONFIRMED_TIME).await;
    match reply {
        Ok(Reply::Pulse(pulse)) => Some(pulse),
        _ => None,
    }
}

/// Asks the leader, or voters in turn while there is none, whether a majority follows it. So a node that is not
/// a member yet finds the leader, which adds it.
pub(crate) async fn feel_pulse(core: Arc<Core>) {
    let voters: Vec<NodeName> =
        core.settings.voters().filter(|v| **v != core.settings.node).cloned().collect();
    let mut turn = 0;
    loop {
        let asked = match core.lead() {
            Lead::Here => None,
            Lead::At(leader) => leader.name(),
            Lead::Nobody(_) => voters.get(turn % voters.len().max(1)).cloned(),
        };
        if let Some(node) = asked {
            let before = Moment::now();
            let pulse = feel(&core, &node).await;
            let mut seen = core.seen();
            match pulse {
                Some(pulse) => {
                    if let Some(ago_ms) = pulse.confirmed_ms_ago {
                        seen.confirmed = Some(before - Duration::from_millis(ago_ms));
                    }
                    seen.hint = pulse.leader;
                }
                None => seen.hint = None,
            }
        }
        turn += 1;
        tokio::time::sleep(PULSE_EVERY).await;
    }
}

/// While this node leads, proposes the end of leases that nobody keeps.
pub(crate) async fn end_leases(core: Arc<Core>) {
    let mut expiry = Expiry::default();
    loop {
        tokio::time::sleep(EXPIRY_EVERY).await;
        let term = (core.lead() == Lead::Here).then(|| core.raft.metrics().borrow().current_term);
        let due = expiry.due(term, core.applied.read().leases(), Moment::now());
        // Together, so that one entry of the log takes many.
        let mut ending = JoinSet::new();
        for (lease, renewals) in due.into_iter().take(EXPIRIES_AT_ONCE) {
            let core = core.clone();
            ending.spawn(async move {
                let proposal = Proposal { request: None, command: Command::Expire { lease, renewals } };
                let ended = tokio::time::timeout(core.settings.call_timeout, core.hand(proposal)).await;
                matches!(ended, Ok(Ok(Answer::Ended))).then_some(lease)
            });
        }
        while let Some(ended) = ending.join_next().await {
            if let Ok(Some(lease)) = ended {
                core.tally.leases_ended.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%lease, "a lease was not kept; it and its keys are gone");
            }
        }
    }
}

/// Keeps the log within its bytes. openraft itself counts entries only.
pub(crate) async fn bound_log(core: Arc<Core>) {
    loop {
        tokio::time::sleep(BOUND_LOG_EVERY).await;
        if core.disk.log_bytes() <= core.settings.limits.snapshot_bytes {
            continue;
        }
        let (snapshot, applied) = {
            let metrics = core.raft.metrics();
            let metrics = metrics.borrow();
            (metrics.snapshot, metrics.last_applied)
        };
        let trigger = core.raft.trigger();
        // Fails only when raft has ended, which is told elsewhere.
        let _ = match snapshot {
            Some(snapshot) if core.disk.ends().purged < Some(snapshot) => {
                trigger.purge_log(snapshot.index).await
            }
            _ if snapshot < applied => trigger.snapshot().await,
            _ => Ok(()),
        };
    }
}

/// Publishes the status whenever it changes.
pub(crate) async fn tell(core: Arc<Core>, status: watch::Sender<Status>) {
    let mut metrics = core.raft.metrics();
    loop {
        let gone = tokio::select! {
            changed = metrics.changed() => changed.is_err(),
            () = tokio::time::sleep(STATUS_EVERY) => false,
        };
        note_failure(&core, gone);
        let now = look(&core);
        status.send_if_modified(|before| {
            if now.leader.is_some() && now.leader != before.leader {
                core.tally.leader_changes.fetch_add(1, Ordering::Relaxed);
            }
            let modified = *before != now;
            *before = now;
            modified
        });
        if gone {
            return;
        }
    }
}

fn note_failure(core: &Core, gone: bool) {
    if *core.stop.borrow() || core.failed.get().is_some() {
        return;
    }
    let reason = match (&core.raft.metrics().borrow().running_state, core.disk.failed()) {
        (_, Some(error)) => Some(error.to_string()),
        (Err(Fatal::Stopped) | Ok(()), None) if !gone => None,
        (Err(fatal), None) => Some(format!("raft stopped: {fatal}")),
        (Ok(()), None) => Some("raft stopped without a reason; the log of this process may say more".into()),
    };
    if let Some(reason) = reason {
        tracing::error!("the ledger of this node has stopped: {reason}");
        // Set once: checked above, and only this task sets it.
        let _ = core.failed.set(reason);
    }
}

/// The status as it is now.
pub(crate) fn look(core: &Core) -> Status {
    let lead = core.lead();
    let confirmed = core.seen().confirmed;
    let metrics = core.raft.metrics();
    let metrics = metrics.borrow();
    let membership = metrics.membership_config.membership();
    let names = |ids: &mut dyn Iterator<Item = Id>| ids.filter_map(|id| id.name()).collect();
    let recent = |at: Moment| Moment::now().since(at) <= CONFIRMED_TIME;
    let alone = membership.voter_ids().count() == 1;
    let failed = core.failed.get().cloned();
    let (leader, quorum) = match lead {
        Lead::Here => (Some(core.settings.node.clone()), alone || metrics.millis_since_quorum_ack.is_some()),
        Lead::At(leader) => (leader.name(), confirmed.is_some_and(recent)),
        Lead::Nobody(_) => (None, false),
    };
    Status {
        leader: leader.filter(|_| failed.is_none()),
        term: metrics.current_term,
        quorum: quorum && failed.is_none(),
        voters: names(&mut membership.voter_ids()),
        learners: names(&mut membership.learner_ids()),
        applied: core.applied.next_index().borrow().saturating_sub(1),
        revision: Revision(core.applied.read().revision().0),
        trouble: core.trouble(),
        failed,
        counters: core.tally.read(core.disk.fsyncs()),
    }
}
