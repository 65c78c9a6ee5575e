//! openraft's way to the peers: its requests as asks over the peers' connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, EmptyNode};
use tokio::time::Instant;

use super::message::{Ask, Reply};
use super::peer::{Awaited, CallError, Peer};
use crate::disk::{Disk, Standing};
use crate::raft::{Id, Kind, LogId, Vote};

/// How long openraft leaves a peer in peace that could not be reached.
const UNREACHABLE_WAIT: Duration = Duration::from_millis(50);

type Failure<E = openraft::error::Infallible> = RPCError<Id, EmptyNode, RaftError<Id, E>>;

/// All peers.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub peers: Arc<BTreeMap<Id, Peer>>,
    pub disk: Arc<Disk>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Line {
    target: Id,
    disk: Arc<Disk>,
    peer: Option<Peer>,
    /// Entries that are under way longer than openraft waited: it sends them again and again, and the answer to the
    /// first time is as good. Without this, entries that need longer than a heartbeat would never arrive.
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    entries: Entries,
    answer: Awaited,
    since: Instant,
}

/// Under which vote, after which entry, up to which entry.
type Entries = (Vote, Option<LogId>, LogId);

/// How long the answer to entries is waited for before they are sent again.
const UNDER_WAY_TIME: Duration = Duration::from_secs(2);

impl RaftNetworkFactory<Kind> for Network {
    type Network = Line;

    async fn new_client(&mut self, target: Id, _: &EmptyNode) -> Line {
        let peer = self.peers.get(&target).cloned();
        Line { target, disk: self.disk.clone(), peer, under_way: None }
    }
}

impl Line {
    async fn ask<E: std::error::Error>(&self, ask: Ask, option: &RPCOption) -> Result<Reply, Failure<E>> {
        self.peer()?.call(&ask, option.hard_ttl()).await.map_err(failed)
    }

    fn peer(&self) -> Result<&Peer, Unreachable> {
        self.peer.as_ref().ok_or_else(|| {
            Unreachable::new(&AnyError::error(format!("node {} is not in this node's file", self.target)))
        })
    }

    /// openraft may drop this at any time and come again with the same entries.
    async fn send(&mut self, entries: Entries, ask: Ask) -> Result<Reply, Failure> {
        let same = |way: &UnderWay| way.entries == entries && way.since.elapsed() < UNDER_WAY_TIME;
        if !self.under_way.as_ref().is_some_and(same) {
            let answer = self.peer()?.begin(&ask).map_err(failed)?;
            self.under_way = Some(UnderWay { entries, answer, since: Instant::now() });
        }
        // Set above.
        let Some(way) = &mut self.under_way else {
            return Err(failed(CallError::NotSent("not begun".into())));
        };
        let reply = way.answer.wait().await;
        self.under_way = None;
        reply.map_err(failed)
    }

    fn remote<E: std::error::Error>(&self, error: RaftError<Id, E>) -> Failure<E> {
        RPCError::RemoteError(RemoteError::new(self.target, error))
    }
}

fn failed<E: std::error::Error>(error: CallError) -> Failure<E> {
    match &error {
        CallError::NotSent(_) => RPCError::Unreachable(Unreachable::new(&error)),
        CallError::Lost(_) => RPCError::Network(NetworkError::new(&error)),
    }
}

fn other<E: std::error::Error>(reply: Reply) -> Failure<E> {
    let text = match reply {
        Reply::Unable(reason) => reason,
        _ => "the peer answered something else than it was asked".to_owned(),
    };
    RPCError::Network(NetworkError::new(&AnyError::error(text)))
}

impl RaftNetwork<Kind> for Line {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Kind>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Id>, Failure> {
        let last = rpc.entries.last().map(|entry| entry.log_id);
        let reply = match last {
            Some(last) => self.send((rpc.vote, rpc.prev_log_id, last), Ask::Append(rpc)).await?,
            None => self.ask(Ask::Append(rpc), &option).await?,
        };
        match reply {
            Reply::Append(result) => result.map_err(|e| self.remote(e)),
            reply => Err(other(reply)),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Kind>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<Id>, Failure<InstallSnapshotError>> {
        match self.ask(Ask::Snapshot(rpc), &option).await? {
            Reply::Snapshot(result) => result.map_err(|e| self.remote(e)),
            reply => Err(other(reply)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Id>,
        option: RPCOption,
    ) -> Result<VoteResponse<Id>, Failure> {
        let first = self.disk.standing() == Standing::Beginning;
        match self.ask(Ask::Vote { request, first }, &option).await? {
            Reply::Vote(result) => result.map_err(|e| self.remote(e)),
            reply => Err(other(reply)),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_WAIT))
    }
}
