//! The rules of a site: its certificate, where its routes lead, and what may be changed on the way.

use std::collections::BTreeMap;

use super::check::{exists, twice};
use super::keys::HttpsWord;
use super::reader::Located;
use super::sections::{Fields, File, Place, Route, Site, SiteHttps};
use crate::problem::{Findings, quoted};
use crate::{CHANGED_FIELDS_MAX, HostPattern, StatusPattern};

/// What only one connection or the framing of one message is about: the edge writes it, nobody else.
const FRAMING: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
/// What the edge says of itself, or of where a request came from.
const OWN_TO_SERVERS: [&str; 8] = [
    "client-cert",
    "client-cert-chain",
    "forwarded",
    "max-forwards",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];
const OWN_TO_CLIENTS: [&str; 4] = ["accept-ranges", "content-range", "date", "x-request-id"];
/// Bytes of a value that is set: far below what a head may have.
const VALUE_MAX_BYTES: usize = 4096;

/// Which messages a change is about.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    ToServers,
    ToClients,
}

pub(super) fn rules(site: &Site, file: &File, findings: &Findings<'_>) {
    https(site, file, findings);
    routes(site, file, findings);
    fields(&site.request_headers, Way::ToServers, findings);
    fields(&site.response_headers, Way::ToClients, findings);
    errors(site, findings);
}

fn https(site: &Site, file: &File, findings: &Findings<'_>) {
    let place = match &site.https {
        Some(SiteHttps::Word(word)) if word.value == HttpsWord::Off => return,
        Some(SiteHttps::Word(word)) => {
            if word.value == HttpsWord::Acme && !matches!(site.host.value, HostPattern::Exact(_)) {
                findings.add(
                    word.span.clone(),
                    format!("an ACME authority gives no certificate for `{}`", site.host.value),
                    "write one site for each host name, or https = \"internal\", or the files of a certificate",
                );
            }
            &word.span
        }
        Some(SiteHttps::Files { place, clients, clients_required, .. }) => {
            if clients.is_none() && clients_required.written {
                findings.add(
                    clients_required.key.clone(),
                    "`clients_required` is about certificates that nobody is asked for",
                    "write whose are taken: clients = \"ca.pem\"",
                );
            }
            place
        }
        None => return,
    };
    if file.edge.https.as_ref().is_some_and(|port| port.value.is_none()) {
        findings.add(
            place.clone(),
            format!("`{}` has https, but `[edge] https` is 0: nothing listens for it", site.host.value),
            "write `[edge] https = 443`, or https = \"off\" here",
        );
    }
}

fn routes(site: &Site, file: &File, findings: &Findings<'_>) {
    let Some(routes) = &site.routes else { return };
    if routes.is_empty() {
        findings.add(
            site.host.span.clone(),
            format!("the site `{}` has no routes", site.host.value),
            "write routes = [{ path = \"/\", pool = \"web\" }]",
        );
    }
    twice(routes.iter().filter_map(|route| route.path.as_ref()), "path", findings);
    for route in routes {
        target(route, file, findings);
        only_for_pools(route, findings);
        fields(&route.request_headers, Way::ToServers, findings);
        fields(&route.response_headers, Way::ToClients, findings);
        if let (Some(to), Some(path)) = (&route.redirect, &route.path) {
            circle(to, path, routes, findings);
        }
    }
}

fn target(route: &Route, file: &File, findings: &Findings<'_>) {
    let targets = [
        ("pool", &route.pool_written),
        ("files", &route.files_written),
        ("redirect", &route.redirect_written),
    ];
    let mut written = targets.into_iter().filter_map(|(name, place)| Some((name, place.clone()?)));
    match (written.next(), written.next()) {
        (Some((one, _)), Some((other, place))) => findings.add(
            place,
            format!("a route has either `{one}` or `{other}`, not both"),
            "make two routes of it, with a path each",
        ),
        (None, _) => findings.add(
            route.header.clone(),
            "the route leads nowhere: it has neither `pool` nor `files` nor `redirect`",
            "write { path = \"/\", pool = \"web\" }, { path = \"/\", files = \"public\" } or { path = \"/old/\", redirect = \"/new/\" }",
        ),
        _ => {}
    }
    if route.status.written && route.redirect_written.is_none() {
        let message = "`status` is the status of a redirect, and this route is none";
        findings.add(route.status.key.clone(), message, "write `redirect`, or leave `status` out");
    }
    let Some(pool) = &route.pool else { return };
    exists(pool, file.pools.iter().map(|known| &known.name), "pool", findings);
}

/// What is about servers says nothing where there are none.
fn only_for_pools(route: &Route, findings: &Findings<'_>) {
    if let (Some(replaced), true) = (&route.replace_prefix, route.strip_prefix.value) {
        findings.add(
            replaced.key.clone(),
            "a prefix is either stripped or replaced, not both",
            "leave `strip_prefix` out",
        );
    }
    if route.pool_written.is_some() || (route.files_written.is_none() && route.redirect_written.is_none()) {
        return;
    }
    let stripped = route.strip_prefix.written.then(|| route.strip_prefix.key.clone());
    let key = |located: Option<Place>, name| located.map(|place| (place, name));
    let keys = [
        key(stripped, "strip_prefix"),
        key(route.replace_prefix.as_ref().map(|at| at.key.clone()), "replace_prefix"),
        key(route.request_headers.written.clone(), "request_headers"),
        key(route.body_bytes.as_ref().map(|at| at.key.clone()), "body_bytes"),
        key(route.body_rate.as_ref().map(|at| at.key.clone()), "body_rate"),
        key(route.response_time.as_ref().map(|at| at.key.clone()), "response_time"),
    ];
    for (place, name) in keys.into_iter().flatten() {
        findings.add(
            place,
            format!("`{name}` is about what servers are sent, and this route has no pool"),
            "leave it out, or write `pool`",
        );
    }
}

/// A redirect that comes to its own route again never ends.
fn circle(to: &Located<String>, path: &Located<String>, routes: &[Route], findings: &Findings<'_>) {
    if !to.value.starts_with('/') {
        return;
    }
    let fixed = to.value.split(['{', '?', '#']).next().unwrap_or_default();
    let holds = |prefix: &str| {
        fixed
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
    };
    let all = routes.iter().filter_map(|route| route.path.as_ref());
    let longest =
        all.map(|path| path.value.as_str()).filter(|path| holds(path)).max_by_key(|path| path.len());
    if longest == Some(&path.value) {
        findings.add(
            to.span.clone(),
            format!("the redirect leads to its own route `{}`, again and again", quoted(&path.value)),
            "lead to another path, for which there is a route, or to another host",
        );
    }
}

fn fields(edits: &Fields, way: Way, findings: &Findings<'_>) {
    if let Some(place) =
        edits.written.clone().filter(|_| edits.set.len() + edits.remove.len() > CHANGED_FIELDS_MAX)
    {
        findings.add(place, format!("more than {CHANGED_FIELDS_MAX} fields"), "change fewer");
        return;
    }
    let mut seen = BTreeMap::new();
    let names = edits.set.iter().map(|(name, _)| name).chain(&edits.remove);
    for name in names {
        field_name(name, way, findings);
        if seen.insert(name.value.to_ascii_lowercase(), ()).is_some() {
            findings.add(
                name.span.clone(),
                format!(
                    "`{}` is already there: the case of letters says nothing in the name of a field",
                    quoted(&name.value)
                ),
                "write each once, in `set` or in `remove`",
            );
        }
    }
    let is_host = |name: &Located<String>| name.value.eq_ignore_ascii_case("host");
    if let Some(name) = edits.remove.iter().find(|name| way == Way::ToServers && is_host(name)) {
        findings.add(name.span.clone(), "each request has a `Host`", "write another one in `set`");
    }
    for (name, value) in &edits.set {
        if is_host(name) && !is_authority(&value.value) {
            let message = format!("`{}` is not the name of a host", quoted(&value.value));
            findings.add(
                value.span.clone(),
                message,
                "write it as in a URL: \"shop.example\" or \"shop.example:8080\"",
            );
            continue;
        }
        let is_right = value.value.bytes().all(|b| matches!(b, b' '..=b'~'))
            && value.value.trim() == value.value
            && value.value.len() <= VALUE_MAX_BYTES;
        if !is_right {
            findings.add(
                value.span.clone(),
                format!("this cannot be the value of `{}`", quoted(&name.value)),
                format!("printable ASCII without spaces around it, at most {VALUE_MAX_BYTES} bytes"),
            );
        }
    }
}

/// Enough to be read as one host by everyone: letters, digits, and what stands between them and before a port.
fn is_authority(host: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
    !host.is_empty() && host.bytes().all(is_part) && !host.starts_with([':', '.'])
}

fn field_name(name: &Located<String>, way: Way, findings: &Findings<'_>) {
    let text = name.value.as_str();
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if text.is_empty() || !text.bytes().all(is_token) {
        let message = format!("`{}` cannot be the name of a field", quoted(text));
        findings.add(name.span.clone(), message, "letters, digits and hyphens, such as `Cache-Control`");
        return;
    }
    let is_among = |list: &[&str]| list.iter().any(|own| text.eq_ignore_ascii_case(own));
    let own = match way {
        Way::ToServers => is_among(&OWN_TO_SERVERS),
        Way::ToClients => is_among(&OWN_TO_CLIENTS),
    };
    if is_among(&FRAMING) || own {
        findings.add(
            name.span.clone(),
            format!("`{text}` is the edge's own: it says how messages are told apart, or what the edge knows of them"),
            "leave it out, or give your own field another name",
        );
    } else if way == Way::ToClients && text.eq_ignore_ascii_case("host") {
        findings.add(name.span.clone(), "an answer has no `Host`", "write it in `request_headers`");
    }
}

fn errors(site: &Site, findings: &Findings<'_>) {
    for (status, page) in &site.errors {
        if let Err(error) = status.value.parse::<StatusPattern>() {
            let message = format!("`{}` has no page: {error}", quoted(&status.value));
            findings.add(status.span.clone(), message, "write for instance errors = { 502 = \"502.html\" }");
        }
        if page.value.is_empty() {
            findings.add(page.span.clone(), "the path of the page is empty", "write a path from this file");
        }
    }
}
