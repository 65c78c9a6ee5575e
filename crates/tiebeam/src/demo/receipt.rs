//! The receipt: what a run measured, as one JSON object (DESIGN section 12), and whether it was well.
//!
//! Pure: the demo notes what its clients saw in a [`Tally`], and the receipt is computed from that alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tiebeam_topology::{Epoch, NodeName};

/// What the clients saw so far. Moments are milliseconds since the run's start.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub requests: Requests,
    /// Answers by the application server that gave them.
    pub answered_by: BTreeMap<String, u64>,
    pub reads: BTreeMap<NodeName, u64>,
    pub primary_reads: u64,
    pub stale_reads: u64,
    /// Rows whose write was acknowledged and when, in the order of that.
    pub acknowledged: Vec<(i64, u64)>,
    /// Of them, those that were not there when the terminal's watch last looked.
    pub missing: BTreeSet<i64>,
    /// Writes that were sent and got no clear answer: they may be there or not.
    pub unknown: u64,
    /// When each request failed, in order.
    failed_at_ms: Vec<u64>,
    /// Why requests failed, in the words of whoever said so, and how often.
    pub failures: BTreeMap<String, u64>,
}

/// Different reasons of failures that are kept apart; the rest is counted as one.
const FAILURES_MAX: usize = 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    pub sent: u64,
    pub ok: u64,
    pub failed: u64,
}

impl Tally {
    pub fn acknowledge(&mut self, row: i64, at_ms: u64) {
        self.acknowledged.push((row, at_ms));
    }

    pub fn fail(&mut self, at_ms: u64, why: String) {
        let known = self.failures.len() < FAILURES_MAX || self.failures.contains_key(&why);
        *self.failures.entry(if known { why } else { "other reasons".into() }).or_default() += 1;
        self.requests.failed += 1;
        self.failed_at_ms.push(at_ms);
    }

    /// The longest time without an acknowledged write that begins at or after `from_ms` and before `until_ms`; the
    /// fault itself counts as a beginning. A gap that has not ended by `until_ms` counts as it stands.
    pub fn longest_gap_ms(&self, from_ms: u64, until_ms: u64) -> u64 {
        let inside = self.acknowledged.iter().map(|a| a.1).filter(|&t| from_ms < t && t < until_ms);
        let mut last = from_ms;
        let mut longest = 0;
        for at in inside.chain([until_ms]) {
            longest = longest.max(at.saturating_sub(last));
            last = at;
        }
        longest
    }

    /// Whether a write was acknowledged at or after this moment.
    pub fn acknowledged_since(&self, from_ms: u64) -> bool {
        self.acknowledged.last().is_some_and(|a| a.1 >= from_ms)
    }

    pub fn failed_between(&self, from_ms: u64, until_ms: u64) -> u64 {
        self.failed_at_ms.iter().filter(|&&t| from_ms <= t && t < until_ms).count() as u64
    }

    /// When each row was acknowledged that is not among those read back.
    fn lost_ms<'a>(&'a self, found: &'a BTreeSet<i64>) -> impl Iterator<Item = u64> + 'a {
        self.acknowledged.iter().filter(|(row, _)| !found.contains(row)).map(|(_, at_ms)| *at_ms)
    }
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Receipt {
    pub requests: Requests,
    pub round_robin: RoundRobin,
    pub reads: Reads,
    /// Reads of a session that did not see the session's own write.
    pub stale_reads: u64,
    pub writes: Writes,
    pub drills: Vec<Drill>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct RoundRobin {
    pub counts: BTreeMap<String, u64>,
    pub out_of_turn: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Reads {
    pub primary: u64,
    pub replicas: BTreeMap<NodeName, u64>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Writes {
    pub acknowledged: u64,
    pub unknown: u64,
    /// `None` when the rows could not be read back at the end: then nothing is proved.
    pub lost: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Drill {
    pub name: String,
    pub node: NodeName,
    /// The longest time without an acknowledged write from the fault on; `None` if writes did not come back.
    pub recovered_ms: Option<u64>,
    pub failed_requests: u64,
    /// Of the rows that were acknowledged when the drill was over, those that the end did not find.
    pub lost: u64,
    pub epoch: [Epoch; 2],
    /// When it was over, milliseconds since the run's start.
    #[serde(skip)]
    pub over_ms: u64,
}

impl Receipt {
    /// `found` is every row read back after the last drill, or nothing if that failed.
    pub fn new(
        tally: &Tally,
        mut drills: Vec<Drill>,
        out_of_turn: u64,
        found: Option<&BTreeSet<i64>>,
    ) -> Self {
        for at_ms in found.into_iter().flat_map(|found| tally.lost_ms(found)) {
            // A row is charged to the first drill that was over when it was already acknowledged.
            if let Some(drill) = drills.iter_mut().find(|d| at_ms <= d.over_ms) {
                drill.lost += 1;
            }
        }
        Self {
            requests: tally.requests,
            round_robin: RoundRobin { counts: tally.answered_by.clone(), out_of_turn },
            reads: Reads { primary: tally.primary_reads, replicas: tally.reads.clone() },
            stale_reads: tally.stale_reads,
            writes: Writes {
                acknowledged: tally.acknowledged.len() as u64,
                unknown: tally.unknown,
                lost: found.map(|found| tally.lost_ms(found).count() as u64),
            },
            drills,
        }
    }

    /// Nothing was lost, all was proved, every drill recovered, and something happened at all.
    pub fn well(&self) -> bool {
        self.writes.lost == Some(0)
            && self.writes.acknowledged > 0
            && self.stale_reads == 0
            && self.drills.iter().all(|d| d.recovered_ms.is_some())
    }

    /// For people.
    pub fn words(&self) -> String {
        let mut lines = vec![format!(
            "requests  {} sent, {} answered well, {} failed",
            self.requests.sent, self.requests.ok, self.requests.failed
        )];
        let counts: Vec<_> = self.round_robin.counts.iter().map(|(s, n)| format!("{s} {n}")).collect();
        lines.push(format!("turns     {}; out of turn {}", counts.join(", "), self.round_robin.out_of_turn));
        let replicas: Vec<_> = self.reads.replicas.iter().map(|(s, n)| format!("{s} {n}")).collect();
        let replicas = if replicas.is_empty() { "none".to_owned() } else { replicas.join(", ") };
        lines.push(format!(
            "reads     primary {}, replicas {replicas}; stale {}",
            self.reads.primary, self.stale_reads
        ));
        let lost = match self.writes.lost {
            Some(n) => format!("{n} lost"),
            None => "not proved: the rows could not be read back".into(),
        };
        lines.push(format!(
            "writes    {} acknowledged, {} unknown, {lost}",
            self.writes.acknowledged, self.writes.unknown
        ));
        for d in &self.drills {
            let recovered = match d.recovered_ms {
                Some(ms) => format!("recovered in {ms} ms"),
                None => "did not recover".into(),
            };
            let epoch = if d.epoch[0] == d.epoch[1] {
                format!("epoch {}", d.epoch[0])
            } else {
                format!("epoch {} -> {}", d.epoch[0], d.epoch[1])
            };
            lines.push(format!(
                "drill     {} on {}: {recovered}, {} request(s) failed, {} lost, {epoch}",
                d.name, d.node, d.failed_requests, d.lost
            ));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(moments_ms: &[u64]) -> Tally {
        let mut tally = Tally::default();
        for (n, &at) in moments_ms.iter().enumerate() {
            tally.acknowledge(n as i64, at);
        }
        tally
    }

    fn drill(over_ms: u64) -> Drill {
        Drill {
            name: "kill-primary".into(),
            node: "a".parse().unwrap(),
            recovered_ms: Some(1),
            failed_requests: 0,
            lost: 0,
            epoch: [Epoch(1), Epoch(2)],
            over_ms,
        }
    }

    #[test]
    fn a_gap_begins_at_the_fault_or_at_a_write_after_it() {
        let t = tally(&[10, 20, 30, 130, 140, 150]);
        assert_eq!(t.longest_gap_ms(25, 160), 100, "between 30 and 130");
        assert_eq!(t.longest_gap_ms(35, 160), 95, "from the fault to 130");
        assert_eq!(t.longest_gap_ms(140, 1000), 850, "a gap that has not ended counts");
        assert_eq!(t.longest_gap_ms(0, 25), 10);
    }

    #[test]
    fn a_row_that_is_gone_is_lost_and_charged_once() {
        let t = tally(&[1, 2, 3, 4]);
        let found: BTreeSet<i64> = [0, 2, 3, 99].into();
        let receipt = Receipt::new(&t, vec![drill(1), drill(2), drill(3)], 0, Some(&found));
        assert_eq!(receipt.writes.lost, Some(1));
        assert_eq!(receipt.drills.iter().map(|d| d.lost).collect::<Vec<_>>(), [0, 1, 0]);
        let late = Receipt::new(&t, vec![drill(1)], 0, Some(&found));
        assert_eq!((late.writes.lost, late.drills[0].lost), (Some(1), 0), "lost after the last drill");
        assert!(!receipt.well());
    }

    #[test]
    fn only_a_proof_is_well() {
        let t = tally(&[1, 2]);
        let all: BTreeSet<i64> = [0, 1].into();
        assert!(Receipt::new(&t, vec![drill(1)], 0, Some(&all)).well());
        assert!(!Receipt::new(&t, vec![], 0, None).well(), "not read back");
        assert!(!Receipt::new(&Tally::default(), vec![], 0, Some(&all)).well(), "nothing was written");
        let mut stuck = drill(1);
        stuck.recovered_ms = None;
        assert!(!Receipt::new(&t, vec![stuck], 0, Some(&all)).well(), "did not recover");
    }

    #[test]
    fn the_receipt_has_the_shape_that_scripts_read() {
        let receipt = Receipt::new(&tally(&[5]), vec![drill(1)], 0, Some(&[0].into()));
        assert_eq!(
            serde_json::to_string(&receipt).unwrap(),
            r#"{"requests":{"sent":0,"ok":0,"failed":0},"round_robin":{"counts":{},"out_of_turn":0},"reads":{"primary":0,"replicas":{}},"stale_reads":0,"writes":{"acknowledged":1,"unknown":0,"lost":0},"drills":[{"name":"kill-primary","node":"a","recovered_ms":1,"failed_requests":0,"lost":0,"epoch":[1,2]}]}"#
        );
    }
}
