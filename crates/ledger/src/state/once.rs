//! A request is done once, however often it was sent: what was answered to each node's requests that it may still send.
//!
//! A node numbers its requests within a session (one opening of its ledger) and tells with each the lowest number that
//! it still waits for; everything below is forgotten. So nothing is forgotten too early, and what is kept is bounded by
//! what a node has in flight.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tiebeam_topology::NodeName;

use super::Answer;

/// Answers kept for a node, more than it may have in flight. Beyond it the oldest are taken for settled.
pub(crate) const ANSWERS_MAX: usize = 4096;

/// Names a request among all that were ever made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestId {
    pub node: NodeName,
    /// A later opening of the same node's ledger has a higher one.
    pub session: u64,
    pub number: u64,
    /// No number below is waited for.
    pub settled: u64,
}

/// What was answered to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Client {
    session: u64,
    settled: u64,
    answers: BTreeMap<u64, Answer>,
}

/// The answer that `request` has already; `None` if it must be done.
pub(super) fn answered(clients: &mut BTreeMap<String, Client>, request: &RequestId) -> Option<Answer> {
    let client = clients.entry(request.node.to_string()).or_default();
    if request.session > client.session {
        *client = Client { session: request.session, ..Client::default() };
    }
    if request.session < client.session {
        return Some(Answer::Stale { current: client.session });
    }
    if let Some(answer) = client.answers.get(&request.number) {
        return Some(*answer);
    }
    (request.number < client.settled).then_some(Answer::Stale { current: client.session })
}

/// Keeps the answer as long as it may be asked for.
pub(super) fn remember(clients: &mut BTreeMap<String, Client>, request: &RequestId, answer: Answer) {
    let client = clients.entry(request.node.to_string()).or_default();
    client.answers.insert(request.number, answer);
    client.settled = client.settled.max(request.settled);
    while client.answers.len() > ANSWERS_MAX {
        if let Some((number, _)) = client.answers.pop_first() {
            client.settled = client.settled.max(number + 1);
        }
    }
    client.answers = client.answers.split_off(&client.settled);
}
