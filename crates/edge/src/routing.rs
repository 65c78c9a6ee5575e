//! Where a request goes, by its host and its path, and by whose rules.
//!
//! Pure: a look at the configuration that the request began with. It says nothing about whether a server is there.

use std::time::Duration;

use crate::client::{Client, Scheme};
use crate::connection::Request;
use crate::pages::Page;
use crate::rules::Rules;
use crate::snapshot::{Site, Snapshot, To};
use crate::tally::Tally;

pub enum Destination {
    Route(To),
    /// To the same target over HTTPS.
    Redirect,
    Misdirected,
    NoRoute,
    /// The site or the route is being worked on.
    Maintenance,
    /// `Max-Forwards: 0`: it was meant for this edge. A TRACE as it came.
    LastHop(Vec<u8>),
    /// Its head says that the body is longer than the bound of its route, or `edge.limits.body_bytes`.
    BodyTooLong,
}

/// A site and a route of it, by their places in the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    site: Option<usize>,
    route: Option<usize>,
}

pub struct Routed {
    pub to: Destination,
    pub place: Place,
    pub hsts: bool,
}

/// `scheme`: how the client came, be it to a proxy before this edge. `has_https`: the edge listens for HTTPS at all.
pub fn route(
    view: &Snapshot,
    client: &Client,
    scheme: Scheme,
    has_https: bool,
    host: &[u8],
    path: &[u8],
) -> Routed {
    let nowhere = |to| Routed { to, place: Place::default(), hsts: false };
    let Some(index) = view.site(host) else { return nowhere(Destination::Misdirected) };
    let asked = client.name().map(|name| view.site(name.as_bytes()));
    if client.scheme == Scheme::Https && asked.is_some_and(|asked| asked != Some(index)) {
        return nowhere(Destination::Misdirected);
    }
    let site = view.site_at(index);
    if scheme == Scheme::Http && site.redirect && site.offer.is_some() && has_https {
        // HTTP/1.0 without a host: there is no name to be sent to.
        return nowhere(if host.is_empty() { Destination::Misdirected } else { Destination::Redirect });
    }
    if !client.satisfies(site.clients.as_ref()) {
        return nowhere(Destination::Misdirected);
    }
    // `OPTIONS *` is about the server: whoever answers for `/` answers it.
    let path = if path == b"*" { b"/" } else { path };
    let route = site.route(path);
    let place = Place { site: Some(index), route };
    let to = match route {
        _ if place.maintenance(view).is_some() => Destination::Maintenance,
        Some(route) => Destination::Route(site.to(route).clone()),
        None => Destination::NoRoute,
    };
    Routed { to, place, hsts: site.hsts && scheme == Scheme::Https }
}

impl Place {
    fn site(self, view: &Snapshot) -> Option<&Site> {
        self.site.map(|site| view.site_at(site))
    }

    /// Those of the route that was found.
    pub fn rules(self, view: &Snapshot) -> Option<&Rules> {
        Some(self.site(view)?.rules(self.route?))
    }

    /// A body of more bytes is refused.
    pub fn body_bytes(self, view: &Snapshot) -> u64 {
        self.rules(view).map_or(view.limits.body_bytes, |rules| rules.body_bytes)
    }

    /// Where requests to it are counted.
    pub fn tally(self, view: &Snapshot) -> &Tally {
        match (self.site(view), self.route) {
            (None, _) => &view.no_site,
            (Some(site), None) => &site.tally,
            (Some(site), Some(route)) => site.route_tally(route),
        }
    }

    /// The names of its site and route.
    pub fn names(self, view: &Snapshot) -> (Option<&str>, Option<&str>) {
        let site = self.site(view);
        (site.map(|site| site.name.as_str()), site.zip(self.route).map(|(site, route)| site.path(route)))
    }

    fn maintenance(self, view: &Snapshot) -> Option<&Page> {
        let of_route = self.rules(view).and_then(|rules| rules.maintenance.as_ref());
        of_route.or_else(|| self.site(view)?.maintenance.as_ref())
    }
}

impl Request {
    pub fn rules(&self) -> Option<&Rules> {
        self.place.rules(&self.view)
    }

    /// A body of more bytes is refused.
    pub fn body_bytes(&self) -> u64 {
        self.place.body_bytes(&self.view)
    }

    /// Bytes a second that a body must bring; 0: any.
    pub fn body_rate(&self) -> u64 {
        self.rules().map_or(self.view.limits.body_rate, |rules| rules.body_rate)
    }

    /// How long a server may be silent.
    pub fn response_time(&self) -> Duration {
        self.rules().map_or(self.view.limits.response_time, |rules| rules.response_time)
    }

    pub fn maintenance(&self) -> Option<&Page> {
        self.place.maintenance(&self.view)
    }

    /// The operator's page for an error that the edge itself answers with.
    pub fn error_page(&self, status: u16) -> Option<&Page> {
        self.place.site(&self.view)?.error_page(status)
    }
}
