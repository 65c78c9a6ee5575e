//! Another node holds the lease: follow it, or first give up what it does not have.

use std::time::Duration;

use tiebeam_topology::{Lsn, Moment};

use super::{Action, Following, LeaseSeen, Plan, World};
use crate::registers::{Lease, WalPoint};

/// A replica that follows a living primary and gets nothing for this long is cloned again: its log is gone there.
const UNFED_TIME: Duration = Duration::from_secs(15);

pub fn plan(world: &World, seen: &LeaseSeen, now: Moment) -> Plan {
    let lease = &seen.lease;
    let Some(view) = &world.view else {
        return Plan::soon("PostgreSQL is starting");
    };
    if !view.in_recovery {
        let why = format!("{} holds the lease of epoch {}", lease.holder, lease.epoch);
        return Plan::of(Action::Stop { why });
    }
    if world.following == Following::Node(lease.holder.clone()) {
        let unfed = world.unfed_since.is_some_and(|at| now.since(at) >= UNFED_TIME);
        return match unfed && lease.promoted && now >= world.job_not_before {
            true => Plan::of(Action::Clone { from: lease.holder.clone() }),
            false => Plan::default(),
        };
    }
    // What is here can only be compared when nothing more comes from anywhere else.
    if world.following != Following::Nobody {
        return Plan { soon: true, ..Plan::of(Action::Fence) };
    }
    if let Some(receiver) = &view.receiver {
        return Plan { soon: true, ..Plan::of(Action::EndReceiver { pid: receiver.pid }) };
    }
    let (Some(timeline), Some(lsn), true) = (world.timeline, view.replayed, view.drained) else {
        return Plan::soon("reading the log that is here, to its end");
    };
    let have = WalPoint { timeline, lsn };
    match compare(have, lease) {
        Compared::Prefix => Plan::of(Action::Follow { primary: lease.holder.clone(), epoch: lease.epoch }),
        Compared::Unknown => Plan::soon(format!("{} is being promoted", lease.holder)),
        Compared::Forked(_) if !lease.checkpointed => {
            Plan::soon(format!("{} writes its first checkpoint; then what is here is rewound", lease.holder))
        }
        Compared::Forked(_) if now < world.job_not_before => {
            Plan::wait("the last try to give up what only this node has failed; waiting before the next")
        }
        Compared::Forked(fork) => {
            Plan::of(Action::Rejoin { from: lease.holder.clone(), epoch: lease.epoch, have, fork })
        }
    }
}

/// How what is here relates to the holder's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// The holder has all of it.
    Prefix,
    /// The holder's history left ours at this place, and we went on.
    Forked(Lsn),
    /// The holder is not promoted yet, so its history is not known.
    Unknown,
}

/// No two promotions share a timeline, so the same number means the same history.
pub fn compare(have: WalPoint, lease: &Lease) -> Compared {
    if !lease.promoted {
        let behind = have.timeline == lease.from.timeline && have.lsn <= lease.from.lsn;
        return if behind { Compared::Prefix } else { Compared::Unknown };
    }
    if have.timeline == lease.timeline {
        return Compared::Prefix;
    }
    match lease.ends.iter().find(|end| end.timeline == have.timeline) {
        Some(end) if have.lsn <= end.lsn => Compared::Prefix,
        Some(end) => Compared::Forked(end.lsn),
        // A timeline that the holder never was on: it began after one that both know.
        None => {
            let before = lease.ends.iter().filter(|e| e.timeline < have.timeline && e.lsn <= have.lsn);
            Compared::Forked(before.map(|e| e.lsn).max().unwrap_or_default())
        }
    }
}
