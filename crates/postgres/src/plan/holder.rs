//! This node holds the lease: be promoted, announce it, keep it in order; give it back when PostgreSQL is gone.

use std::collections::BTreeSet;

use tiebeam_topology::Moment;

use super::{Action, LeaseSeen, Plan, Policy, World, sync};
use crate::instance::slot_name;

pub fn plan(world: &World, seen: &LeaseSeen, policy: &Policy, now: Moment) -> Plan {
    let lease = &seen.lease;
    let epoch = lease.epoch;
    let release = |why: &str| Plan::of(Action::Release { epoch, why: why.to_owned() });
    // Never given back while anything runs: a standby could be in the middle of its promotion.
    let stop = |why: &str| Plan::of(Action::Stop { why: why.to_owned() });
    if !world.running() {
        return release(if lease.promoted {
            "its PostgreSQL ended"
        } else {
            "its PostgreSQL ended before it was promoted"
        });
    }
    if world.holding != Some(epoch) {
        // It lapses because PostgreSQL could not be stopped: it must not be taken up again.
        if world.lapsed == Some(epoch) {
            return Plan::soon("PostgreSQL does not stop, and its lease ends");
        }
        return Plan { soon: true, ..Plan::of(Action::AdoptLease { epoch }) };
    }
    // The guard answers and the server does not: a hung disk, or a stopped process. A short time of it is normal.
    if world.probe_bad_for >= policy.lease {
        let why = format!("no write has succeeded for {} ms", world.probe_bad_for.as_millis());
        return stop(&why);
    }
    let Some(view) = &world.view else {
        return Plan::soon("PostgreSQL does not answer at the moment");
    };
    let slots: BTreeSet<_> = policy.others(&policy.me).iter().map(slot_name).collect();
    // A slot whose log is gone is made anew: first dropped, then missing.
    let (make, drop): (BTreeSet<_>, BTreeSet<_>) =
        (&slots - &view.slots, &(&view.slots - &slots) | &view.lost_slots);
    let slots_wrong = !make.is_empty() || !drop.is_empty();
    if view.in_recovery {
        if lease.promoted {
            return stop("it came back as a standby");
        }
        if world.promoting == Some(epoch) {
            return Plan::soon("PostgreSQL is being promoted");
        }
        // Elected with what it had then. After a restart that may be more: a promotion that had begun.
        match world.end_of_log() {
            Some(have) if have == lease.from => {}
            Some(_) => return stop("it was restarted before its promotion was announced"),
            None => return Plan::soon("reading the log that is here, to its end"),
        }
        let mut plan = Plan { soon: true, ..Plan::default() };
        let names = world.sync.target.standby_names();
        if view.standby_names != names {
            plan.actions.push(Action::SetStandbyNames(names));
        }
        if slots_wrong {
            plan.actions.push(Action::SetSlots { make, drop });
        }
        let guarded = world.guard.and_then(|g| g.deadline).is_some_and(|end| end > now);
        if plan.actions.is_empty() && guarded {
            let from = lease.from.timeline;
            plan.actions.push(Action::Promote { epoch, from, timeline: lease.timeline });
        }
        return plan;
    }
    if !lease.promoted {
        return Plan { soon: true, ..Plan::of(Action::Announce { epoch }) };
    }
    let mut plan = sync::plan(world, view, policy, now);
    if plan.actions.is_empty() && !lease.checkpointed && !world.busy && now >= world.job_not_before {
        plan.actions.push(Action::CheckpointPromotion { epoch });
    }
    if slots_wrong {
        plan.actions.push(Action::SetSlots { make, drop });
    }
    plan
}
