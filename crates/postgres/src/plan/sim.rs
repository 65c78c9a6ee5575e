//! Three nodes, a ledger and a tiny PostgreSQL in memory, driven by `plan` through crashes, pauses, partitions, late
//! messages and lost answers in any order. What is checked: an acknowledged entry is in the log of every later
//! primary, and no two nodes acknowledge in one epoch.
//!
//! A failing case prints its smallest list of events; proptest keeps its seed and replays it first the next time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tiebeam_topology::{Durability, Epoch, Lsn, Moment, NodeName, Timeline};

mod look;
mod run;

use super::*;
use crate::control::{Receiver, ServerView, Standby};
use crate::lease::{Seen, holder_end};
use crate::quorum::SyncSet;
use crate::registers::{Init, Lease, SyncRegister, Vote, Votes, WalPoint};

const LENGTH: Duration = Duration::from_secs(3);

/// One record: on which timeline it was written, and a number that no other record has.
type Record = (u32, u64);

#[derive(Clone, Default)]
struct Ledger {
    revision: u64,
    lease: Option<(Lease, u64)>,
    sync: Option<(SyncRegister, u64)>,
    votes: Votes,
}

struct Server {
    standby: bool,
    following: Option<usize>,
    names: String,
    members: BTreeSet<NodeName>,
    /// What this primary knows to be flushed, by stream.
    flushed: BTreeMap<usize, usize>,
    /// Written here and not acknowledged yet.
    pending: Vec<usize>,
    epoch: Epoch,
}

struct Request {
    lease: Lease,
    expected: u64,
    sent: u64,
    committed: Option<u64>,
}

struct Node {
    log: Vec<Record>,
    server: Option<Server>,
    deadline: Option<u64>,
    known: Ledger,
    cut: bool,
    agent: bool,
    seen: Option<Seen>,
    ended_since: Option<(u64, u64)>,
    absent: BTreeMap<usize, u64>,
    in_force: Option<(String, Lsn)>,
    holding: Option<(Lease, u64)>,
    request: Option<Request>,
    attempts: u64,
    steps: Vec<(Action, Ledger)>,
    lies: bool,
}

/// A rule that is broken on purpose, to see that the simulation would find it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    Nothing,
    /// A replica says that its stream is closed while it goes on.
    Fence,
    /// Who takes the lease forgets the sets that were in force before.
    OldSets,
}

struct World3 {
    broken: Broken,
    /// Guards keep their deadlines. Without them (a machine that slept, a guard that was killed) the closed streams and
    /// the votes alone must keep every acknowledged write.
    guards: bool,
    now: u64,
    ledger: Ledger,
    nodes: Vec<Node>,
    durability: Durability,
    /// Flush reports under way: from, to, position, and the epoch of the primary they are for.
    reports: Vec<(usize, usize, usize, Epoch)>,
    acked: Vec<Record>,
    ackers: BTreeMap<Epoch, usize>,
    records: u64,
}

fn name(i: usize) -> NodeName {
    ["a", "b", "c"][i].parse().unwrap()
}
fn index(node: &NodeName) -> usize {
    (0..3).find(|i| name(*i) == *node).unwrap()
}
fn is_prefix(short: &[Record], long: &[Record]) -> bool {
    long.starts_with(short)
}
fn end(log: &[Record]) -> WalPoint {
    WalPoint { timeline: Timeline(log.last().map_or(1, |r| r.0)), lsn: Lsn::new(log.len() as u64) }
}

impl World3 {
    fn new(durability: Durability, broken: Broken) -> Self {
        let node = || Node {
            log: vec![(1, 0)],
            server: None,
            deadline: None,
            known: Ledger::default(),
            cut: false,
            agent: true,
            seen: None,
            ended_since: None,
            absent: BTreeMap::new(),
            in_force: None,
            holding: None,
            request: None,
            attempts: 0,
            steps: Vec::new(),
            lies: false,
        };
        Self {
            broken,
            guards: true,
            now: 10_000,
            ledger: Ledger::default(),
            nodes: (0..3).map(|_| node()).collect(),
            durability,
            reports: Vec::new(),
            acked: Vec::new(),
            ackers: BTreeMap::new(),
            records: 1,
        }
    }

    fn policy(&self, i: usize) -> Policy {
        Policy { me: name(i), nodes: (0..3).map(name).collect(), durability: self.durability, lease: LENGTH }
    }

    /// Time passes; guards kill at their deadlines.
    fn pass(&mut self, ms: u64) {
        self.now += ms;
        for node in &mut self.nodes {
            if self.guards && node.deadline.is_some_and(|d| d <= self.now) {
                node.server = None;
                node.deadline = None;
            }
        }
    }

    fn plan(&mut self, i: usize) {
        if !self.nodes[i].agent || !self.nodes[i].steps.is_empty() {
            return;
        }
        let world = self.look(i);
        let known = self.nodes[i].known.clone();
        let plan = plan(&world, &self.policy(i), Moment::from_ms(self.now));
        self.nodes[i].steps = plan.actions.into_iter().map(|a| (a, known.clone())).collect();
    }

    /// The next step of a plan that was made some time ago.
    fn act(&mut self, i: usize) {
        if !self.nodes[i].agent || self.nodes[i].steps.is_empty() {
            return;
        }
        let (action, known) = self.nodes[i].steps.remove(0);
        let cut = self.nodes[i].cut;
        let now = self.now;
        match action {
            Action::Start { .. } => self.start(i),
            Action::Stop { .. } => self.nodes[i].server = None,
            Action::Fence | Action::EndReceiver { .. } if self.broken == Broken::Fence => {
                self.nodes[i].lies = true;
            }
            Action::Fence | Action::EndReceiver { .. } => self.standby(i, |s| s.following = None),
            Action::Follow { primary, .. } => {
                self.nodes[i].lies = false;
                self.standby(i, |s| s.following = Some(index(&primary)));
            }
            Action::Clone { from } | Action::CloneBroken { from } | Action::Rejoin { from, .. } => {
                let source = &self.nodes[index(&from)];
                if source.server.as_ref().is_some_and(|s| !s.standby) {
                    self.nodes[i].log = source.log.clone();
                    self.nodes[i].server = None;
                }
            }
            Action::Vote(vote) if !cut && self.unchanged(&known) => self.put_vote(i, vote),
            Action::TakeLease { lease, expected, sync } if !cut => {
                let revision = self.ledger.lease.as_ref().map(|l| l.1);
                let sync_unchanged =
                    self.ledger.sync.as_ref().map(|s| s.1) == known.sync.as_ref().map(|s| s.1);
                let sets = if self.broken == Broken::OldSets { vec![sync.target.clone()] } else { sync.sets };
                let sync = SyncRegister { sets, ..sync };
                if revision == expected && sync_unchanged {
                    self.ledger.revision += 1;
                    let revision = self.ledger.revision;
                    self.ledger.lease = Some(((*lease).clone(), revision));
                    self.ledger.sync = Some((sync, revision));
                    if self.nodes[i].server.is_some() {
                        self.nodes[i].deadline = Some(now + LENGTH.as_millis() as u64);
                    }
                    self.nodes[i].holding = Some((*lease, revision));
                }
            }
            Action::AdoptLease { epoch } if !cut => {
                if let Some((lease, revision)) = self.ledger.lease.clone()
                    && lease.epoch == epoch
                    && lease.holder == name(i)
                    && lease.released.is_none()
                {
                    self.nodes[i].holding = Some((lease, revision));
                }
            }
            Action::SetStandbyNames(names) => {
                let target = known.sync.map(|(s, _)| s.target).unwrap_or_default();
                if let Some(server) = &mut self.nodes[i].server {
                    server.names = names;
                    server.members = target.members;
                }
                self.acknowledge(i);
            }
            Action::Checkpoint { names } => {
                let at = end(&self.nodes[i].log).lsn;
                self.nodes[i].in_force = Some((names, at));
            }
            Action::WriteSync { sync, expected }
                if !cut && self.ledger.sync.as_ref().map(|s| s.1) == expected =>
            {
                self.ledger.revision += 1;
                self.ledger.sync = Some((sync, self.ledger.revision));
            }
            Action::CheckpointPromotion { epoch } => {
                self.change_lease(i, epoch, |lease| lease.checkpointed = true);
            }
            Action::Promote { epoch, timeline, .. } => self.promote(i, epoch, timeline),
            Action::Announce { epoch } => {
                let ends = ends(&self.nodes[i].log);
                let timeline = end(&self.nodes[i].log).timeline;
                self.change_lease(i, epoch, |lease| {
                    lease.promoted = true;
                    lease.timeline = timeline;
                    lease.ends = ends;
                });
            }
            Action::Release { epoch, why } => {
                assert!(self.nodes[i].server.is_none(), "released while running");
                if self.nodes[i].holding.as_ref().map(|h| h.0.epoch) == Some(epoch) || !cut {
                    self.adopt(i, epoch);
                    self.change_lease(i, epoch, |lease| lease.released = Some(why));
                    self.nodes[i].holding = None;
                }
            }
            _ => {}
        }
    }

    fn adopt(&mut self, i: usize, epoch: Epoch) {
        if let Some((lease, revision)) = self.ledger.lease.clone()
            && lease.epoch == epoch
            && lease.holder == name(i)
        {
            self.nodes[i].holding = Some((lease, revision));
        }
    }

    fn start(&mut self, i: usize) {
        if self.nodes[i].server.is_none() {
            let members = self.policy(i).others(&name(i));
            let names = SyncSet::any_of(members.clone()).standby_names();
            let (flushed, pending) = (BTreeMap::new(), Vec::new());
            let server =
                Server { standby: true, following: None, names, members, flushed, pending, epoch: Epoch(0) };
            self.nodes[i].server = Some(server);
            self.nodes[i].deadline = None;
        }
    }

    fn standby(&mut self, i: usize, change: impl FnOnce(&mut Server)) {
        if let Some(server) = self.nodes[i].server.as_mut().filter(|s| s.standby) {
            change(server);
        }
    }

    fn unchanged(&self, known: &Ledger) -> bool {
        self.ledger.lease.as_ref().map(|l| l.1) == known.lease.as_ref().map(|l| l.1)
    }

    fn put_vote(&mut self, i: usize, vote: Vote) {
        self.ledger.revision += 1;
        self.ledger.votes.insert(name(i), vote);
    }

    fn change_lease(&mut self, i: usize, epoch: Epoch, change: impl FnOnce(&mut Lease)) {
        let Some((lease, revision)) = self.nodes[i].holding.clone() else { return };
        let now = self.ledger.lease.as_ref().map(|l| l.1);
        if self.nodes[i].cut || lease.epoch != epoch || now != Some(revision) {
            return;
        }
        let mut lease = lease;
        change(&mut lease);
        self.ledger.revision += 1;
        self.ledger.lease = Some((lease.clone(), self.ledger.revision));
        self.nodes[i].holding = Some((lease, self.ledger.revision));
    }

    fn promote(&mut self, i: usize, epoch: Epoch, timeline: Timeline) {
        let holds = self.nodes[i].holding.as_ref().is_some_and(|h| h.0.epoch == epoch);
        let guarded = self.nodes[i].deadline.is_some();
        let Some(server) = self.nodes[i].server.as_mut().filter(|s| s.standby && holds && guarded) else {
            return;
        };
        server.standby = false;
        server.following = None;
        server.flushed.clear();
        server.epoch = epoch;
        for record in &self.acked {
            assert!(
                self.nodes[i].log.contains(record),
                "epoch {epoch}: {} was promoted without {record:?}",
                name(i)
            );
        }
        let used = self.nodes.iter().flat_map(|n| &n.log).any(|r| r.0 == timeline.0);
        assert!(!used, "timeline {timeline} was used before");
        self.write(i, timeline.0);
    }

    fn write(&mut self, i: usize, timeline: u32) {
        let record = (timeline, self.records);
        self.records += 1;
        self.nodes[i].log.push(record);
        let at = self.nodes[i].log.len();
        if let Some(server) = &mut self.nodes[i].server {
            server.pending.push(at);
        }
        self.acknowledge(i);
    }

    /// A client writes to any server that accepts it, announced or not.
    fn client(&mut self, i: usize) {
        if self.nodes[i].server.as_ref().is_some_and(|s| !s.standby) {
            let timeline = end(&self.nodes[i].log).timeline.0;
            self.write(i, timeline);
        }
    }

    /// A replica takes what its primary has, and its report starts on its way.
    fn stream(&mut self, r: usize) {
        if let Some(from) = self.streams(r) {
            self.nodes[r].log = self.nodes[from].log.clone();
            let epoch = self.nodes[from].server.as_ref().unwrap().epoch;
            self.reports.push((r, from, self.nodes[r].log.len(), epoch));
        }
    }

    /// A report arrives, maybe long after it was sent.
    fn report(&mut self, which: usize) {
        if self.reports.is_empty() {
            return;
        }
        let (r, to, position, epoch) = self.reports.remove(which % self.reports.len());
        if let Some(server) = self.nodes[to].server.as_mut().filter(|s| !s.standby && s.epoch == epoch) {
            let known = server.flushed.entry(r).or_default();
            *known = position.max(*known);
            self.acknowledge(to);
        }
    }

    fn acknowledge(&mut self, i: usize) {
        let Some(server) = self.nodes[i].server.as_mut().filter(|s| !s.standby) else { return };
        let (names, members, flushed) = (&server.names, &server.members, &server.flushed);
        let enough =
            |at: &usize| names.is_empty() || members.iter().any(|m| flushed.get(&index(m)) >= Some(at));
        let done: Vec<usize> = server.pending.iter().copied().filter(enough).collect();
        server.pending.retain(|at| !done.contains(at));
        let epoch = server.epoch;
        for at in done {
            assert_eq!(*self.ackers.entry(epoch).or_insert(i), i, "two nodes acknowledged in epoch {epoch}");
            let record = self.nodes[i].log[at - 1];
            for (other, node) in self.nodes.iter().enumerate() {
                let later = node.server.as_ref().is_some_and(|s| !s.standby && s.epoch > epoch);
                assert!(
                    !later || node.log.contains(&record),
                    "{} acknowledges after {}",
                    name(i),
                    name(other)
                );
            }
            self.acked.push(record);
        }
    }

    /// The three parts of a renewal, each when its time comes.
    fn renew(&mut self, i: usize, part: u8) {
        let now = self.now;
        let node = &mut self.nodes[i];
        match part % 3 {
            0 if node.agent && node.request.is_none() => {
                if let Some((lease, revision)) = node.holding.clone() {
                    node.attempts += 1;
                    let lease = Lease { renewed: lease.renewed + node.attempts, ..lease };
                    node.request = Some(Request { lease, expected: revision, sent: now, committed: None });
                }
            }
            1 if !node.cut => {
                if let Some(request) = node.request.as_mut().filter(|r| r.committed.is_none())
                    && self.ledger.lease.as_ref().map(|l| l.1) == Some(request.expected)
                {
                    self.ledger.revision += 1;
                    request.committed = Some(self.ledger.revision);
                    self.ledger.lease = Some((request.lease.clone(), self.ledger.revision));
                }
            }
            2 if node.agent && !node.cut => {
                let Some(request) = node.request.take() else { return };
                match request.committed {
                    Some(revision) if node.holding.is_some() => {
                        let end = holder_end(Moment::from_ms(request.sent), LENGTH).as_ms();
                        if node.server.is_some() {
                            node.deadline = Some(end);
                        }
                        node.holding = Some((request.lease, revision));
                    }
                    _ => {
                        // A conflict, or no answer: what is there now?
                        let mine = self.ledger.lease.clone().filter(|(l, _)| {
                            l.holder == name(i)
                                && l.released.is_none()
                                && node.holding.as_ref().is_some_and(|h| h.0.epoch == l.epoch)
                        });
                        node.holding = mine;
                    }
                }
            }
            _ => {}
        }
        self.pass(0);
    }
}

fn ends(log: &[Record]) -> Vec<WalPoint> {
    let mut ends = Vec::new();
    for (at, pair) in log.windows(2).enumerate() {
        if pair[0].0 != pair[1].0 {
            ends.push(WalPoint { timeline: Timeline(pair[0].0), lsn: Lsn::new(at as u64 + 1) });
        }
    }
    ends
}
