//! The rules that no single value can break: names that must exist, things that must not be there twice, and
//! sections that contradict each other. Databases, ledgers and listeners have theirs in files of their own.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;

use super::kind::shown_duration;
use super::reader::{Located, nearest};
use super::sections::{App, File, Pool};
use super::{check_database, check_pool, check_site, listeners};
use crate::problem::{Findings, quoted};
use crate::{HostPattern, Role};

/// What every instance is told of itself.
const APP_ENV: [&str; 4] = ["HOST", "PORT", "TIEBEAM_NODE", "TIEBEAM_INSTANCE"];
/// What it is told beside a database that Tiebeam runs.
const DATABASE_URL: &str = "DATABASE_URL";

pub(crate) fn rules(file: &File, findings: &Findings<'_>) {
    nodes(file, findings);
    edge(file, findings);
    twice(file.sites.iter().map(|site| &site.host), "site", findings);
    for site in &file.sites {
        check_site::rules(site, file, findings);
    }
    for pool in &file.pools {
        members(pool, file, findings);
        check_pool::rules(pool, findings);
        health(pool, findings);
        tls(pool, findings);
    }
    for app in &file.apps {
        self::app(app, file, findings);
    }
    check_database::rules(file, findings);
    listeners::rules(file, findings);
}

impl File {
    /// Whether some node has a role; true too when the nodes are not right, so that nothing is said twice.
    pub fn has_role(&self, role: Role) -> bool {
        !self.nodes_right || self.nodes.iter().any(|node| node.roles.value.contains(&role))
    }

    /// Whether the file leaves out its sites and has the one pool that then serves every host name.
    pub fn only_pool(&self) -> Option<&Pool> {
        match self.pools.as_slice() {
            [pool] if !self.sites_written => Some(pool),
            _ => None,
        }
    }
}

fn nodes(file: &File, findings: &Findings<'_>) {
    if !file.nodes_written && file.database.servers_written.is_none() {
        findings.add_whole(
            "no node: nothing would run",
            "name the servers that run Tiebeam, for instance: [node.a] address = \"10.0.0.1\" roles = [\"edge\"]",
        );
    }
    let mut holders = BTreeMap::new();
    for node in &file.nodes {
        let Some(address) = &node.address else { continue };
        if let Some(holder) = holders.insert(address.value, &node.name.value) {
            findings.add(
                address.span.clone(),
                format!("nodes `{holder}` and `{}` have the same address {}", node.name.value, address.value),
                "each node has an address of its own; on one machine: 127.0.0.1, 127.0.0.2, 127.0.0.3",
            );
        }
    }
    let addresses = || file.nodes.iter().filter_map(|node| Some((node, node.address.as_ref()?)));
    let far = addresses().find(|(_, address)| !address.value.is_loopback());
    let near = addresses().find(|(_, address)| address.value.is_loopback());
    if let (Some((far, at)), Some((near, place))) = (far, near) {
        findings.add(
            place.span.clone(),
            format!(
                "{} is reached only from its own machine: node `{}` at {} would not find node `{}` there",
                place.value, far.name.value, at.value, near.name.value
            ),
            "write the address by which the other machines reach it; with loopback addresses all nodes are on one machine",
        );
    }
}

fn edge(file: &File, findings: &Findings<'_>) {
    let Some(node) = file.nodes.iter().find(|node| node.roles.value.contains(&Role::Edge)) else {
        if !file.has_role(Role::Edge) {
            no_edge(file, findings);
        }
        return;
    };
    let edge = &file.edge;
    if edge.http.value.is_none() && file.https_port().is_none() {
        let (message, help) = match &edge.https {
            Some(_) => (
                "`http` and `https` are both 0: no client could reach the edge",
                "leave one of them out, or write its port",
            ),
            None => (
                "`http` is 0, and no site has https: no client could reach the edge",
                "leave `http` out, or write https = \"internal\" for a site",
            ),
        };
        findings.add(edge.http.span.clone(), message, help);
    }
    if edge.proxy_protocol.value && edge.proxies.trusted.is_empty() && !edge.trusted_wrong {
        findings.add(
            edge.proxy_protocol.span.clone(),
            "with `proxy_protocol` only `trusted_proxies` may connect, and there are none",
            "write whom the header is believed from, for instance trusted_proxies = [\"10.0.0.0/8\"]",
        );
    }
    if edge.request_line_bytes.value > edge.header_bytes.value {
        let bound =
            if edge.request_line_bytes.written { &edge.request_line_bytes } else { &edge.header_bytes };
        findings.add(
            bound.span.clone(),
            format!(
                "`request_line_bytes` is {}, and `header_bytes`, which counts the whole head, is only {}",
                edge.request_line_bytes.value, edge.header_bytes.value
            ),
            "the request line is part of the head: make `header_bytes` the larger one",
        );
    }
    if let Some(most) = &edge.connections_per_address
        && most.value > edge.limits.connections as u64
    {
        findings.add(
            most.span.clone(),
            format!(
                "`connections_per_address` is {}, and there are only {} connections in all",
                most.value, edge.limits.connections
            ),
            "make it smaller than `connections`, or leave it out",
        );
    }
    if !file.sites_written && file.only_pool().is_none() {
        let (message, help) = match file.pools.first() {
            None => (
                "there is nothing that it could serve",
                "add [pool.web] servers = [\"10.0.0.9:3000\"]".to_owned(),
            ),
            Some(pool) => (
                "with several pools and no site it cannot know which serves a request",
                format!("add [site.\"*\"] routes = [{{ path = \"/\", pool = \"{}\" }}]", pool.name.value),
            ),
        };
        let message = format!("node `{}` has the role `edge`, but {message}", node.name.value);
        findings.add(node.roles.span.clone(), message, help);
    }
}

fn no_edge(file: &File, findings: &Findings<'_>) {
    let help = "give a node the role `edge`: roles = [\"edge\"]";
    if let Some(place) = &file.edge.written {
        findings.add(place.clone(), "`[edge]` is for nodes with the role `edge`, and there is none", help);
    } else if let Some(site) = file.sites.first() {
        findings.add(
            site.host.span.clone(),
            format!("nobody serves `{}`: no node has the role `edge`", site.host.value),
            help,
        );
    }
}

/// Reports every value that an earlier one equals.
pub(super) fn twice<'v, T: Ord + Display + 'v>(
    values: impl Iterator<Item = &'v Located<T>>,
    what: &str,
    findings: &Findings<'_>,
) {
    let mut seen = BTreeMap::new();
    for located in values {
        let line = findings.line(located.span.start);
        let Some(first) = seen.get(&located.value) else {
            seen.insert(&located.value, line);
            continue;
        };
        let place = if *first == line { "further left".to_owned() } else { format!("on line {first}") };
        findings.add(
            located.span.clone(),
            format!("the {what} `{}` is already there, {place}", quoted(&located.value.to_string())),
            "write each once",
        );
    }
}

/// Reports a name that no section has, with those that there are.
pub(super) fn exists<'v, T: PartialEq + Display + 'v>(
    name: &Located<T>,
    known: impl Iterator<Item = &'v Located<T>> + Clone,
    kind: &str,
    findings: &Findings<'_>,
) {
    if known.clone().any(|other| other.value == name.value) {
        return;
    }
    let names: Vec<String> = known.map(|other| other.value.to_string()).collect();
    let help = match nearest(&name.value.to_string(), names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if names.is_empty() => format!("there are none yet: add [{kind}.{}]", name.value),
        None => format!("there are: {}; or add [{kind}.{}]", names.join(", "), name.value),
    };
    findings.add(name.span.clone(), format!("there is no {kind} `{}`", name.value), help);
}

fn members(pool: &Pool, file: &File, findings: &Findings<'_>) {
    match (&pool.app_written, &pool.servers_written) {
        (Some(_), Some(servers)) => findings.add(
            servers.clone(),
            format!("the pool `{}` has either `app` or `servers`, not both", pool.name.value),
            "make two pools of it",
        ),
        (None, None) => findings.add(
            pool.name.span.clone(),
            format!("the pool `{}` is empty: it has neither `app` nor `servers`", pool.name.value),
            "write app = \"web\" or servers = [\"10.0.0.9:3000\"]",
        ),
        _ => {}
    }
    if let Some(app) = &pool.app {
        exists(app, file.apps.iter().map(|known| &known.name), "app", findings);
    }
    if let Some(servers) = &pool.servers {
        twice(servers.value.iter().map(|server| &server.value.address), "server", findings);
    }
}

/// A name that no certificate can hold would be found out only when a server is reached.
fn tls(pool: &Pool, findings: &Findings<'_>) {
    let Some(name) = pool.tls.as_ref().and_then(|tls| tls.name.as_ref()) else { return };
    let is_host = name.value.parse::<HostPattern>().is_ok_and(|host| matches!(host, HostPattern::Exact(_)));
    if !is_host && name.value.parse::<IpAddr>().is_err() {
        findings.add(
            name.span.clone(),
            format!("`{}` is neither a host name nor an address", quoted(&name.value)),
            "write what the servers' certificates say, something like \"api.internal\"",
        );
    }
}

fn health(pool: &Pool, findings: &Findings<'_>) {
    let Some(timeout) = &pool.health.timeout else { return };
    let every = pool.health.every.value;
    if timeout.value > every {
        findings.add(
            timeout.span.clone(),
            format!(
                "a check may take {}, but the next one starts after {}",
                shown_duration(timeout.value),
                shown_duration(every)
            ),
            format!("write a `timeout` of at most {}, or a longer `every`", shown_duration(every)),
        );
    }
}

fn app(app: &App, file: &File, findings: &Findings<'_>) {
    if !file.has_role(Role::App) {
        findings.add(
            app.name.span.clone(),
            format!("nobody runs `{}`: no node has the role `app`", app.name.value),
            "give a node the role: roles = [\"app\"]",
        );
    }
    let program = app.command.as_ref().and_then(|command| command.value.first());
    if let Some(empty) = program.filter(|program| program.value.is_empty()) {
        findings.add(empty.span.clone(), "the name of the program is empty", "write its path first");
    }
    // Of servers that others run Tiebeam knows no log-in for an app, so the file may give one.
    let ours = file.nodes.iter().any(|node| node.roles.value.contains(&Role::Database));
    for (name, _) in &app.env {
        let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let right = name.value.bytes().all(letters) && !name.value.starts_with(|c: char| c.is_ascii_digit());
        if !right || name.value.is_empty() {
            findings.add(
                name.span.clone(),
                format!("`{}` cannot be the name of a variable", quoted(&name.value)),
                "letters, digits and underscores, not starting with a digit",
            );
        } else if APP_ENV.contains(&name.value.as_str()) || (name.value == DATABASE_URL && ours) {
            findings.add(
                name.span.clone(),
                format!("`{}` is set by Tiebeam for each instance", name.value),
                "leave it out, or give your own variable another name",
            );
        }
    }
}
