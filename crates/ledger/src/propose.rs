//! Writes: from any node to the leader, and at the leader into the log.
//!
//! A write is tried again, under the same request number, until the call's time is up. What comes out is honest: done,
//! certainly not done, or [`StoreError::Unknown`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::error::RaftError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::StoreError;
use crate::core::{Core, Lead};
use crate::raft::{Answers, Batch};
use crate::state::{Answer, Command, Proposal, STORE_MAX_BYTES};
use crate::wire::frame::FRAME_MAX_BYTES;
use crate::wire::message::{Ask, Refusal, Reply};
use crate::wire::peer::CallError;

/// Proposals that wait for the leader's log.
pub(crate) const PROPOSALS_MAX: usize = 1024;
/// Most proposals in one entry of the log.
pub(crate) const BATCH_MAX: usize = 128;
/// Encoded bytes after which an entry takes no further proposal.
const BATCH_BYTES: usize = 1 << 20;
/// Encoded bytes of the largest transaction that any setting may allow.
pub(crate) const PROPOSAL_MAX_BYTES: usize = 8 << 20;
/// For whose request each proposal is, and what else is in a message of one entry.
const AROUND_MAX_BYTES: usize = 64 << 10;
/// An entry that cannot be sent would stop the log for ever.
const _: () = assert!(BATCH_BYTES + PROPOSAL_MAX_BYTES + AROUND_MAX_BYTES <= FRAME_MAX_BYTES);

/// A proposal at the leader, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Handed {
    proposal: Proposal,
    answer: oneshot::Sender<Result<Answer, Refusal>>,
}

/// What is known of a write whose time is up.
#[derive(Debug, Default)]
struct Trace {
    /// A leader may have it.
    sent: bool,
    /// Why there was no leader, the last time.
    detail: String,
}

impl Core {
    /// Has `command` done, wherever the leader is.
    pub async fn propose(&self, command: Command) -> Result<Answer, StoreError> {
        self.tally.writes.fetch_add(1, Ordering::Relaxed);
        let Ok(_permit) = self.in_flight.try_acquire() else {
            self.tally.busy.fetch_add(1, Ordering::Relaxed);
            return Err(StoreError::Busy { in_flight: self.settings.limits.in_flight });
        };
        let started = Instant::now();
        let mut trace = Trace::default();
        let outcome = timeout(self.settings.call_timeout, self.attempts(command, &mut trace)).await;
        match outcome {
            Ok(Ok(answer)) => settle(answer),
            Ok(Err(_)) | Err(_) if trace.sent => {
                self.tally.unknown.fetch_add(1, Ordering::Relaxed);
                Err(StoreError::unknown(started.elapsed()))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                self.tally.no_quorum.fetch_add(1, Ordering::Relaxed);
                Err(StoreError::no_quorum(started.elapsed(), trace.detail))
            }
        }
    }

    async fn attempts(&self, command: Command, trace: &mut Trace) -> Result<Answer, StoreError> {
        let ticket = self.requests.begin();
        let mut first = true;
        loop {
            self.usable()?;
            let lead = self.lead();
            if let Lead::Nobody(detail) = lead {
                trace.detail = detail;
                self.look_again().await;
                continue;
            }
            if !std::mem::take(&mut first) {
                self.tally.retried.fetch_add(1, Ordering::Relaxed);
            }
            let proposal = Proposal { request: Some(ticket.id()), command: command.clone() };
            // Should the time be up during the attempt, it may have reached the leader.
            let before = std::mem::replace(&mut trace.sent, true);
            let outcome = tokio::select! {
                outcome = self.attempt(&lead, proposal) => outcome,
                () = self.lead_changes(&lead) => Err(Refusal::Unclear),
            };
            match outcome {
                Ok(Answer::Stale { current }) if !before => {
                    trace.sent = false;
                    self.requests.outgrow(current);
                }
                // An earlier attempt may have been done under the session that is over.
                Ok(Answer::Stale { .. }) => return Err(StoreError::unknown(Duration::ZERO)),
                Ok(answer) => return Ok(answer),
                Err(Refusal::Unclear) => self.look_again().await,
                Err(Refusal::TooLarge { bytes, max_bytes }) => {
                    trace.sent = before;
                    return Err(StoreError::TooLarge {
                        what: "a transaction, by the leader's file,",
                        bytes,
                        max_bytes,
                    });
                }
                Err(refusal) => {
                    trace.sent = before;
                    trace.detail = match refusal {
                        Refusal::Busy => "the leader has too much to do".into(),
                        _ => "the leader that this node knows does not lead or cannot be reached".into(),
                    };
                    self.look_again().await;
                }
            }
        }
    }

    async fn attempt(&self, lead: &Lead, proposal: Proposal) -> Result<Answer, Refusal> {
        match lead {
            Lead::Here => self.hand(proposal).await,
            Lead::Nobody(_) => Err(Refusal::NotLeader),
            Lead::At(leader) => {
                let peer = self.peers.get(leader).ok_or(Refusal::NotLeader)?;
                self.tally.forwarded.fetch_add(1, Ordering::Relaxed);
                match peer.call(&Ask::Propose(proposal), self.settings.call_timeout).await {
                    Ok(Reply::Propose(result)) => result,
                    Ok(_) | Err(CallError::Lost(_)) => Err(Refusal::Unclear),
                    Err(CallError::NotSent(_)) => Err(Refusal::NotLeader),
                }
            }
        }
    }

    /// Into this node's log, if it leads. What comes from another node keeps this node's limits too.
    pub async fn hand(&self, proposal: Proposal) -> Result<Answer, Refusal> {
        if self.lead() != Lead::Here {
            return Err(Refusal::NotLeader);
        }
        if let Command::Transact(txn) = &proposal.command
            && let Err(StoreError::TooLarge { bytes, max_bytes, .. }) = self.settings.limits.check(txn)
        {
            return Err(Refusal::TooLarge { bytes, max_bytes });
        }
        let (answer, result) = oneshot::channel();
        self.proposals.try_send(Handed { proposal, answer }).map_err(|_| Refusal::Busy)?;
        result.await.unwrap_or(Err(Refusal::Unclear))
    }
}

/// The leader's side: what gathers while one entry is made durable is the next entry.
pub(crate) async fn fill_log(core: Arc<Core>, mut queue: mpsc::Receiver<Handed>) {
    let mut waiting: Vec<Handed> = Vec::new();
    loop {
        if waiting.is_empty() && queue.recv_many(&mut waiting, BATCH_MAX).await == 0 {
            return;
        }
        while waiting.len() < BATCH_MAX
            && let Ok(handed) = queue.try_recv()
        {
            waiting.push(handed);
        }
        // Who has given up is not proposed any more.
        waiting.retain(|handed| !handed.answer.is_closed());
        let batch: Vec<Handed> = waiting.drain(..batch_length(&waiting)).collect();
        if !batch.is_empty() {
            append(&core, batch).await;
        }
    }
}

async fn append(core: &Core, batch: Vec<Handed>) {
    let lead = core.lead();
    let (proposals, waiters): (Vec<_>, Vec<_>) = batch.into_iter().map(|h| (h.proposal, h.answer)).unzip();
    let outcome = if lead == Lead::Here {
        tokio::select! {
            written = core.raft.client_write(Batch(proposals)) => match written {
                Ok(done) => Ok(done.data),
                // Whether the entry survives is for the next leader to say.
                Err(RaftError::APIError(_) | RaftError::Fatal(_)) => Err(Refusal::Unclear),
            },
            () = core.lead_changes(&lead) => Err(Refusal::Unclear),
        }
    } else {
        Err(Refusal::NotLeader)
    };
    match outcome {
        Ok(Answers(answers)) => {
            for (waiter, answer) in waiters.into_iter().zip(answers) {
                // Who waited may have given up.
                let _ = waiter.send(Ok(answer));
            }
        }
        Err(refusal) => {
            for waiter in waiters {
                let _ = waiter.send(Err(refusal.clone()));
            }
        }
    }
}

fn batch_length(waiting: &[Handed]) -> usize {
    let mut bytes = 0;
    let fits = |handed: &&Handed| {
        let fits = bytes < BATCH_BYTES;
        bytes += encoded_bytes(&handed.proposal);
        fits
    };
    waiting.iter().take_while(fits).count()
}

/// How many bytes `value` has in the log and on its way to a peer.
pub(crate) fn encoded_bytes(value: &impl serde::Serialize) -> usize {
    // Our own types can be encoded; what cannot be is not let in.
    postcard::experimental::serialized_size(value).unwrap_or(usize::MAX)
}

/// An answer of the state as the caller hears it.
fn settle(answer: Answer) -> Result<Answer, StoreError> {
    match answer {
        Answer::LeaseGone(lease) => Err(StoreError::LeaseGone(lease)),
        Answer::Full { bytes } => Err(StoreError::TooLarge {
            what: "the whole store",
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            max_bytes: STORE_MAX_BYTES,
        }),
        answer => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::LogEntry;
    use crate::settings::Limits;
    use crate::state::RequestId;
    use crate::wire::frame;
    use crate::{Compare, KEY_MAX_BYTES, Key, Op, Txn};

    fn handed(txn: Txn) -> Handed {
        let node = "n".repeat(32).parse().unwrap();
        let request = RequestId { node, session: u64::MAX, number: u64::MAX, settled: u64::MAX };
        let proposal = Proposal { request: Some(request), command: Command::Transact(txn) };
        Handed { proposal, answer: oneshot::channel().0 }
    }

    fn put(bytes: usize) -> Txn {
        Txn::put("k".parse().unwrap(), vec![0; bytes])
    }

    /// The largest message of one entry that `waiting` may become.
    fn message_bytes(waiting: Vec<Handed>) -> usize {
        let batch = Batch(waiting.into_iter().map(|handed| handed.proposal).collect());
        let id = crate::raft::LogId::new(crate::raft::LeaderId::new(u64::MAX, Default::default()), u64::MAX);
        let entries = vec![LogEntry { log_id: id, payload: openraft::EntryPayload::Normal(batch) }];
        let vote = crate::raft::Vote::new(u64::MAX, Default::default());
        let request = openraft::raft::AppendEntriesRequest {
            vote,
            prev_log_id: Some(id),
            leader_commit: Some(id),
            entries,
        };
        frame::encode(0, &Ask::Append(request)).unwrap().len()
    }

    #[test]
    fn whatever_is_let_in_fits_into_a_message() {
        let limits = Limits { txn_bytes: PROPOSAL_MAX_BYTES, ..Limits::default() };
        let largest = PROPOSAL_MAX_BYTES - encoded_bytes(&put(0)) - 3;
        limits.check(&put(largest)).unwrap();
        assert_eq!(encoded_bytes(&put(largest)), PROPOSAL_MAX_BYTES);
        let error = limits.check(&put(largest + 1)).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { what: "a transaction", .. }), "{error}");
        // A batch that is all but full, and then the largest transaction.
        let mut waiting: Vec<_> = (0..BATCH_MAX - 1).map(|_| handed(put(8100))).collect();
        waiting.push(handed(put(largest)));
        assert_eq!(batch_length(&waiting), BATCH_MAX);
        let bytes = message_bytes(waiting);
        assert!(bytes > PROPOSAL_MAX_BYTES + BATCH_BYTES * 9 / 10 && bytes <= FRAME_MAX_BYTES, "{bytes}");
    }

    #[test]
    fn keys_conditions_and_prefixes_weigh_too() {
        let key: Key = "k".repeat(KEY_MAX_BYTES).parse().unwrap();
        let steps = Limits::default().txn_steps;
        let conditions = Txn { compare: vec![Compare::Absent { key: key.clone() }; steps], then: vec![] };
        let deletes = Txn { compare: vec![], then: vec![Op::Delete { key }; steps] };
        let prefix = Op::DeletePrefix { prefix: "p".repeat(1 << 18) };
        for txn in [conditions, deletes, Txn::default().and(prefix)] {
            Limits::default().check(&txn).unwrap();
            let waiting: Vec<_> = (0..BATCH_MAX).map(|_| handed(txn.clone())).collect();
            let length = batch_length(&waiting);
            assert!(length < 10, "{length}");
            assert!(message_bytes(waiting.into_iter().take(length).collect()) < BATCH_BYTES * 2);
        }
        let long = Txn::default().and(Op::DeletePrefix { prefix: "p".repeat(1 << 20) });
        assert!(matches!(Limits::default().check(&long), Err(StoreError::TooLarge { .. })));
    }
}
