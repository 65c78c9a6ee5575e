//! Where a demo lives: its folder, its free ports, its `tiebeam.toml` and certificates.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tiebeam_topology::{Cluster, Durability};

use crate::cli::{WrongUse, init, load};

/// The three servers: each an address of this machine.
const NODES: [(&str, [u8; 4], &str); 3] = [
    ("a", [127, 0, 0, 1], r#""edge", "app", "database""#),
    ("b", [127, 0, 0, 2], r#""edge", "app", "database""#),
    ("c", [127, 0, 0, 3], r#""app", "database""#),
];
/// How many sets of ports are tried, one hundred apart.
const PORT_SETS: u16 = 20;

/// A demo's folder, removed at the end unless the user wants to keep it.
pub struct Layout {
    pub folder: PathBuf,
    pub file: PathBuf,
    pub cluster: Cluster,
    temporary: Option<tempfile::TempDir>,
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
        let file = folder.join("tiebeam.toml");
        let foreign = folder.is_dir() && !file.exists() && folder.read_dir()?.next().is_some();
        ensure!(!foreign, WrongUse(format!("{} is not empty and not a demo's folder", folder.display())));
        std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        // PostgreSQL runs as another user when this is root: it must be able to pass through, not to list.
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o711))?;
        let program = std::env::current_exe().context("where this program is")?;
        std::fs::write(&file, text(Ports::free()?, &program, durability)?)?;
        let cluster = load(&file)?;
        if !folder.join("authority").exists() {
            init::issue(&cluster, &folder.join("authority"), |node| folder.join(node).join("certs"))?;
        }
        for node in cluster.nodes.keys() {
            std::fs::set_permissions(folder.join(node.as_str()), PermissionsExt::from_mode(0o711))?;
        }
        Ok(Self { folder, file, cluster, temporary })
    }

    pub fn remove(&mut self) {
        if let Some(folder) = self.temporary.take()
            && let Err(error) = folder.close()
        {
            crate::cli::complain(format_args!("the demo's folder could not be removed: {error}"));
        }
    }
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
    let mut text = String::from("# Written by `tiebeam demo`.\n[cluster]\nname = \"demo\"\n");
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
