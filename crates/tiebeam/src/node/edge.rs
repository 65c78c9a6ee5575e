//! The edge of this node: tells it which servers there are, from the file and from what the apps registered.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tiebeam_certs::Identity;
use tiebeam_edge::{
    Config, Edge, Listeners, LogFile, LogSink, Pages, PoolConfig, Secret, ServerConfig, ServerId, SiteConfig,
    TicketKeys,
};
use tiebeam_ledger::Store;
use tiebeam_topology::{AccessLog, AppName, Cluster, HostPattern, Http2, Https, Members, PoolServer};
use tiebeam_watch::Level;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::apps::{APPS, registered};
use super::board::Board;
use super::certificates::{self, Certificates, SiteTls};
use super::reach::{self, Reaches};
use super::tickets::Tickets;
use super::{Here, edge_secret, failure, pages};
use crate::cli::WrongUse;

/// The list of servers is made anew this often, besides on every change.
const REFRESH: Duration = Duration::from_secs(2);

/// Between two looks at servers that are probed.
const PROBE_LOOK: Duration = Duration::from_millis(20);

/// How long a start waits for the ledger's quorum before the edge answers with what this node last knew.
const LEDGER_TIME: Duration = Duration::from_secs(3);

pub struct Part {
    here: Arc<Here>,
    edge: Arc<Edge>,
    served: Arc<Mutex<Served>>,
    tickets: Arc<Mutex<Tickets>>,
    publisher: JoinHandle<()>,
}

/// What the ledger says of it.
#[derive(Clone, PartialEq)]
struct Known {
    servers: Servers,
    secret: Option<Secret>,
    ticket_keys: Option<TicketKeys>,
}

/// What of the file is served now.
#[derive(Clone)]
pub struct Served {
    cluster: Arc<Cluster>,
    certificates: Certificates,
    pages: Pages,
    reaches: Reaches,
}

type Servers = BTreeMap<AppName, Vec<ServerConfig>>;

impl Served {
    /// Loads all that the file names beside itself; `site` is that of the internal ones.
    ///
    /// # Errors
    /// A certificate or another file that cannot be used, by the name of its site and file.
    pub fn load(cluster: Arc<Cluster>, site: Option<&Identity>) -> anyhow::Result<Self> {
        let reaches = reach::of(&cluster).map_err(|e| WrongUse(format!("{e:#}")))?;
        let internal = site.map(Identity::certified_key);
        let certificates =
            certificates::load(&cluster, internal.as_ref()).map_err(|e| WrongUse(format!("{e:#}")))?;
        let pages = pages::load(&cluster)?;
        Ok(Self { cluster, certificates, pages, reaches })
    }

    /// The sites whose certificate is another one in `new`.
    pub fn renewed<'a>(&'a self, new: &'a Served) -> impl Iterator<Item = &'a HostPattern> {
        let is_other = |host: &HostPattern, now: &SiteTls| {
            self.certificates.get(host).is_some_and(|before| before.is_other(now))
        };
        new.certificates.iter().filter(move |(host, now)| is_other(host, now)).map(|(host, _)| host)
    }

    fn listeners(&self, here: &Here) -> anyhow::Result<Listeners> {
        let file = self.cluster.edge.as_ref().context("a node with the role edge has an [edge]")?;
        let address = here.cluster.nodes[&here.name].address;
        let at = |port: Option<std::num::NonZeroU16>| port.map(|p| SocketAddr::new(address, p.get()));
        Ok(Listeners {
            http: at(file.http),
            https: at(file.https),
            workers: file.workers.map_or(0, std::num::NonZeroUsize::get),
        })
    }
}

/// Whether the edge will be able to write what it is asked to.
///
/// # Errors
/// The log cannot be opened.
pub fn is_fit(cluster: &Cluster, data: &Path) -> anyhow::Result<()> {
    sink(cluster, data).check().map_err(failure::edge)
}

fn sink(cluster: &Cluster, data: &Path) -> LogSink {
    let file = LogFile::at(data.join("access.log"));
    match cluster.edge.as_ref().map_or(AccessLog::Off, |file| file.access_log) {
        AccessLog::Off => LogSink::Later(file),
        AccessLog::Json | AccessLog::Common => LogSink::File(file),
    }
}

impl Part {
    /// Ready once the ledger is known, so that the first request finds its servers; without a quorum, with what this
    /// node last knew. Nobody is answered before [`Part::open`].
    pub async fn prepare(
        here: &Arc<Here>,
        served: Served,
        inherited: Vec<TcpListener>,
    ) -> anyhow::Result<Self> {
        let sink = sink(&here.cluster, &here.options.data);
        let mut ledger = here.ledger.status_changes();
        let _ = tokio::time::timeout(LEDGER_TIME, ledger.wait_for(|s| s.quorum)).await;
        let tickets = Arc::new(Mutex::new(Tickets::default()));
        let known = Known {
            servers: servers(here, &served).await,
            secret: edge_secret::shared(here, &served.cluster).await,
            ticket_keys: ticket_keys(here, &served, &tickets).await,
        };
        let config = config(here, &served, known.clone());
        let workers = served.listeners(here)?.workers;
        let edge = Edge::prepare(workers, inherited, config, sink).map_err(failure::edge)?;
        let edge = Arc::new(edge);
        let served = Arc::new(Mutex::new(served));
        let publisher =
            tokio::spawn(publish(here.clone(), edge.clone(), served.clone(), tickets.clone(), known));
        Ok(Self { here: here.clone(), edge, served, tickets, publisher })
    }

    /// Listens from now on.
    pub async fn open(&self, board: &Board) -> anyhow::Result<()> {
        let listeners = self.served.lock().await.listeners(&self.here)?;
        self.edge.open(listeners).map_err(failure::edge)?;
        board.tell(Level::Info, format!("the edge on {} answers", self.here.name));
        Ok(())
    }

    /// Waits until every server has been looked at, for at most `time`.
    pub async fn probed(&self, time: Duration) {
        let is_probing = || {
            let stats = self.edge.stats();
            let mut servers = stats.pools.values().flat_map(|pool| pool.servers.values());
            servers.any(|server| server.state == tiebeam_edge::State::Probing)
        };
        let end = tokio::time::Instant::now() + time;
        while is_probing() && tokio::time::Instant::now() < end {
            tokio::time::sleep(PROBE_LOOK).await;
        }
    }

    /// Goes on with the servers it knows, whatever becomes of the ledger.
    pub fn stay(&self) {
        self.publisher.abort();
    }

    /// As [`Part::stop`], but nobody is waiting: who keeps a connection may ask once more.
    pub async fn stop_gently(&self, time: Duration, idle: Duration) {
        self.edge.drain_gently(time, idle).await;
    }

    pub fn handle(&self) -> Arc<Edge> {
        self.edge.clone()
    }

    /// For whoever changes what is served while this runs.
    pub fn changer(&self) -> Changer {
        Changer {
            here: self.here.clone(),
            edge: self.edge.clone(),
            served: self.served.clone(),
            tickets: self.tickets.clone(),
        }
    }

    pub async fn stop(&self, time: Duration) {
        self.publisher.abort();
        self.edge.drain(time).await;
    }
}

/// Changes what the edge serves.
pub struct Changer {
    here: Arc<Here>,
    edge: Arc<Edge>,
    served: Arc<Mutex<Served>>,
    tickets: Arc<Mutex<Tickets>>,
}

impl Changer {
    pub async fn served(&self) -> Served {
        self.served.lock().await.clone()
    }

    /// Serves this from now on. Nothing changes if it cannot listen where that says.
    pub async fn change(&self, new: Served) -> anyhow::Result<()> {
        let secret = edge_secret::shared(&self.here, &new.cluster).await;
        let mut served = self.served.lock().await;
        let ticket_keys = ticket_keys(&self.here, &new, &self.tickets).await;
        let known = Known { servers: servers(&self.here, &new).await, secret, ticket_keys };
        self.edge
            .change(new.listeners(&self.here)?, config(&self.here, &new, known))
            .map_err(failure::edge)?;
        *served = new;
        Ok(())
    }
}

/// Publishes the servers, and the keys of session tickets, whenever they change. Without a quorum the servers do not, and
/// the edge goes on.
async fn publish(
    here: Arc<Here>,
    edge: Arc<Edge>,
    served: Arc<Mutex<Served>>,
    tickets: Arc<Mutex<Tickets>>,
    mut last: Known,
) {
    let mut changes = here.ledger.watch(APPS);
    let mut is_new = false;
    loop {
        if last.secret.is_none() {
            let cluster = served.lock().await.cluster.clone();
            last.secret = edge_secret::shared(&here, &cluster).await;
            is_new = last.secret.is_some();
        }
        {
            // Held until it is published: another file must not be overtaken by this one.
            let served = served.lock().await;
            let now = Known {
                servers: servers(&here, &served).await,
                secret: last.secret.clone(),
                ticket_keys: ticket_keys(&here, &served, &tickets).await,
            };
            if is_new || now != last {
                last = now;
                edge.publish(config(&here, &served, last.clone()));
                is_new = false;
            }
        }
        // A change, a missed change or the time: the list is read whole in each case.
        let _ = tokio::time::timeout(REFRESH, changes.next()).await;
        if here.ledger.status().failed.is_some() {
            return;
        }
    }
}

/// Those of now, if there is a site for them.
async fn ticket_keys(here: &Here, served: &Served, tickets: &Mutex<Tickets>) -> Option<TicketKeys> {
    if served.certificates.is_empty() {
        return None;
    }
    tickets.lock().await.keys(here.ledger.as_ref()).await
}

/// The servers of each app that a pool uses, in the order of their identities.
async fn servers(here: &Here, served: &Served) -> Servers {
    let mut all = BTreeMap::new();
    for pool in served.cluster.pools.values() {
        if let Members::App(app) = &pool.members {
            let servers = registered(here, app).await.into_iter().map(|(id, r)| ServerConfig {
                is_local: r.node == here.name,
                ..ServerConfig::new(ServerId::new(id), r.address)
            });
            all.insert(app.clone(), servers.collect());
        }
    }
    all
}

fn config(here: &Here, served: &Served, known: Known) -> Config {
    let Served { cluster, certificates, pages, reaches } = served;
    let Known { servers, secret, ticket_keys } = known;
    let file = cluster.edge.as_ref();
    let own = here.cluster.nodes[&here.name].address;
    let pools = cluster.pools.iter().map(|(name, pool)| {
        let (servers, app) = match &pool.members {
            Members::App(app) => (servers.get(app).cloned().unwrap_or_default(), true),
            Members::Servers(list) => {
                let one = |server: &PoolServer| ServerConfig {
                    weight: server.weight,
                    is_backup: server.backup,
                    is_local: server.address.ip() == own,
                    drain: server.drain,
                    ..ServerConfig::new(ServerId::new(server.address.to_string()), server.address)
                };
                (list.iter().map(one).collect(), false)
            }
        };
        let reach = reaches.get(name).cloned().unwrap_or_default();
        let (health, balancing) = (pool.health.clone(), pool.balancing.clone());
        let proxy_protocol = pool.proxy_protocol;
        (name.clone(), PoolConfig { servers, health, reach, proxy_protocol, balancing, app })
    });
    let sites = cluster.sites.iter().map(|(host, site)| {
        // A certificate of the cluster's own CA is not known to browsers: plain HTTP stays open beside it.
        let (redirect, hsts) = match &site.https {
            Https::Files { redirect, hsts, .. } => (*redirect, *hsts),
            Https::Acme => (true, true),
            Https::Internal | Https::Off => (false, false),
        };
        let tls = certificates.get(host);
        let (tls, clients) = (tls.map(|tls| tls.key.clone()), tls.and_then(|tls| tls.clients.clone()));
        (
            host.clone(),
            SiteConfig {
                tls,
                clients,
                redirect,
                hsts,
                routes: site.routes.clone(),
                rules: site.rules.clone(),
            },
        )
    });
    Config {
        node: here.name.clone(),
        limits: file.map(|f| f.limits.clone()).unwrap_or_default(),
        http2: file.map_or(Http2::On, |f| f.http2),
        access_log: file.map_or(AccessLog::Off, |f| f.access_log),
        log_sample: file.map(|f| f.log_sample).unwrap_or_default(),
        proxies: file.map(|f| f.proxies.clone()).unwrap_or_default(),
        ticket_keys,
        via: file.is_none_or(|f| f.via),
        traces: file.map(|f| f.traceparent).unwrap_or_default(),
        sites: sites.collect(),
        pages: pages.clone(),
        pools: pools.collect(),
        secret,
    }
}
