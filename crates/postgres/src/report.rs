//! Tells the rest of the node ([`State`]) and the other nodes (`database/members/NODE`) what this node sees.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tiebeam_ledger::{Register, Store, Txn};
use tiebeam_topology::{Moment, NodeName};
use tokio::sync::watch;

use crate::observe::{LedgerView, register};
use crate::plan::{LeaseSeen, Plan, Policy, World};
use crate::registers::{Member, keys};
use crate::state::{LeaseView, MemberRole, MemberStatus, State};

/// Between two reports to the ledger when only positions have changed.
const EVERY: Duration = Duration::from_secs(1);

pub struct Reporter {
    node: NodeName,
    store: Arc<dyn Store>,
    register: Option<Register<Member>>,
    last: MemberStatus,
    last_at: Option<Moment>,
    reports: u64,
    in_flight: Arc<AtomicBool>,
}

impl Reporter {
    pub fn new(node: NodeName, store: Arc<dyn Store>) -> Self {
        let register = register(&keys::member(&node)).ok();
        let reports = Moment::now().as_ms();
        Self {
            node,
            store,
            register,
            last: MemberStatus::default(),
            last_at: None,
            reports,
            in_flight: Arc::default(),
        }
    }

    /// Publishes the state, and reports to the ledger if something changed that others care for.
    pub fn report(
        &mut self,
        world: &World,
        plan: &Plan,
        policy: &Policy,
        ledger: &LedgerView,
        guard_pid: Option<u32>,
        show: &watch::Sender<Arc<State>>,
    ) {
        let now = Moment::now();
        let mut members: BTreeMap<_, _> =
            ledger.members.iter().map(|(n, m)| (n.clone(), m.status.clone())).collect();
        let mut me = status(world, policy, now);
        me.guard_pid = guard_pid;
        me.note.clone_from(&plan.note);
        if let Some(current) =
            primary(world.lease.as_ref(), now).and_then(|p| members.get(p)).and_then(|m| m.current)
        {
            me.lag_bytes = me.replayed.map(|at| current.ahead_of(at));
        }
        self.tell_ledger(&me, now);
        members.insert(self.node.clone(), me.clone());
        let state = state(world.lease.as_ref(), me, members, plan.stopped_because.clone(), now);
        publish(show, state);
    }

    fn tell_ledger(&mut self, me: &MemberStatus, now: Moment) {
        let without_positions = |s: &MemberStatus| MemberStatus {
            received: None,
            replayed: None,
            current: None,
            lag_bytes: None,
            lag_ms: None,
            ..s.clone()
        };
        let due = self.last_at.is_none_or(|at| now.since(at) >= EVERY);
        let changed = without_positions(me) != without_positions(&self.last);
        let Some(register) = self.register.as_ref().filter(|_| due || changed) else { return };
        // One at a time: a slow ledger is not given more to do.
        if self.in_flight.swap(true, Ordering::AcqRel) {
            return;
        }
        self.last = me.clone();
        self.last_at = Some(now);
        self.reports += 1;
        let put = register.put(&Member { report: self.reports, status: me.clone() }, None);
        let (store, in_flight) = (self.store.clone(), self.in_flight.clone());
        tokio::spawn(async move {
            if let Ok(put) = put {
                // The next report says more than this one; a lost one does not matter.
                let _ = store.transact(Txn { compare: Vec::new(), then: vec![put] }).await;
            }
            in_flight.store(false, Ordering::Release);
        });
    }
}

/// What everyone on this node is told.
pub fn state(
    lease: Option<&LeaseSeen>,
    me: MemberStatus,
    members: BTreeMap<NodeName, MemberStatus>,
    stopped_because: Option<String>,
    now: Moment,
) -> State {
    let view = |l: &LeaseSeen| LeaseView {
        epoch: l.lease.epoch,
        holder: l.lease.holder.clone(),
        released: l.lease.released.clone(),
        expired: l.expired(now),
        promoted: l.lease.promoted,
        timeline: l.lease.promoted.then_some(l.lease.timeline),
    };
    State { lease: lease.map(view), primary: primary(lease, now).cloned(), me, members, stopped_because }
}

/// Who accepts writes, as seen from here.
fn primary(lease: Option<&LeaseSeen>, now: Moment) -> Option<&NodeName> {
    lease.filter(|l| l.lease.promoted && !l.ended(now)).map(|l| &l.lease.holder)
}

/// Shows a state, if it is another one.
pub fn publish(show: &watch::Sender<Arc<State>>, state: State) {
    show.send_if_modified(|before| {
        let changed = **before != state;
        if changed {
            *before = Arc::new(state);
        }
        changed
    });
}

fn status(world: &World, policy: &Policy, now: Moment) -> MemberStatus {
    let pid = world.guard.and_then(|g| g.pid);
    let lease = world.lease.as_ref();
    let mine = lease.is_some_and(|l| l.lease.holder == policy.me && l.lease.promoted && !l.ended(now));
    let sync = world.sync.counts(&policy.me);
    let mut status = MemberStatus { pid, timeline: world.timeline, sync, ..MemberStatus::default() };
    status.role = match &world.view {
        _ if world.busy && pid.is_none() => MemberRole::Copying,
        Some(view) if view.in_recovery => MemberRole::Replica,
        Some(_) => MemberRole::Primary,
        None if pid.is_some() => MemberRole::Recovering,
        None => MemberRole::Stopped,
    };
    let Some(view) = &world.view else { return status };
    status.accepting_writes = mine && !view.in_recovery;
    status.current = view.current.map(|(_, lsn)| lsn);
    if view.in_recovery {
        status.received = view.received.max(view.replayed);
        status.replayed = view.replayed;
        status.lag_bytes = view.received.zip(view.replayed).map(|(r, p)| r.ahead_of(p));
        status.lag_ms = view.replay_lag_ms;
        status.streaming = view.receiver.as_ref().is_some_and(|r| r.streaming);
    }
    status
}
