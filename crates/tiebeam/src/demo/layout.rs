//! Where a demo lives: its folder, its free ports, its `tiebeam.toml` and certificates.

use std::fmt::Write as _;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tiebeam_topology::{Cluster, Durability};

use crate::cli::{WrongUse, init, load};

/// The three servers: each an address of this machine.
const NODES: [(&str, [u8; 4], &str); 3] = [
    ("a", [127, 0, 0, 1], r#""edge", "app", "database""#),
    ("b", [127, 0, 0, 2], r#""edge", "app", "database""#),
    ("c", [127, 0, 0, 3], r#""app", "database""#),
];
/// How the file of a demo begins.
const HEADER: &str = "# Written by `tiebeam demo`.";
/// The file before it is whole.
const FRESH: &str = "tiebeam.toml.new";
/// How many sets of ports are tried, one hundred apart.
const PORT_SETS: u16 = 20;

/// A demo's folder, removed at the end unless the user wants to keep it.
pub struct Layout {
    pub folder: PathBuf,
    pub file: PathBuf,
    pub cluster: Cluster,
    temporary: Option<tempfile::TempDir>,
    /// The folder, locked as long as the demo runs: two demos in one would start each other's nodes.
    _locked: File,
}

impl Layout {
    /// Lays out a demo in a new temporary folder, or in `keep`, where an earlier demo's data is used again.
    pub fn prepare(keep: Option<&Path>, durability: Durability) -> anyhow::Result<Self> {
        let temporary = match keep {
            Some(_) => None,
            None => {
                Some(tempfile::Builder::new().prefix("tiebeam-").tempdir().context("a temporary folder")?)
            }
        };
        let folder = match (&temporary, keep) {
            (Some(made), _) => made.path().to_owned(),
            (None, Some(keep)) => std::path::absolute(keep)?,
            (None, None) => unreachable!("one of both is there: see the match above"),
        };
        std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let locked = lock(&folder)?;
        let file = folder.join("tiebeam.toml");
        own(&folder, &file)?;
        // PostgreSQL runs as another user when this is root: it must be able to pass through, not to list.
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o711))?;
        let program = std::env::current_exe().context("where this program is")?;
        // Written beside it first, so that whoever ends this program leaves a whole file or none.
        let fresh = folder.join(FRESH);
        std::fs::write(&fresh, text(Ports::free()?, &program, durability)?)?;
        std::fs::rename(&fresh, &file)?;
        let cluster = load(&file)?;
        issue(&cluster, &folder)?;
        for node in cluster.nodes.keys() {
            std::fs::set_permissions(folder.join(node.as_str()), PermissionsExt::from_mode(0o711))?;
        }
        Ok(Self { folder, file, cluster, temporary, _locked: locked })
    }

    pub fn remove(&mut self) {
        if let Some(folder) = self.temporary.take()
            && let Err(error) = folder.close()
        {
            crate::cli::complain(format_args!("the demo's folder could not be removed: {error}"));
        }
    }
}

/// Takes the folder for this process, as long as the handle lives.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let handle = File::open(folder).with_context(|| format!("{} cannot be opened", folder.display()))?;
    match rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(handle),
        Err(Errno::WOULDBLOCK) => Err(WrongUse(format!(
            "another demo runs in {}: end it, or give --keep another folder",
            folder.display()
        ))
        .into()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be locked", folder.display())),
    }
}

/// Whether a folder is empty or a demo's: its file is written anew, and no one else's may be lost by that.
fn own(folder: &Path, file: &Path) -> anyhow::Result<()> {
    let foreign = match std::fs::read_to_string(file) {
        Ok(text) => !text.starts_with(HEADER),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            folder.read_dir()?.any(|entry| entry.map_or(true, |e| e.file_name() != FRESH))
        }
        Err(_) => true,
    };
    let what = "was not made by a demo and is left as it is: give --keep a folder of its own";
    ensure!(!foreign, WrongUse(format!("{} {what}", folder.display())));
    Ok(())
}

/// Makes the certificates, unless they are there. The authority comes to its place last: as long as it is not there, no
/// node has run, and what an interrupted start left of them is made anew.
fn issue(cluster: &Cluster, folder: &Path) -> anyhow::Result<()> {
    let (made, authority) = (folder.join("authority.new"), folder.join("authority"));
    if authority.exists() {
        return Ok(());
    }
    let certs = |node: &str| folder.join(node).join("certs");
    for old in cluster.nodes.keys().map(|n| certs(n.as_str())).chain([made.clone()]) {
        if old.exists() {
            std::fs::remove_dir_all(&old).with_context(|| format!("{} cannot be removed", old.display()))?;
        }
    }
    init::issue(cluster, &made, certs)?;
    Ok(std::fs::rename(&made, &authority)?)
}

/// The ports of a demo, the same on each of its addresses.
#[derive(Clone, Copy)]
struct Ports {
    http: u16,
    https: u16,
    sql: u16,
    postgres: u16,
    ledger: u16,
    console: u16,
}

impl Ports {
    const USUAL: Self =
        Self { http: 8080, https: 8443, sql: 6432, postgres: 5433, ledger: 7400, console: 7480 };

    fn set(n: u16) -> Self {
        let up = |port: u16| port + 100 * n;
        let u = Self::USUAL;
        Self {
            http: up(u.http),
            https: up(u.https),
            sql: up(u.sql),
            postgres: up(u.postgres),
            ledger: up(u.ledger),
            console: up(u.console),
        }
    }

    /// The first set of which every port is free on every address.
    fn free() -> anyhow::Result<Self> {
        let mut taken = String::new();
        for ports in (0..PORT_SETS).map(Self::set) {
            match ports.taken() {
                None => return Ok(ports),
                Some(address) => _ = write!(taken, " {address}"),
            }
        }
        Err(WrongUse(format!("no free set of ports: in use:{taken}. End what listens there, then try again"))
            .into())
    }

    fn taken(self) -> Option<String> {
        let ports = [self.http, self.https, self.sql, self.postgres, self.ledger, self.console];
        NODES
            .iter()
            .flat_map(|(_, ip, _)| ports.map(|port| (IpAddr::V4(Ipv4Addr::from(*ip)), port)))
            .find(|at| TcpListener::bind(at).is_err())
            .map(|(ip, port)| format!("{ip}:{port}"))
    }
}

/// The demo's file, written as a user would write one.
fn text(ports: Ports, program: &Path, durability: Durability) -> anyhow::Result<String> {
    let Ports { http, https, sql, postgres, ledger, console } = ports;
    let program = toml_string(program)?;
    let durability = serde_json::to_string(&durability)?;
    // Nobody else may be able to run this program: a checkout can be in /root.
    let user = if rustix::process::geteuid().is_root() { "user = \"root\"\n" } else { "" };
    let mut text = format!("{HEADER}\n[cluster]\nname = \"demo\"\n");
    for (name, ip, roles) in NODES {
        let address = Ipv4Addr::from(ip);
        write!(text, "\n[node.{name}]\naddress = \"{address}\"\nroles = [{roles}]\n")?;
    }
    write!(
        text,
        r#"
[edge]
http = {http}
https = {https}
access_log = "json"

[site."*"]
https = "internal"
routes = [{{ path = "/", pool = "web" }}]

[pool.web]
app = "web"
algorithm = "round-robin"
health = {{ path = "/healthz", every = "500ms" }}

[app.web]
command = [{program}, "demo-app"]
instances = 1
{user}
[database]
durability = {durability}
reads = "replicas"
lease = "3s"
port = {postgres}

[sql]
listen = ":{sql}"
hold = "10s"

[ledger]
port = {ledger}

[console]
listen = ":{console}"
"#
    )?;
    Ok(text)
}

/// A path as a TOML string. JSON's escapes are a subset of TOML's basic strings.
fn toml_string(path: &Path) -> anyhow::Result<String> {
    let path = path.to_str().context("this program's path is not UTF-8")?;
    Ok(serde_json::to_string(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(folder: &Path) -> anyhow::Result<Layout> {
        Layout::prepare(Some(folder), Durability::Quorum)
    }

    /// The wrong use that a preparation ends with.
    fn refused(folder: &Path) -> String {
        let error = prepare(folder).err().unwrap();
        error.downcast_ref::<WrongUse>().unwrap().to_string()
    }

    #[test]
    fn only_a_demos_folder_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tiebeam.toml");
        std::fs::write(folder.path().join("letter"), "dear").unwrap();
        assert!(refused(folder.path()).contains("was not made by a demo"));
        std::fs::write(&file, "[cluster]\nname = \"shop\"\n").unwrap();
        assert!(refused(folder.path()).contains("was not made by a demo"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "[cluster]\nname = \"shop\"\n");
        std::fs::write(&file, format!("{HEADER}\n[cluster]\n")).unwrap();
        assert!(prepare(folder.path()).is_ok());
    }

    #[test]
    fn a_folder_has_one_demo_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = prepare(folder.path()).unwrap();
        assert!(refused(folder.path()).contains("another demo runs in"));
        drop(first);
        assert!(prepare(folder.path()).is_ok());
    }

    #[test]
    fn a_start_that_was_interrupted_leaves_a_folder_that_can_be_used() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FRESH), "# Wri").unwrap();
        drop(prepare(folder.path()).unwrap());
        // The certificates of one node only, and an authority that is not at its place yet.
        std::fs::rename(folder.path().join("authority"), folder.path().join("authority.new")).unwrap();
        for node in ["b", "c"] {
            std::fs::remove_dir_all(folder.path().join(node)).unwrap();
        }
        drop(prepare(folder.path()).unwrap());
        for node in ["a", "b", "c"] {
            assert!(folder.path().join(node).join("certs/node/node.key").is_file(), "{node}");
        }
        assert!(folder.path().join("authority").is_dir() && !folder.path().join("authority.new").exists());
    }
}
