//! Where each node listens, and that no two of these are the same.
//!
//! Nodes with loopback addresses share one machine: there, "127.0.0.1 and a port" is taken as that port on each
//! node's own address, since one machine has only one 127.0.0.1.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use super::keys::HttpsWord;
use super::kind::ListenAt;
use super::reader::Located;
use super::sections::{File, Node, Place, SiteHttps};
use crate::Role;
use crate::problem::Findings;

/// The port for HTTPS when a site needs one and the file names none.
const HTTPS_PORT: NonZeroU16 = match NonZeroU16::new(443) {
    Some(port) => port,
    None => NonZeroU16::MIN,
};

impl File {
    /// The port that the edges listen on for HTTPS: as written, else the usual one if any site has https.
    pub fn https_port(&self) -> Option<NonZeroU16> {
        let used =
            |https: &SiteHttps| !matches!(https, SiteHttps::Word(word) if word.value == HttpsWord::Off);
        match &self.edge.https {
            Some(written) => written.value,
            None => self.sites.iter().filter_map(|site| site.https.as_ref()).any(used).then_some(HTTPS_PORT),
        }
    }

    /// Where a listener really is, once it is known who shares a machine.
    pub fn settled(&self, listen: ListenAt) -> ListenAt {
        match listen {
            ListenAt::At(at)
                if at.ip().is_loopback() && is_first(at.ip()) && self.on_one_machine().count() > 1 =>
            {
                NonZeroU16::new(at.port()).map_or(listen, ListenAt::NodeAddress)
            }
            other => other,
        }
    }

    fn on_one_machine(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.address.as_ref().is_some_and(|a| a.value.is_loopback()))
    }

    pub fn has_database(&self) -> bool {
        self.database.servers_written.is_some()
            || self.nodes.iter().any(|n| n.roles.value.contains(&Role::Database))
    }
}

fn is_first(ip: IpAddr) -> bool {
    ip == IpAddr::from([127, 0, 0, 1]) || ip == IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])
}

struct Listener<'f> {
    node: &'f Node,
    what: &'static str,
    at: SocketAddr,
    place: Place,
    written: bool,
}

pub(super) fn rules(file: &File, findings: &Findings<'_>) {
    elsewhere(file, findings);
    let (one_machine, apart): (Vec<&Node>, Vec<&Node>) =
        file.nodes.iter().partition(|node| node.address.as_ref().is_some_and(|a| a.value.is_loopback()));
    let mut said = BTreeSet::new();
    conflicts(
        &one_machine.iter().flat_map(|node| of_node(node, file)).collect::<Vec<_>>(),
        &mut said,
        findings,
    );
    for node in apart {
        conflicts(&of_node(node, file), &mut said, findings);
    }
    loops(file, findings);
}

fn of_node<'f>(node: &'f Node, file: &File) -> Vec<Listener<'f>> {
    let Some(address) = node.address.as_ref().map(|address| address.value) else { return Vec::new() };
    let mut listeners = Vec::new();
    let mut add = |what, ip: IpAddr, port: u16, place: &Place, written| {
        listeners.push(Listener { node, what, at: SocketAddr::new(ip, port), place: place.clone(), written });
    };
    if node.roles.value.contains(&Role::Edge) {
        let http = &file.edge.http;
        if let Some(port) = http.value {
            add("[edge] http", address, port.get(), &http.span, http.written);
        }
        if let Some(port) = file.https_port() {
            let place = file.edge.https.as_ref().map_or(0..0, |https| https.span.clone());
            add("[edge] https", address, port.get(), &place, file.edge.https.is_some());
        }
    }
    if node.roles.value.contains(&Role::Database) {
        let port = &file.database.port;
        add("[database] port", address, port.value.get(), &port.span, port.written);
    }
    // A node that is alone has nobody to agree with.
    if file.nodes.len() > 1 {
        let port = &file.ledger.port;
        add("[ledger] port", address, port.value.get(), &port.span, port.written);
    }
    let sql = file.has_database().then_some(("[sql] listen", &file.sql.listen));
    let console = file.console.as_ref().map(|listen| ("[console] listen", listen));
    for (what, listen) in sql.into_iter().chain(console) {
        let at = match file.settled(listen.value) {
            ListenAt::At(at) => at,
            ListenAt::NodeAddress(port) => SocketAddr::new(address, port.get()),
        };
        add(what, at.ip(), at.port(), &listen.span, listen.written);
    }
    listeners
}

/// Reports pairs of listeners that would be at one place; each pair of keys once, however many nodes it concerns.
fn conflicts(
    listeners: &[Listener<'_>],
    said: &mut BTreeSet<(&'static str, &'static str)>,
    findings: &Findings<'_>,
) {
    for (index, second) in listeners.iter().enumerate() {
        for first in &listeners[..index] {
            let pair = (first.what.min(second.what), first.what.max(second.what));
            if overlap(first.at, second.at) && said.insert(pair) {
                report(first, second, findings);
            }
        }
    }
}

fn report(first: &Listener<'_>, second: &Listener<'_>, findings: &Findings<'_>) {
    let later_is_second = second.written && (!first.written || second.place.start >= first.place.start);
    let (other, later) = if later_is_second { (first, second) } else { (second, first) };
    let message = if first.what == second.what {
        let (one, two) = (&first.node.name.value, &second.node.name.value);
        format!("nodes `{one}` and `{two}` are on one machine and would both listen on {}", later.at)
    } else {
        let (here, there) = (&later.node.name.value, &other.node.name.value);
        format!(
            "`{}` of node `{here}` would be at {}, where `{}` of node `{there}` is",
            later.what, later.at, other.what
        )
    };
    let help = match first.what == second.what {
        true => format!("write \":{}\": that port on each node's own address", later.at.port()),
        false => "give one of them another port".to_owned(),
    };
    findings.add(later.place.clone(), message, help);
}

fn overlap(one: SocketAddr, two: SocketAddr) -> bool {
    let (a, b) = (one.ip(), two.ip());
    let any = |wide: IpAddr, other: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || other.is_ipv4());
    one.port() == two.port() && (a == b || any(a, b) || any(b, a))
}

/// With several nodes, an address that one of them has cannot be listened on by the others.
fn elsewhere(file: &File, findings: &Findings<'_>) {
    let sql = file.has_database().then_some(&file.sql.listen);
    for listen in sql.into_iter().chain(file.console.as_ref()) {
        let ListenAt::At(at) = listen.value else { continue };
        if file.nodes.len() > 1 && !at.ip().is_unspecified() && !at.ip().is_loopback() {
            findings.add(
                listen.span.clone(),
                format!("every node would listen on {at}, but only one machine has the address {}", at.ip()),
                format!("write \":{}\": that port on each node's own address", at.port()),
            );
        }
    }
}

/// A pool whose server is one of the edges would send requests in circles.
fn loops(file: &File, findings: &Findings<'_>) {
    let ports = [file.edge.http.value, file.https_port()];
    let servers = file.pools.iter().filter_map(|pool| pool.servers.as_ref());
    for server in servers.flat_map(|servers| &servers.value).map(|server| &server.value.address) {
        let edge = file.nodes.iter().find(|node| {
            node.roles.value.contains(&Role::Edge)
                && node.address.as_ref().is_some_and(|address| address.value == server.value.ip())
                && ports.iter().flatten().any(|port| port.get() == server.value.port())
        });
        if let Some(node) = edge {
            report_loop(server, node, findings);
        }
    }
}

fn report_loop(server: &Located<SocketAddr>, node: &Node, findings: &Findings<'_>) {
    findings.add(
        server.span.clone(),
        format!(
            "{} is the edge of node `{}` itself: requests would go in circles",
            server.value, node.name.value
        ),
        "write the address of the server behind it",
    );
}
