//! What a right file says that its author may not expect. A note never stops anything.

use super::keys::HttpsWord;
use super::kind::ListenAt;
use super::reader::Located;
use super::sections::{File, Node, SiteHttps};
use crate::problem::Findings;
use crate::{EdgeMode, Note, Role};

/// In the order of the file.
pub(super) fn of(file: &File, findings: &Findings<'_>) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut add = |at: usize, text: String| notes.push(Note { line: findings.line(at), text });
    if let Some((at, text)) = availability(file) {
        add(at, text);
    }
    // Beside servers that others run, a node without roles runs the router.
    let witness = |node: &&Node| !node.roles.written && file.database.servers_written.is_none();
    for node in file.nodes.iter().filter(witness) {
        let name = &node.name.value;
        add(node.name.span.start, format!("`{name}` has no roles: it is a witness, which only votes"));
    }
    let edges: Vec<&Node> = with_role(file, Role::Edge).collect();
    if file.edge.mode.value == EdgeMode::ActivePassive {
        let text = match edges.as_slice() {
            [edge] => {
                format!(
                    "active-passive, but `{}` is the only edge: nobody waits to take over",
                    edge.name.value
                )
            }
            _ => "active-passive is not there yet: every edge answers, as with \"active-active\"".into(),
        };
        add(file.edge.mode.span.start, text);
    }
    if let Some(all) = file.edge.proxies.trusted.iter().find(|network| network.prefix_len() == 0) {
        let place = file.edge.written.as_ref().map_or(0, |place| place.start);
        add(
            place,
            format!("whoever reaches the edges is believed about who it is: `trusted_proxies` has {all}"),
        );
    }
    for site in &file.sites {
        if let Some(SiteHttps::Word(Located { value: HttpsWord::Acme, span, .. })) = &site.https {
            let text = "certificates by ACME are not there yet: this site answers over plain HTTP only; \"internal\" or a certificate of your own, { cert = …, key = … }, gives it HTTPS";
            add(span.start, text.into());
        }
    }
    if let (Some(pool), false) = (file.only_pool(), edges.is_empty()) {
        let name = &pool.name.value;
        add(
            pool.name.span.start,
            format!("there is no site, so the pool `{name}` serves every host name, without https"),
        );
    }
    if let (Some(node), true) = (with_role(file, Role::App).next(), file.apps.is_empty()) {
        let name = &node.name.value;
        add(
            node.roles.span.start,
            format!("`{name}` has the role `app`, but no app is named: it runs nothing"),
        );
    }
    for app in file.apps.iter().filter(|app| app.user.is_none()) {
        let name = &app.name.value;
        add(
            app.name.span.start,
            format!("where Tiebeam runs as root, `{name}` runs as nobody; `user` names another"),
        );
    }
    for pool in file.pools.iter().filter(|_| file.sites_written || edges.is_empty()) {
        let routes = file.sites.iter().filter_map(|site| site.routes.as_ref()).flatten();
        if !routes.filter_map(|route| route.pool.as_ref()).any(|used| used.value == pool.name.value) {
            add(pool.name.span.start, format!("no route sends to the pool `{}`", pool.name.value));
        }
    }
    if let Some((at, text)) = bare_log_in(file) {
        add(at, text);
    }
    let sql = file.has_database().then_some(("[sql]", &file.sql.listen));
    for (what, listen) in sql.into_iter().chain(file.console.as_ref().map(|listen| ("[console]", listen))) {
        if let Some(text) = settled(what, listen, file) {
            add(listen.span.start, text);
        }
    }
    notes.sort_by_key(|note| note.line);
    notes
}

fn with_role(file: &File, role: Role) -> impl Iterator<Item = &Node> {
    file.nodes.iter().filter(move |node| node.roles.value.contains(&role))
}

/// Why the database of this file does not deserve the name "highly available", if it does not.
fn availability(file: &File) -> Option<(usize, String)> {
    let databases: Vec<&Node> = with_role(file, Role::Database).collect();
    let first = databases.first()?;
    let at = first.roles.span.start;
    let name = &first.name.value;
    if databases.len() == 1 {
        let text = format!(
            "not highly available: the database is on `{name}` alone, and nothing takes over from it; a second node with the role `database` and a third node to vote would"
        );
        return Some((at, text));
    }
    let explicit = file.ledger.voters.as_ref();
    let voters = explicit.map_or(file.nodes.len(), |voters| voters.value.len());
    if voters >= 3 {
        return None;
    }
    let (at, voter) = match explicit {
        Some(voters) => (voters.span.start, voters.value.first()?.value.clone()),
        None => (at, databases.iter().map(|node| &node.name.value).min()?.clone()),
    };
    let text = format!(
        "not highly available: `{voter}` alone votes on who is primary, for two nodes cannot tell a dead one from a cut cable; if `{voter}` is lost, nothing takes over; a third node that votes, even one without roles, changes that"
    );
    Some((at, text))
}

/// A log-in that nobody chose: fine where the servers trust this machine, refused by all others.
fn bare_log_in(file: &File) -> Option<(usize, String)> {
    let database = &file.database;
    let at = database.servers.as_ref()?.key.start;
    let text = "the router logs in as postgres without a password; where the servers ask for one, set `user` and `password_file`";
    (!database.user.written && database.password_file.is_none()).then(|| (at, text.into()))
}

fn settled(what: &str, listen: &Located<ListenAt>, file: &File) -> Option<String> {
    match (listen.value, file.settled(listen.value)) {
        (ListenAt::At(at), ListenAt::NodeAddress(port)) if listen.written => Some(format!(
            "several nodes are on this machine, so {what} listens on each one's own address, port {port}, not on {at}"
        )),
        (ListenAt::At(at), ListenAt::At(_)) if what == "[console]" && !at.ip().is_loopback() => {
            Some(format!("{what} listens on {at}: whoever reaches it can read it"))
        }
        (ListenAt::NodeAddress(_), _) if what == "[console]" => {
            let open =
                file.nodes.iter().any(|node| node.address.as_ref().is_some_and(|a| !a.value.is_loopback()));
            open.then(|| format!("{what} listens on each node's address: whoever reaches one can read it"))
        }
        _ => None,
    }
}
