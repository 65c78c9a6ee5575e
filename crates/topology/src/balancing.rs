//! How a pool spreads requests over its servers, as its section of the file says.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// A server that others run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolServer {
    pub address: SocketAddr,
    /// Its share among the others, 1 to 256.
    pub weight: u32,
    /// Asked only while none of the others serves.
    pub backup: bool,
    /// It ends what it has and gets nothing new.
    pub drain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Strictly one after another, over all workers.
    RoundRobin,
    /// One after another, each as often as its weight says, spread evenly.
    Weighted,
    LeastConnections,
    /// The better of two that chance chose, by latency and requests in flight.
    TwoChoices,
    /// A key's server is always the same while it serves and is not overloaded.
    Hash,
}

/// As in the file: the address alone, if there is no more to say.
impl Serialize for PoolServer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { address, weight, backup, drain } = self;
        if (*weight, *backup, *drain) == (1, false, false) {
            return address.serialize(serializer);
        }
        let mut table = serializer.serialize_struct("PoolServer", 4)?;
        table.serialize_field("address", address)?;
        table.serialize_field("weight", weight)?;
        table.serialize_field("backup", backup)?;
        table.serialize_field("drain", drain)?;
        table.end()
    }
}

/// The key of [`Algorithm::Hash`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// The client's address.
    Client,
    /// The path, without the query.
    Path,
    /// The value of a field; requests without it are hashed by the client. In lower case.
    Header(String),
}

impl fmt::Display for HashBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Path => f.write_str("path"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

impl Serialize for HashBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for HashBy {
    type Err = HashByError;

    fn from_str(text: &str) -> Result<Self, HashByError> {
        // RFC 9110, section 5.6.2.
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        match (text, text.strip_prefix("header:")) {
            ("client", _) => Ok(Self::Client),
            ("path", _) => Ok(Self::Path),
            (_, Some(name)) if !name.is_empty() && name.len() <= 128 && name.bytes().all(is_token) => {
                Ok(Self::Header(name.to_ascii_lowercase()))
            }
            _ => Err(HashByError),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashByError;

impl fmt::Display for HashByError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not \"client\", \"path\" or \"header:NAME\"")
    }
}

impl std::error::Error for HashByError {}

/// Everything of `[pool.NAME]` but who its servers are and how they are checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Balancing {
    pub algorithm: Algorithm,
    pub hash_by: HashBy,
    /// Clients come back to the server that they had, by a signed cookie.
    pub sticky: bool,
    /// Servers on the edge's own node are asked first.
    pub same_node: bool,
    /// Over this time the share of a server that has begun to serve grows; zero: at once.
    pub slow_start: Duration,
    /// If less than this serve, percent, all are asked; 0: never.
    pub panic: u8,
    /// Requests in flight for one server, from one edge.
    pub in_flight: Option<NonZeroU32>,
    /// Requests that wait for a server, in one edge, when all are at `in_flight`.
    pub queue: usize,
    /// How long one waits there.
    pub queue_time: Duration,
    pub retries: Retries,
    /// After this time without an answer a second server is asked, for GET; `None`: never.
    pub hedge: Option<Duration>,
    /// `None`: nobody is ejected for what clients met.
    pub ejection: Option<Ejection>,
}

/// How many requests are sent a second time, beyond those that no server had received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retries {
    /// Of the pool's requests, percent.
    pub budget: u8,
    /// A second, whatever the traffic is.
    pub floor: u32,
}

/// When a server is taken out for what clients met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ejection {
    /// Failures in a row; 0: they are not counted.
    pub errors: u32,
    /// A success rate below this, percent, and below that of the others, stands out.
    pub success_rate: Option<u8>,
    /// So many times slower than the others stands out.
    pub slowness: Option<u32>,
    /// With fewer requests than this in ten seconds, rates say nothing.
    pub requests: u64,
    /// The first time; it doubles from time to time.
    pub time: Duration,
    pub most: Duration,
    /// Of the pool's servers, percent: not more are out at once.
    pub share: u8,
}

impl Default for Balancing {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::RoundRobin,
            hash_by: HashBy::Client,
            sticky: false,
            same_node: false,
            slow_start: Duration::ZERO,
            panic: 0,
            in_flight: None,
            queue: 1000,
            queue_time: Duration::from_secs(5),
            retries: Retries::default(),
            hedge: None,
            ejection: Some(Ejection::default()),
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self { budget: 20, floor: 10 }
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            errors: 5,
            success_rate: None,
            slowness: None,
            requests: 20,
            time: Duration::from_secs(5),
            most: Duration::from_secs(300),
            share: 50,
        }
    }
}
