//! Decides what this node does next. Pure: the world, the policy and `now` in, steps out; the same again from an
//! unchanged world. The agent calls it after every observation.
//!
//! There is one way to be primary: run as a standby, close the stream, vote, be elected, take the lease, be promoted.
//! A crash, a planned stop, the first start and a lone node all go that way. So PostgreSQL is only ever *started* as a
//! standby, and what is promoted has been elected.

mod ended;
mod follower;
mod holder;
#[cfg(test)]
mod sim;
mod sync;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use tiebeam_topology::{Durability, Epoch, Moment, NodeName};

pub use world::*;

/// A PostgreSQL that ended so many times in a row right after its start will not get better by itself.
const QUICK_ENDS_MAX: u32 = 5;

/// What the operator decided, and who there is.
#[derive(Clone, Debug)]
pub struct Policy {
    pub me: NodeName,
    /// All database nodes, this one included.
    pub nodes: BTreeSet<NodeName>,
    pub durability: Durability,
    pub lease: Duration,
}

impl Policy {
    /// The database nodes but `node`.
    pub fn others(&self, node: &NodeName) -> BTreeSet<NodeName> {
        self.nodes.iter().filter(|n| *n != node).cloned().collect()
    }
}

/// What to do now.
pub fn plan(world: &World, policy: &Policy, now: Moment) -> Plan {
    if world.busy && world.holding.is_none() {
        return Plan::wait("a long step is under way");
    }
    let mut plan = match (&world.data, &world.init) {
        (Data::Refused(why), _) => Plan::wait(why.clone()),
        (_, None) => create(world, policy),
        (Data::Missing, Some((init, _))) if init.system_identifier.is_none() => create(world, policy),
        (Data::Missing, Some(_)) => copy(world, policy, now),
        (Data::Here, Some(_)) => with_data(world, policy, now),
        (Data::Rewound { from, epoch }, Some(_)) => rewound(world, from, *epoch, policy, now),
    };
    housekeeping(world, policy, &mut plan);
    plan
}

/// No database exists yet: the first node by name makes it, so that it is always clear which.
fn create(world: &World, policy: &Policy) -> Plan {
    let maker = world.init.as_ref().map(|(init, _)| &init.node).or(policy.nodes.first());
    if world.data == Data::Here {
        return Plan::wait(
            "there is a data directory here, but the ledger knows of no database; restore the ledger or move the data away",
        );
    }
    match (maker == Some(&policy.me), &world.init) {
        (false, _) => {
            let maker = maker.map_or("the first node", NodeName::as_str);
            Plan {
                stopped_because: Some(format!(
                    "the database has not been created yet; {maker} has to do that"
                )),
                ..Plan::default()
            }
        }
        (true, None) => Plan::of(Action::ClaimInit),
        (true, Some(_)) => Plan::of(Action::Create),
    }
}

/// No data here, but there is a database: clone its primary.
fn copy(world: &World, policy: &Policy, now: Moment) -> Plan {
    match &world.lease {
        Some(l)
            if l.lease.promoted
                && !l.ended(now)
                && l.lease.holder != policy.me
                && now >= world.job_not_before =>
        {
            Plan::of(Action::Clone { from: l.lease.holder.clone() })
        }
        _ => Plan::wait("there is no data here yet and no primary to clone"),
    }
}

fn with_data(world: &World, policy: &Policy, now: Moment) -> Plan {
    match &world.lease {
        // The holder decides for itself what a dead PostgreSQL means.
        Some(l) if l.lease.holder == policy.me && !l.ended(now) => holder::plan(world, l, policy, now),
        _ if world.busy => Plan::wait("a long step is under way"),
        _ if !world.running() => start_or_copy(world, None, now),
        Some(l) if !l.ended(now) => follower::plan(world, l, now),
        ended => ended::plan(world, ended.as_ref(), policy, now),
    }
}

/// What does not start is cloned, once: while another node is primary that has every acknowledged write, so a copy of it
/// is better. If the copy does not start either, or cannot be made, a copy is not what is missing.
fn start_or_copy(world: &World, follow: Option<NodeName>, now: Moment) -> Plan {
    let broken = world.quick_ends >= QUICK_ENDS_MAX && !world.copied && now >= world.job_not_before;
    match &world.lease {
        Some(l) if broken && l.lease.promoted && !l.ended(now) => {
            Plan::of(Action::CloneBroken { from: l.lease.holder.clone() })
        }
        _ => start(world, follow, now),
    }
}

fn start(world: &World, follow: Option<NodeName>, now: Moment) -> Plan {
    match now >= world.start_not_before {
        true => Plan::of(Action::Start { follow }),
        false => Plan::wait("PostgreSQL ended too soon after its last start; waiting before the next"),
    }
}

/// Just rewound: it answers nobody until it has streamed what it lacks, and only its source has that.
fn rewound(world: &World, from: &NodeName, epoch: Epoch, policy: &Policy, now: Moment) -> Plan {
    if world.view.is_some() {
        return Plan::of(Action::ForgetRewind);
    }
    let source_leads = world.lease.as_ref().is_some_and(|l| {
        l.lease.holder == *from && l.lease.epoch == epoch && l.lease.promoted && !l.ended(now)
    });
    match (source_leads, world.running()) {
        (true, false) => start_or_copy(world, Some(from.clone()), now),
        (true, true) => Plan::soon("PostgreSQL is catching up after its rewind"),
        (false, true) => Plan::of(Action::Stop {
            why: format!("{from}, to which it was rewound, is not primary any more"),
        }),
        (false, false) => copy(world, policy, now),
    }
}

/// What every node keeps in order while its PostgreSQL answers.
fn housekeeping(world: &World, policy: &Policy, plan: &mut Plan) {
    let Some(view) = world.view.as_ref().filter(|_| plan.actions.is_empty()) else { return };
    if view.login_roles != world.ident_roles {
        plan.actions.push(Action::WriteIdent { roles: view.login_roles.clone() });
    }
    let holds =
        world.lease.as_ref().is_some_and(|l| l.lease.holder == policy.me && l.lease.released.is_none());
    // Slots on a standby would hold log back that nobody fetches.
    if !holds && !view.slots.is_empty() {
        plan.actions.push(Action::SetSlots { make: BTreeSet::new(), drop: view.slots.clone() });
    }
}
