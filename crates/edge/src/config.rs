//! What the control side tells an edge: an immutable picture of sites, pools and bounds, and where to listen.
//!
//! Plain values without behaviour. Nothing here is read on the path of a request: [`crate::snapshot`] compiles a
//! [`Config`] into the form that workers use.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use serde::Serialize;
use tiebeam_topology::{
    AccessLog, Balancing, EdgeLimits, HealthCheck, HostPattern, Http2, LogSample, NodeName, PoolName,
    Proxies, ProxyVersion, Route, SiteRules, Traces,
};

use crate::client_auth::ClientAuth;
use crate::pages::Page;
use crate::reach::Reach;
use crate::tickets::TicketKeys;

/// All that one edge serves. Published whole; the next one replaces it at once for new requests, while running
/// requests finish under the one they began with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node this edge runs on: named in the access log.
    pub node: NodeName,
    pub limits: EdgeLimits,
    pub http2: Http2,
    pub access_log: AccessLog,
    pub log_sample: LogSample,
    pub proxies: Proxies,
    /// The same for all edges of a cluster; `None`: this edge makes keys of its own.
    pub ticket_keys: Option<TicketKeys>,
    /// Whether the edge names itself, as `tiebeam`, in `Via` of what it passes on.
    pub via: bool,
    pub traces: Traces,
    pub sites: BTreeMap<HostPattern, SiteConfig>,
    /// Those that sites and routes name.
    pub pages: Pages,
    pub pools: BTreeMap<PoolName, PoolConfig>,
    /// Shared by all edges of the cluster; without it no pool is sticky.
    pub secret: Option<Secret>,
}

/// A key that all edges of a cluster share. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Pages of the operator's, by the paths that name them.
pub type Pages = BTreeMap<PathBuf, Page>;

/// What is served under one host pattern.
#[derive(Clone, Debug)]
pub struct SiteConfig {
    /// `None`: the site has no certificate (yet), and is served over plain HTTP only.
    pub tls: Option<Arc<CertifiedKey>>,
    /// Whose certificates are taken from clients; `None`: none is asked for.
    pub clients: Option<ClientAuth>,
    /// Requests over plain HTTP are sent to HTTPS, once there is a certificate and an HTTPS listener.
    pub redirect: bool,
    /// Answers over HTTPS carry `Strict-Transport-Security` (RFC 6797).
    pub hsts: bool,
    /// In the order in which they are tried: the first match wins.
    pub routes: Vec<Route>,
    pub rules: SiteRules,
}

#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// In the order of the ring. No two with the same id.
    pub servers: Vec<ServerConfig>,
    pub health: HealthCheck,
    /// Each connection to a server begins with such a header.
    pub proxy_protocol: Option<ProxyVersion>,
    pub reach: Reach,
    pub balancing: Balancing,
    /// The servers are instances of an app: a new one is probed before it serves. Servers that are not are trusted
    /// until a check or a request says otherwise.
    pub app: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    pub id: ServerId,
    pub address: SocketAddr,
    /// 1 to 256.
    pub weight: u32,
    /// Asked only while none of the others serves.
    pub is_backup: bool,
    /// On the edge's own node.
    pub is_local: bool,
    /// It ends what it has and gets nothing new.
    pub drain: bool,
}

impl ServerConfig {
    /// One like all others.
    pub fn new(id: ServerId, address: SocketAddr) -> Self {
        Self { id, address, weight: 1, is_backup: false, is_local: false, drain: false }
    }
}

/// The identity of a server within its pool: `a/web.1` for an app's instance, `10.0.0.9:3000` for a foreign one.
/// Health, counters and the place in the ring belong to it and survive every [`crate::Edge::publish`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServerId(String);

impl ServerId {
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where an edge listens. Port 0 asks the kernel for a free one.
#[derive(Clone, Copy, Debug)]
pub struct Listeners {
    pub http: Option<SocketAddr>,
    pub https: Option<SocketAddr>,
    /// Threads that serve; 0 means one a core. Fixed from [`crate::Edge::start`] on.
    pub workers: usize,
}

/// The addresses that an edge really listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Addresses {
    pub http: Option<SocketAddr>,
    pub https: Option<SocketAddr>,
}

/// Where the lines of the access log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSink {
    /// Opened at once.
    File(LogFile),
    /// Opened for the first line: the log is off, and may be turned on while the edge runs.
    Later(LogFile),
    Off,
}

/// A file of lines. When it is full it is put aside: `access.log` becomes `access.log.1`, that `access.log.2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Appended to; made with mode 0640 if it is not there.
    pub path: PathBuf,
    /// A file does not grow beyond this, bytes.
    pub most_bytes: u64,
    /// How many are kept, the one that is written included; the oldest is deleted.
    pub files: usize,
}

impl LogFile {
    pub const MOST_BYTES: u64 = 100 << 20;
    pub const FILES: usize = 5;

    /// With the default bounds.
    pub fn at(path: PathBuf) -> Self {
        Self { path, most_bytes: Self::MOST_BYTES, files: Self::FILES }
    }
}
