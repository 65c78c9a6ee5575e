//! What a site does with a request: where a route leads, and what is changed on the way.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::PoolName;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// Starts with `/`. A path matches if it is equal, or starts with it at a segment's boundary.
    pub path: String,
    pub to: Target,
    #[serde(flatten)]
    pub rules: RouteRules,
}

impl Route {
    /// A route that changes nothing on the way.
    pub fn new(path: impl Into<String>, to: Target) -> Self {
        Self { path: path.into(), to, rules: RouteRules::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A pool that exists.
    Pool(PoolName),
    /// A directory; as written in the file, until [`crate::Cluster::rooted`] has put the file's folder before it.
    Files(PathBuf),
    Redirect(Redirect),
}

/// Somewhere else that clients are sent to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Redirect {
    /// A path, or a URL of http or https. `{path}` stands for the whole path of the request, `{rest}` for what follows
    /// the route's own, without slashes before it. Without either, one that ends in a slash is a folder for the rest.
    pub to: String,
    pub status: RedirectStatus,
}

/// RFC 9110 section 15.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "u16")]
pub enum RedirectStatus {
    /// 301: for good; a POST may become a GET.
    Moved,
    /// 302: for now; a POST may become a GET.
    Found,
    /// 307: for now, with the same method.
    Temporary,
    /// 308: for good, with the same method.
    Permanent,
}

impl From<RedirectStatus> for u16 {
    fn from(status: RedirectStatus) -> u16 {
        match status {
            RedirectStatus::Moved => 301,
            RedirectStatus::Found => 302,
            RedirectStatus::Temporary => 307,
            RedirectStatus::Permanent => 308,
        }
    }
}

/// What a route changes of what passes through it. By default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RouteRules {
    /// What a server is sent instead of the route's own path. Starts with `/`.
    pub replace_prefix: Option<String>,
    pub request_headers: FieldEdits,
    pub response_headers: FieldEdits,
    /// Instead of `edge.limits.body_bytes`.
    pub body_bytes: Option<u64>,
    /// Instead of `edge.limits.body_rate`.
    pub body_rate: Option<u64>,
    /// Instead of `edge.limits.response_time`.
    pub response_time: Option<Duration>,
    /// A page that answers everything, with 503.
    pub maintenance: Option<PathBuf>,
}

/// What a site changes of what passes through it. By default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SiteRules {
    /// Before those of the route, which may undo them.
    pub request_headers: FieldEdits,
    pub response_headers: FieldEdits,
    /// Pages for the errors that the edge itself answers with.
    pub errors: BTreeMap<StatusPattern, PathBuf>,
    /// A page that answers everything, with 503.
    pub maintenance: Option<PathBuf>,
}

/// Fields that one [`FieldEdits`] changes at most: each is looked for in each message.
pub const CHANGED_FIELDS_MAX: usize = 64;

/// Fields of a message that are written or left out. No name is in both, none is there twice in any case, and none
/// concerns the framing of messages or a single connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FieldEdits {
    /// Name and value; in the place of all fields of that name.
    pub set: BTreeMap<String, String>,
    pub remove: Vec<String>,
}

/// The statuses that a page is for: one, or all that start with 4 or with 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub enum StatusPattern {
    /// 400 to 599.
    Exact(u16),
    /// 4 or 5.
    Class(u8),
}

impl StatusPattern {
    pub fn holds(self, status: u16) -> bool {
        match self {
            Self::Exact(exact) => exact == status,
            Self::Class(class) => status / 100 == u16::from(class),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a page is for a status from 400 to 599, for \"4xx\" or for \"5xx\"")]
pub struct StatusPatternError;

impl FromStr for StatusPattern {
    type Err = StatusPatternError;
    fn from_str(text: &str) -> Result<Self, StatusPatternError> {
        match text {
            "4xx" => Ok(Self::Class(4)),
            "5xx" => Ok(Self::Class(5)),
            _ if text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit()) => {
                let status = text.parse().ok().filter(|status| (400..600).contains(status));
                status.map(Self::Exact).ok_or(StatusPatternError)
            }
            _ => Err(StatusPatternError),
        }
    }
}

impl fmt::Display for StatusPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(status) => write!(f, "{status}"),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl From<StatusPattern> for String {
    fn from(pattern: StatusPattern) -> String {
        pattern.to_string()
    }
}
