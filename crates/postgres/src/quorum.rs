//! Which answers prove that a replica has every acknowledged commit. Pure.
//!
//! A primary under `ANY k (members)` acknowledges a commit when k of the members have flushed it. Whoever hears
//! from N-k+1 of the N members therefore hears from at least one that has it, whatever commit it is, and the one
//! with the furthest log among them has them all. The ledger lists the sets that may have been in force; each must be
//! satisfied. The empty set cannot be: it means that nobody may be promoted, except whoever was primary itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tiebeam_topology::{NodeName, Timeline};

use crate::registers::{Votes, WalPoint};

/// One `ANY k (members)` that may be in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SyncSet {
    /// How many members a commit waits for: 0 only for the empty set.
    pub k: usize,
    pub members: BTreeSet<NodeName>,
}

impl SyncSet {
    /// A commit waits for one of `members`; without members, nobody may be promoted.
    pub fn any_of(members: BTreeSet<NodeName>) -> Self {
        Self { k: members.len().min(1), members }
    }

    /// The primary acknowledges alone.
    pub fn alone() -> Self {
        Self { k: 0, members: BTreeSet::new() }
    }

    /// How many members must answer.
    pub fn needed(&self) -> usize {
        self.members.len() - self.k.min(self.members.len()) + 1
    }

    /// The value of `synchronous_standby_names` (PostgreSQL documentation, "Replication").
    pub fn standby_names(&self) -> String {
        if self.members.is_empty() {
            return String::new();
        }
        let names: Vec<_> = self.members.iter().map(|m| format!("\"{m}\"")).collect();
        format!("ANY {} ({})", self.k, names.join(", "))
    }
}

/// What is missing before anyone may be promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The first set that is not satisfied.
    pub set: SyncSet,
    /// Members of it that have not answered.
    pub silent: BTreeSet<NodeName>,
    /// The last primary, whose own answer is always enough.
    pub last_primary: Option<NodeName>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list =
            |names: &BTreeSet<NodeName>| names.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ");
        let primary = self.last_primary.as_ref().map(NodeName::as_str).unwrap_or("the last primary");
        if self.set.members.is_empty() {
            return write!(
                f,
                "{primary} acknowledged its last writes alone, so only {primary} is known to have them all: bring {primary} back"
            );
        }
        let more = self.set.needed() - (self.set.members.len() - self.silent.len()).min(self.set.needed());
        write!(
            f,
            "acknowledged writes may be on any one of {}: {more} more of them must answer ({} silent), or {primary} itself",
            list(&self.set.members),
            list(&self.silent),
        )
    }
}

/// Who must be promoted given these answers: the one with the furthest log, ties to the first name.
///
/// # Errors
/// What is missing, when the answers do not prove that the furthest log has every acknowledged commit.
pub fn elect(sets: &[SyncSet], last_primary: Option<&NodeName>, votes: &Votes) -> Result<NodeName, Missing> {
    let heard_primary = last_primary.is_some_and(|p| votes.contains_key(p));
    if !heard_primary {
        for set in sets {
            let silent: BTreeSet<_> =
                set.members.iter().filter(|m| !votes.contains_key(*m)).cloned().collect();
            if set.members.len() - silent.len() < set.needed() {
                return Err(Missing { set: set.clone(), silent, last_primary: last_primary.cloned() });
            }
        }
    }
    let furthest = votes.iter().fold(None::<(&NodeName, WalPoint)>, |best, (node, vote)| match best {
        Some((_, at)) if at >= vote.at => best,
        _ => Some((node, vote.at)),
    });
    furthest.map(|(node, _)| node.clone()).ok_or_else(|| Missing {
        set: SyncSet::alone(),
        silent: BTreeSet::new(),
        last_primary: last_primary.cloned(),
    })
}

/// The sets after `node` took the lease: the old ones stay until enough of the new set has caught up with it,
/// because until then a commit of the last epoch may be on nobody else of the new set.
pub fn sets_after_taking(old: &[SyncSet], new: Option<SyncSet>) -> Vec<SyncSet> {
    let mut sets: Vec<SyncSet> = old.to_vec();
    sets.extend(new);
    // Whoever satisfies the empty set satisfies everything: it alone says it all.
    if sets.iter().any(|s| s.members.is_empty()) {
        return vec![SyncSet::alone()];
    }
    sets.sort();
    sets.dedup();
    sets
}

/// The first timeline that nobody has used.
pub fn next_timeline(last: Option<Timeline>, votes: &Votes) -> Timeline {
    let highest = votes.values().map(|v| v.at.timeline).chain(last).max().unwrap_or_default();
    Timeline(highest.0 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::Vote;
    use tiebeam_topology::{Epoch, Lsn};

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }
    fn set(names: &str) -> SyncSet {
        SyncSet::any_of(names.split_whitespace().map(node).collect())
    }
    fn votes(list: &[(&str, u32, u64)]) -> Votes {
        let vote = |t, l| Vote {
            for_epoch: Epoch(2),
            lease_revision: 7,
            at: WalPoint { timeline: Timeline(t), lsn: Lsn::new(l) },
        };
        list.iter().map(|&(n, t, l)| (node(n), vote(t, l))).collect()
    }

    #[test]
    fn the_furthest_log_wins_when_the_answers_suffice() {
        type Case = (&'static [&'static str], &'static [(&'static str, u32, u64)], Option<&'static str>);
        let cases: &[Case] = &[
            (&["b c"], &[("b", 1, 10), ("c", 1, 20)], Some("c")),
            (&["b c"], &[("b", 1, 20), ("c", 1, 20)], Some("b")),
            (&["b c"], &[("b", 1, 10)], None),
            (&["b"], &[("b", 1, 10)], Some("b")),
            (&["b"], &[("c", 1, 10)], None),
            (&["b"], &[("b", 1, 10), ("c", 1, 11)], Some("c")),
            (&["b"], &[("b", 2, 10), ("c", 1, 99)], Some("b")),
            (&["b c", "b"], &[("b", 1, 10)], None),
            (&["b c", "c"], &[("b", 1, 10), ("c", 1, 10)], Some("b")),
            (&[""], &[("b", 1, 10), ("c", 1, 10)], None),
            (&[""], &[("a", 1, 10)], Some("a")),
            (&["b c"], &[("a", 1, 30), ("b", 1, 10)], Some("a")),
            (&["b c"], &[("a", 1, 30), ("b", 2, 10)], Some("b")),
            (&[], &[("b", 1, 10)], Some("b")),
            (&[], &[], None),
        ];
        for (sets, answers, winner) in cases {
            let sets: Vec<_> = sets.iter().map(|s| set(s)).collect();
            let got = elect(&sets, Some(&node("a")), &votes(answers)).ok();
            assert_eq!(got, winner.map(node), "{sets:?} {answers:?}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let say = |s: &[SyncSet], v: &[(&str, u32, u64)]| {
            elect(s, Some(&node("a")), &votes(v)).unwrap_err().to_string()
        };
        assert_eq!(
            say(&[set("b c")], &[("b", 1, 1)]),
            "acknowledged writes may be on any one of b, c: 1 more of them must answer (c silent), or a itself"
        );
        assert!(say(&[set("")], &[("b", 1, 1)]).contains("bring a back"));
    }

    #[test]
    fn old_sets_stay_when_the_lease_is_taken() {
        assert_eq!(sets_after_taking(&[set("b c")], Some(set("c"))), vec![set("b c"), set("c")]);
        assert_eq!(sets_after_taking(&[set("b c")], Some(set("b c"))), vec![set("b c")]);
        assert_eq!(sets_after_taking(&[set("b c")], Some(set(""))), vec![set("")]);
        assert_eq!(sets_after_taking(&[set("b c")], None), vec![set("b c")]);
    }

    #[test]
    fn postgresql_reads_the_set() {
        assert_eq!(set("b node-1").standby_names(), "ANY 1 (\"b\", \"node-1\")");
        assert_eq!(set("").standby_names(), "");
    }
}
