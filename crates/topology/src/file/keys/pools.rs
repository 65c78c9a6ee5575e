//! The keys of `[pool.NAME]` and of the tables in it.

use super::*;
use crate::file::kind::{Percent, Server};
use crate::{Algorithm, HashBy, Protocol, ProxyVersion};

/// The word of `[pool] ejection`; the table is the other choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Off;

section!(
    POOL,
    "[pool.NAME]",
    "A set of servers that routes send to.",
    [
        pool::APP,
        pool::SERVERS,
        pool::ALGORITHM,
        pool::HASH_BY,
        pool::STICKY,
        pool::SAME_NODE,
        pool::SLOW_START,
        pool::PANIC,
        pool::IN_FLIGHT,
        pool::QUEUE,
        pool::QUEUE_TIME,
        pool::RETRIES,
        pool::HEDGE,
        pool::EJECTION,
        pool::PROXY_PROTOCOL,
        pool::HEALTH,
        pool::PROTOCOL,
        pool::TLS,
    ]
);
pub(crate) mod pool {
    use super::*;
    keys! {
        /// The application whose instances are its servers
        APP: Parsed<AppName> = "app", Optional("`servers` lists them"), name("the name of an app", "something like \"web\"");
        /// Its servers, when others run them: addresses and ports, or tables such as { address = "10.0.0.9:3000", weight = 3 }
        SERVERS: ListOf<Server> = "servers", Optional("`app` names them"), ListOf { item: Server(&SERVER), min: 1 };
        /// Which server the next request goes to
        ALGORITHM: Choices<Algorithm> = "algorithm", Default("'round-robin'"),
            Choices(&[
                ("round-robin", Algorithm::RoundRobin),
                ("weighted", Algorithm::Weighted),
                ("least-connections", Algorithm::LeastConnections),
                ("two-choices", Algorithm::TwoChoices),
                ("hash", Algorithm::Hash),
            ]);
        /// What `algorithm = "hash"` goes by: "client", "path" or "header:NAME"
        HASH_BY: Parsed<HashBy> = "hash_by", Default("'client'"), Parsed {
            wanted: "\"client\", \"path\" or \"header:NAME\"",
            example: "something like \"client\" or \"header:X-User\"",
            pattern: "^(client|path|header:[!-~]+)$",
            of: PhantomData,
        };
        /// Whether a client comes back to the server that it had, by a signed cookie
        STICKY: Flag = "sticky", Default("false"), Flag;
        /// Whether the servers on the edge's own node are asked first, and the others while none of them serves
        SAME_NODE: Flag = "same_node", Default("false"), Flag;
        /// How long the share of a server that has begun to serve takes to grow; 0s: it has it at once
        SLOW_START: Period = "slow_start", Default("'0s'"), ms(0, HOUR_MS);
        /// If less than this share serves, all servers are asked; 0: never
        PANIC: Percent = "panic", Default("0"), Percent(0..=100);
        /// Requests in flight for one server, from one edge; more wait
        IN_FLIGHT: Count = "in_flight", Optional("no bound"), Count(1..=1_000_000);
        /// How many requests may wait in one edge while all servers are at `in_flight`; more are answered 503
        QUEUE: Count = "queue", Default("1000"), Count(0..=1_000_000);
        /// How long one waits there before it is answered 503
        QUEUE_TIME: Period = "queue_time", Default("'5s'"), ms(1, HOUR_MS);
        /// How much may be sent a second time
        RETRIES: Table = "retries", Optional("a fifth of the requests"), Table(&super::RETRIES);
        /// After how long without an answer a GET is sent to a second server, too
        HEDGE: Period = "hedge", Optional("never"), ms(1, HOUR_MS);
        /// When a server is taken out for what clients met, or "off"
        EJECTION: (Choices<Off>, Table) = "ejection", Optional("after five failures in a row"),
            (Choices(&[("off", Off)]), Table(&super::EJECTION));
        /// The version of the PROXY protocol by which its servers are told who the client is
        PROXY_PROTOCOL: Choices<ProxyVersion> = "proxy_protocol", Optional("they are told by fields alone"),
            Choices(&[("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)]);
        /// What is spoken with its servers; gRPC needs h2, WebSockets need http/1.1
        PROTOCOL: Choices<Protocol> = "protocol", Default("'http/1.1'"),
            Choices(&[("http/1.1", Protocol::Http1), ("h2", Protocol::Http2)]);
        /// Reaches its servers over TLS, and believes no other
        TLS: Table = "tls", Optional("without TLS"), Table(&POOL_TLS);
        /// How it is found out whether a server is well
        HEALTH: Table = "health", Optional("a TCP connection every second"), Table(&super::HEALTH);
    }
}

section!(
    SERVER,
    "{ address = \"10.0.0.9:3000\" }",
    "A server that others run.",
    [server::ADDRESS, server::WEIGHT, server::BACKUP, server::DRAIN]
);
pub(crate) mod server {
    use super::*;
    keys! {
        /// Its address and port
        ADDRESS: Socket = "address", Required, Socket;
        /// Its share among the others; for every algorithm but "round-robin"
        WEIGHT: Count = "weight", Default("1"), Count(1..=256);
        /// Whether it is asked only while none of the others serves
        BACKUP: Flag = "backup", Default("false"), Flag;
        /// Whether it gets nothing new and ends what it has
        DRAIN: Flag = "drain", Default("false"), Flag;
    }
}

section!(
    RETRIES,
    "retries = { budget = \"20%\" }",
    "How much may be sent a second time.",
    [retries::BUDGET, retries::FLOOR]
);
pub(crate) mod retries {
    use super::*;
    keys! {
        /// Of the pool's requests
        BUDGET: Percent = "budget", Default("20"), Percent(0..=100);
        /// Repeats a second that are there whatever the traffic is
        FLOOR: Count = "floor", Default("10"), Count(0..=10_000);
    }
}

section!(
    EJECTION,
    "ejection = { errors = 5 }",
    "When a server is taken out for what clients met.",
    [
        ejection::ERRORS,
        ejection::SUCCESS_RATE,
        ejection::SLOWNESS,
        ejection::REQUESTS,
        ejection::TIME,
        ejection::MOST,
        ejection::SHARE,
    ]
);
pub(crate) mod ejection {
    use super::*;
    keys! {
        /// Failures in a row: no answer, none in time, 502, 503 or 504; 0: they are not counted
        ERRORS: Count = "errors", Default("5"), Count(0..=1000);
        /// Taken out below this success rate, if the others are better
        SUCCESS_RATE: Percent = "success_rate", Optional("it does not matter"), Percent(1..=100);
        /// Taken out if it takes this many times as long as the others, and 100ms at least
        SLOWNESS: Count = "slowness", Optional("it does not matter"), Count(2..=1000);
        /// With fewer requests than this in ten seconds, the two above say nothing
        REQUESTS: Count = "requests", Default("20"), Count(1..=1_000_000);
        /// For how long, the first time; it doubles each time
        TIME: Period = "time", Default("'5s'"), ms(10, HOUR_MS);
        /// Never longer than this
        MOST: Period = "most", Default("'5m'"), ms(10, DAY_MS);
        /// Of the pool's servers: not more are out at once
        SHARE: Percent = "share", Default("50"), Percent(0..=100);
    }
}

section!(
    POOL_TLS,
    "tls = { ca = \"ca.pem\" }",
    "How the servers of a pool prove who they are.",
    [pool_tls::CA, pool_tls::NAME]
);
pub(crate) mod pool_tls {
    use super::*;
    keys! {
        /// A PEM file with the authorities that may have signed their certificates, as a path from this file
        CA: Place = "ca", Optional("the authorities of the system"), Place;
        /// The name in their certificates
        NAME: Text = "name", Optional("the address that each is reached at"),
            Text { wanted: "a host name or an address", example: "something like \"api.internal\"", empty: false };
    }
}

section!(
    HEALTH,
    "health = { path = \"/healthz\" }",
    "How it is found out whether a server is well.",
    [health::PATH, health::EVERY, health::TIMEOUT, health::FALL, health::RISE,]
);
pub(crate) mod health {
    use super::*;
    keys! {
        /// What is asked for with GET; an answer of 2xx or 3xx is healthy
        PATH: UrlPath = "path", Optional("a TCP connection is enough"), UrlPath::WithQuery;
        /// From one check of a server to the next
        EVERY: Period = "every", Default("'1s'"), ms(10, HOUR_MS);
        /// How long an answer may take; at most `every`
        TIMEOUT: Period = "timeout", Optional("as long as `every`"), ms(1, HOUR_MS);
        /// Failures in a row until a serving server is ejected
        FALL: Count = "fall", Default("3"), Count(1..=100);
        /// Successes in a row until an ejected server serves again
        RISE: Count = "rise", Default("2"), Count(1..=100);
    }
}
