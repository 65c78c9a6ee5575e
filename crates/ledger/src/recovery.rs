//! A voter whose file was made new, and how it becomes a member whose vote counts.
//!
//! Such a voter may have lost its data: it has forgotten what it acknowledged and for whom it voted. If it voted now, it
//! could help a node into the lead that lacks acknowledged writes. So, for as long as the durable mark
//! [`Standing::New`] is there:
//!
//! 1. it stands for no election and votes for nobody;
//! 2. it follows nobody either until it knows the highest vote among so many other voters that one of them was part of
//!    every majority that it was part of itself, and from then on nobody whose vote is lower;
//! 3. it becomes a member when it has applied all that was acknowledged, which a majority confirms to the leader.
//!
//! The first leader of a new cluster could never be elected so. The node that begins the cluster says with its request
//! that no log anywhere has more than the first entry, and who hears that can have forgotten nothing: it is a member
//! at once. Called by `node.rs` (the task), `answer.rs` (what is refused) and `upkeep.rs` (the beginning).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::raft::VoteRequest;
use tiebeam_topology::NodeName;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::core::Core;
use crate::disk::{Change, DiskError, Standing};
use crate::raft::{Id, LeaderId, Vote};
use crate::upkeep::feel;
use crate::wire::message::Pulse;

/// Between two attempts to learn the others' votes, or to catch up.
const AGAIN_EVERY: Duration = Duration::from_millis(100);

/// A file of this name in the ledger's folder is a person's word that this voter never voted before: its file is new
/// because the voter is, and nothing was forgotten. Without it a cluster stands still of whose voters one never ran and
/// another lost its data.
pub(crate) const NEVER_VOTED: &str = "never-voted";

/// Runs until this node is a member.
pub(crate) async fn recover(core: Arc<Core>) {
    let mut told = BTreeMap::new();
    let mut warned = false;
    let word = core.settings.data.join(NEVER_VOTED);
    while core.is_new() {
        if tokio::fs::try_exists(&word).await.unwrap_or(false) {
            tracing::warn!(
                "{} says that this voter never voted before: it votes from now on",
                word.display()
            );
            if become_member(&core).await.is_ok() {
                // It was meant for this once; should it stay, the next start finds a member.
                let _ = tokio::fs::remove_file(&word).await;
            }
        } else if core.floor.get().is_none() {
            ask_all(&core, &mut told).await;
            if let Some(floor) = floor(core.settings.voters().count(), &told) {
                core.floor.get_or_init(|| floor);
                warned = true;
                tracing::warn!(
                    "this voter's ledger is new: it follows {floor} or later, and votes when it has caught up"
                );
            }
        } else if caught_up(&core).await {
            match become_member(&core).await {
                Ok(()) if warned => {
                    tracing::info!("this voter has caught up with the ledger; it votes again")
                }
                Ok(()) => {}
                // The failed disk is told where it is watched.
                Err(error) => tracing::debug!("the voter has caught up, but cannot note it: {error}"),
            }
        }
        tokio::time::sleep(AGAIN_EVERY).await;
    }
}

async fn ask_all(core: &Arc<Core>, told: &mut BTreeMap<NodeName, LeaderId>) {
    let mut asked = JoinSet::new();
    for voter in core.settings.voters().filter(|v| **v != core.settings.node).cloned() {
        let core = core.clone();
        asked.spawn(async move { (feel(&core, &voter).await, voter) });
    }
    while let Some(answer) = asked.join_next().await {
        // Who is new has forgotten its votes itself.
        if let Ok((Some(Pulse { new: false, vote, .. }), voter)) = answer {
            told.insert(voter, vote);
        }
    }
}

/// The highest vote among `told`, once they are so many that of every majority with this node one of them was part.
fn floor(voters: usize, told: &BTreeMap<NodeName, LeaderId>) -> Option<LeaderId> {
    let majority = voters / 2 + 1;
    let needed = voters - majority + 1;
    told.values().max().copied().filter(|_| told.len() >= needed)
}

async fn caught_up(core: &Core) -> bool {
    let mut detail = String::new();
    let caught_up = timeout(core.settings.call_timeout, core.apply_all(&mut detail)).await;
    matches!(caught_up, Ok(Ok(())))
}

/// From now on this node votes and stands for election.
async fn become_member(core: &Core) -> Result<(), DiskError> {
    core.disk.write(Change::Standing(Standing::Member)).await?;
    core.allow_elections();
    Ok(())
}

impl Core {
    /// Whether this node's vote counts for nothing yet.
    pub fn is_new(&self) -> bool {
        self.disk.standing() == Standing::New && self.settings.voters().any(|v| *v == self.settings.node)
    }

    /// For a person: why this node does not vote.
    pub fn why_new(&self) -> Option<String> {
        let waits_for = match self.floor.get() {
            None => "the answers of the other voters",
            Some(_) => "all that was acknowledged",
        };
        self.is_new().then(|| {
            format!(
                "this voter's ledger was made new, so it does not vote until it has {waits_for}; see docs/ledger.md if \
                 that cannot come"
            )
        })
    }

    /// Whether this node may follow who leads by `vote`; else why not.
    pub fn may_follow(&self, vote: &Vote) -> Result<(), String> {
        if !self.is_new() {
            return Ok(());
        }
        match self.floor.get() {
            None => {
                Err("this voter's ledger is new; it asks the other voters first whom it may follow".into())
            }
            Some(floor) if vote.leader_id < *floor => {
                Err(format!("this voter's ledger is new; it follows nobody before {floor}"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether this node may vote; else why not. `first`: `from` says that it asks for a new cluster's first leader.
    pub async fn may_vote(
        &self,
        from: &NodeName,
        request: &VoteRequest<Id>,
        first: bool,
    ) -> Result<(), String> {
        if !self.is_new() {
            return Ok(());
        }
        let begins = self.settings.voters().next() == Some(from);
        if !(first && begins && request.last_log_id.is_some_and(|id| id.index == 0)) {
            return Err("this voter's ledger is new; it votes when it has caught up".into());
        }
        become_member(self).await.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_that_are_asked_meet_every_majority_that_this_node_was_part_of() {
        // (voters, answers that are needed)
        for (voters, needed) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (7, 4)] {
            let mut told = BTreeMap::new();
            for number in 0..voters - 1 {
                let name: NodeName = format!("n{number}").parse().unwrap();
                // The highest vote may be any of them; here it is the first one's.
                told.insert(name, LeaderId::new(10 - number as u64, Id::default()));
                let expected = (told.len() >= needed).then(|| LeaderId::new(10, Id::default()));
                assert_eq!(floor(voters, &told), expected, "{} answers of {voters} voters", told.len());
            }
            // The others of a majority with this node, and those that were asked, are more than all others.
            assert!(voters < 2 || (voters / 2) + needed > voters - 1, "{voters}");
        }
    }
}
