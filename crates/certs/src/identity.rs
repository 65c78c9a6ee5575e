//! A certificate with its key: who this node is to the others, and the TLS configurations made of it.
//!
//! Called by the wiring of a node, which hands the configurations to `ledger`, `console` and `edge`. Never prints a
//! key and never leaves one in a file that others may read.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use tiebeam_topology::{ClusterName, HostPattern, NodeName};

use crate::Error;
use crate::files::{self, Access, CA_CERT, CA_KEY, NODE_CERT, NODE_KEY};
use crate::read::{self, Facts};

/// A checked identity: the key belongs to the certificate, the certificate to the authority, and it was valid when it
/// was loaded.
#[derive(Clone)]
pub struct Identity {
    ca_pem: String,
    cert_pem: String,
    /// Never logged.
    pub(crate) key_pem: String,
    pub(crate) facts: Facts,
    certified: Arc<CertifiedKey>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Identity {
    /// Reads the identity of `node` from `ca.pem`, `node.pem` and `node.key` of a folder.
    ///
    /// # Errors
    /// Each says which file is wrong and what to do: missing, unreadable, too open, damaged, not belonging together,
    /// of another cluster or node, ended, or not yet valid.
    pub fn load(dir: &Path, cluster: &ClusterName, node: &NodeName, now: SystemTime) -> Result<Self, Error> {
        let identity = Self::load_any(dir, cluster, now)?;
        if identity.facts.name != node.as_str() {
            let (path, found) = (dir.join(NODE_CERT), identity.facts.name);
            return Err(Error::OtherNode { path, found, expected: node.clone() });
        }
        Ok(identity)
    }

    /// As [`Identity::load`], for whatever `cluster` gave it to: a node or sites.
    pub fn load_any(dir: &Path, cluster: &ClusterName, now: SystemTime) -> Result<Self, Error> {
        let ca = files::read(&dir.join(CA_CERT), Access::Public)?;
        let cert = files::read(&dir.join(NODE_CERT), Access::Public)?;
        let key = files::read(&dir.join(NODE_KEY), Access::Secret)?;
        let identity = Self::checked(dir, &ca, &cert, &key, now)?;
        if identity.facts.cluster != cluster.as_str() {
            let (path, found) = (dir.join(NODE_CERT), identity.facts.cluster);
            return Err(Error::OtherCluster { path, found, expected: cluster.clone() });
        }
        Ok(identity)
    }

    /// An identity from PEM texts, such as a node receives when it joins. Errors name the files that
    /// [`Identity::save`] would write.
    pub fn new(ca_pem: &str, cert_pem: &str, key_pem: &str, now: SystemTime) -> Result<Self, Error> {
        Self::checked(Path::new(""), ca_pem.as_bytes(), cert_pem.as_bytes(), key_pem.as_bytes(), now)
    }

    /// Writes `ca.pem`, `node.key` and `node.pem` into a folder (made 0700 if it is not there), each whole or not at
    /// all, replacing what is there. After a crash between them, [`Identity::load`] says that they do not belong
    /// together; [`crate::replace_folder`] around it leaves no such moment.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        files::folder(dir)?;
        let ca = dir.join(CA_CERT);
        // In the folder of an authority `ca.pem` is its own: another one must not take its place.
        if dir.join(CA_KEY).exists() && files::read(&ca, Access::Public)? != self.ca_pem.as_bytes() {
            return Err(Error::Exists { path: ca });
        }
        files::write(dir, CA_CERT, self.ca_pem.as_bytes())?;
        files::write(dir, NODE_KEY, self.key_pem.as_bytes())?;
        files::write(dir, NODE_CERT, self.cert_pem.as_bytes())
    }

    /// For listeners of nodes: TLS 1.3, and a client certificate of the cluster's authority is required.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// For connections to nodes: TLS 1.3, presents this identity, trusts the cluster's authority and nothing else.
    /// The name to verify is [`tiebeam_topology::identity`] of the node that is called, whatever its address.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    /// Certificate and key for a listener that others configure, such as the HTTPS of an edge.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }

    /// The first moment at which it is no longer valid.
    pub fn expires(&self) -> SystemTime {
        self.facts.ends
    }

    /// Whether it was made for a host name or address, as the file writes a site's. `*` needs no name.
    pub fn covers(&self, host: &HostPattern) -> bool {
        *host == HostPattern::Any || self.facts.names.contains(&host.to_string())
    }

    fn checked(
        dir: &Path,
        ca_pem: &[u8],
        cert_pem: &[u8],
        key_pem: &[u8],
        now: SystemTime,
    ) -> Result<Self, Error> {
        let (ca_path, path, key_path) = (dir.join(CA_CERT), dir.join(NODE_CERT), dir.join(NODE_KEY));
        let tls = |e: &dyn fmt::Display| Error::Tls { path: path.clone(), why: e.to_string() };
        let ca = read::certificate(ca_pem, &ca_path)?;
        let cert = read::certificate(cert_pem, &path)?;
        let key = read::private_key(key_pem, &key_path)?;
        let facts = read::facts(&cert, &path)?;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certified = CertifiedKey::from_der(vec![cert.clone()], key, &provider).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => {
                Error::KeyMismatch { key: key_path.clone(), cert: path.clone() }
            }
            other => tls(&other),
        })?;
        if !read::signed_by(&cert, &ca, &ca_path)? {
            return Err(Error::OtherAuthority { cert: path, ca: ca_path });
        }
        if now < facts.begins {
            let (begins, now) = (read::date(facts.begins), read::date(now));
            return Err(Error::NotYetValid { path, begins, now });
        }
        if now >= facts.ends {
            let (ended, now) = (read::date(facts.ends), read::date(now));
            return Err(Error::Expired { path, ended, now });
        }

        let certified = Arc::new(certified);
        let (server, client) = configs(ca, &certified, &provider).map_err(|e| tls(&e))?;
        let text = |pem: &[u8]| String::from_utf8_lossy(pem).into_owned();
        Ok(Self {
            ca_pem: text(ca_pem),
            cert_pem: text(cert_pem),
            key_pem: text(key_pem),
            facts,
            certified,
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Both ends of mutual TLS 1.3 within the cluster.
fn configs(
    ca: CertificateDer<'static>,
    certified: &Arc<CertifiedKey>,
    provider: &Arc<CryptoProvider>,
) -> Result<(ServerConfig, ClientConfig), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca)?;
    let roots = Arc::new(roots);
    let resolver = Arc::new(SingleCertAndKey::from(certified.clone()));
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(resolver.clone());
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_cert_resolver(resolver);
    Ok((server, client))
}
