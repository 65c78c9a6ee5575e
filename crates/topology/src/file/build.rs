//! From a file without problems to the cluster that it describes, with every default filled in. No rule is here.

use std::collections::{BTreeMap, BTreeSet};

use super::check_database::VOTERS_MAX;
use super::keys::HttpsWord;
use super::kind::ListenAt;
use super::notes;
use super::sections::{self, File, SiteHttps};
use crate::problem::Findings;
use crate::{
    App, ClientAuthority, Cluster, Console, Database, Edge, FieldEdits, HealthCheck, HostPattern, Https,
    Ledger, ManagedDatabase, Members, Node, NodeName, Pool, PoolTls, Redirect, Role, Route, RouteRules, Site,
    SiteRules, Sql, SqlListen, Target,
};

/// Nothing, if some value is missing: never without a problem that says so.
pub(super) fn cluster(file: File, findings: &Findings<'_>) -> Option<Cluster> {
    let notes = notes::of(&file, findings);
    let nodes = nodes(&file)?;
    let edges = nodes.values().any(|node| node.roles.contains(&Role::Edge));
    let database = database(&file);
    let sql = database.is_some().then(|| sql(&file));
    Some(Cluster {
        edge: edges.then(|| edge(&file)),
        sites: sites(&file)?,
        pools: file.pools.iter().map(|p| Some((p.name.value.clone(), pool(p)?))).collect::<Option<_>>()?,
        ledger: Ledger { port: file.ledger.port.value, voters: voters(&file, &nodes) },
        console: file.console.as_ref().map(|listen| match file.settled(listen.value) {
            ListenAt::At(at) => Console::At(at),
            ListenAt::NodeAddress(port) => Console::NodeAddress(port),
        }),
        name: file.name.value,
        apps: file.apps.into_iter().map(app).collect::<Option<_>>()?,
        nodes,
        database,
        sql,
        notes,
    })
}

fn nodes(file: &File) -> Option<BTreeMap<NodeName, Node>> {
    let node = |node: &sections::Node| {
        let address = node.address.as_ref()?.value;
        Some((node.name.value.clone(), Node { address, roles: node.roles.value.clone() }))
    };
    file.nodes.iter().map(node).collect()
}

fn edge(file: &File) -> Edge {
    Edge {
        mode: file.edge.mode.value,
        http: file.edge.http.value,
        https: file.https_port(),
        workers: file.edge.workers,
        http2: file.edge.http2,
        access_log: file.edge.access_log,
        log_sample: file.edge.log_sample,
        via: file.edge.via,
        traceparent: file.edge.traceparent,
        proxies: file.edge.proxies.clone(),
        limits: file.edge.limits.clone(),
    }
}

fn sites(file: &File) -> Option<BTreeMap<HostPattern, Site>> {
    if let Some(pool) = file.only_pool().filter(|_| file.has_role(Role::Edge)) {
        let route = Route::new("/", Target::Pool(pool.name.value.clone()));
        let site = Site { https: Https::Off, routes: vec![route], rules: SiteRules::default() };
        return Some(BTreeMap::from([(HostPattern::Any, site)]));
    }
    file.sites.iter().map(|written| Some((written.host.value.clone(), site(written)?))).collect()
}

fn site(site: &sections::Site) -> Option<Site> {
    let https = match site.https.as_ref()? {
        SiteHttps::Word(word) => match word.value {
            HttpsWord::Acme => Https::Acme,
            HttpsWord::Internal => Https::Internal,
            HttpsWord::Off => Https::Off,
        },
        SiteHttps::Files { cert, key, redirect, hsts, clients, clients_required, .. } => Https::Files {
            cert: cert.clone(),
            key: key.clone(),
            redirect: *redirect,
            hsts: *hsts,
            clients: clients
                .as_ref()
                .map(|file| ClientAuthority { file: file.clone(), required: clients_required.value }),
        },
    };
    let mut routes = site.routes.as_ref()?.iter().map(route).collect::<Option<Vec<_>>>()?;
    routes.sort_by(|a, b| b.path.len().cmp(&a.path.len()).then_with(|| a.path.cmp(&b.path)));
    let errors =
        site.errors.iter().map(|(status, page)| Some((status.value.parse().ok()?, (&page.value).into())));
    let rules = SiteRules {
        request_headers: fields(&site.request_headers),
        response_headers: fields(&site.response_headers),
        errors: errors.collect::<Option<_>>()?,
        maintenance: site.maintenance.clone(),
    };
    Some(Site { https, routes, rules })
}

fn route(route: &sections::Route) -> Option<Route> {
    let to = match (&route.pool, &route.files, &route.redirect) {
        (Some(pool), None, None) => Target::Pool(pool.value.clone()),
        (None, Some(files), None) => Target::Files(files.value.clone()),
        (None, None, Some(to)) => {
            Target::Redirect(Redirect { to: to.value.clone(), status: route.status.value })
        }
        _ => return None,
    };
    let stripped = route.strip_prefix.value.then(|| "/".to_owned());
    let rules = RouteRules {
        replace_prefix: route.replace_prefix.as_ref().map(|prefix| prefix.value.clone()).or(stripped),
        request_headers: fields(&route.request_headers),
        response_headers: fields(&route.response_headers),
        body_bytes: route.body_bytes.as_ref().map(|bytes| bytes.value),
        body_rate: route.body_rate.as_ref().map(|rate| rate.value),
        response_time: route.response_time.as_ref().map(|time| time.value),
        maintenance: route.maintenance.clone(),
    };
    Some(Route { path: route.path.as_ref()?.value.clone(), to, rules })
}

fn fields(edits: &sections::Fields) -> FieldEdits {
    FieldEdits {
        set: edits.set.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect(),
        remove: edits.remove.iter().map(|name| name.value.clone()).collect(),
    }
}

fn pool(pool: &sections::Pool) -> Option<Pool> {
    let members = match (&pool.app, &pool.servers) {
        (Some(app), None) => Members::App(app.value.clone()),
        (None, Some(servers)) => {
            Members::Servers(servers.value.iter().map(|server| server.value.server).collect())
        }
        _ => return None,
    };
    let health = &pool.health;
    let health = HealthCheck {
        path: health.path.clone(),
        every: health.every.value,
        timeout: health.timeout.as_ref().map_or(health.every.value, |timeout| timeout.value),
        fall: health.fall,
        rise: health.rise,
    };
    let tls = pool
        .tls
        .as_ref()
        .map(|tls| PoolTls { ca: tls.ca.clone(), name: tls.name.as_ref().map(|name| name.value.clone()) });
    let (balancing, proxy_protocol) = (pool.balancing.clone(), pool.proxy_protocol);
    Some(Pool { members, balancing, proxy_protocol, health, protocol: pool.protocol, tls })
}

fn app(app: sections::App) -> Option<(crate::AppName, App)> {
    let command = app.command?.value.into_iter().map(|word| word.value).collect();
    let env = app.env.into_iter().map(|(name, value)| (name.value, value.value)).collect();
    let (instances, user, stop_time) = (app.instances, app.user, app.stop_time);
    Some((app.name.value, App { command, instances, user, env, stop_time }))
}

fn database(file: &File) -> Option<Database> {
    let written = &file.database;
    if let Some(servers) = &written.servers {
        return Some(Database::Foreign {
            servers: servers.value.iter().map(|server| server.value).collect(),
            reads: written.reads,
            user: written.user.value.clone(),
            password_file: written.password_file.as_ref().map(|file| file.value.clone()),
        });
    }
    let setting = |name: &str, value: &str| (name.to_ascii_lowercase(), value.to_owned());
    file.has_database().then(|| {
        Database::Managed(ManagedDatabase {
            durability: written.durability.value,
            reads: written.reads,
            lease: written.lease.value,
            renew: written.renew.value,
            port: written.port.value,
            settings: written
                .settings
                .iter()
                .map(|(name, value)| setting(&name.value, &value.value))
                .collect(),
        })
    })
}

fn sql(file: &File) -> Sql {
    let written = &file.sql;
    Sql {
        listen: match file.settled(written.listen.value) {
            ListenAt::At(at) => SqlListen::At(at),
            ListenAt::NodeAddress(port) => SqlListen::NodeAddress(port),
        },
        workers: written.workers,
        hold: written.hold,
        hold_queue: written.hold_queue,
        fresh_wait: written.fresh_wait,
        pool_size: written.pool_size,
        clients: written.clients,
    }
}

/// As written; else the largest odd number that there are nodes for, those with a database first.
///
/// Of two nodes one votes: with two, the loss of either would stop both; with one, only that of the voter does.
fn voters(file: &File, nodes: &BTreeMap<NodeName, Node>) -> BTreeSet<NodeName> {
    if let Some(voters) = &file.ledger.voters {
        return voters.value.iter().map(|voter| voter.value.clone()).collect();
    }
    let most = nodes.len().min(VOTERS_MAX);
    let count = if most.is_multiple_of(2) { most - 1 } else { most };
    let holds = |node: &Node| node.roles.contains(&Role::Database);
    let first = nodes.iter().filter(|(_, node)| holds(node));
    let others = nodes.iter().filter(|(_, node)| !holds(node));
    first.chain(others).take(count).map(|(name, _)| name.clone()).collect()
}
