//! This node's certificates: loaded from DATA/certs, where `tiebeam init` had them put. A cluster of one node needs no
//! ceremony: it makes its own.

use std::path::Path;
use std::time::SystemTime;

use tiebeam_certs::Identity;
use tiebeam_topology::{Cluster, NodeName};

use crate::cli::{WrongUse, init};

pub struct Identities {
    /// For the other nodes and for PostgreSQL.
    pub node: Identity,
    /// For sites with `https = "internal"`.
    pub site: Identity,
}

impl Identities {
    pub fn load(cluster: &Cluster, name: &NodeName, data: &Path) -> anyhow::Result<Self> {
        let certs = data.join("certs");
        if !certs.exists() && cluster.nodes.len() == 1 {
            init::issue(cluster, &data.join("authority"), |_| certs.clone())?;
        }
        if !certs.exists() {
            return Err(WrongUse(format!(
                "node {name} has no certificates in {}: run `tiebeam init` once for the cluster and copy the folder {name} here",
                certs.display()
            ))
            .into());
        }
        let now = SystemTime::now();
        let wrong = |e: tiebeam_certs::Error| WrongUse(e.to_string());
        Ok(Self {
            node: Identity::load(&certs.join("node"), &cluster.name, name, now).map_err(wrong)?,
            site: Identity::load_any(&certs.join("site"), &cluster.name, now).map_err(wrong)?,
        })
    }
}
