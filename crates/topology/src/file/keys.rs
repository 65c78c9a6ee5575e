//! Every section and key of the file: its name, its kind of value, its default, and what it is for.
//!
//! The readers in `sections` and the JSON Schema both come from these; nothing else names a key. Bounds are here too.

use std::marker::PhantomData;
use std::time::Duration;

use super::kind::{
    Address, Choices, Count, Flag, ListOf, Listen, Named, Network, Parsed, Percentage, Period, Place, Port,
    PortOrOff, Settings, Socket, Table, Tables, Text, UrlPath,
};
use super::reader::{AnyKey, Key, Need, Section};
use crate::{
    AccessLog, AppName, ClusterName, Durability, EdgeMode, Forwarded, Http2, NodeName, PoolName, Reads, Role,
    Traces,
};

use Need::{Default, Optional, Required};

const NAME_PATTERN: &str = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$";

macro_rules! keys {
    ($($(#[doc = $about:literal])+ $name:ident: $type:ty = $key:literal, $need:expr, $kind:expr;)*) => {
        $(pub static $name: Key<$type> =
            Key { name: $key, about: concat!($($about),+).trim_ascii(), need: $need, kind: $kind };)*
    };
}

macro_rules! section {
    ($name:ident, $title:literal, $about:literal, [$($key:expr),* $(,)?]) => {
        pub static $name: Section =
            Section { title: $title, about: $about, keys: &[$(&$key as &dyn AnyKey),*] };
    };
}

mod pools;
mod sites;

pub(crate) use pools::{
    EJECTION, HEALTH, POOL, POOL_TLS, RETRIES, SERVER, ejection, health, pool, pool_tls, retries, server,
};
pub(crate) use sites::{CERTIFICATE, FIELDS, HttpsWord, ROUTE, SITE, certificate, fields, route, site};

const fn name<T>(wanted: &'static str, example: &'static str) -> Parsed<T> {
    Parsed { wanted, example, pattern: NAME_PATTERN, of: PhantomData }
}

const fn ms(from: u64, to: u64) -> Period {
    Period(Duration::from_millis(from)..=Duration::from_millis(to))
}

/// Nodes of a cluster. It is made for 1 to 20.
const NODES_MAX: usize = 100;
/// Sites, pools and apps, of each.
const NAMED_MAX: usize = 1000;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

section!(
    FILE,
    "the file",
    "A cluster: its nodes, what they serve, and their database.",
    [
        file::CLUSTER,
        file::NODE,
        file::EDGE,
        file::SITE,
        file::POOL,
        file::APP,
        file::DATABASE,
        file::SQL,
        file::LEDGER,
        file::CONSOLE,
    ]
);

pub(crate) mod file {
    use super::*;
    keys! {
        /// The cluster itself
        CLUSTER: Table = "cluster", Optional("the cluster is called \"tiebeam\""), Table(&super::CLUSTER);
        /// The servers that run Tiebeam, each with a name
        NODE: Named = "node", Optional("one node called \"local\", if `[database] servers` is all there is to serve"),
            Named { section: &super::NODE, pattern: NAME_PATTERN, max: NODES_MAX };
        /// How the nodes with the role `edge` listen
        EDGE: Table = "edge", Optional("its defaults, on nodes with the role `edge`"), Table(&super::EDGE);
        /// The host names that are served: `shop.example`, `*.shop.example`, or `*` for all
        SITE: Named = "site", Optional("every host name is served by the only pool"),
            Named { section: &super::SITE, pattern: r"^(\*|(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*)$", max: NAMED_MAX };
        /// The sets of servers that routes send to, each with a name
        POOL: Named = "pool", Optional("no pools"), Named { section: &super::POOL, pattern: NAME_PATTERN, max: NAMED_MAX };
        /// The applications that nodes with the role `app` run, each with a name
        APP: Named = "app", Optional("no applications"), Named { section: &super::APP, pattern: NAME_PATTERN, max: NAMED_MAX };
        /// PostgreSQL, run by Tiebeam or by others
        DATABASE: Table = "database", Optional("its defaults, if a node has the role `database`"),
            Table(&super::DATABASE);
        /// The router that applications reach PostgreSQL by
        SQL: Table = "sql", Optional("its defaults, if there is a database"), Table(&super::SQL);
        /// The replicated store of what the nodes agree on
        LEDGER: Table = "ledger", Optional("its defaults"), Table(&super::LEDGER);
        /// The pages and the HTTP interface for people
        CONSOLE: Table = "console", Optional("no console"), Table(&super::CONSOLE);
    }
}

section!(CLUSTER, "[cluster]", "The cluster itself.", [cluster::NAME]);
pub(crate) mod cluster {
    use super::*;
    keys! {
        /// Part of the names in its certificates, so keep it
        NAME: Parsed<ClusterName> = "name", Default("'tiebeam'"), name("a name", "something like \"shop\"");
    }
}

section!(NODE, "[node.NAME]", "A server that runs Tiebeam.", [node::ADDRESS, node::ROLES]);
pub(crate) mod node {
    use super::*;
    keys! {
        /// The IP address by which the other nodes reach it; addresses such as 127.0.0.2 make a cluster on one machine
        ADDRESS: Address = "address", Required, Address;
        /// What it does; a node without roles is a witness, which only votes
        ROLES: ListOf<Choices<Role>> = "roles", Default("[]"), ListOf {
            item: Choices(&[("edge", Role::Edge), ("app", Role::App), ("database", Role::Database)]),
            min: 0,
        };
    }
}

section!(
    EDGE,
    "[edge]",
    "How the nodes with the role `edge` listen for clients.",
    [
        edge::MODE,
        edge::HTTP,
        edge::HTTPS,
        edge::WORKERS,
        edge::HTTP2,
        edge::ACCESS_LOG,
        edge::ACCESS_LOG_SAMPLE,
        edge::ACCESS_LOG_SLOW,
        edge::VIA,
        edge::TRACEPARENT,
        edge::PROXY_PROTOCOL,
        edge::TRUSTED_PROXIES,
        edge::FORWARDED,
        edge::LIMITS,
    ]
);
pub(crate) mod edge {
    use super::*;
    keys! {
        /// Whether all edges answer, or one answers and the others wait
        MODE: Choices<EdgeMode> = "mode", Default("'active-active'"),
            Choices(&[("active-active", EdgeMode::ActiveActive), ("active-passive", EdgeMode::ActivePassive)]);
        /// The port for HTTP on the node's address; 0: none
        HTTP: PortOrOff = "http", Default("80"), PortOrOff;
        /// The port for HTTPS on the node's address; 0: none
        HTTPS: PortOrOff = "https", Optional("443 if a site has `https`, else none"), PortOrOff;
        /// Threads that serve; 0: one a core
        WORKERS: Count = "workers", Default("0"), Count(0..=1024);
        /// Whether clients may speak HTTP/2: over HTTPS if they ask for it; also over HTTP, to those that begin with it; never
        HTTP2: Choices<Http2> = "http2", Default("'on'"),
            Choices(&[("on", Http2::On), ("prior-knowledge", Http2::PriorKnowledge), ("off", Http2::Off)]);
        /// How a request is written to the log
        ACCESS_LOG: Choices<AccessLog> = "access_log", Default("'json'"),
            Choices(&[("json", AccessLog::Json), ("common", AccessLog::Common), ("off", AccessLog::Off)]);
        /// How many of the requests are logged; errors, requests that were tried again and slow ones always are
        ACCESS_LOG_SAMPLE: Percentage = "access_log_sample", Default("'100%'"), Percentage;
        /// A request that takes this long is logged in any case
        ACCESS_LOG_SLOW: Period = "access_log_slow", Default("'1s'"), ms(1, HOUR_MS);
        /// Whether what is passed on says in `Via` that it went through Tiebeam
        VIA: Flag = "via", Default("true"), Flag;
        /// What servers are told of traces: those of clients, else new ones that are sampled; those of clients alone; nothing
        TRACEPARENT: Choices<Traces> = "traceparent", Default("'on'"),
            Choices(&[("on", Traces::On), ("pass", Traces::Pass), ("off", Traces::Off)]);
        /// Whether each connection begins with a header of the PROXY protocol; only `trusted_proxies` may then connect
        PROXY_PROTOCOL: Flag = "proxy_protocol", Default("false"), Flag;
        /// Networks of the proxies before the edges; what they say about their clients is believed
        TRUSTED_PROXIES: ListOf<Network> = "trusted_proxies", Default("[]"), ListOf { item: Network, min: 0 };
        /// The fields by which servers are told who the client is; of trusted proxies the same are believed, and of `both` the first
        FORWARDED: Choices<Forwarded> = "forwarded", Default("'x-forwarded'"), Choices(&[
            ("x-forwarded", Forwarded::XForwarded),
            ("rfc7239", Forwarded::Rfc7239),
            ("both", Forwarded::Both),
        ]);
        /// The bounds of what a client may use
        LIMITS: Table = "limits", Optional("their defaults"), Table(&super::LIMITS);
    }
}

section!(
    LIMITS,
    "[edge.limits]",
    "The bounds of what clients and servers may use.",
    [
        limits::HEADER_BYTES,
        limits::HEADER_COUNT,
        limits::REQUEST_LINE_BYTES,
        limits::HEADER_TIME,
        limits::IDLE_TIME,
        limits::TUNNEL_IDLE_TIME,
        limits::BODY_BYTES,
        limits::BODY_RATE,
        limits::BODY_GRACE,
        limits::CONNECTIONS,
        limits::CONNECTIONS_PER_ADDRESS,
        limits::STREAMS,
        limits::CONNECT_TIME,
        limits::RESPONSE_TIME,
        limits::COMPRESS_BYTES,
        limits::COMPRESSED_BYTES,
    ]
);
pub(crate) mod limits {
    use super::*;
    keys! {
        /// Bytes of a message's whole head; more is answered 431
        HEADER_BYTES: Count = "header_bytes", Default("32768"), Count(1024..=1_048_576);
        /// Fields of a head; more is answered 431
        HEADER_COUNT: Count = "header_count", Default("128"), Count(8..=4096);
        /// Bytes of the request line; more is answered 414
        REQUEST_LINE_BYTES: Count = "request_line_bytes", Default("8192"), Count(256..=1_048_576);
        /// From the first byte of a head to its last
        HEADER_TIME: Period = "header_time", Default("'10s'"), ms(1, HOUR_MS);
        /// How long a connection may stay without a request
        IDLE_TIME: Period = "idle_time", Default("'60s'"), ms(1, DAY_MS);
        /// How long nothing may move through a tunnel, as of a WebSocket
        TUNNEL_IDLE_TIME: Period = "tunnel_idle_time", Default("'1h'"), ms(1, 7 * DAY_MS);
        /// Bytes of a request's body; more is answered 413
        BODY_BYTES: Count = "body_bytes", Default("1073741824"), Count(0..=1 << 50);
        /// Bytes a second that a request's body must bring once it was waited for longer than `body_grace`, else it is
        /// answered 408; 0: any
        BODY_RATE: Count = "body_rate", Default("100"), Count(0..=1 << 30);
        /// How long a request's body may be waited for, whatever it brings
        BODY_GRACE: Period = "body_grace", Default("'10s'"), ms(1, HOUR_MS);
        /// Client connections of one edge; at the bound, new ones wait in the kernel
        CONNECTIONS: Count = "connections", Default("20000"), Count(1..=1_000_000);
        /// Those of one address (of IPv6: of one /64); more are reset
        CONNECTIONS_PER_ADDRESS: Count = "connections_per_address", Optional("half of `connections`"), Count(1..=1_000_000);
        /// Requests at once on one connection of HTTP/2; more are refused there
        STREAMS: Count = "streams", Default("100"), Count(1..=10_000);
        /// Until a server has accepted a connection
        CONNECT_TIME: Period = "connect_time", Default("'2s'"), ms(1, HOUR_MS);
        /// Until a server's first byte of a response, and between any two reads of a body
        RESPONSE_TIME: Period = "response_time", Default("'30s'"), ms(1, DAY_MS);
        /// Bytes of a file that is compressed while it is served; larger ones are sent as they are; 0: all are
        COMPRESS_BYTES: Count = "compress_bytes", Default("2097152"), Count(0..=16_777_216);
        /// Bytes of memory for compressed files; without room in it a file is sent as it is
        COMPRESSED_BYTES: Count = "compressed_bytes", Default("33554432"), Count(0..=1 << 40);
    }
}

section!(
    APP,
    "[app.NAME]",
    "An application that the nodes with the role `app` run.",
    [app::COMMAND, app::INSTANCES, app::USER, app::ENV, app::STOP_TIME,]
);
pub(crate) mod app {
    use super::*;
    keys! {
        /// The program and its arguments, without a shell; it finds its port in PORT and its database in DATABASE_URL
        COMMAND: ListOf<Text> = "command", Required, ListOf {
            item: Text { wanted: "text in quotes", example: "the program and its arguments apart: [\"bin/server\", \"--verbose\"]", empty: true },
            min: 1,
        };
        /// How many run on each node
        INSTANCES: Count = "instances", Default("1"), Count(1..=256);
        /// Whom it runs as; another user than Tiebeam's own only when that is root
        USER: Text = "user", Optional("Tiebeam's own user, and when that is root: nobody"),
            Text { wanted: "a name", example: "something like \"www-data\"", empty: false };
        /// Added to the environment of each instance
        ENV: Settings = "env", Optional("nothing is added"),
            Settings { example: "{ RAILS_ENV = \"production\" }", scalars: false };
        /// How long a stopped instance may take to end by itself
        STOP_TIME: Period = "stop_time", Default("'10s'"), ms(1, HOUR_MS);
    }
}

section!(
    DATABASE,
    "[database]",
    "PostgreSQL: a primary and its replicas, or servers that others run.",
    [
        database::DURABILITY,
        database::READS,
        database::LEASE,
        database::RENEW,
        database::PORT,
        database::SETTINGS,
        database::SERVERS,
        database::USER,
        database::PASSWORD_FILE,
    ]
);
pub(crate) mod database {
    use super::*;
    keys! {
        /// When a commit is acknowledged: one replica holds it too; the same, and writes wait without one; the primary holds it
        DURABILITY: Choices<Durability> = "durability", Default("'quorum'"),
            Choices(&[("quorum", Durability::Quorum), ("strict", Durability::Strict), ("async", Durability::Async)]);
        /// Where statements go that certainly only read
        READS: Choices<Reads> = "reads", Default("'replicas'"),
            Choices(&[("replicas", Reads::Replicas), ("primary", Reads::Primary)]);
        /// How long the right to be primary lasts without a renewal; at least three times `renew`
        LEASE: Period = "lease", Default("'3s'"), ms(1000, HOUR_MS);
        /// From one renewal of that right to the next
        RENEW: Period = "renew", Default("'500ms'"), ms(50, HOUR_MS / 3);
        /// The port of PostgreSQL on the node's address
        PORT: Port = "port", Default("5433"), Port;
        /// Settings for PostgreSQL, added to Tiebeam's own
        SETTINGS: Settings = "settings", Optional("nothing is added"),
            Settings { example: "{ shared_buffers = \"2GB\" }", scalars: true };
        /// The addresses and ports of PostgreSQL servers that others run; nothing is promoted there
        SERVERS: ListOf<Socket> = "servers", Optional("the nodes with the role `database` run PostgreSQL"),
            ListOf { item: Socket, min: 1 };
        /// Whom the router logs in to `servers` as, to see which of them is the primary and to read its clients' verifiers
        USER: Text = "user", Default("'postgres'"),
            Text { wanted: "a name", example: "something like \"tiebeam\"", empty: false };
        /// A file with that user's password and nothing else, as a path from this file
        PASSWORD_FILE: Place = "password_file", Optional("that user must be let in without a password"), Place;
    }
}

section!(
    SQL,
    "[sql]",
    "The router that applications reach PostgreSQL by.",
    [sql::LISTEN, sql::WORKERS, sql::HOLD, sql::HOLD_QUEUE, sql::FRESH_WAIT, sql::POOL_SIZE, sql::CLIENTS,]
);
pub(crate) mod sql {
    use super::*;
    keys! {
        /// Where it listens on each node; ":6432" is that port on each node's own address
        LISTEN: Listen = "listen", Default("'127.0.0.1:6432'"), Listen;
        /// Threads that serve; 0: one a core
        WORKERS: Count = "workers", Default("0"), Count(0..=1024);
        /// How long a write waits for a primary
        HOLD: Period = "hold", Default("'10s'"), ms(0, HOUR_MS);
        /// How many sessions may wait for a primary at once; more are refused
        HOLD_QUEUE: Count = "hold_queue", Default("1000"), Count(1..=1_000_000);
        /// How long a read waits for a replica that has replayed what it must see
        FRESH_WAIT: Period = "fresh_wait", Default("'100ms'"), ms(0, HOUR_MS);
        /// Connections of one router to each PostgreSQL
        POOL_SIZE: Count = "pool_size", Default("20"), Count(1..=10_000);
        /// Client sessions of one router
        CLIENTS: Count = "clients", Default("1000"), Count(1..=1_000_000);
    }
}

section!(
    LEDGER,
    "[ledger]",
    "The replicated store of what the nodes agree on.",
    [ledger::PORT, ledger::VOTERS]
);
pub(crate) mod ledger {
    use super::*;
    keys! {
        /// Its port on the node's address
        PORT: Port = "port", Default("7400"), Port;
        /// The nodes that vote, 1, 3 or 5 of them; the others follow
        VOTERS: ListOf<Parsed<NodeName>> = "voters",
            Optional("as many as make an odd number up to 5, nodes with the role `database` first"),
            ListOf { item: name("the name of a node", "something like [\"a\", \"b\", \"c\"]"), min: 1 };
    }
}

section!(CONSOLE, "[console]", "The pages and the HTTP interface for people.", [console::LISTEN]);
pub(crate) mod console {
    use super::*;
    keys! {
        /// Where it listens on each node; ":7480" is that port on each node's own address
        LISTEN: Listen = "listen", Default("'127.0.0.1:7480'"), Listen;
    }
}

/// Every table of the file but the file itself.
pub(crate) const SECTIONS: [&Section; 19] = [
    &CLUSTER,
    &NODE,
    &EDGE,
    &LIMITS,
    &SITE,
    &CERTIFICATE,
    &ROUTE,
    &FIELDS,
    &POOL,
    &POOL_TLS,
    &SERVER,
    &RETRIES,
    &EJECTION,
    &HEALTH,
    &APP,
    &DATABASE,
    &SQL,
    &LEDGER,
    &CONSOLE,
];

/// The sections that have a key of some name: for "that key belongs elsewhere".
pub(crate) fn homes_of(name: &str) -> Vec<&'static str> {
    let homes = SECTIONS.into_iter().filter(|s| s.keys.iter().any(|key| key.name() == name));
    homes.map(|s| s.title).collect()
}
