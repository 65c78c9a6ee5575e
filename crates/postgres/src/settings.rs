//! What an agent is told at start. Plain values; nothing here touches the world.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tiebeam_topology::{ClusterName, ManagedDatabase, NodeName};

/// Everything that one node's agent needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node: NodeName,
    pub cluster: ClusterName,
    /// PostgreSQL listens here, on `database.port`, and nowhere else.
    pub address: IpAddr,
    /// All nodes with the role `database`, this one included.
    pub peers: BTreeMap<NodeName, Peer>,
    pub database: ManagedDatabase,
    /// Where `postgres`, `initdb`, `pg_basebackup` and the others are; see [`crate::find_binaries`].
    pub bin_dir: PathBuf,
    /// The folder of this instance: `main` (the data directory), `conf`, `tls`, `log`, `forks`. Made if missing.
    pub data: PathBuf,
    /// The folder of the unix sockets, of PostgreSQL and of the guard. Mode 0700, at most 80 bytes long.
    pub run: PathBuf,
    pub tls: TlsFiles,
    /// The program that calls [`crate::guard::main`], with its leading arguments: `[current_exe, "guard"]`.
    pub guard_command: Vec<OsString>,
    /// The guard stops PostgreSQL and ends when no agent has been connected for this long. `None`: a replica goes
    /// on without an agent; a primary always stops when its lease ends.
    pub linger: Option<Duration>,
    /// Who owns PostgreSQL's processes and files, when the agent runs as root; otherwise the agent's own user does.
    pub owner: Option<Owner>,
}

/// Another database node, or this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    /// The DNS name in its certificate, verified by libpq (`sslmode=verify-full`).
    pub identity: String,
}

/// PEM files. The agent copies them for PostgreSQL, which insists on owning its key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The cluster's CA.
    pub ca: PathBuf,
    /// The node's certificate; its common name is the node's name.
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// A unix user and group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    /// The user `name` of this machine (`getpwnam`), such as `postgres`.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn of_user(name: &str) -> Result<Self, crate::Error> {
        let missing = || crate::Error::NoUser { name: name.to_owned() };
        let text = std::fs::read_to_string("/etc/passwd").map_err(|_| missing())?;
        for line in text.lines() {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                continue;
            }
            let numbers =
                (fields.nth(1).and_then(|f| f.parse().ok()), fields.next().and_then(|f| f.parse().ok()));
            if let (Some(uid), Some(gid)) = numbers {
                return Ok(Self { uid, gid });
            }
        }
        Err(missing())
    }
}
