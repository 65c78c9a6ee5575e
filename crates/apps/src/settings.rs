//! What the supervisor is told to run, and what it tells of each instance. Plain values.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tiebeam_topology::{App, AppName, HealthCheck, Moment, NodeName};

use crate::output::LOG_BYTES;

/// Everything that the apps of one node need. No `Debug`: an app's environment may hold what is secret.
pub struct Settings {
    pub node: NodeName,
    /// Where instances are told to listen (`HOST`), and where they are probed.
    pub address: IpAddr,
    pub apps: BTreeMap<AppName, App>,
    /// Given to every instance, such as `DATABASE_URL`; an app's own `env` wins over it.
    pub env: BTreeMap<String, Secret>,
    /// Each instance writes `NAME.N.log` here. Made if it is not there.
    pub log_dir: PathBuf,
    /// The working directory of instances, and what a command with a `/` in it is relative to: the folder of the
    /// configuration file.
    pub folder: PathBuf,
    /// How to see that an instance is healthy: the check of the pool that uses the app. An app without one counts as
    /// ready as soon as it runs.
    pub health: BTreeMap<AppName, HealthCheck>,
    /// The soft limit of file descriptors that instances start with; `None`: the agent's own. Programs that use select(2)
    /// break above 1024, and some close every number below the limit before they do anything.
    pub descriptors: Option<u64>,
}

/// A value that is given to an app and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An instance of an app on this node: `web.1`. Numbers start at 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct InstanceId {
    pub app: AppName,
    pub number: u16,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.app, self.number))
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> String {
        id.to_string()
    }
}

/// One instance as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instance {
    pub id: InstanceId,
    pub app: AppName,
    /// Where it listens, or is told to.
    pub address: SocketAddr,
    /// `None` while nothing runs.
    pub pid: Option<u32>,
    pub state: State,
    /// Starts after the first one.
    pub restarts: u64,
    /// Since when it has been in this state.
    pub since: Moment,
}

/// Only a [`State::Ready`] instance should be sent requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "name")]
pub enum State {
    /// It runs, and has not been healthy yet.
    Starting,
    Ready,
    /// It runs and was healthy, but failed its last `fall` checks.
    Unhealthy,
    /// It ended or could not be started; the next start is at `until`.
    Backoff {
        until: Moment,
    },
    /// It was asked to end.
    Stopping,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unhealthy => "unhealthy",
            Self::Backoff { .. } => "backoff",
            Self::Stopping => "stopping",
        })
    }
}

/// The bounds of a supervisor that the file does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// An instance that is not healthy this long after its start is told of. It goes on being probed.
    pub open_time: Duration,
    /// A log file that has grown to this, bytes, is put aside as `NAME.log.1`.
    pub log_bytes: u64,
    /// How long a killed instance is waited for. One that the kernel does not let go is told of and left.
    pub give_up_time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let (open_time, give_up_time) = (Duration::from_secs(10), Duration::from_secs(2));
        Self { open_time, log_bytes: LOG_BYTES, give_up_time }
    }
}
