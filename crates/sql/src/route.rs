//! Where a batch of statements goes. Pure: what is known, the session's floor and `now` are parameters.
//!
//! Called by `session` for each batch that starts while no server connection is attached.

use std::time::Instant;

use tiebeam_balance::RoundRobin;
use tiebeam_topology::Reads;

use crate::fresh::{Floor, Unfit, judge};
use crate::snapshot::Snapshot;
use crate::stats::Why;

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// For a read, with why it was not a replica.
    Primary(Option<Why>),
    /// By its place among the view's replicas.
    Replica(usize),
    /// A replica may have replayed enough within moments.
    Wait,
}

/// Replicas that refused or broke under this batch; more than 64 are not tried again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried(u64);

impl Tried {
    pub fn add(&mut self, replica: usize) {
        self.0 |= 1u64.checked_shl(replica as u32).unwrap_or(0);
    }

    fn has(self, replica: usize) -> bool {
        replica >= 64 || self.0 >> replica & 1 == 1
    }
}

/// Chooses for a batch that only reads (`read`) or might write. The floor must be settled. `may_wait`: there is time
/// left to wait for a replica.
#[expect(clippy::too_many_arguments, reason = "all that a pure decision depends on is in sight")]
pub(crate) fn route(
    read: bool,
    reads: Reads,
    snapshot: &Snapshot,
    floor: &Floor,
    tried: Tried,
    circle: &RoundRobin,
    may_wait: bool,
    now: Instant,
) -> Destination {
    if !read {
        return Destination::Primary(None);
    }
    if reads == Reads::Primary {
        return Destination::Primary(Some(Why::Setting));
    }
    let replicas = &snapshot.replicas;
    let verdict = |i: usize| judge(replicas[i].as_ref(), floor, &snapshot.primary, now);
    if let Some(i) = circle.pick(replicas.len(), |i| !tried.has(i) && verdict(i).is_ok()) {
        return Destination::Replica(i);
    }
    if tried.0 != 0 {
        return Destination::Primary(Some(Why::Failed));
    }
    if replicas.is_empty() {
        return Destination::Primary(Some(Why::NoReplica));
    }
    let behind = (0..replicas.len()).any(|i| verdict(i) == Err(Unfit::Behind));
    match (behind, may_wait) {
        (true, true) => Destination::Wait,
        (true, false) => Destination::Primary(Some(Why::Behind)),
        (false, _) => Destination::Primary(Some(Why::Unfit)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tiebeam_topology::{Epoch, Lsn, Timeline};

    use super::*;
    use crate::fresh::Sample;
    use crate::{Target, View};

    fn world(now: Instant, replayed: &[u64]) -> Snapshot {
        let target = |i: usize| Target {
            node: format!("n{i}").parse().unwrap(),
            address: ([127, 0, 0, 1], 5432 + i as u16).into(),
            identity: String::new(),
        };
        let replicas = (1..=replayed.len()).map(target).collect();
        let view = View { epoch: Epoch(1), primary: Some(target(0)), replicas };
        let mut snapshot = Snapshot::new(Arc::new(view), now);
        let sample = |lsn, in_recovery| Sample {
            sent: now,
            in_recovery,
            lsn: Lsn::new(lsn),
            timeline: Some(Timeline(1)),
        };
        snapshot.primary.push(sample(100, false));
        snapshot.replicas = replayed.iter().map(|&lsn| Some(sample(lsn, true))).collect();
        snapshot
    }

    #[test]
    fn the_table() {
        let now = Instant::now();
        let at = |lsn| Floor::At(Lsn::new(lsn), Some(Timeline(1)), Epoch(1));
        let go = |read, reads, replayed: &[u64], floor, tried: &[usize], may_wait| {
            let mut set = Tried::default();
            tried.iter().for_each(|&i| set.add(i));
            route(read, reads, &world(now, replayed), &floor, set, &RoundRobin::new(), may_wait, now)
        };
        use Destination::*;
        let replicas = Reads::Replicas;
        assert_eq!(go(false, replicas, &[100], Floor::Free, &[], true), Primary(None));
        assert_eq!(go(true, Reads::Primary, &[100], Floor::Free, &[], true), Primary(Some(Why::Setting)));
        assert_eq!(go(true, replicas, &[], Floor::Free, &[], true), Primary(Some(Why::NoReplica)));
        assert_eq!(go(true, replicas, &[50, 90], Floor::Free, &[], true), Replica(0));
        assert_eq!(go(true, replicas, &[50, 90], at(90), &[], true), Replica(1));
        assert_eq!(go(true, replicas, &[50, 90], at(90), &[1], true), Primary(Some(Why::Failed)));
        assert_eq!(go(true, replicas, &[50, 90], at(95), &[], true), Wait);
        assert_eq!(go(true, replicas, &[50, 90], at(95), &[], false), Primary(Some(Why::Behind)));
    }

    #[test]
    fn reads_go_round() {
        let now = Instant::now();
        let world = world(now, &[100, 10, 100]);
        let circle = RoundRobin::new();
        let floor = Floor::At(Lsn::new(50), Some(Timeline(1)), Epoch(1));
        let picks: Vec<_> = (0..4)
            .map(|_| route(true, Reads::Replicas, &world, &floor, Tried::default(), &circle, false, now))
            .collect();
        let r = Destination::Replica;
        assert_eq!(picks, [r(0), r(2), r(0), r(2)]);
    }
}
