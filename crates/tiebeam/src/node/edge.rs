//! The edge of this node: tells it which servers there are, from the file and from what the apps registered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tiebeam_edge::{
    Config, Edge, Listeners, LogFile, LogSink, Pages, PoolConfig, ServerConfig, ServerId, SiteConfig,
};
use tiebeam_ledger::Store;
use tiebeam_topology::{AccessLog, HostPattern, Http2, Https, Members};
use tiebeam_watch::Level;
use tokio::task::JoinHandle;

use super::apps::{APPS, registered};
use super::board::Board;
use super::reach::{self, Reaches};
use super::{Here, failure, pages};
use crate::cli::WrongUse;

/// The list of servers is made anew this often, besides on every change.
const REFRESH: Duration = Duration::from_secs(2);

/// How long a start waits for the ledger's quorum before the edge answers with what this node last knew.
const LEDGER_TIME: Duration = Duration::from_secs(3);

pub struct Part {
    edge: Arc<Edge>,
    publisher: JoinHandle<()>,
}

/// The certificates of sites, loaded once.
type Certificates = BTreeMap<HostPattern, Arc<CertifiedKey>>;

/// What was read from files beside the configuration.
struct Loaded {
    certificates: Certificates,
    pages: Pages,
    reaches: Reaches,
}

impl Part {
    /// Answers once the ledger is known, so that the first request finds its servers; without a quorum, with what this
    /// node last knew.
    pub async fn start(here: &Arc<Here>, board: &Arc<Board>) -> anyhow::Result<Self> {
        let file = here.cluster.edge.as_ref().context("a node with the role edge has an [edge]")?;
        let address = here.cluster.nodes[&here.name].address;
        let at = |port: Option<std::num::NonZeroU16>| port.map(|p| SocketAddr::new(address, p.get()));
        let reaches = reach::of(&here.cluster).map_err(|e| WrongUse(format!("{e:#}")))?;
        let loaded =
            Loaded { certificates: certificates(here)?, pages: pages::load(&here.cluster)?, reaches };
        let listeners = Listeners {
            http: at(file.http),
            https: at(file.https),
            workers: file.workers.map_or(0, std::num::NonZeroUsize::get),
        };
        let sink = match file.access_log {
            AccessLog::Off => LogSink::Off,
            AccessLog::Json | AccessLog::Common => {
                LogSink::File(LogFile::at(here.options.data.join("access.log")))
            }
        };
        let mut ledger = here.ledger.status_changes();
        let _ = tokio::time::timeout(LEDGER_TIME, ledger.wait_for(|s| s.quorum)).await;
        let config = config(here, &loaded, servers(here).await);
        let edge = Edge::start(listeners, config, sink).map_err(failure::edge)?;
        let edge = Arc::new(edge);
        board.tell(Level::Info, format!("the edge on {} answers", here.name));
        let publisher = tokio::spawn(publish(here.clone(), edge.clone(), loaded));
        Ok(Self { edge, publisher })
    }

    pub fn handle(&self) -> Arc<Edge> {
        self.edge.clone()
    }

    pub async fn stop(self, time: Duration) {
        self.publisher.abort();
        self.edge.drain(time).await;
    }
}

/// Publishes the servers whenever they change. Without a quorum nothing changes, and the edge goes on.
async fn publish(here: Arc<Here>, edge: Arc<Edge>, loaded: Loaded) {
    let mut changes = here.ledger.watch(APPS);
    let mut last = BTreeMap::new();
    loop {
        let servers = servers(&here).await;
        if servers != last {
            edge.publish(config(&here, &loaded, servers.clone()));
            last = servers;
        }
        // A change, a missed change or the time: the list is read whole in each case.
        let _ = tokio::time::timeout(REFRESH, changes.next()).await;
        if here.ledger.status().failed.is_some() {
            return;
        }
    }
}

/// The servers of each app that a pool uses, in the order of their identities.
async fn servers(here: &Here) -> BTreeMap<tiebeam_topology::AppName, Vec<ServerConfig>> {
    let mut all = BTreeMap::new();
    for pool in here.cluster.pools.values() {
        if let Members::App(app) = &pool.members {
            let servers = registered(here, app)
                .await
                .into_iter()
                .map(|(id, r)| ServerConfig { id: ServerId::new(id), address: r.address });
            all.insert(app.clone(), servers.collect());
        }
    }
    all
}

fn config(
    here: &Here,
    loaded: &Loaded,
    servers: BTreeMap<tiebeam_topology::AppName, Vec<ServerConfig>>,
) -> Config {
    let file = here.cluster.edge.as_ref();
    let pools = here.cluster.pools.iter().map(|(name, pool)| {
        let (servers, app) = match &pool.members {
            Members::App(app) => (servers.get(app).cloned().unwrap_or_default(), true),
            Members::Servers(list) => {
                let one =
                    |&address: &SocketAddr| ServerConfig { id: ServerId::new(address.to_string()), address };
                (list.iter().map(one).collect(), false)
            }
        };
        let reach = loaded.reaches.get(name).cloned().unwrap_or_default();
        let (health, proxy_protocol) = (pool.health.clone(), pool.proxy_protocol);
        (name.clone(), PoolConfig { servers, health, reach, app, proxy_protocol })
    });
    let sites = here.cluster.sites.iter().map(|(host, site)| {
        // A certificate of the cluster's own CA is not known to browsers: plain HTTP stays open beside it.
        let (redirect, hsts) = match &site.https {
            Https::Files { redirect, hsts, .. } => (*redirect, *hsts),
            Https::Acme => (true, true),
            Https::Internal | Https::Off => (false, false),
        };
        let tls = loaded.certificates.get(host).cloned();
        (
            host.clone(),
            SiteConfig { tls, redirect, hsts, routes: site.routes.clone(), rules: site.rules.clone() },
        )
    });
    Config {
        node: here.name.clone(),
        limits: file.map(|f| f.limits.clone()).unwrap_or_default(),
        http2: file.map_or(Http2::On, |f| f.http2),
        access_log: file.map_or(AccessLog::Off, |f| f.access_log),
        proxies: file.map(|f| f.proxies.clone()).unwrap_or_default(),
        via: file.is_none_or(|f| f.via),
        sites: sites.collect(),
        pages: loaded.pages.clone(),
        pools: pools.collect(),
    }
}

fn certificates(here: &Here) -> anyhow::Result<Certificates> {
    let mut all = Certificates::new();
    for (host, site) in &here.cluster.sites {
        match &site.https {
            // Without it, that was told when it was refused.
            Https::Internal => {
                all.extend(here.identities.site.as_ref().map(|site| (host.clone(), site.certified_key())));
            }
            Https::Files { cert, key, .. } => {
                let made = certified(cert, key)
                    .map_err(|e| WrongUse(format!("the certificate of site {host}: {e:#}")))?;
                all.insert(host.clone(), Arc::new(made));
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

fn certified(cert: &std::path::Path, key: &std::path::Path) -> anyhow::Result<CertifiedKey> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .with_context(|| format!("{} cannot be read", cert.display()))?;
    let key =
        PrivateKeyDer::from_pem_file(key).with_context(|| format!("{} cannot be read", key.display()))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(CertifiedKey::from_der(chain, key, &provider)?)
}
