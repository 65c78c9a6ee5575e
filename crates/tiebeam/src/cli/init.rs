//! `tiebeam init`: makes the cluster's own certificate authority and one folder a node with its certificate.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use tiebeam_certs::Authority;
use tiebeam_topology::{Cluster, HostPattern};

use super::WrongUse;

#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration file
    #[arg(long, default_value = "tiebeam.toml")]
    config: PathBuf,
    /// Where to write `authority/` and a folder for each node
    #[arg(long, default_value = "tiebeam-certs")]
    out: PathBuf,
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let cluster = super::load(&arguments.config)?;
    issue(&cluster, &arguments.out.join("authority"), |node| arguments.out.join(node))
        .map_err(|e| WrongUse(super::whole(&e)))?;
    super::say(format_args!(
        "made {}/authority (keep it offline) and a folder for each node:",
        arguments.out.display()
    ));
    for name in cluster.nodes.keys() {
        super::say(format_args!(
            "  copy {}/{name} to node {name} as /var/lib/tiebeam/certs",
            arguments.out.display()
        ));
    }
    super::say(format_args!(
        "next, on each node: tiebeam node --config {} --name NODE",
        arguments.config.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Makes the authority and, in the folder that `folder` names for a node, the node's identity and the certificate of
/// the sites that ask for an internal one.
pub fn issue(cluster: &Cluster, authority: &Path, folder: impl Fn(&str) -> PathBuf) -> anyhow::Result<()> {
    let now = SystemTime::now();
    let made = Authority::create(&cluster.name, now).context("the certificate authority")?;
    made.save(authority).context("the certificate authority")?;
    let names: Vec<HostPattern> = cluster.sites.keys().cloned().collect();
    let addresses: Vec<_> = cluster.nodes.values().map(|n| n.address).collect();
    let site = made.site(&cluster.name, &names, &addresses, now)?;
    for (name, node) in &cluster.nodes {
        let folder = folder(name.as_str());
        made.node(&cluster.name, name, &node.address, now)?.save(&folder.join("node"))?;
        site.save(&folder.join("site"))?;
    }
    Ok(())
}
