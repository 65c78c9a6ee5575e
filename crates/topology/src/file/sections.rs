//! What the file says, section by section, each value with its place. Rules between values come later, in `check`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeTable;

use super::keys;
use super::kind::{Count, ListenAt, Named, WrittenServer};
use super::reader::{Key, Located, Reader, WordOrTable};
pub(crate) use super::sections_site::{Fields, Route, Site, SiteHttps};
use crate::problem::{Findings, quoted};
use crate::{
    AccessLog, Algorithm, AppName, Balancing, ClusterName, Durability, EdgeLimits, EdgeMode, Ejection,
    HashBy, Http2, LogSample, NodeName, PoolName, Protocol, Proxies, ProxyVersion, Reads, Retries, Role,
    Traces,
};

pub(crate) type Place = Range<usize>;

/// The name of the one node of a file without `[node.…]`.
const IMPLICIT_NODE: &str = "local";

pub(crate) struct File {
    pub name: Located<ClusterName>,
    /// With the implicit one, where there is one.
    pub nodes: Vec<Node>,
    /// Whether `[node.…]` is there at all, be its content right or wrong.
    pub nodes_written: bool,
    /// Whether all of `[node.…]` is right. If not, what no node seems to do may be what a wrong line says.
    pub nodes_right: bool,
    pub edge: Edge,
    pub sites: Vec<Site>,
    pub sites_written: bool,
    pub pools: Vec<Pool>,
    pub apps: Vec<App>,
    pub database: Database,
    pub sql: Sql,
    pub ledger: Ledger,
    pub console: Option<Located<ListenAt>>,
}

pub(crate) struct Node {
    pub name: Located<NodeName>,
    pub address: Option<Located<IpAddr>>,
    pub roles: Located<BTreeSet<Role>>,
}

/// A section that is complete without being written, by its defaults.
pub(crate) struct Edge {
    pub written: Option<Place>,
    pub mode: Located<EdgeMode>,
    pub http: Located<Option<NonZeroU16>>,
    /// `None`: not written.
    pub https: Option<Located<Option<NonZeroU16>>>,
    pub workers: Option<NonZeroUsize>,
    pub http2: Http2,
    pub access_log: AccessLog,
    pub log_sample: LogSample,
    pub via: bool,
    pub traceparent: Traces,
    pub proxies: Proxies,
    /// Where the file says that connections begin with a header of the PROXY protocol.
    pub proxy_protocol: Located<bool>,
    /// What was written in `trusted_proxies` is wrong, and that is reported.
    pub trusted_wrong: bool,
    pub limits: EdgeLimits,
    pub header_bytes: Located<u64>,
    pub request_line_bytes: Located<u64>,
    pub connections_per_address: Option<Located<u64>>,
}

pub(crate) struct Pool {
    pub name: Located<PoolName>,
    pub app: Option<Located<AppName>>,
    pub app_written: Option<Place>,
    pub servers: Option<Located<Vec<Located<WrittenServer>>>>,
    pub servers_written: Option<Place>,
    pub proxy_protocol: Option<ProxyVersion>,
    pub algorithm: Located<Algorithm>,
    pub hash_by: Located<HashBy>,
    /// `queue` or `queue_time`, where one of them stands.
    pub queue_written: Option<Place>,
    /// `most` of its ejection, if the ejection is not off.
    pub ejection_most: Option<Located<Duration>>,
    pub balancing: Balancing,
    pub health: Health,
    pub protocol: Protocol,
    pub tls: Option<PoolTls>,
}

pub(crate) struct PoolTls {
    pub ca: Option<PathBuf>,
    pub name: Option<Located<String>>,
}

pub(crate) struct Health {
    pub path: Option<String>,
    pub every: Located<Duration>,
    pub timeout: Option<Located<Duration>>,
    pub fall: u32,
    pub rise: u32,
}

pub(crate) struct App {
    pub name: Located<AppName>,
    pub command: Option<Located<Vec<Located<String>>>>,
    pub instances: NonZeroU16,
    pub user: Option<String>,
    pub env: Vec<(Located<String>, Located<String>)>,
    pub stop_time: Duration,
}

pub(crate) struct Database {
    pub written: Option<Place>,
    pub durability: Located<Durability>,
    pub reads: Reads,
    pub lease: Located<Duration>,
    pub renew: Located<Duration>,
    pub port: Located<NonZeroU16>,
    pub settings: Vec<(Located<String>, Located<String>)>,
    pub settings_written: Option<Place>,
    pub servers: Option<Located<Vec<Located<SocketAddr>>>>,
    pub servers_written: Option<Place>,
    pub user: Located<String>,
    pub password_file: Option<Located<PathBuf>>,
}

pub(crate) struct Sql {
    pub written: Option<Place>,
    pub listen: Located<ListenAt>,
    pub workers: Option<NonZeroUsize>,
    pub hold: Duration,
    pub hold_queue: usize,
    pub fresh_wait: Duration,
    pub pool_size: usize,
    pub clients: usize,
}

pub(crate) struct Ledger {
    pub port: Located<NonZeroU16>,
    pub voters: Option<Located<Vec<Located<NodeName>>>>,
}

pub(crate) fn read<'d>(document: &'d DeTable<'d>, findings: &'d Findings<'d>) -> File {
    let root = Reader::new(&keys::FILE, 0..0, document, findings);
    let section = |key| match root.inner(key) {
        Some(reader) => (Some(reader.header.clone()), reader),
        None => (None, Reader::absent(key.kind.0, 0..0, findings)),
    };
    let (_, cluster) = section(&keys::file::CLUSTER);
    let (edge_written, edge_section) = section(&keys::file::EDGE);
    let (database_written, database_section) = section(&keys::file::DATABASE);
    let (sql_written, sql_section) = section(&keys::file::SQL);
    let (_, ledger) = section(&keys::file::LEDGER);
    let before_nodes = findings.count();
    let mut nodes: Vec<Node> = named(&root, &keys::file::NODE, findings).into_iter().map(node).collect();
    let nodes_right = findings.count() == before_nodes;
    let nodes_written = root.fills(&keys::file::NODE);
    let database = database(database_written, &database_section);
    if !nodes_written && database.servers_written.is_some() {
        nodes.extend(implicit_node());
    }
    File {
        name: cluster.get(&keys::cluster::NAME),
        nodes,
        nodes_right,
        nodes_written,
        edge: edge(edge_written, &edge_section, findings),
        sites: named(&root, &keys::file::SITE, findings)
            .into_iter()
            .map(super::sections_site::site)
            .collect(),
        sites_written: root.fills(&keys::file::SITE),
        pools: named(&root, &keys::file::POOL, findings)
            .into_iter()
            .map(|(name, reader)| pool(name, &reader, findings))
            .collect(),
        apps: named(&root, &keys::file::APP, findings)
            .into_iter()
            .map(|(name, reader)| app(name, &reader))
            .collect(),
        database,
        sql: sql(sql_written, &sql_section),
        ledger: Ledger { port: ledger.get(&keys::ledger::PORT), voters: ledger.find(&keys::ledger::VOTERS) },
        console: root.inner(&keys::file::CONSOLE).map(|reader| reader.get(&keys::console::LISTEN)),
    }
}

/// The tables below `[KEY.…]` whose names are right; the other names are reported.
fn named<'d, N: FromStr<Err: std::fmt::Display>>(
    root: &Reader<'d>,
    key: &Key<Named>,
    findings: &Findings<'_>,
) -> Vec<(Located<N>, Reader<'d>)> {
    let mut entries = Vec::new();
    for (name, reader) in root.named(key) {
        let span = name.span();
        match name.get_ref().parse() {
            Ok(value) => entries.push((Located { value, key: span.clone(), span, written: true }, reader)),
            Err(error) => {
                let message = format!("`{}.{}`: {error}", key.name, quoted(name.get_ref()));
                findings.add(span, message, format!("sections of this kind are {}", key.kind.section.title));
            }
        }
    }
    entries
}

/// The one node of a file of `[database] servers` without `[node.…]`.
fn implicit_node() -> Option<Node> {
    fn unwritten<T>(value: T) -> Located<T> {
        Located { value, span: 0..0, key: 0..0, written: false }
    }
    Some(Node {
        name: unwritten(IMPLICIT_NODE.parse().ok()?),
        address: Some(unwritten(IpAddr::V4(Ipv4Addr::LOCALHOST))),
        roles: unwritten(BTreeSet::new()),
    })
}

fn node((name, reader): (Located<NodeName>, Reader<'_>)) -> Node {
    let roles = reader.get(&keys::node::ROLES);
    let set = roles.value.iter().map(|role| role.value).collect();
    Node {
        name,
        address: reader.find(&keys::node::ADDRESS),
        roles: Located { value: set, span: roles.span, key: roles.key, written: roles.written },
    }
}

fn edge<'d>(written: Option<Place>, reader: &Reader<'d>, findings: &'d Findings<'d>) -> Edge {
    let bounds = reader
        .inner(&keys::edge::LIMITS)
        .unwrap_or_else(|| Reader::absent(&keys::LIMITS, reader.header.clone(), findings));
    let header_bytes = bounds.get(&keys::limits::HEADER_BYTES);
    let request_line_bytes = bounds.get(&keys::limits::REQUEST_LINE_BYTES);
    let connections = bounds.get(&keys::limits::CONNECTIONS);
    let per_address = bounds.find(&keys::limits::CONNECTIONS_PER_ADDRESS);
    let limits = EdgeLimits {
        header_bytes: size(header_bytes.value),
        header_count: size(bounds.get(&keys::limits::HEADER_COUNT).value),
        request_line_bytes: size(request_line_bytes.value),
        header_time: bounds.get(&keys::limits::HEADER_TIME).value,
        idle_time: bounds.get(&keys::limits::IDLE_TIME).value,
        tunnel_idle_time: bounds.get(&keys::limits::TUNNEL_IDLE_TIME).value,
        body_bytes: bounds.get(&keys::limits::BODY_BYTES).value,
        body_rate: bounds.get(&keys::limits::BODY_RATE).value,
        body_grace: bounds.get(&keys::limits::BODY_GRACE).value,
        connections: size(connections.value),
        connections_per_address: per_address.as_ref().map(|most| size(most.value)),
        streams: size(bounds.get(&keys::limits::STREAMS).value),
        connect_time: bounds.get(&keys::limits::CONNECT_TIME).value,
        response_time: bounds.get(&keys::limits::RESPONSE_TIME).value,
        compress_bytes: bounds.get(&keys::limits::COMPRESS_BYTES).value,
        compressed_bytes: size(bounds.get(&keys::limits::COMPRESSED_BYTES).value),
    };
    let proxy_protocol = reader.get(&keys::edge::PROXY_PROTOCOL);
    let trusted = reader.get(&keys::edge::TRUSTED_PROXIES);
    let trusted_wrong = !trusted.written && reader.written(&keys::edge::TRUSTED_PROXIES).is_some();
    let proxies = Proxies {
        protocol: proxy_protocol.value,
        trusted: trusted.value.into_iter().map(|network| network.value).collect(),
        forwarded: reader.get(&keys::edge::FORWARDED).value,
    };
    Edge {
        written,
        mode: reader.get(&keys::edge::MODE),
        http: reader.get(&keys::edge::HTTP),
        https: reader.find(&keys::edge::HTTPS),
        workers: workers(reader, &keys::edge::WORKERS),
        http2: reader.get(&keys::edge::HTTP2).value,
        access_log: reader.get(&keys::edge::ACCESS_LOG).value,
        log_sample: LogSample {
            share: reader.get(&keys::edge::ACCESS_LOG_SAMPLE).value,
            slow: reader.get(&keys::edge::ACCESS_LOG_SLOW).value,
        },
        via: reader.get(&keys::edge::VIA).value,
        traceparent: reader.get(&keys::edge::TRACEPARENT).value,
        proxies,
        proxy_protocol,
        trusted_wrong,
        limits,
        header_bytes,
        request_line_bytes,
        connections_per_address: per_address,
    }
}

fn pool<'d>(name: Located<PoolName>, reader: &Reader<'d>, findings: &'d Findings<'d>) -> Pool {
    let (ejection, ejection_most) = ejection(reader, findings).unzip();
    let retries = reader
        .inner(&keys::pool::RETRIES)
        .unwrap_or_else(|| Reader::absent(&keys::RETRIES, reader.header.clone(), findings));
    let (algorithm, hash_by) = (reader.get(&keys::pool::ALGORITHM), reader.get(&keys::pool::HASH_BY));
    let balancing = Balancing {
        algorithm: algorithm.value,
        hash_by: hash_by.value.clone(),
        sticky: reader.get(&keys::pool::STICKY).value,
        same_node: reader.get(&keys::pool::SAME_NODE).value,
        slow_start: reader.get(&keys::pool::SLOW_START).value,
        panic: reader.get(&keys::pool::PANIC).value,
        in_flight: reader.find(&keys::pool::IN_FLIGHT).and_then(|bound| NonZeroU32::new(small(bound.value))),
        queue: size(reader.get(&keys::pool::QUEUE).value),
        queue_time: reader.get(&keys::pool::QUEUE_TIME).value,
        retries: Retries {
            budget: retries.get(&keys::retries::BUDGET).value,
            floor: small(retries.get(&keys::retries::FLOOR).value),
        },
        hedge: reader.find(&keys::pool::HEDGE).map(|hedge| hedge.value),
        ejection,
    };
    let queue = reader.written(&keys::pool::QUEUE);
    let health = reader
        .inner(&keys::pool::HEALTH)
        .unwrap_or_else(|| Reader::absent(&keys::HEALTH, reader.header.clone(), findings));
    Pool {
        name,
        app: reader.find(&keys::pool::APP),
        app_written: reader.written(&keys::pool::APP),
        servers: reader.find(&keys::pool::SERVERS),
        servers_written: reader.written(&keys::pool::SERVERS),
        proxy_protocol: reader.find(&keys::pool::PROXY_PROTOCOL).map(|version| version.value),
        protocol: reader.get(&keys::pool::PROTOCOL).value,
        tls: reader.inner(&keys::pool::TLS).map(|tls| PoolTls {
            ca: tls.find(&keys::pool_tls::CA).map(|ca| ca.value),
            name: tls.find(&keys::pool_tls::NAME),
        }),
        algorithm,
        hash_by,
        queue_written: queue.or_else(|| reader.written(&keys::pool::QUEUE_TIME)),
        ejection_most,
        balancing,
        health: Health {
            path: health.find(&keys::health::PATH).map(|path| path.value),
            every: health.get(&keys::health::EVERY),
            timeout: health.find(&keys::health::TIMEOUT),
            fall: small(health.get(&keys::health::FALL).value),
            rise: small(health.get(&keys::health::RISE).value),
        },
    }
}

/// With the place of `most`; nothing if it is off.
fn ejection<'d>(reader: &Reader<'d>, findings: &'d Findings<'d>) -> Option<(Ejection, Located<Duration>)> {
    let table = match reader.word_or_table(&keys::pool::EJECTION) {
        Some(WordOrTable::Word(_)) => return None,
        Some(WordOrTable::Table(table)) => table,
        None => Reader::absent(&keys::EJECTION, reader.header.clone(), findings),
    };
    let most = table.get(&keys::ejection::MOST);
    let ejection = Ejection {
        errors: small(table.get(&keys::ejection::ERRORS).value),
        success_rate: table.find(&keys::ejection::SUCCESS_RATE).map(|rate| rate.value),
        slowness: table.find(&keys::ejection::SLOWNESS).map(|times| small(times.value)),
        requests: table.get(&keys::ejection::REQUESTS).value,
        time: table.get(&keys::ejection::TIME).value,
        most: most.value,
        share: table.get(&keys::ejection::SHARE).value,
    };
    Some((ejection, most))
}

fn app(name: Located<AppName>, reader: &Reader<'_>) -> App {
    let instances = reader.get(&keys::app::INSTANCES).value;
    App {
        name,
        command: reader.find(&keys::app::COMMAND),
        instances: u16::try_from(instances).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN),
        user: reader.find(&keys::app::USER).map(|user| user.value),
        env: reader.find(&keys::app::ENV).map(|env| env.value).unwrap_or_default(),
        stop_time: reader.get(&keys::app::STOP_TIME).value,
    }
}

fn database(written: Option<Place>, reader: &Reader<'_>) -> Database {
    Database {
        written,
        durability: reader.get(&keys::database::DURABILITY),
        reads: reader.get(&keys::database::READS).value,
        lease: reader.get(&keys::database::LEASE),
        renew: reader.get(&keys::database::RENEW),
        port: reader.get(&keys::database::PORT),
        settings: reader.find(&keys::database::SETTINGS).map(|found| found.value).unwrap_or_default(),
        settings_written: reader.written(&keys::database::SETTINGS),
        servers: reader.find(&keys::database::SERVERS),
        servers_written: reader.written(&keys::database::SERVERS),
        user: reader.get(&keys::database::USER),
        password_file: reader.find(&keys::database::PASSWORD_FILE),
    }
}

fn sql(written: Option<Place>, reader: &Reader<'_>) -> Sql {
    Sql {
        written,
        listen: reader.get(&keys::sql::LISTEN),
        workers: workers(reader, &keys::sql::WORKERS),
        hold: reader.get(&keys::sql::HOLD).value,
        hold_queue: size(reader.get(&keys::sql::HOLD_QUEUE).value),
        fresh_wait: reader.get(&keys::sql::FRESH_WAIT).value,
        pool_size: size(reader.get(&keys::sql::POOL_SIZE).value),
        clients: size(reader.get(&keys::sql::CLIENTS).value),
    }
}

fn workers(reader: &Reader<'_>, key: &Key<Count>) -> Option<NonZeroUsize> {
    NonZeroUsize::new(size(reader.get(key).value))
}

/// Every count has a bound far below what these types hold.
fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
