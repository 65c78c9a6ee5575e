//! A [`Config`] in the form that workers read: which site, which route, which pool, without a search that grows.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tiebeam_topology::{
    AccessLog, EdgeLimits, HostPattern, Http2, LogSample, NodeName, Proxies, StatusPattern, Target, Traces,
};

use crate::client_auth::ClientAuth;
use crate::codec::{HeadLimits, canonical, is_of};
use crate::config::Config;
use crate::pages::Page;
use crate::registry::Registry;
use crate::rules::Rules;
use crate::servers::Pool;
use crate::sticky;
use crate::tally::{Tallies, Tally, TallyName};
use crate::tls::{Offer, Offers};

/// Immutable; a new one replaces it.
pub struct Snapshot {
    pub node: NodeName,
    pub limits: EdgeLimits,
    pub head_limits: HeadLimits,
    pub http2: Http2,
    pub access_log: AccessLog,
    pub log_sample: LogSample,
    pub proxies: Proxies,
    pub via: bool,
    pub traces: Traces,
    pub pools: Vec<Arc<Pool>>,
    /// Whether any of them gives cookies.
    gives_cookies: bool,
    pub tallies: Vec<Arc<Tally>>,
    /// Of requests for no site.
    pub no_site: Arc<Tally>,
    sites: Vec<Site>,
    exact: HashMap<String, usize>,
    below: HashMap<String, usize>,
    any: Option<usize>,
    /// For names that no site with a certificate has.
    no_offer: Offer,
}

pub struct Site {
    /// As in the file.
    pub name: String,
    /// Of requests for no route.
    pub tally: Arc<Tally>,
    /// What it offers over HTTPS; `None`: it has no certificate.
    pub offer: Option<Offer>,
    pub clients: Option<ClientAuth>,
    pub redirect: bool,
    pub hsts: bool,
    pub maintenance: Option<Page>,
    /// One status before all of its class.
    errors: Vec<(StatusPattern, Page)>,
    routes: Vec<Route>,
}

struct Route {
    /// As in the file.
    path: String,
    /// What paths are compared with.
    prefix: Vec<u8>,
    to: To,
    rules: Rules,
    tally: Arc<Tally>,
}

/// Where a route leads.
#[derive(Clone, Debug)]
pub enum To {
    /// Index into [`Snapshot::pools`].
    Pool(usize),
    /// A directory.
    Files(Arc<PathBuf>),
    /// Elsewhere, with this status; the rules of the route say where.
    Redirect(u16),
    /// A pool that the configuration does not hold: answered as a pool without servers.
    Nowhere,
}

impl Snapshot {
    pub fn compile(
        config: Config,
        registry: &mut Registry,
        tallies: &mut Tallies,
        offers: &Offers,
        workers: usize,
    ) -> Self {
        let pools = registry.compile(&config.pools, config.secret.as_ref(), workers, Instant::now());
        let mut snapshot = Self {
            node: config.node,
            head_limits: HeadLimits {
                bytes: config.limits.header_bytes,
                fields: config.limits.header_count,
                line_bytes: config.limits.request_line_bytes,
            },
            limits: config.limits,
            http2: config.http2,
            access_log: config.access_log,
            log_sample: config.log_sample,
            tallies: Vec::new(),
            no_site: tallies.get(TallyName::NoSite),
            proxies: config.proxies,
            via: config.via,
            traces: config.traces,
            gives_cookies: pools.iter().any(|pool| pool.sticky.is_some()),
            pools,
            sites: Vec::new(),
            exact: HashMap::new(),
            below: HashMap::new(),
            any: None,
            no_offer: offers.offer(None, None, config.http2),
        };
        for (pattern, site) in config.sites {
            let limits = snapshot.limits.clone();
            let name = pattern.to_string();
            let mut tally = |route: Option<&str>| {
                let (site, route) = (name.clone(), route.map(str::to_owned));
                tallies.get(TallyName::Of { site, route })
            };
            let tally_of_site = tally(None);
            let routes = site.routes.into_iter().map(|route| {
                let rules = Rules::compile(&route, &site.rules, &limits, &config.pages);
                let to = match route.to {
                    Target::Pool(name) => {
                        snapshot.pools.iter().position(|p| p.name == name).map_or(To::Nowhere, To::Pool)
                    }
                    Target::Files(directory) => To::Files(Arc::new(directory)),
                    Target::Redirect(redirect) => To::Redirect(redirect.status.into()),
                };
                let prefix = canonical(route.path.as_bytes()).into_owned();
                Route { tally: tally(Some(&route.path)), path: route.path, prefix, to, rules }
            });
            let routes: Vec<Route> = routes.collect();
            let page = |path: &PathBuf| config.pages.get(path).cloned();
            let errors = site.rules.errors.iter();
            let site = Site {
                name,
                tally: tally_of_site,
                offer: site.tls.map(|key| offers.offer(Some(key), site.clients.as_ref(), snapshot.http2)),
                clients: site.clients,
                redirect: site.redirect,
                hsts: site.hsts,
                maintenance: site
                    .rules
                    .maintenance
                    .as_ref()
                    .map(|p| page(p).unwrap_or_else(Page::maintenance)),
                errors: errors.filter_map(|(status, path)| Some((*status, page(path)?))).collect(),
                routes,
            };
            let index = snapshot.sites.len();
            snapshot.sites.push(site);
            match pattern {
                HostPattern::Exact(host) => drop(snapshot.exact.insert(host, index)),
                HostPattern::Below(domain) => drop(snapshot.below.insert(domain, index)),
                HostPattern::Any => snapshot.any = Some(index),
            }
        }
        snapshot.tallies = tallies.finish();
        snapshot
    }

    /// The site of a host name without port, in any case: exactly, one label below, or the one for all.
    pub fn site(&self, host: &[u8]) -> Option<usize> {
        if self.exact.is_empty() && self.below.is_empty() {
            return self.any;
        }
        let mut lower = [0; 256];
        let named = lower.get_mut(..host.len()).and_then(|lower| {
            lower.copy_from_slice(host);
            lower.make_ascii_lowercase();
            let name = std::str::from_utf8(lower).ok()?;
            let name = name.strip_suffix('.').unwrap_or(name);
            let below = || self.below.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(below).copied()
        });
        named.or(self.any)
    }

    /// A request's head, as servers are sent it, without the cookies that pools gave; `None`: as it is.
    pub fn without_cookies(&self, head: &[u8]) -> Option<Vec<u8>> {
        let sticky = || self.pools.iter().filter_map(|pool| pool.sticky.as_ref());
        if !self.gives_cookies {
            return None;
        }
        sticky::without_own(head, |name| sticky().any(|sticky| sticky.is_named(name)))
    }

    pub fn site_at(&self, index: usize) -> &Site {
        &self.sites[index]
    }

    /// For a name asked for by SNI; without a site of that name, that of the site for all; clients that name nothing get
    /// the first there is.
    pub fn offer(&self, name: Option<&str>) -> Offer {
        let of = |index: usize| self.sites[index].offer.as_ref();
        let found = match name {
            Some(name) => self.site(name.as_bytes()).and_then(of),
            None => self.any.and_then(of).or_else(|| self.sites.iter().find_map(|s| s.offer.as_ref())),
        };
        found.unwrap_or(&self.no_offer).clone()
    }
}

impl Site {
    /// The first route that a path, without its query, matches: equal, or longer at a segment's boundary, in any spelling
    /// and whatever parameters its segments have.
    pub fn route(&self, path: &[u8]) -> Option<usize> {
        let path = canonical(path);
        self.routes.iter().position(|route| is_of(&route.prefix, &path))
    }

    pub fn to(&self, route: usize) -> &To {
        &self.routes[route].to
    }

    pub fn path(&self, route: usize) -> &str {
        &self.routes[route].path
    }

    pub fn route_tally(&self, route: usize) -> &Tally {
        &self.routes[route].tally
    }

    pub fn rules(&self, route: usize) -> &Rules {
        &self.routes[route].rules
    }

    pub fn error_page(&self, status: u16) -> Option<&Page> {
        self.errors.iter().find(|(pattern, _)| pattern.holds(status)).map(|(_, page)| page)
    }
}
