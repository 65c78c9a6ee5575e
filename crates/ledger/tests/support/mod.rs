//! A cluster's CA, nodes in this process, and wires between them that can be cut.
#![allow(dead_code, clippy::unwrap_used)] // Each test file uses a part of it; a test may panic.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tiebeam_ledger::{Embedded, Key, Peer, Settings, Status};
use tiebeam_topology::NodeName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

pub struct Tls {
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        roots(self.issuer.der().clone())
    }

    /// The two sides of a node that is `identity` and trusts this authority.
    pub fn tls(&self, identity: &str) -> Tls {
        tls(&self.issuer, self.issuer.der().clone(), identity)
    }

    /// A client that trusts this authority and shows nothing.
    pub fn anonymous(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }
}

fn roots(authority: CertificateDer<'static>) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority).unwrap();
    Arc::new(roots)
}

fn tls(
    issuer: &rcgen::Issuer<'_, impl rcgen::SigningKey>,
    authority: CertificateDer<'static>,
    identity: &str,
) -> Tls {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![identity.to_owned()]).unwrap();
    let chain = vec![params.signed_by(&key, issuer).unwrap().der().clone()];
    let key = || PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = roots(authority);
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build().unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key())
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key())
        .unwrap();
    Tls { server: Arc::new(server), client: Arc::new(client) }
}

pub fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

pub fn key(text: &str) -> Key {
    text.parse().unwrap()
}

pub fn identity(node: &NodeName) -> String {
    tiebeam_topology::identity(&"shop".parse().unwrap(), node)
}

/// A wire to a node: a port that leads to wherever the node listens, if it does and the wire is whole.
struct Wire {
    address: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
}

impl Wire {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = watch::Sender::new(None);
        let state = target.subscribe();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut state = state.clone();
                let Some(to) = *state.borrow_and_update() else { continue };
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|now| *now != Some(to)) => {}
                    }
                });
            }
        });
        Self { address, target }
    }
}

/// Nodes that share an authority; every one reaches every other over a wire of its own.
pub struct Cluster {
    pub directory: TempDir,
    pub authority: Authority,
    names: Vec<NodeName>,
    voters: usize,
    /// Where the running nodes listen.
    addresses: BTreeMap<NodeName, SocketAddr>,
    cut: Mutex<BTreeSet<NodeName>>,
    wires: BTreeMap<(NodeName, NodeName), Wire>,
    pub nodes: BTreeMap<NodeName, Arc<Embedded>>,
    pub adjust: fn(&mut Settings),
}

impl Cluster {
    /// The first `voters` of `names` vote, the others learn. Nothing runs yet.
    pub async fn new(names: &[&str], voters: usize, adjust: fn(&mut Settings)) -> Self {
        let names: Vec<_> = names.iter().map(|text| name(text)).collect();
        let mut wires = BTreeMap::new();
        for from in &names {
            for to in &names {
                wires.insert((from.clone(), to.clone()), Wire::new().await);
            }
        }
        Self {
            directory: TempDir::new().unwrap(),
            authority: Authority::new(),
            names,
            voters,
            addresses: BTreeMap::new(),
            cut: Mutex::default(),
            wires,
            nodes: BTreeMap::new(),
            adjust,
        }
    }

    /// Three voters, running, with a leader.
    pub async fn three() -> Self {
        Self::three_with(|_| {}).await
    }

    pub async fn three_with(adjust: fn(&mut Settings)) -> Self {
        let mut cluster = Self::new(&["a", "b", "c"], 3, adjust).await;
        for node in ["a", "b", "c"] {
            cluster.start(node).await;
        }
        cluster.leader().await;
        cluster
    }

    pub fn settings(&self, node: &str) -> Settings {
        let node = name(node);
        let peer = |(i, to): (usize, &NodeName)| {
            let address = self.wires[&(node.clone(), to.clone())].address;
            (to.clone(), Peer { address, identity: identity(to), voter: i < self.voters })
        };
        let peers = self.names.iter().enumerate().map(peer).collect();
        let tls = self.authority.tls(&identity(&node));
        let data = self.directory.path().join(node.as_str());
        let listen = ([127, 0, 0, 1], 0).into();
        let mut settings =
            Settings::new("shop".parse().unwrap(), node, listen, peers, data, tls.server, tls.client);
        // A machine that is busy with other tests must not make a call fail that would have been answered.
        settings.call_timeout = Duration::from_secs(10);
        (self.adjust)(&mut settings);
        settings
    }

    pub async fn start(&mut self, node: &str) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.addresses.insert(name(node), listener.local_addr().unwrap());
        let opened = Embedded::open_on(self.settings(node), listener).await.unwrap();
        self.nodes.insert(name(node), opened);
        self.rewire();
    }

    pub async fn stop(&mut self, node: &str) {
        self.addresses.remove(&name(node));
        self.rewire();
        let node = self.nodes.remove(&name(node)).unwrap();
        node.shutdown().await;
    }

    /// Stops the node if it runs, and takes all its data.
    pub async fn wipe(&mut self, node: &str) {
        if self.nodes.contains_key(&name(node)) {
            self.stop(node).await;
        }
        std::fs::remove_dir_all(self.settings(node).data).unwrap();
    }

    pub async fn stop_all(&mut self) {
        for (_, node) in std::mem::take(&mut self.nodes) {
            node.shutdown().await;
        }
    }

    /// Another process runs the node, and listens there.
    pub fn listens(&mut self, node: &str, address: SocketAddr) {
        self.addresses.insert(name(node), address);
        self.rewire();
    }

    pub fn gone(&mut self, node: &str) {
        self.addresses.remove(&name(node));
        self.rewire();
    }

    pub fn address(&self, node: &str) -> SocketAddr {
        self.addresses[&name(node)]
    }

    fn rewire(&self) {
        let cut = self.cut.lock().unwrap();
        for ((from, to), wire) in &self.wires {
            let whole = cut.contains(from) == cut.contains(to);
            wire.target.send_replace(self.addresses.get(to).copied().filter(|_| whole));
        }
    }

    pub fn node(&self, node: &str) -> &Arc<Embedded> {
        &self.nodes[&name(node)]
    }

    /// Cuts or mends every wire from and to `node`.
    pub fn cut(&self, node: &str, whole: bool) {
        let mut cut = self.cut.lock().unwrap();
        if whole {
            cut.remove(&name(node))
        } else {
            cut.insert(name(node))
        };
        drop(cut);
        self.rewire();
    }

    /// The node that all running nodes take for the leader, once they do.
    pub async fn leader(&self) -> String {
        let nodes: Vec<_> = self.nodes.values().cloned().collect();
        eventually("all agree on a leader", move || {
            let leaders: Vec<_> = nodes.iter().map(|n| n.status()).collect();
            let first = leaders[0].leader.clone()?;
            leaders.iter().all(|s| s.leader.as_ref() == Some(&first) && s.quorum).then(|| first.to_string())
        })
        .await
    }
}

/// What a node in another process must know, as a file of lines.
pub struct Member {
    pub node: NodeName,
    pub life: u64,
    data: std::path::PathBuf,
    /// The authority's certificate and key.
    authority: (String, String),
    wires: Vec<(NodeName, SocketAddr)>,
}

impl Member {
    pub fn of(cluster: &Cluster, node: &str, life: u64) -> Self {
        let settings = cluster.settings(node);
        let authority = &cluster.authority.issuer;
        Self {
            node: settings.node,
            life,
            data: settings.data,
            authority: (authority.pem(), authority.key().serialize_pem()),
            wires: settings.peers.into_iter().map(|(name, peer)| (name, peer.address)).collect(),
        }
    }

    pub fn write(&self, to: &Path) {
        let wires: Vec<_> = self.wires.iter().map(|(name, address)| format!("{name}={address}")).collect();
        let (certificate, key) = &self.authority;
        let lines =
            [self.node.as_str(), &self.life.to_string(), &self.data.to_string_lossy(), &wires.join(" ")];
        std::fs::write(to, format!("{}\n{certificate}\n{key}", lines.join("\n"))).unwrap();
    }

    pub fn read(from: &Path) -> Self {
        let text = std::fs::read_to_string(from).unwrap();
        let mut lines = text.splitn(5, '\n');
        let mut next = || lines.next().unwrap();
        let (node, life, data) = (name(next()), next().parse().unwrap(), next().into());
        let wires = next().split(' ').map(|wire| wire.split_once('=').unwrap());
        let wires = wires.map(|(node, address)| (name(node), address.parse().unwrap())).collect();
        let (certificate, key) = next().split_once("-----BEGIN PRIVATE KEY-----").unwrap();
        let authority = (certificate.to_owned(), format!("-----BEGIN PRIVATE KEY-----{key}"));
        Self { node, life, data, authority, wires }
    }

    pub fn settings(&self) -> Settings {
        let (certificate, key) = &self.authority;
        let issuer = rcgen::Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key).unwrap()).unwrap();
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let tls = tls(&issuer, der, &identity(&self.node));
        let peer = |(to, address): &(NodeName, SocketAddr)| {
            (to.clone(), Peer { address: *address, identity: identity(to), voter: true })
        };
        let peers = self.wires.iter().map(peer).collect();
        let (cluster, listen) = ("shop".parse().unwrap(), ([127, 0, 0, 1], 0).into());
        let (node, data) = (self.node.clone(), self.data.clone());
        let mut settings = Settings::new(cluster, node, listen, peers, data, tls.server, tls.client);
        settings.limits.snapshot_entries = 64;
        settings
    }
}

/// Waits until `look` gives something. Ten seconds are far beyond every time that the ledger promises.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn status(node: &Embedded, what: &str, mut holds: impl FnMut(&Status) -> bool) -> Status {
    eventually(what, || Some(node.status()).filter(|s| holds(s))).await
}

/// A node alone, in `data`.
pub fn alone(authority: &Authority, data: &Path) -> Settings {
    let node = name("a");
    let peer = Peer { address: ([127, 0, 0, 1], 1).into(), identity: identity(&node), voter: true };
    let tls = authority.tls(&identity(&node));
    let peers = BTreeMap::from([(node.clone(), peer)]);
    let listen = ([127, 0, 0, 1], 0).into();
    Settings::new("shop".parse().unwrap(), node, listen, peers, data.to_owned(), tls.server, tls.client)
}
