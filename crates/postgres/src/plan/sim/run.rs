//! The events of the simulation in any order, then a world in which everything works again; and the properties.

use proptest::prelude::*;

use super::*;

impl World3 {
    fn crash_agent(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        node.agent = !node.agent;
        (node.seen, node.ended_since, node.holding, node.in_force) = (None, None, None, None);
        node.steps.clear();
        node.absent.clear();
        if node.agent && !node.cut {
            node.known = self.ledger.clone();
        }
        // Without a majority an agent that starts waits: it looks only when a majority has confirmed.
        node.agent &= !node.cut;
    }

    fn event(&mut self, kind: u8, i: usize, n: u16) {
        match kind {
            0..=29 => {
                self.learn(i);
                self.plan(i);
                self.act(i);
            }
            30..=39 => self.plan(i),
            40..=49 => self.act(i),
            50..=64 => self.renew(i, n as u8),
            65..=74 => self.stream(i),
            75..=82 => self.report(n as usize),
            83..=90 => self.client(i),
            91..=93 => self.nodes[i].server = None,
            94..=95 => self.crash_agent(i),
            96 => self.nodes[i].cut = !self.nodes[i].cut,
            _ => self.pass(u64::from(n % 1500)),
        }
    }

    fn learn(&mut self, i: usize) {
        if !self.nodes[i].cut {
            self.nodes[i].known = self.ledger.clone();
        }
    }

    /// Somebody is announced, and its partners are who they should be.
    fn settled(&self) -> bool {
        let Some((lease, _)) = &self.ledger.lease else { return false };
        let primary = &self.nodes[index(&lease.holder)];
        let accepts = primary.server.as_ref().is_some_and(|s| !s.standby && s.epoch == lease.epoch);
        let sync = self
            .ledger
            .sync
            .as_ref()
            .is_some_and(|(s, _)| s.sets == [s.target.clone()] && s.target.members.len() == 2);
        lease.promoted && lease.released.is_none() && accepts && sync
    }

    /// Everybody looks and acts, and every message arrives.
    fn round(&mut self) {
        self.pass(50);
        for i in 0..3 {
            (0..3).for_each(|part| self.renew(i, part));
            self.learn(i);
            self.plan(i);
            (0..4).for_each(|_| self.act(i));
            self.stream(i);
            self.report(0);
        }
    }

    /// Everything works again: somebody must be announced, and have everything.
    fn heal(&mut self) {
        for i in 0..3 {
            self.nodes[i].cut = false;
            if !self.nodes[i].agent {
                self.crash_agent(i);
            }
        }
        for _ in 0..400 {
            if self.settled() {
                break;
            }
            self.round();
        }
        let (lease, _) = self.ledger.lease.clone().expect("a lease");
        assert!(
            lease.promoted && lease.released.is_none(),
            "nobody is primary: {lease:?} {:?}",
            self.ledger.sync
        );
        let primary = index(&lease.holder);
        for record in &self.acked {
            assert!(self.nodes[primary].log.contains(record), "{record:?} is lost");
        }
    }
}

type Events = Vec<(u8, usize, u16)>;

fn events() -> impl Strategy<Value = Events> {
    prop::collection::vec((0u8..104, 0usize..3, any::<u16>()), 100..700)
}

fn live_through(broken: Broken, durability: Durability, guards: bool, events: Events) {
    let mut world = World3::new(durability, broken);
    world.guards = guards;
    // Most of the time it begins with a cluster that works.
    if !events.len().is_multiple_of(8) {
        world.heal();
    }
    for (kind, i, n) in events {
        world.event(kind, i, n);
    }
    world.heal();
}

proptest! {
    // As many cases as `PROPTEST_CASES` says, for a long night; 256 without it.
    #![proptest_config(ProptestConfig { max_shrink_iters: 1000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_ever_lost(strict in any::<bool>(), guards in any::<bool>(), events in events()) {
        let durability = if strict { Durability::Strict } else { Durability::Quorum };
        live_through(Broken::Nothing, durability, guards, events);
    }
}

/// Without its rules the plan does lose writes, and this is where it would be seen.
#[test]
fn the_simulation_finds_a_broken_rule() {
    use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
    for broken in [Broken::Fence, Broken::OldSets] {
        let config = ProptestConfig {
            cases: 3000,
            max_shrink_iters: 0,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let found = runner.run(&events(), |events| {
            let lived = std::panic::catch_unwind(|| live_through(broken, Durability::Quorum, false, events));
            lived.map_err(|_| TestCaseError::fail("an acknowledged write was lost"))
        });
        assert!(found.is_err(), "{broken:?} was not noticed");
    }
}

#[test]
fn the_simulation_does_acknowledge() {
    let mut world = World3::new(Durability::Quorum, Broken::Nothing);
    world.heal();
    let before = world.acked.len();
    for round in 0..50 {
        let primary = index(&world.ledger.lease.clone().unwrap().0.holder);
        world.client(primary);
        (0..4).for_each(|_| world.round());
        if round % 10 == 9 {
            world.nodes[primary].server = None;
            world.round();
            world.heal();
        }
    }
    assert!(world.acked.len() >= before + 40, "{}", world.acked.len());
    assert!(world.ledger.lease.clone().unwrap().0.epoch >= Epoch(5));
}
