//! Before a node starts anything: whether it can listen where the file says. So a port that is taken costs nothing: no
//! PostgreSQL was started, no lease taken, and the message names the setting.
//!
//! Called by `cli/node.rs`. Listens for a moment only; the rooms do it again, and tell if someone was faster.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tiebeam_topology::{Cluster, Database, NodeName, Role};

use super::WrongUse;
use crate::handover::sockets::{Room, Sockets};

/// A PostgreSQL that its guard is just stopping gives its port back within this time.
const STOPPING_TRIES: u32 = 20;
const STOPPING_PAUSE: Duration = Duration::from_millis(100);

/// Whether each port of `node` is free or held for this process by one before it; `data` is the node's folder.
///
/// # Errors
/// A [`WrongUse`] with every port that is not, its setting, and what to do.
pub fn free(cluster: &Cluster, node: &NodeName, data: &Path, held: &Held<'_>) -> Result<(), WrongUse> {
    let mut wrong: Vec<String> = listeners(cluster, node)
        .into_iter()
        .filter(|(whose, _, at)| !held.is_held(*whose, *at))
        .filter_map(|(_, what, at)| refusal(what, at))
        .collect();
    if let Some(at) = database(cluster, node)
        && !runs(&data.join("postgres/main/postmaster.pid"))
    {
        let mut refused = refusal("[database] port", at);
        for _ in 1..STOPPING_TRIES {
            if refused.is_none() {
                break;
            }
            std::thread::sleep(STOPPING_PAUSE);
            refused = refusal("[database] port", at);
        }
        wrong.extend(refused);
    }
    if wrong.is_empty() { Ok(()) } else { Err(WrongUse(wrong.join("\n"))) }
}

/// Takes the ports of the edge that no process before this one holds for it: nobody else can have them then, however long
/// that one takes to let go.
///
/// # Errors
/// A [`WrongUse`]: somebody was faster.
pub fn hold(cluster: &Cluster, node: &NodeName, sockets: &mut Sockets) -> Result<(), WrongUse> {
    for (whose, what, at) in listeners(cluster, node) {
        if whose == Some(Room::Edge) && !sockets.has(Room::Edge, at) {
            let taken = tiebeam_edge::hold(at, what).map_err(|error| WrongUse(error.to_string()))?;
            taken.into_iter().for_each(|socket| sockets.add(Room::Edge, socket));
        }
    }
    Ok(())
}

/// What a process before this one holds for it.
#[derive(Default)]
pub struct Held<'a> {
    pub sockets: Option<&'a Sockets>,
    /// Free once the node is this process's.
    pub ledger: Option<SocketAddr>,
}

impl Held<'_> {
    /// `whose` is `None` for the ledger.
    fn is_held(&self, whose: Option<Room>, at: SocketAddr) -> bool {
        match whose {
            Some(room) => self.sockets.is_some_and(|sockets| sockets.has(room, at)),
            None => self.ledger == Some(at),
        }
    }
}

/// Where the daemon itself listens, by the names of the file.
fn listeners(cluster: &Cluster, node: &NodeName) -> Vec<(Option<Room>, &'static str, SocketAddr)> {
    let mut all: Vec<(Option<Room>, &'static str, Option<SocketAddr>)> = Vec::new();
    if let (Some(edge), Some(n)) = (&cluster.edge, cluster.nodes.get(node))
        && n.roles.contains(&Role::Edge)
    {
        all.push((
            Some(Room::Edge),
            "[edge] http",
            edge.http.map(|port| SocketAddr::new(n.address, port.get())),
        ));
        all.push((
            Some(Room::Edge),
            "[edge] https",
            edge.https.map(|port| SocketAddr::new(n.address, port.get())),
        ));
    }
    all.push((Some(Room::Router), "[sql] listen", cluster.sql_address(node)));
    // The ledger of a node that is alone talks with nobody.
    all.push((None, "[ledger] port", cluster.ledger_address(node).filter(|_| cluster.nodes.len() > 1)));
    all.push((Some(Room::Console), "[console] listen", cluster.console_address(node)));
    all.into_iter().filter_map(|(whose, what, at)| Some((whose, what, at?))).collect()
}

/// Where the PostgreSQL of this node will listen.
fn database(cluster: &Cluster, node: &NodeName) -> Option<SocketAddr> {
    let n = cluster.nodes.get(node)?;
    match &cluster.database {
        Some(Database::Managed(d)) if n.roles.contains(&Role::Database) => {
            Some(SocketAddr::new(n.address, d.port.get()))
        }
        _ => None,
    }
}

/// Whether the PostgreSQL that wrote this file runs: the port is then its own, and the node adopts it.
pub fn runs(pid_file: &Path) -> bool {
    let text = std::fs::read_to_string(pid_file).unwrap_or_default();
    let pid = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
    pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
}

fn refusal(what: &str, at: SocketAddr) -> Option<String> {
    let error = TcpListener::bind(at).err()?;
    Some(format!("{what}: cannot listen on {at}: {}", advice(&error, at)))
}

fn advice(error: &io::Error, at: SocketAddr) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            "another process does, perhaps this node itself, started before; `ss -ltnp 'sport = :{}'` shows which one. Stop it, or choose another port",
            at.port()
        ),
        ErrorKind::AddrNotAvailable => {
            format!("this machine does not have the address {}; is --name the right node?", at.ip())
        }
        ErrorKind::PermissionDenied => {
            "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE; give one, or choose a higher port"
                .into()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose every port is free a moment ago, and those ports.
    fn file(node: &str) -> (Cluster, [TcpListener; 6]) {
        let held: [TcpListener; 6] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [http, https, sql, ledger, console, postgres] =
            std::array::from_fn(|i| held[i].local_addr().unwrap().port());
        let text = format!(
            "[node.{node}]\naddress = \"127.0.0.1\"\nroles = [\"edge\", \"database\"]\n\
             [node.other]\naddress = \"127.0.0.2\"\n\
             [edge]\nhttp = {http}\nhttps = {https}\n[database]\nport = {postgres}\n[pool.web]\nservers = [\"10.0.0.9:1\"]\n\
             [sql]\nlisten = \":{sql}\"\n[ledger]\nport = {ledger}\n[console]\nlisten = \":{console}\"\n"
        );
        (Cluster::parse("t", &text).unwrap(), held)
    }

    #[test]
    fn every_port_that_is_taken_is_named_with_its_setting() {
        let (cluster, held) = file("a");
        let a: NodeName = "a".parse().unwrap();
        let nowhere = Path::new("/nonexistent");
        let said = free(&cluster, &a, nowhere, &Held::default()).unwrap_err().to_string();
        let names = ["[edge] http", "[edge] https", "[sql] listen", "[ledger] port", "[console] listen"];
        for (name, held) in names.iter().chain(&["[database] port"]).zip(&held) {
            let line = format!("{name}: cannot listen on {}: another process", held.local_addr().unwrap());
            assert!(said.contains(&line), "{line}\n{said}");
        }
    }

    #[test]
    fn what_is_held_for_this_process_is_free() {
        let (cluster, held) = file("a");
        let mut sockets = Sockets::default();
        let [http, https, sql, ledger, console, postgres] = held;
        let taken = postgres.local_addr().unwrap();
        for (room, socket) in
            [(Room::Edge, http), (Room::Edge, https), (Room::Router, sql), (Room::Console, console)]
        {
            sockets.add(room, socket);
        }
        let held = Held { sockets: Some(&sockets), ledger: ledger.local_addr().ok() };
        let a: NodeName = "a".parse().unwrap();
        let said = free(&cluster, &a, Path::new("/nonexistent"), &held).unwrap_err().to_string();
        assert!(said.starts_with(&format!("[database] port: cannot listen on {taken}")), "{said}");
    }

    #[test]
    fn a_port_that_is_held_is_nobody_elses() {
        let (cluster, held) = file("a");
        let [http, https, ..] = held;
        let taken = http.local_addr().unwrap();
        let mut sockets = Sockets::default();
        sockets.add(Room::Edge, https);
        let a: NodeName = "a".parse().unwrap();
        assert!(
            hold(&cluster, &a, &mut sockets).is_err_and(|error| error.to_string().contains("[edge] http"))
        );
        drop(http);
        hold(&cluster, &a, &mut sockets).unwrap();
        assert!(sockets.has(Room::Edge, taken) && TcpListener::bind(taken).is_err());
        assert_eq!(sockets.take(Room::Edge).len(), 2, "one that is held already is not taken twice");
    }

    #[test]
    fn the_port_of_a_postgresql_to_adopt_is_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("postgres/main");
        std::fs::create_dir_all(&main).unwrap();
        let file = main.join("postmaster.pid");
        std::fs::write(&file, format!("{}\n/somewhere\n", std::process::id())).unwrap();
        assert!(runs(&file));
        std::fs::write(&file, "").unwrap();
        assert!(!runs(&file) && !runs(&main.join("nothing")));
    }

    #[test]
    fn a_foreign_address_and_a_low_port_are_told_apart() {
        let at: SocketAddr = "10.1.2.3:80".parse().unwrap();
        assert!(advice(&ErrorKind::AddrNotAvailable.into(), at).contains("10.1.2.3"));
        assert!(advice(&ErrorKind::PermissionDenied.into(), at).contains("below 1024"));
    }
}
