//! This node's certificates: loaded from DATA/certs, where `tiebeam init` had them put. A cluster of one node needs no
//! ceremony: it makes its own, and makes them anew when they end or no longer fit.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tiebeam_certs::{Error, Identity};
use tiebeam_topology::{Cluster, NodeName};

use super::failure;
use crate::cli::{WrongUse, init};

/// How they are made anew.
const RENEW: &str =
    "run `tiebeam init` again where the authority is, and copy the new folder of this node here";

pub struct Identities {
    /// For the other nodes and for PostgreSQL.
    pub node: Identity,
    /// For sites with `https = "internal"`, on an edge that has any; `None` also when it has ended: an edge without it
    /// still does everything else.
    pub site: Option<Identity>,
}

impl Identities {
    pub fn load(cluster: &Cluster, name: &NodeName, data: &Path) -> anyhow::Result<Self> {
        let now = SystemTime::now();
        let folder = Folder { cluster, name, certs: data.join("certs"), now };
        let authority = data.join("authority");
        let alone = cluster.nodes.len() == 1 && (authority.exists() || !folder.certs.exists());
        if alone && let Some(why) = folder.unfit() {
            tracing::info!("this node makes new certificates for itself: {why}");
            init::issue(cluster, &authority, |_| folder.certs.clone()).map_err(failure::certificates)?;
        }
        if !folder.certs.exists() {
            return Err(WrongUse(format!(
                "node {name} has no certificates in {}: run `tiebeam init` once for the cluster and copy the folder {name} here",
                folder.certs.display()
            ))
            .into());
        }
        folder.load()
    }
}

/// `DATA/certs`, as it is `now`.
struct Folder<'a> {
    cluster: &'a Cluster,
    name: &'a NodeName,
    certs: PathBuf,
    now: SystemTime,
}

impl Folder<'_> {
    fn load(&self) -> anyhow::Result<Identities> {
        let node = self.node().map_err(failure::certificates)?;
        let site = match self.site() {
            // Time alone did this, perhaps years after the last change: it must not take the database with it.
            Err(ended @ Error::Expired { .. }) => {
                tracing::error!("the sites with https = \"internal\" answer over plain HTTP only: {ended}");
                None
            }
            other => other.map_err(failure::certificates)?,
        };
        let all = [Some(("node", &node)), site.as_ref().map(|site| ("site", site))];
        for (what, identity) in all.into_iter().flatten() {
            if let Some(days) = init::days_left(identity.expires(), self.now) {
                let path = self.certs.join(what);
                tracing::warn!("the certificate in {} ends in {days} days: {RENEW}", path.display());
            }
        }
        if let Some(host) = site.as_ref().and_then(|site| self.uncovered(site)) {
            tracing::warn!("the certificate of the internal sites was made without {host}: {RENEW}");
        }
        Ok(Identities { node, site })
    }

    fn node(&self) -> Result<Identity, Error> {
        Identity::load(&self.certs.join("node"), &self.cluster.name, self.name, self.now)
    }

    fn site(&self) -> Result<Option<Identity>, Error> {
        let wanted = init::serves_internal(self.cluster, self.name);
        let load = || Identity::load_any(&self.certs.join("site"), &self.cluster.name, self.now);
        wanted.then(load).transpose()
    }

    /// Why a node that has its own authority makes certificates now. What somebody else did to them is for people.
    fn unfit(&self) -> Option<String> {
        let left = |identity: &Identity| {
            init::days_left(identity.expires(), self.now)
                .map(|days| format!("the old ones end in {days} days"))
        };
        let site = |site: Identity| {
            let new = self.uncovered(&site).map(|host| format!("the site {host} is new"));
            left(&site).or(new)
        };
        match (self.node(), self.site()) {
            (Err(Error::Missing { path }), _) | (_, Err(Error::Missing { path })) => {
                Some(format!("there is no {}", path.display()))
            }
            (Err(e @ Error::Expired { .. }), _) | (_, Err(e @ Error::Expired { .. })) => Some(e.to_string()),
            (Ok(node), Ok(found)) => left(&node).or_else(|| found.and_then(site)),
            _ => None,
        }
    }

    fn uncovered(&self, site: &Identity) -> Option<String> {
        init::internal_sites(self.cluster).find(|host| !site.covers(host)).map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tiebeam_certs::{Authority, NODE_VALID, SITE_VALID};

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn cluster(nodes: &str, site: &str) -> Cluster {
        let mut text = String::new();
        for (n, name) in nodes.split(' ').enumerate() {
            text += &format!("[node.{name}]\naddress = \"127.0.0.{}\"\nroles = [\"edge\"]\n", n + 1);
        }
        text += &format!(
            "[site.\"{site}\"]\nhttps = \"internal\"\nroutes = [{{ path = \"/\", files = \"x\" }}]\n"
        );
        Cluster::parse("t.toml", &text).unwrap()
    }

    fn folder<'a>(cluster: &'a Cluster, name: &'a NodeName, data: &Path, now: SystemTime) -> Folder<'a> {
        Folder { cluster, name, certs: data.join("certs"), now }
    }

    /// The life of a cluster of one: nothing, a crash on the way, a new site, the end of a certificate.
    #[test]
    fn a_node_alone_sees_to_its_own_certificates() {
        let temp = tempfile::tempdir().unwrap();
        let data = temp.path();
        let (one, name) = (cluster("a", "a.example"), "a".parse().unwrap());
        let load = |cluster: &Cluster| Identities::load(cluster, &name, data);
        load(&one).unwrap();
        let read = |file: &str| std::fs::read(data.join("certs/node").join(file)).unwrap();
        let (cert, ca) = (read("node.pem"), read("ca.pem"));
        load(&one).unwrap();
        assert_eq!(read("node.pem"), cert, "nothing is made without need");
        std::fs::remove_file(data.join("certs/site/node.pem")).unwrap();
        load(&one).unwrap();
        std::fs::remove_dir_all(data.join("certs")).unwrap();
        load(&one).unwrap();
        assert_eq!(read("ca.pem"), ca, "the authority stays");
        let named = load(&cluster("a", "b.example")).unwrap().site.unwrap();
        assert!(named.covers(&"b.example".parse().unwrap()));
        // What is not its own doing is refused, untouched.
        std::fs::write(data.join("certs/node/node.pem"), "hello").unwrap();
        assert!(load(&one).is_err_and(|e| e.to_string().contains("holds no certificate")));
    }

    #[test]
    fn the_end_is_seen_coming_and_takes_only_the_sites() {
        let temp = tempfile::tempdir().unwrap();
        let data = temp.path();
        let (two, name) = (cluster("a b", "a.example"), "a".parse().unwrap());
        assert!(Identities::load(&two, &name, data).is_err_and(|e| e.to_string().contains("tiebeam init")));
        let out = |node: &str| if node == "a" { data.join("certs") } else { data.join(node) };
        for authority in [init::Made::Now, init::Made::Before] {
            let issued = init::issue(&two, &data.join("authority"), out).unwrap();
            assert_eq!(issued, init::Issued { authority, ends_in_days: None });
        }
        let now = SystemTime::now();
        let at = |later: Duration| folder(&two, &name, data, now + later);
        let ends = at(Duration::ZERO).site().unwrap().unwrap().expires();
        for (left, days) in [(31 * DAY, None), (30 * DAY, None), (29 * DAY, Some(29)), (DAY / 2, Some(0))] {
            assert_eq!(init::days_left(ends, ends - left), days);
        }
        assert!(at(SITE_VALID - DAY).load().unwrap().site.is_some());
        assert!(at(SITE_VALID + DAY).load().unwrap().site.is_none());
        let ended = at(NODE_VALID + DAY).load().err().unwrap().to_string();
        assert!(ended.contains("`tiebeam init` where the authority is makes a new one"), "{ended}");
        assert_eq!(at(SITE_VALID + DAY).unfit().map(|why| why.contains("ended on")), Some(true));
    }

    #[test]
    fn another_clusters_authority_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let one = cluster("a", "a.example");
        let other = Authority::create(&"bank".parse().unwrap(), SystemTime::now()).unwrap();
        other.save(&temp.path().join("authority")).unwrap();
        let error = Identities::load(&one, &"a".parse().unwrap(), temp.path()).err().unwrap().to_string();
        assert!(error.contains("belongs to the cluster \"bank\""), "{error}");
    }
}
