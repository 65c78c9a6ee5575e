//! `tiebeam init`: makes the cluster's own certificate authority and one folder a node with its certificates. Run again,
//! it keeps the authority and makes the folders anew: for new nodes, new sites and new dates.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tiebeam_certs::{Authority, replace_folder};
use tiebeam_topology::{Cluster, HostPattern, Https, NodeName, Role};

use super::WrongUse;

#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration file
    #[arg(long, default_value = "tiebeam.toml")]
    config: PathBuf,
    /// Where `authority/` and a folder for each node are, or are to be
    #[arg(long, default_value = "tiebeam-certs")]
    out: PathBuf,
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let cluster = super::load(&arguments.config)?;
    let out = arguments.out.display();
    let issued = issue(&cluster, &arguments.out.join("authority"), |node| arguments.out.join(node))
        .map_err(|e| WrongUse(super::whole(&e)))?;
    super::say(match issued.authority {
        Made::Now => format!("made {out}/authority (keep it offline) and a folder for each node:"),
        Made::Before => format!("kept {out}/authority, and made a new folder for each node with it:"),
    });
    for name in cluster.nodes.keys() {
        super::say(format_args!("  copy {out}/{name} to node {name} as /var/lib/tiebeam/certs"));
    }
    if let Some(days) = issued.ends_in_days {
        super::say(format_args!(
            "the authority itself ends in {days} days, and all that it signed with it: move {out}/authority away, run \
            this again, and give all nodes their new folders at one time"
        ));
    }
    let config = arguments.config.display();
    super::say(match issued.authority {
        Made::Now => format!("next, on each node: tiebeam node --config {config} --name NODE"),
        Made::Before => {
            "next: restart the nodes, one after another; old certificates and new ones know each \
            other"
                .to_owned()
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// What a certificate has left when people are told of its end.
const NEAR_END: Duration = Duration::from_secs(30 * 24 * 3600);

/// How many days are left, if they are few.
pub fn days_left(ends: SystemTime, now: SystemTime) -> Option<u64> {
    let left = ends.duration_since(now).unwrap_or_default();
    (left < NEAR_END).then_some(left.as_secs() / (24 * 3600))
}

/// What [`issue`] found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued {
    pub authority: Made,
    /// Of the authority, if that is near.
    pub ends_in_days: Option<u64>,
}

/// Whether the authority was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    Now,
    Before,
}

/// Makes the authority if there is none yet and, in the folder that `folder` names for a node, the node's identity
/// and, for an edge, the certificate of the sites that ask for an internal one.
///
/// Each folder is whole or not there: what a crash leaves undone, the next call does.
pub fn issue(
    cluster: &Cluster,
    authority: &Path,
    folder: impl Fn(&str) -> PathBuf,
) -> anyhow::Result<Issued> {
    let now = SystemTime::now();
    let (ca, made) = open(cluster, authority, now).context("the certificate authority")?;
    let names: Vec<HostPattern> = internal_sites(cluster).cloned().collect();
    let edges: Vec<_> = cluster.with_role(Role::Edge).map(|(_, node)| node.address).collect();
    let site = ca.site(&cluster.name, &names, &edges, now)?;
    for (name, node) in &cluster.nodes {
        let identity = ca.node(&cluster.name, name, &node.address, now)?;
        replace_folder(&folder(name.as_str()), |new| {
            identity.save(&new.join("node"))?;
            if serves_internal(cluster, name) { site.save(&new.join("site")) } else { Ok(()) }
        })?;
    }
    Ok(Issued { authority: made, ends_in_days: days_left(ca.expires(), now) })
}

/// An authority that is there in part or damaged is an error: what it signed would not be known any more.
fn open(cluster: &Cluster, dir: &Path, now: SystemTime) -> Result<(Authority, Made), tiebeam_certs::Error> {
    if dir.read_dir().is_ok_and(|mut files| files.next().is_some()) {
        return Ok((Authority::load(dir, &cluster.name, now)?, Made::Before));
    }
    let made = Authority::create(&cluster.name, now)?;
    made.save(dir)?;
    Ok((made, Made::Now))
}

/// The sites whose certificate is of the cluster's own authority.
pub fn internal_sites(cluster: &Cluster) -> impl Iterator<Item = &HostPattern> {
    cluster.sites.iter().filter(|(_, site)| site.https == Https::Internal).map(|(host, _)| host)
}

/// Whether a node shows the certificate of those sites.
pub fn serves_internal(cluster: &Cluster, node: &NodeName) -> bool {
    let edge = cluster.nodes.get(node).is_some_and(|node| node.roles.contains(&Role::Edge));
    edge && internal_sites(cluster).next().is_some()
}
