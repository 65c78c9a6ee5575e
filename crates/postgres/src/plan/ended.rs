//! Nobody holds the lease, or its holder is silent: close the stream, vote, and be elected or wait.

use std::collections::BTreeSet;
use std::time::Duration;

use tiebeam_topology::{Durability, Moment, NodeName};

use super::{Action, Following, LeaseSeen, Plan, Policy, World};
use crate::quorum::{SyncSet, elect, next_timeline, sets_after_taking};
use crate::registers::{Lease, SyncRegister, Vote, Votes, WalPoint};

/// How long an election that could be decided waits for nodes that have not voted: their logs may go further under
/// `async`, and they are safer partners from the first write on.
const LATE_VOTES: Duration = Duration::from_millis(300);

/// How long the elected node may take; then the next one goes.
const WINNER_TIME: Duration = Duration::from_secs(2);

pub fn plan(world: &World, ended: Option<&LeaseSeen>, policy: &Policy, now: Moment) -> Plan {
    let Some(view) = &world.view else {
        return Plan::soon("PostgreSQL is starting");
    };
    if !view.in_recovery {
        let why = "it accepts writes and this node holds no lease".to_owned();
        return Plan::of(Action::Stop { why });
    }
    if !world.confirmed {
        let why = "the ledger has no majority, so nobody can be made primary".to_owned();
        return Plan { stopped_because: Some(why), ..Plan::default() };
    }
    if world.following != Following::Nobody {
        return Plan { soon: true, ..Plan::of(Action::Fence) };
    }
    if let Some(receiver) = &view.receiver {
        return Plan { soon: true, ..Plan::of(Action::EndReceiver { pid: receiver.pid }) };
    }
    let Some(have) = world.end_of_log().filter(|_| world.fence_settled) else {
        return Plan::soon("reading the log that is here, to its end");
    };
    let votes = world.valid_votes();
    match votes.get(&policy.me) {
        Some(mine) if mine.at == have => decide(world, ended, policy, now, &votes, have),
        _ => Plan { soon: true, ..Plan::of(Action::Vote(vote(world, ended, have))) },
    }
}

fn vote(world: &World, ended: Option<&LeaseSeen>, at: WalPoint) -> Vote {
    let for_epoch = ended.map(|l| l.lease.epoch).unwrap_or_default().next();
    Vote { for_epoch, lease_revision: world.lease_revision(), at }
}

fn decide(
    world: &World,
    ended: Option<&LeaseSeen>,
    policy: &Policy,
    now: Moment,
    votes: &Votes,
    have: WalPoint,
) -> Plan {
    let last = ended.map(|l| &l.lease.holder);
    let waited = now.since(world.ended_since.unwrap_or(now));
    // A winner that does nothing is left out, unless its answer is needed.
    let mut counted = votes.clone();
    let mut turns = waited.as_millis() / WINNER_TIME.as_millis();
    let winner = loop {
        match elect(&world.sync.sets, last, &counted) {
            Ok(winner) if turns > 0 && winner != policy.me && counted.len() > 1 => {
                turns -= 1;
                let mut fewer = counted.clone();
                fewer.remove(&winner);
                if elect(&world.sync.sets, last, &fewer).is_err() {
                    break winner;
                }
                counted = fewer;
            }
            Ok(winner) => break winner,
            Err(missing) => {
                return Plan { stopped_because: Some(missing.to_string()), soon: true, ..Plan::default() };
            }
        }
    };
    if winner != policy.me {
        return Plan::soon(format!("{winner} is elected and has to take the lease"));
    }
    let expected = policy.nodes.iter().filter(|n| Some(*n) != last);
    let complete = expected.clone().all(|n| votes.contains_key(n));
    if !complete && ended.is_some() && waited < LATE_VOTES {
        return Plan::soon("waiting a moment for the votes of the others");
    }
    let sync = register(world, policy, votes);
    let lease = Lease {
        epoch: vote(world, ended, have).for_epoch,
        holder: policy.me.clone(),
        length_ms: policy.lease.as_millis() as u64,
        renewed: 0,
        released: None,
        timeline: next_timeline(ended.map(|l| l.lease.timeline), votes),
        from: have,
        promoted: false,
        ends: Vec::new(),
        checkpointed: false,
        because: because(ended, policy, votes, have),
    };
    let expected = ended.map(|l| l.seen.revision);
    Plan { soon: true, ..Plan::of(Action::TakeLease { lease: Box::new(lease), expected, sync }) }
}

/// The new primary starts with those as partners that have just answered.
fn register(world: &World, policy: &Policy, votes: &Votes) -> SyncRegister {
    let others = policy.others(&policy.me);
    let voted: BTreeSet<NodeName> = others.iter().filter(|n| votes.contains_key(*n)).cloned().collect();
    let target = match policy.durability {
        Durability::Async => return SyncRegister { sets: Vec::new(), target: SyncSet::alone() },
        Durability::Strict if voted.is_empty() => SyncSet::any_of(others),
        Durability::Strict | Durability::Quorum => SyncSet::any_of(voted),
    };
    SyncRegister { sets: sets_after_taking(&world.sync.sets, Some(target.clone())), target }
}

fn because(ended: Option<&LeaseSeen>, policy: &Policy, votes: &Votes, have: WalPoint) -> String {
    let Some(ended) = ended else { return "it created the database".into() };
    let holder = &ended.lease.holder;
    let what = match &ended.lease.released {
        Some(why) => format!("{holder} gave the lease back ({why})"),
        None => format!("{holder} has not renewed its lease"),
    };
    let behind = |(node, vote): (&NodeName, &Vote)| match vote.at.timeline == have.timeline {
        true => format!("{node} was {} bytes behind", have.lsn.ahead_of(vote.at.lsn)),
        false => format!("{node} was on timeline {}", vote.at.timeline),
    };
    let others: Vec<_> = votes.iter().filter(|(n, _)| **n != policy.me).map(behind).collect();
    match others.is_empty() {
        true => format!("{what}; no other node was needed to answer"),
        false => format!("{what}; {}", others.join(", ")),
    }
}
