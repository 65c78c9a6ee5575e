//! The embedded ledger of this node: opens the parts, ties them together, closes them. The daemon calls it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use openraft::{Config, SnapshotPolicy};
use rustls::pki_types::ServerName;
use tiebeam_topology::Moment;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use crate::answer::Desk;
use crate::core::{Core, Seen};
use crate::disk::{self, Disk, Owner};
use crate::log::Log;
use crate::machine::{Applied, Machine};
use crate::raft::{Id, Raft};
use crate::requests::Requests;
use crate::state::{Answer, Command};
use crate::status::Tally;
use crate::wire::identity::authority_of;
use crate::wire::message::{Hello, PROTOCOL};
use crate::wire::network::Network;
use crate::wire::peer::{Peer, Target};
use crate::wire::server::Server;
use crate::{
    Entry, Key, LeaseId, Listing, OpenError, Outcome, Read, Settings, Status, Store, StoreError, Txn, Watch,
};
use crate::{propose, recovery, upkeep};

#[cfg(test)]
#[path = "alone.rs"]
mod alone;

/// Longest a lease may last without being kept.
const LEASE_MAX_MS: u64 = 24 * 3600 * 1000;
/// For a whole snapshot's piece, and at the last one for installing it.
const SNAPSHOT_PIECE_MS: u64 = 10_000;
const SNAPSHOT_PIECE_BYTES: u64 = 1 << 20;
/// How long a shutdown waits for what raft is at, which may hang in the disk.
const RAFT_STOP_TIME: Duration = Duration::from_secs(3);
const ENTRIES_PER_MESSAGE: u64 = 64;

/// A running node of the ledger. Ends when it is dropped; [`Embedded::shutdown`] ends it in order.
pub struct Embedded {
    core: Arc<Core>,
    status: watch::Receiver<Status>,
}

impl Embedded {
    /// Whether another process has the ledger in `directory` open.
    pub fn is_held(directory: &Path) -> bool {
        disk::is_held(directory)
    }

    /// Listens, if there are other nodes, opens the data directory, and takes part. Returns before there is a leader.
    pub async fn open(settings: Settings) -> Result<Arc<Embedded>, OpenError> {
        let address = settings.listen;
        let listener = match settings.peers.len() {
            0 | 1 => None,
            _ => Some(
                TcpListener::bind(address).await.map_err(|source| OpenError::Listen { address, source })?,
            ),
        };
        Self::open_with(settings, listener).await
    }

    /// As [`Embedded::open`] with a socket that listens already.
    pub async fn open_on(settings: Settings, listener: TcpListener) -> Result<Arc<Embedded>, OpenError> {
        Self::open_with(settings, Some(listener)).await
    }

    async fn open_with(
        settings: Settings,
        listener: Option<TcpListener>,
    ) -> Result<Arc<Embedded>, OpenError> {
        settings.check()?;
        let (data, owner) = (settings.data.clone(), owner(&settings));
        let opening = tokio::task::spawn_blocking(move || Disk::open(&data, &owner)).await;
        let disk = opening.map_err(|e| OpenError::Start(e.to_string()))??;
        Self::start(settings, listener, disk).await
    }

    async fn start(
        settings: Settings,
        listener: Option<TcpListener>,
        disk: Arc<Disk>,
    ) -> Result<Arc<Embedded>, OpenError> {
        let stop = watch::Sender::new(false);
        let peers = Arc::new(connect(&settings, &stop));
        let applied = Applied::new(Moment::now);
        let id = Id::of(&settings.node);
        let start = |e: &dyn std::fmt::Display| OpenError::Start(e.to_string());
        let machine = Machine::open(disk.clone(), applied.clone()).await?;
        let config = Arc::new(config(&settings).validate().map_err(|e| start(&e))?);
        let network = Network { peers: peers.clone(), disk: disk.clone() };
        let raft =
            Raft::new(id, config, network, Log::new(disk.clone()), machine).await.map_err(|e| start(&e))?;

        let (proposals, handed) = mpsc::channel(propose::PROPOSALS_MAX);
        let core = Arc::new(Core {
            requests: Requests::new(settings.node.clone(), session()),
            in_flight: Semaphore::new(settings.limits.in_flight),
            seen: Mutex::new(Seen::default()),
            floor: OnceLock::new(),
            resting: AtomicUsize::new(0),
            leading: Mutex::new(None),
            tally: Arc::new(Tally::default()),
            failed: OnceLock::new(),
            settings,
            id,
            raft,
            applied,
            disk,
            peers,
            proposals,
            stop,
        });
        let (told, status) = watch::channel(upkeep::look(&core));
        if let Some(listener) = listener {
            serve(&core, listener);
        }
        run(&core, propose::fill_log(core.clone(), handed));
        core.allow_elections();
        run(&core, upkeep::begin(core.clone()));
        run(&core, recovery::recover(core.clone()));
        run(&core, upkeep::feel_pulse(core.clone()));
        run(&core, upkeep::end_leases(core.clone()));
        run(&core, upkeep::bound_log(core.clone()));
        run(&core, upkeep::tell(core.clone(), told));
        Ok(Arc::new(Self { core, status }))
    }

    /// How this node's ledger is now.
    pub fn status(&self) -> Status {
        upkeep::look(&self.core)
    }

    /// The status whenever it changes, at most some 250 ms late.
    pub fn status_changes(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Ends all calls, connections and watches and closes the file. May be called again. Returns when the data
    /// directory may be opened anew; on a disk that hangs, after some six seconds all the same.
    pub async fn shutdown(&self) {
        self.core.stop.send_replace(true);
        // Its own error is that it was cancelled or has panicked: it is over in any case.
        if timeout(RAFT_STOP_TIME, self.core.raft.shutdown()).await.is_err() {
            tracing::error!(
                "raft does not stop within {RAFT_STOP_TIME:?}, as if the disk hung; the node ends without it"
            );
        }
        self.core.applied.close();
        let disk = self.core.disk.clone();
        // Fails only if closing panicked, and then the file is closed with the process.
        let _ = tokio::task::spawn_blocking(move || disk.close()).await;
    }

    async fn fresh(&self, read: Read) -> Result<(), StoreError> {
        match read {
            Read::Local => Ok(()),
            Read::Linear => self.core.catch_up().await,
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.core.stop.send_replace(true);
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("settings", &self.core.settings).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &Key, read: Read) -> Result<Option<Entry>, StoreError> {
        self.fresh(read).await?;
        Ok(self.core.applied.read().get(key))
    }

    async fn list(&self, prefix: &str, read: Read) -> Result<Listing, StoreError> {
        self.fresh(read).await?;
        Ok(self.core.applied.read().list(prefix))
    }

    async fn transact(&self, txn: Txn) -> Result<Outcome, StoreError> {
        self.core.settings.limits.check(&txn)?;
        match self.core.propose(Command::Transact(txn)).await? {
            Answer::Transacted(outcome) => Ok(outcome),
            other => Err(unexpected(other)),
        }
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let ttl_ms = u64::try_from(ttl.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).clamp(1, LEASE_MAX_MS);
        match self.core.propose(Command::Grant { ttl_ms }).await? {
            Answer::Granted(lease) => Ok(lease),
            Answer::LeasesFull => Err(StoreError::TooLarge {
                what: "the set of leases (counted in leases)",
                bytes: crate::state::LEASES_MAX + 1,
                max_bytes: crate::state::LEASES_MAX,
            }),
            other => Err(unexpected(other)),
        }
    }

    async fn keep(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.core.propose(Command::Keep { lease }).await.map(|_| ())
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.core.propose(Command::Revoke { lease }).await.map(|_| ())
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.core.applied.watch(prefix)
    }
}

fn unexpected(answer: Answer) -> StoreError {
    StoreError::Failed(format!("the leader answered {answer:?}; it may run another version"))
}

/// Until the node stops.
fn run(core: &Arc<Core>, work: impl Future<Output = ()> + Send + 'static) {
    let mut stop = core.stopping();
    tokio::spawn(async move {
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    });
}

fn serve(core: &Arc<Core>, listener: TcpListener) {
    let desk = Desk { core: core.clone(), adding: Arc::new(AtomicBool::new(false)) };
    let server = Arc::new(Server {
        cluster: core.settings.cluster.clone(),
        node: core.settings.node.clone(),
        peers: core.settings.peers.clone(),
        tls: core.settings.server_tls.clone(),
        connections_max: core.settings.limits.connections,
        handler: Arc::new(desk),
        tally: core.tally.clone(),
        connected: Mutex::new(Some(HashMap::new())),
        refusals: Mutex::default(),
    });
    tokio::spawn(server.run(listener, core.stopping()));
}

fn connect(settings: &Settings, stop: &watch::Sender<bool>) -> BTreeMap<Id, Peer> {
    let others = settings.peers.iter().filter(|(name, _)| **name != settings.node);
    let connections = others.filter_map(|(name, peer)| {
        let hello = Hello {
            protocol: PROTOCOL,
            cluster: settings.cluster.clone(),
            from: settings.node.clone(),
            to: name.clone(),
        };
        // Checked by `Settings::check`.
        let identity = ServerName::try_from(peer.identity.clone()).ok()?;
        let target = Target { address: peer.address, identity, hello, tls: settings.client_tls.clone() };
        Some((Id::of(name), Peer::start(target, stop.subscribe())))
    });
    connections.collect()
}

fn owner(settings: &Settings) -> Owner {
    Owner {
        cluster: settings.cluster.clone(),
        node: settings.node.clone(),
        authority: authority_of(&settings.client_tls),
    }
}

fn config(settings: &Settings) -> Config {
    let entries = settings.limits.snapshot_entries;
    Config {
        cluster_name: settings.cluster.to_string(),
        heartbeat_interval: settings.timing.heartbeat_ms,
        election_timeout_min: settings.timing.election_ms.start,
        election_timeout_max: settings.timing.election_ms.end,
        install_snapshot_timeout: SNAPSHOT_PIECE_MS,
        snapshot_max_chunk_size: SNAPSHOT_PIECE_BYTES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(entries),
        max_in_snapshot_log_to_keep: entries / 4,
        purge_batch_size: 1,
        replication_lag_threshold: entries * 2,
        max_payload_entries: ENTRIES_PER_MESSAGE,
        // Until it is known whether this node may: `Core::allow_elections`.
        enable_elect: false,
        ..Config::default()
    }
}

/// A number above that of every earlier opening, unless the clock was set back; the cluster then says so.
fn session() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64)
}
