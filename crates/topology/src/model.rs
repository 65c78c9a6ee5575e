//! The checked cluster. A value of these types has passed every rule of the file, so no other room checks again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    AppName, Balancing, ClusterName, HostPattern, LogSample, NodeName, PoolName, PoolServer, Route,
    SiteRules, Target,
};

/// A whole `tiebeam.toml`, checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    pub name: ClusterName,
    /// At least one. No two share an address.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Present exactly when some node has the role `edge`.
    pub edge: Option<Edge>,
    pub sites: BTreeMap<HostPattern, Site>,
    pub pools: BTreeMap<PoolName, Pool>,
    pub apps: BTreeMap<AppName, App>,
    pub database: Option<Database>,
    /// Present exactly when `database` is.
    pub sql: Option<Sql>,
    pub ledger: Ledger,
    pub console: Option<Console>,
    /// What was accepted but deserves a word, such as two databases without a third voter.
    pub notes: Vec<Note>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    pub address: IpAddr,
    /// Empty for a witness, which only votes.
    pub roles: BTreeSet<Role>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Edge,
    App,
    Database,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Edge {
    pub mode: EdgeMode,
    /// `None` when the file says `http = 0`.
    pub http: Option<NonZeroU16>,
    /// `None` when the file says `https = 0`, or says nothing and no site has https.
    pub https: Option<NonZeroU16>,
    /// `None`: one a core.
    pub workers: Option<NonZeroUsize>,
    pub http2: Http2,
    pub access_log: AccessLog,
    #[serde(flatten)]
    pub log_sample: LogSample,
    /// Whether the edge names itself in `Via` of what it passes on.
    pub via: bool,
    pub traceparent: Traces,
    pub proxies: Proxies,
    pub limits: EdgeLimits,
}

/// Whether clients may speak HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Http2 {
    /// Over HTTPS, if they ask for it by ALPN.
    On,
    /// The same, and over HTTP if they begin with it (RFC 9113 section 3.3).
    PriorKnowledge,
    Off,
}

/// What servers are told of the trace that a request belongs to (W3C Trace Context).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traces {
    /// What a client began goes on, else one begins here, marked as sampled.
    #[default]
    On,
    /// What a client began goes on, and none begins here.
    Pass,
    /// Nothing, whatever clients say.
    Off,
}

/// Whom an edge believes about who a client is, and how it tells servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Proxies {
    /// Each connection begins with a header of the PROXY protocol, from one of `trusted`.
    pub protocol: bool,
    /// Networks of proxies before the edge: what they say about their clients is believed.
    pub trusted: Vec<IpNet>,
    pub forwarded: Forwarded,
}

impl Proxies {
    /// Is it one of the proxies before the edge?
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// By which fields a request says whom it was forwarded for: those that are written, and those that are read from
/// trusted proxies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarded {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    #[default]
    XForwarded,
    /// `Forwarded`.
    Rfc7239,
    /// Both are written; the first is read.
    Both,
}

/// A version of the PROXY protocol, by which a server is told who its client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeMode {
    ActiveActive,
    ActivePassive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessLog {
    Json,
    Common,
    Off,
}

/// `[edge.limits]`: every bound of the edge by its name in the file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EdgeLimits {
    /// A message's whole head, bytes. More is answered 431.
    pub header_bytes: usize,
    /// Fields in a head. More is answered 431.
    pub header_count: usize,
    /// The request line, bytes. More is answered 414.
    pub request_line_bytes: usize,
    /// From the first byte of a head to its last.
    pub header_time: Duration,
    /// A keep-alive connection without a request.
    pub idle_time: Duration,
    /// A tunnel (WebSocket) through which nothing moves.
    pub tunnel_idle_time: Duration,
    /// A request's body, bytes. More is answered 413.
    pub body_bytes: u64,
    /// What a body must bring, bytes a second, once it was waited for longer than `body_grace`; 0: anything. Less is
    /// answered 408.
    pub body_rate: u64,
    /// See `body_rate`.
    pub body_grace: Duration,
    /// Client connections of one edge. At the bound, accepts pause.
    pub connections: usize,
    /// Those of one address (of IPv6: one /64). More are reset. `None`: half of `connections`.
    pub connections_per_address: Option<usize>,
    /// Requests at once on one connection of HTTP/2.
    pub streams: usize,
    /// Until a server has accepted a connection.
    pub connect_time: Duration,
    /// Until a server's first response byte, and between any two reads of a body.
    pub response_time: Duration,
    /// A file of more bytes is never compressed while it is served; 0: none is.
    pub compress_bytes: u64,
    /// Memory for the compressed forms of files, bytes.
    pub compressed_bytes: usize,
}

impl EdgeLimits {
    /// At least 1. By default no address can take every connection, and none that is a proxy for many comes close.
    pub fn connections_per_address(&self) -> usize {
        self.connections_per_address.unwrap_or(self.connections / 2).max(1)
    }
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            header_bytes: 32 * 1024,
            header_count: 128,
            request_line_bytes: 8 * 1024,
            header_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            tunnel_idle_time: Duration::from_secs(3600),
            body_bytes: 1 << 30,
            body_rate: 100,
            body_grace: Duration::from_secs(10),
            connections: 20_000,
            connections_per_address: None,
            streams: 100,
            connect_time: Duration::from_secs(2),
            response_time: Duration::from_secs(30),
            compress_bytes: 2 << 20,
            compressed_bytes: 32 << 20,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Site {
    pub https: Https,
    /// Longest path first, and each in the one spelling that `check` takes: so the first match is the longest.
    pub routes: Vec<Route>,
    #[serde(flatten)]
    pub rules: SiteRules,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Https {
    /// Certificates by ACME.
    Acme,
    /// A certificate of the cluster's own CA.
    Internal,
    Off,
    /// PEM files of the operator's; as written in the file, until [`Cluster::rooted`] has put the file's folder before
    /// them. `redirect`: plain requests are sent to https. `hsts`: browsers are told to use nothing else from now on.
    Files {
        cert: PathBuf,
        key: PathBuf,
        redirect: bool,
        hsts: bool,
        /// `None`: clients are not asked for a certificate.
        clients: Option<ClientAuthority>,
    },
}

/// Whose certificates a site takes from its clients.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClientAuthority {
    /// A PEM file with the certificates of the authorities.
    pub file: PathBuf,
    /// Without one no client gets in.
    pub required: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pool {
    pub members: Members,
    #[serde(flatten)]
    pub balancing: Balancing,
    /// Each connection to a server begins with such a header.
    pub proxy_protocol: Option<ProxyVersion>,
    pub health: HealthCheck,
    pub protocol: Protocol,
    /// `None`: its servers are reached without TLS.
    pub tls: Option<PoolTls>,
}

/// What is spoken with the servers of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Protocol {
    #[serde(rename = "http/1.1")]
    Http1,
    #[serde(rename = "h2")]
    Http2,
}

/// Whom to believe to be a server of a pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PoolTls {
    /// PEM: the authorities that may have signed its certificate; `None`: those of the system. As written in the file,
    /// until [`Cluster::rooted`] has put the file's folder before it.
    pub ca: Option<PathBuf>,
    /// The name in its certificate, a host name or an address; `None`: the address that it is reached at.
    pub name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Members {
    /// The instances of an app that exists.
    App(AppName),
    /// At least one that is no backup, no two at the same address, in the order of the file.
    Servers(Vec<PoolServer>),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HealthCheck {
    /// Asked with GET; 2xx and 3xx are healthy. `None`: a TCP connection is enough.
    pub path: Option<String>,
    pub every: Duration,
    /// Less than or equal to `every`.
    pub timeout: Duration,
    /// Failures in a row until a serving server is ejected.
    pub fall: u32,
    /// Successes in a row until an ejected server serves again.
    pub rise: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct App {
    /// The program and its arguments; never a shell line. Not empty.
    pub command: Vec<String>,
    /// On each node with the role `app`.
    pub instances: NonZeroU16,
    /// Whom its instances run as; `None`: the agent's own user, or `nobody` where that is root.
    pub user: Option<String>,
    /// Added to the environment of each instance.
    pub env: BTreeMap<String, String>,
    /// How long a stopped instance may take to end by itself.
    pub stop_time: Duration,
}

/// The database of the cluster, or the foreign servers that a router alone serves.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Database {
    Managed(ManagedDatabase),
    /// `servers = [...]`: roles are detected, nothing is promoted.
    Foreign {
        /// At least one, no two the same, in the order of the file.
        servers: Vec<SocketAddr>,
        reads: Reads,
        /// Whom the router logs in as, to see which server is the primary and to read its clients' verifiers.
        user: String,
        /// Holds that user's password, and nothing else; `None`: the servers let it in without one. As written in the
        /// file, until [`Cluster::rooted`] has put the file's folder before it.
        password_file: Option<PathBuf>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ManagedDatabase {
    pub durability: Durability,
    pub reads: Reads,
    /// The length of the primary's right. At least three times `renew`.
    pub lease: Duration,
    pub renew: Duration,
    pub port: NonZeroU16,
    /// `server.NAME = value` lines for PostgreSQL, added to Tiebeam's own; those that Tiebeam relies on are refused.
    pub settings: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// A commit is acknowledged when one replica holds it too; without replicas the primary goes on alone, marked.
    Quorum,
    /// As `quorum`, but without a replica writes wait.
    Strict,
    /// A commit is acknowledged when the primary holds it.
    Async,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    Replicas,
    Primary,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sql {
    pub listen: SqlListen,
    /// `None`: one a core.
    pub workers: Option<NonZeroUsize>,
    /// How long a write waits for a primary.
    pub hold: Duration,
    /// How many sessions may wait for a primary at once; more are refused at once with 53300.
    pub hold_queue: usize,
    /// How long a read waits for a replica that has replayed what it must see.
    pub fresh_wait: Duration,
    /// Connections to each PostgreSQL, from one router.
    pub pool_size: usize,
    /// Client sessions of one router.
    pub clients: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SqlListen {
    At(SocketAddr),
    /// This port on each node's own address.
    NodeAddress(NonZeroU16),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ledger {
    pub port: NonZeroU16,
    /// An odd number from 1 to 5: the nodes that vote. Unless the file names them: database nodes first, then the
    /// others, in the order of names; of two nodes one, for two could not go on without either of them.
    pub voters: BTreeSet<NodeName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Console {
    At(SocketAddr),
    /// This port on each node's own address.
    NodeAddress(NonZeroU16),
}

/// Something that the file may say, with a consequence that its author should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// 1-based line of the file.
    pub line: usize,
    pub text: String,
}

impl Cluster {
    /// Puts `folder`, that of the configuration file, before every relative path that the file names.
    pub fn rooted(&mut self, folder: &Path) {
        for site in self.sites.values_mut() {
            if let Https::Files { cert, key, clients, .. } = &mut site.https {
                let clients = clients.as_mut().map(|clients| &mut clients.file);
                for file in [cert, key].into_iter().chain(clients) {
                    *file = folder.join(&file);
                }
            }
            for route in &mut site.routes {
                if let Target::Files(directory) = &mut route.to {
                    *directory = folder.join(&directory);
                }
            }
            let of_routes = site.routes.iter_mut().filter_map(|route| route.rules.maintenance.as_mut());
            for page in site.rules.errors.values_mut().chain(&mut site.rules.maintenance).chain(of_routes) {
                *page = folder.join(&page);
            }
        }
        for tls in self.pools.values_mut().filter_map(|pool| pool.tls.as_mut()) {
            tls.ca = tls.ca.take().map(|ca| folder.join(ca));
        }
        if let Some(Database::Foreign { password_file: Some(file), .. }) = &mut self.database {
            *file = folder.join(&file);
        }
    }

    /// Nodes with a role, in the order of names.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = (&NodeName, &Node)> {
        self.nodes.iter().filter(move |(_, n)| n.roles.contains(&role))
    }

    /// The DNS name in a node's certificate, by which its peers verify it, whatever address they reach it by.
    pub fn identity(&self, node: &NodeName) -> String {
        identity(&self.name, node)
    }

    /// Where a node's ledger listens, if there are other nodes.
    pub fn ledger_address(&self, node: &NodeName) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.nodes.get(node)?.address, self.ledger.port.get()))
    }

    /// Where a node's router for PostgreSQL listens.
    pub fn sql_address(&self, node: &NodeName) -> Option<SocketAddr> {
        match self.sql.as_ref()?.listen {
            SqlListen::At(address) => Some(address),
            SqlListen::NodeAddress(port) => Some(SocketAddr::new(self.nodes.get(node)?.address, port.get())),
        }
    }

    /// Where a node's console listens.
    pub fn console_address(&self, node: &NodeName) -> Option<SocketAddr> {
        match self.console? {
            Console::At(address) => Some(address),
            Console::NodeAddress(port) => Some(SocketAddr::new(self.nodes.get(node)?.address, port.get())),
        }
    }
}

/// The DNS name in the certificate of `node`: `a.shop.tiebeam.internal`.
pub fn identity(cluster: &ClusterName, node: &NodeName) -> String {
    format!("{node}.{cluster}.tiebeam.internal")
}
