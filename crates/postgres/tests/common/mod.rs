//! A cluster of real PostgreSQL servers on 127.0.0.1, .2 and .3, with a ledger in memory.

mod store;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
pub use store::{Handle, Memory};
use tiebeam_postgres::{Agent, Owner, Peer, Settings, State, TlsFiles};
use tiebeam_topology::{Durability, ManagedDatabase, NodeName, Reads};
use tokio_postgres::{Client, NoTls};

pub struct Cluster {
    // Removed when dropped.
    _dir: tempfile::TempDir,
    pub nodes: BTreeMap<NodeName, Node>,
    port: u16,
}

pub struct Node {
    pub settings: Settings,
    pub handle: Arc<Handle>,
    pub agent: Option<Agent>,
}

pub fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

impl Cluster {
    pub fn new(names: &[&str], durability: Durability) -> Self {
        if std::env::var_os("TIEBEAM_TEST_LOG").is_some() {
            let _ = tracing_subscriber::fmt().with_env_filter("tiebeam_postgres=debug").try_init();
        }
        let dir = tempfile::Builder::new().prefix("tb").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let port = free_port(names.len());
        let address = |i: usize| IpAddr::V4(Ipv4Addr::new(127, 0, 0, i as u8 + 1));
        let identity = |n: &str| format!("{n}.test.tiebeam.internal");
        let peers: BTreeMap<_, _> = names
            .iter()
            .enumerate()
            .map(|(i, n)| (node(n), Peer { address: address(i), identity: identity(n) }))
            .collect();
        let ca = Ca::new();
        let ledger = Memory::new();
        // SAFETY: no arguments, cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        let nodes = names.iter().enumerate().map(|(i, n)| {
            let home = dir.path().join(n);
            std::fs::create_dir(&home).unwrap();
            let settings = Settings {
                node: node(n),
                cluster: "test".parse().unwrap(),
                address: address(i),
                peers: peers.clone(),
                database: ManagedDatabase {
                    durability,
                    reads: Reads::Replicas,
                    lease: Duration::from_secs(3),
                    renew: Duration::from_millis(500),
                    port: port.try_into().unwrap(),
                    settings: BTreeMap::from([("shared_buffers".into(), "16MB".into())]),
                },
                bin_dir: tiebeam_postgres::find_binaries(None).unwrap(),
                data: home.join("postgres"),
                run: home.join("run"),
                tls: ca.issue(&home, n, &identity(n)),
                guard_command: vec![guard_program().into()],
                linger: None,
                owner: root.then(|| Owner::of_user("postgres").unwrap()),
            };
            (node(n), Node { settings, handle: ledger.handle(), agent: None })
        });
        let nodes = nodes.collect();
        Self { _dir: dir, nodes, port }
    }

    pub async fn start(&mut self, name: &NodeName) {
        let n = self.nodes.get_mut(name).unwrap();
        n.agent = Some(Agent::start(n.settings.clone(), n.handle.clone()).await.unwrap());
    }

    pub async fn start_all(&mut self) {
        for name in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.start(&name).await;
        }
    }

    pub fn state(&self, name: &NodeName) -> Arc<State> {
        self.nodes[name].agent.as_ref().unwrap().state().borrow().clone()
    }

    /// Waits until every running node's state satisfies `that`.
    pub async fn until(&self, what: &str, limit: Duration, that: impl Fn(&NodeName, &State) -> bool) {
        let start = Instant::now();
        let agents = || self.nodes.iter().filter(|(_, n)| n.agent.is_some());
        while !agents().all(|(name, _)| that(name, &self.state(name))) {
            if start.elapsed() > limit {
                for (name, _) in agents() {
                    eprintln!("{name}: {:#?}", self.state(name));
                    self.print_log(name);
                }
                panic!("not within {limit:?}: {what}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn print_log(&self, name: &NodeName) {
        let dir = self.nodes[name].settings.data.join("log");
        for file in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(file.path()).unwrap_or_default();
            let tail: Vec<_> = text.lines().rev().take(25).collect();
            eprintln!("--- {}", file.path().display());
            tail.into_iter().rev().for_each(|l| eprintln!("{l}"));
        }
    }

    /// The superuser's connection, by socket. Commits wait for replicas as those of any client.
    pub async fn connect(&self, name: &NodeName) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.nodes[name].settings.run.join("pg")).port(self.port);
        config.user("tiebeam").dbname("postgres").connect_timeout(Duration::from_millis(500));
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub async fn stop_all(&mut self) {
        for n in self.nodes.values_mut() {
            if let Some(agent) = n.agent.take() {
                agent.shutdown(tiebeam_postgres::Shutdown::Stop).await;
            }
        }
    }
}

impl Drop for Cluster {
    /// Whatever a failing test left: guards by the pid in their state, which take PostgreSQL with them.
    fn drop(&mut self) {
        for n in self.nodes.values() {
            n.agent.iter().for_each(Agent::abort);
        }
        // What they were in the middle of ends at its next pause.
        std::thread::sleep(Duration::from_millis(100));
        for n in self.nodes.values() {
            let pid = n.agent.as_ref().and_then(|a| a.state().borrow().me.guard_pid);
            if let Some(pid) = pid {
                kill(pid);
            }
        }
    }
}

pub fn kill(pid: u32) {
    // SAFETY: sends a signal to a process that the test's own agent started.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

pub fn signal(pid: u32, signal: i32) {
    // SAFETY: as above.
    unsafe { libc::kill(pid as i32, signal) };
}

fn guard_program() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples").join("guard")
}

/// A port that is free on all addresses of the cluster.
fn free_port(addresses: usize) -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if (1..addresses).all(|i| TcpListener::bind((format!("127.0.0.{}", i + 1), port)).is_ok()) {
            return port;
        }
    }
}

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, home: &std::path::Path, name: &str, identity: &str) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![identity.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let files =
            TlsFiles { ca: home.join("ca.pem"), cert: home.join("node.pem"), key: home.join("node.key") };
        std::fs::write(&files.ca, &self.pem).unwrap();
        std::fs::write(&files.cert, cert.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}
