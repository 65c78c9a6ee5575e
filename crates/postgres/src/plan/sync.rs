//! Which replicas commits wait for, and in which order the ledger and PostgreSQL are told.
//!
//! A set that comes into force is in the ledger before, and a set that goes stays there until the new one is in force
//! in every walsender and enough of its members have all that was committed before. Between, both must be satisfied.
//!
//! One switch inside PostgreSQL cannot be seen from outside: the checkpointer's flag that commits wait at all. It is off
//! only while the primary was alone; a checkpoint that is requested after the reload and has ended proves that the flag
//! is on, because the checkpointer reads its configuration before it begins one.

use std::collections::BTreeSet;
use std::time::Duration;

use tiebeam_topology::{Durability, Moment, NodeName};

use super::{Action, Plan, Policy, World};
use crate::control::{ServerView, standby};
use crate::quorum::{SyncSet, sets_after_taking};
use crate::registers::SyncRegister;

/// A member without a stream for this long is taken out of the set.
const ABSENT_TIME: Duration = Duration::from_secs(2);

/// A replica is let into the set when its log is at most this far behind.
const CAUGHT_UP_BYTES: u64 = 1 << 20;

pub fn plan(world: &World, view: &ServerView, policy: &Policy, now: Moment) -> Plan {
    let register = &world.sync;
    let target = wanted(world, view, policy, now);
    let goal = SyncRegister {
        sets: if policy.durability == Durability::Async { Vec::new() } else { vec![target.clone()] },
        target: target.clone(),
    };
    let write = |sync| Plan::of(Action::WriteSync { sync, expected: world.sync_revision });
    // As after `async`: nobody is known to have anything, so the primary counts as alone until a set is in force.
    if policy.durability != Durability::Async && register.sets.is_empty() {
        return write(SyncRegister { sets: vec![SyncSet::alone()], target });
    }
    if register.target != target {
        // Whoever may be asked by the old sets may be asked until the new one is in force. Waiting for fewer is written
        // before PostgreSQL is told, waiting for more is believed only after it was.
        let sets = match policy.durability {
            Durability::Async => Vec::new(),
            _ => sets_after_taking(&register.sets, Some(target.clone())),
        };
        return write(SyncRegister { sets, target });
    }
    let names = target.standby_names();
    if view.standby_names != names {
        return Plan { soon: true, ..Plan::of(Action::SetStandbyNames(names)) };
    }
    if register.sets == goal.sets {
        return Plan::default();
    }
    let was_alone = register.sets.contains(&SyncSet::alone());
    match &world.in_force {
        Some((force, since)) if *force == names => {
            let has_all = |m: &&NodeName| standby(view, m).is_some_and(|s| s.flushed >= Some(*since));
            let enough = target.members.iter().filter(has_all).count() >= target.k;
            if enough { write(goal) } else { Plan::wait("replicas are catching up") }
        }
        _ if was_alone && !world.busy => Plan::of(Action::Checkpoint { names }),
        _ => Plan::wait("PostgreSQL is taking up its new synchronous_standby_names"),
    }
}

/// Who commits should wait for.
fn wanted(world: &World, view: &ServerView, policy: &Policy, now: Moment) -> SyncSet {
    if policy.durability == Durability::Async {
        return SyncSet::alone();
    }
    let target = &world.sync.target;
    let others = policy.others(&policy.me);
    let lost = |n: &NodeName| world.absent_since.get(n).is_some_and(|at| now.since(*at) >= ABSENT_TIME);
    let end = view.current.map(|(_, lsn)| lsn).unwrap_or_default();
    let ready = |n: &NodeName| {
        standby(view, n)
            .is_some_and(|s| s.streaming && s.flushed.is_some_and(|f| end.ahead_of(f) <= CAUGHT_UP_BYTES))
    };
    let stays = |n: &&NodeName| if target.members.contains(*n) { !lost(n) } else { ready(n) };
    let members: BTreeSet<NodeName> = others.iter().filter(stays).cloned().collect();
    match (members.is_empty(), policy.durability) {
        // Strict waits rather than going on alone.
        (true, Durability::Strict) if target.members.is_empty() => SyncSet::any_of(others),
        (true, Durability::Strict) => target.clone(),
        _ => SyncSet::any_of(members),
    }
}
