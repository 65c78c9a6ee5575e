//! How the servers of each pool are reached: what the file says, with its authorities loaded. The edge's wiring calls it.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tiebeam_edge::{Reach, ServerTls};
use tiebeam_topology::{Cluster, PoolName, PoolTls, Protocol};

pub type Reaches = BTreeMap<PoolName, Reach>;

/// # Errors
/// A file of authorities that cannot be read or holds none.
pub fn of(cluster: &Cluster) -> anyhow::Result<Reaches> {
    let of_pool = |(name, pool): (&PoolName, &tiebeam_topology::Pool)| {
        let tls = pool.tls.as_ref().map(tls).transpose().with_context(|| format!("the pool `{name}`"))?;
        Ok((name.clone(), Reach { tls, http2: pool.protocol == Protocol::Http2 }))
    };
    cluster.pools.iter().map(of_pool).collect()
}

fn tls(tls: &PoolTls) -> anyhow::Result<ServerTls> {
    let name = tls.name.clone().map(ServerName::try_from).transpose()?;
    Ok(ServerTls::new(roots(tls)?, name)?)
}

fn roots(tls: &PoolTls) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(file) = &tls.ca else {
        let system = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(system.certs);
        ensure!(
            added > 0,
            "the system knows no authorities: install the package ca-certificates, or name a `ca`"
        );
        return Ok(roots);
    };
    let cannot = || format!("{} cannot be read", file.display());
    for authority in CertificateDer::pem_file_iter(file).with_context(cannot)? {
        roots.add(authority.with_context(cannot)?).with_context(cannot)?;
    }
    ensure!(!roots.is_empty(), "{} holds no certificate", file.display());
    Ok(roots)
}
