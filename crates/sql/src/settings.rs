//! What a router is told: its settings once, at the start, and the [`View`] of the cluster whenever it changes.
//!
//! Plain values, made by the node's wiring; nothing here does I/O.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tiebeam_topology::{Epoch, NodeName, Reads};

/// A password. Its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself; only for the exchange that proves it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Everything a router needs to start. The bounds are those of `[sql]` in the file, where their defaults are.
#[derive(Clone)]
pub struct Settings {
    /// The node that this router runs on; in log lines only.
    pub node: NodeName,
    /// Where clients connect. Plain text: the node's own address or loopback.
    pub listen: SocketAddr,
    /// Threads; 0 is one a core. At most [`WORKERS_MAX`].
    pub workers: usize,
    /// How long a statement for the primary waits while there is none.
    pub hold: Duration,
    /// Sessions of this router that may wait for a primary at once; more are refused with 53300.
    pub hold_queue: usize,
    /// How long a read waits for a replica that has replayed what it must see; then it goes to the primary.
    pub fresh_wait: Duration,
    /// Connections to each PostgreSQL from this router, split over its workers, at least one each.
    pub pool_size: usize,
    /// Client sessions of this router; more are refused with 53300.
    pub clients: usize,
    /// `Primary`: no read ever goes to a replica.
    pub reads: Reads,
    pub login: ServerLogin,
}

/// How the router logs in at PostgreSQL.
#[derive(Clone)]
pub enum ServerLogin {
    /// A managed cluster: TLS with this node's client certificate, which `pg_ident` maps to every login role. The
    /// router's own questions are asked by the role `tiebeam_router` in the database `postgres`.
    Certificate(Arc<rustls::ClientConfig>),
    /// Servers that others run, in plain text. `user` is the router's own login and must be able to read `pg_authid`;
    /// a client's connections are opened with the key that the client proved to have.
    PassThrough { user: String, password: Option<Secret> },
}

/// Who is who in the cluster, as far as this node knows. Published by the wiring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Connections and positions of another epoch are dropped.
    pub epoch: Epoch,
    /// `None` while there is no primary: statements for it are held.
    pub primary: Option<Target>,
    pub replicas: Vec<Target>,
}

/// One PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The node it runs on, or a label for a server that others run.
    pub node: NodeName,
    pub address: SocketAddr,
    /// The DNS name that its certificate must carry; not looked at with [`ServerLogin::PassThrough`].
    pub identity: String,
}

/// Most threads of a router: the number of a worker is part of each client's cancel key.
pub const WORKERS_MAX: usize = 1024;

/// Why a router did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "`sql.listen` = {listen}: the port is in use by another process; stop that (see `ss -ltnp`) or choose another port"
    )]
    InUse { listen: SocketAddr },
    #[error("`sql.listen` = {listen}: cannot listen there: {source}")]
    Listen { listen: SocketAddr, source: io::Error },
    #[error("cannot start thread {worker} of the router: {source}")]
    Thread { worker: usize, source: io::Error },
    #[error("`sql.workers` = {0} is more than {WORKERS_MAX}")]
    TooManyWorkers(usize),
}
