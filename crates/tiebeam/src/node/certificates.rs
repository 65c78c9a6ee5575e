//! The certificates of sites, and whose certificates they take, read from their files: all of them, or
//! none if one is wrong.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tiebeam_edge::ClientAuth;
use tiebeam_topology::{ClientAuthority, Cluster, HostPattern, Https};

/// What a site's HTTPS is made of.
#[derive(Clone)]
pub struct SiteTls {
    pub key: Arc<CertifiedKey>,
    pub clients: Option<ClientAuth>,
}

impl SiteTls {
    /// Another certificate, or other ones of clients.
    pub fn is_other(&self, than: &Self) -> bool {
        self.key.cert != than.key.cert || self.clients != than.clients
    }
}

pub type Certificates = BTreeMap<HostPattern, SiteTls>;

/// `internal`: the certificate of the cluster's own authority, if there is one.
///
/// # Errors
/// The first that cannot be read or used, by the names of its site and its file.
pub fn load(cluster: &Cluster, internal: Option<&Arc<CertifiedKey>>) -> anyhow::Result<Certificates> {
    let mut all = Certificates::new();
    for (host, site) in &cluster.sites {
        match &site.https {
            // Without it, that was told when it was refused.
            Https::Internal => {
                all.extend(internal.map(|key| (host.clone(), SiteTls { key: key.clone(), clients: None })));
            }
            Https::Files { cert, key, clients, .. } => {
                let read = from_files(cert, key, clients.as_ref());
                all.insert(host.clone(), read.with_context(|| format!("the certificate of site {host}"))?);
            }
            Https::Acme => tracing::warn!(
                %host,
                "certificates by ACME are not there yet: the site answers over plain HTTP; use https = \"internal\" or files"
            ),
            Https::Off => {}
        }
    }
    Ok(all)
}

fn from_files(cert: &Path, key: &Path, clients: Option<&ClientAuthority>) -> anyhow::Result<SiteTls> {
    let chain = certificates(cert)?;
    let private =
        PrivateKeyDer::from_pem_file(key).with_context(|| format!("{} cannot be read", key.display()))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let made = CertifiedKey::from_der(chain, private, &provider)
        .with_context(|| format!("{} and {} cannot be used together", cert.display(), key.display()))?;
    let clients = clients.map(|ClientAuthority { file, required }| {
        ClientAuth::new(&certificates(file)?, *required).with_context(|| format!("{}", file.display()))
    });
    Ok(SiteTls { key: Arc::new(made), clients: clients.transpose()? })
}

/// At least one.
fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    anyhow::ensure!(!all.is_empty(), "{} holds no certificate in PEM format", file.display());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const FILE: &str = "[node.a]\naddress = \"127.0.0.1\"\nroles = [\"edge\"]\n[pool.web]\nservers = [\"10.0.0.9:3000\"]\n\
        [site.\"a.example\"]\nhttps = { cert = \"node.pem\", key = \"node.key\", clients = \"ca.pem\" }\n\
        routes = [{ path = \"/\", pool = \"web\" }]\n";

    #[test]
    fn what_is_broken_is_named_by_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::parse("tiebeam.toml", FILE).unwrap();
        cluster.rooted(folder.path());
        let now = SystemTime::now();
        let make = || {
            let authority = tiebeam_certs::Authority::create(&cluster.name, now).unwrap();
            let (name, node) = cluster.nodes.first_key_value().unwrap();
            authority.node(&cluster.name, name, &node.address, now).unwrap().save(folder.path()).unwrap();
        };
        let host = "a.example".parse().unwrap();
        make();
        let first = load(&cluster, None).unwrap();
        assert!(first[&host].clients.is_some() && !first[&host].is_other(&first[&host]));
        for broken in ["node.pem", "node.key", "ca.pem"] {
            let path = folder.path().join(broken);
            let whole = std::fs::read(&path).unwrap();
            for damaged in [&b""[..], b"-----BEGIN CERTIFICATE-----\n", &whole[..whole.len() / 2]] {
                std::fs::write(&path, damaged).unwrap();
                let said = format!("{:#}", load(&cluster, None).map(drop).unwrap_err());
                assert!(said.contains(path.to_str().unwrap()) && said.contains("a.example"), "{said}");
            }
            std::fs::write(&path, whole).unwrap();
        }
        make();
        assert!(load(&cluster, None).unwrap()[&host].is_other(&first[&host]));
    }
}
