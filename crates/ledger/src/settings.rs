//! What a node must be told to open its ledger.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tiebeam_topology::{ClusterName, NodeName};

use crate::propose::{PROPOSAL_MAX_BYTES, encoded_bytes};
use crate::{OpenError, StoreError, Txn};

/// What [`crate::Embedded::open`] takes.
#[derive(Clone)]
pub struct Settings {
    pub cluster: ClusterName,
    /// This node. It must be in `peers`.
    pub node: NodeName,
    pub listen: SocketAddr,
    /// Every node of the cluster, this one too.
    pub peers: BTreeMap<NodeName, Peer>,
    /// The directory of the ledger alone; created with mode 0700.
    pub data: PathBuf,
    /// Must require client certificates of the cluster's CA.
    pub server_tls: Arc<rustls::ServerConfig>,
    /// Must present this node's certificate and trust the cluster's CA only.
    pub client_tls: Arc<rustls::ClientConfig>,
    pub timing: Timing,
    /// The bound of every call to the store. Default 2 s.
    pub call_timeout: Duration,
    pub limits: Limits,
}

/// Another node, as the ledger reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: SocketAddr,
    /// The DNS name in its certificate.
    pub identity: String,
    pub voter: bool,
}

/// When a node that hears no leader stands for election.
///
/// A follower waits the upper end of `election_ms` (in which it votes for nobody else) and then a moment within
/// `election_ms`. The ranges of the voters do not overlap, so two rarely stand at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    pub heartbeat_ms: u64,
    pub election_ms: std::ops::Range<u64>,
}

impl Timing {
    /// The default for the `rank`th voter by name: ranks 0, 1, 2 stand 0.54 to 0.68, 0.7 to 0.84, 0.86 to 1.0 s after the
    /// last heartbeat (one comes every 1.5 `heartbeat_ms`), so that a dead leader is replaced within a second.
    pub fn of_rank(rank: usize) -> Self {
        let start_ms = 260 + 80 * rank as u64;
        Self { heartbeat_ms: 80, election_ms: start_ms..start_ms + 20 }
    }
}

/// Every bound of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one transaction as it is stored: its conditions, its keys and its values. At most 8 MiB, so that it can
    /// be sent.
    pub txn_bytes: usize,
    /// Compares and steps of one transaction.
    pub txn_steps: usize,
    /// Calls of this node that wait for an answer.
    pub in_flight: usize,
    /// Connections from peers, those in their handshake too.
    pub connections: usize,
    /// Log entries after which a snapshot is taken and the log before it is dropped.
    pub snapshot_entries: u64,
    /// Bytes of the log's entries after which the same is done, even if they are few.
    pub snapshot_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            txn_bytes: 1 << 20,
            txn_steps: 256,
            in_flight: 256,
            connections: 64,
            snapshot_entries: 4096,
            snapshot_bytes: 64 << 20,
        }
    }
}

impl Limits {
    /// Refuses a transaction that is too large, by name.
    pub(crate) fn check(&self, txn: &Txn) -> Result<(), StoreError> {
        let steps = txn.compare.len() + txn.then.len();
        if steps > self.txn_steps {
            return Err(StoreError::TooLarge {
                what: "a transaction (counted in steps)",
                bytes: steps,
                max_bytes: self.txn_steps,
            });
        }
        let bytes = encoded_bytes(txn);
        if bytes > self.txn_bytes {
            return Err(StoreError::TooLarge { what: "a transaction", bytes, max_bytes: self.txn_bytes });
        }
        Ok(())
    }
}

impl Settings {
    /// Settings with every default, the timing by this node's rank among the voters.
    pub fn new(
        cluster: ClusterName,
        node: NodeName,
        listen: SocketAddr,
        peers: BTreeMap<NodeName, Peer>,
        data: PathBuf,
        server_tls: Arc<rustls::ServerConfig>,
        client_tls: Arc<rustls::ClientConfig>,
    ) -> Self {
        let rank = peers.iter().filter(|(_, p)| p.voter).position(|(n, _)| *n == node);
        Self {
            timing: Timing::of_rank(rank.unwrap_or(0)),
            cluster,
            node,
            listen,
            peers,
            data,
            server_tls,
            client_tls,
            call_timeout: Duration::from_secs(2),
            limits: Limits::default(),
        }
    }

    /// The nodes that vote, in the order of names.
    pub fn voters(&self) -> impl Iterator<Item = &NodeName> {
        self.peers.iter().filter(|(_, p)| p.voter).map(|(n, _)| n)
    }

    /// Whether [`crate::Embedded::open`] would take them; nothing is opened.
    ///
    /// # Errors
    /// [`OpenError::Settings`].
    pub fn check(&self) -> Result<(), OpenError> {
        let wrong = |text: String| Err(OpenError::Settings(text));
        if !self.peers.contains_key(&self.node) {
            return wrong(format!("node {} is not among the peers", self.node));
        }
        if self.voters().next().is_none() {
            return wrong("no peer is a voter".into());
        }
        if self.timing.heartbeat_ms == 0
            || self.timing.election_ms.start <= self.timing.heartbeat_ms
            || self.timing.election_ms.is_empty()
        {
            return wrong(format!("{:?}: elections must take longer than a heartbeat", self.timing));
        }
        if self.limits.txn_bytes > PROPOSAL_MAX_BYTES {
            return wrong(format!(
                "transactions of {} bytes cannot be sent, at most {PROPOSAL_MAX_BYTES}",
                self.limits.txn_bytes
            ));
        }
        for (name, peer) in &self.peers {
            if rustls::pki_types::ServerName::try_from(peer.identity.as_str()).is_err() {
                return wrong(format!("the identity {:?} of {name} is not a DNS name", peer.identity));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .field("listen", &self.listen)
            .field("peers", &self.peers)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}
