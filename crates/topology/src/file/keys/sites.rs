//! The keys of a site and of its routes.

use super::*;
use crate::RedirectStatus;
use crate::file::kind::{Codes, RedirectTo};

/// The words of `[site] https`; the table is the fourth choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum HttpsWord {
    Acme,
    Internal,
    Off,
}

section!(
    SITE,
    "[site.\"HOST\"]",
    "A host name that is served.",
    [
        site::HTTPS,
        site::ROUTES,
        site::REQUEST_HEADERS,
        site::RESPONSE_HEADERS,
        site::ERRORS,
        site::MAINTENANCE,
    ]
);
pub(crate) mod site {
    use super::*;
    keys! {
        /// Where its certificate comes from: an ACME authority, the cluster's own CA, files, or nowhere
        HTTPS: (Choices<HttpsWord>, Table) = "https", Optional("HTTP only"), (
            Choices(&[("acme", HttpsWord::Acme), ("internal", HttpsWord::Internal), ("off", HttpsWord::Off)]),
            Table(&CERTIFICATE),
        );
        /// Where requests go, by the start of their path; the longest that fits counts
        ROUTES: Tables = "routes", Required, Tables(&ROUTE);
        /// Changes of every request that is passed on; those of a route come after them
        REQUEST_HEADERS: Table = "request_headers", Optional("nothing is changed"), Table(&FIELDS);
        /// Changes of every answer of a server and of files; those of a route come after them
        RESPONSE_HEADERS: Table = "response_headers", Optional("nothing is changed"), Table(&FIELDS);
        /// Pages for the edge's own errors, by status, or for all of "4xx" or "5xx", as paths from this file
        ERRORS: Settings = "errors", Optional("short pages of the edge's own"),
            Settings { example: "{ 502 = \"502.html\", \"5xx\" = \"error.html\" }", scalars: false };
        /// A page, as a path from this file, that answers everything with 503: take the key out to serve again
        MAINTENANCE: Place = "maintenance", Optional("it serves"), Place;
    }
}

section!(
    CERTIFICATE,
    "https = { cert = \"a.pem\", key = \"a.key\" }",
    "A certificate of your own.",
    [
        certificate::CERT,
        certificate::KEY,
        certificate::REDIRECT,
        certificate::HSTS,
        certificate::CLIENTS,
        certificate::CLIENTS_REQUIRED,
    ]
);
pub(crate) mod certificate {
    use super::*;
    keys! {
        /// A PEM file with the certificate and those that lead to its authority, as a path from this file
        CERT: Place = "cert", Required, Place;
        /// A PEM file with the private key, as a path from this file
        KEY: Place = "key", Required, Place;
        /// Whether plain requests are sent to https
        REDIRECT: Flag = "redirect", Default("true"), Flag;
        /// Whether browsers are told to use nothing but https for the next year
        HSTS: Flag = "hsts", Optional("as `redirect`"), Flag;
        /// A PEM file with the authorities whose certificates clients are asked for, as a path from this file
        CLIENTS: Place = "clients", Optional("clients are not asked for one"), Place;
        /// Whether clients without such a certificate are refused
        CLIENTS_REQUIRED: Flag = "clients_required", Default("true"), Flag;
    }
}

section!(
    ROUTE,
    "{ path = \"/\", pool = \"web\" }",
    "Where requests go.",
    [
        route::PATH,
        route::POOL,
        route::FILES,
        route::REDIRECT,
        route::STATUS,
        route::STRIP_PREFIX,
        route::REPLACE_PREFIX,
        route::REQUEST_HEADERS,
        route::RESPONSE_HEADERS,
        route::BODY_BYTES,
        route::BODY_RATE,
        route::RESPONSE_TIME,
        route::MAINTENANCE,
    ]
);
pub(crate) mod route {
    use super::*;
    keys! {
        /// The start of the path of a request, up to a `/`
        PATH: UrlPath = "path", Required, UrlPath::Compared;
        /// The pool that serves it
        POOL: Parsed<PoolName> = "pool", Optional("`files` or `redirect` says where"), name("the name of a pool", "something like \"web\"");
        /// The directory that it is served from, as a path from this file
        FILES: Place = "files", Optional("`pool` or `redirect` says where"), Place;
        /// Where clients are sent: a path or a URL; {path} is the request's path, {rest} what follows the route's; one that ends in / is a folder for that
        REDIRECT: RedirectTo = "redirect", Optional("`pool` or `files` says where"), RedirectTo;
        /// Of the redirect: for good (301, 308) or for now (302, 307); with 307 and 308 a POST stays one
        STATUS: Codes<RedirectStatus> = "status", Default("307"), Codes(&[
            (301, RedirectStatus::Moved),
            (302, RedirectStatus::Found),
            (307, RedirectStatus::Temporary),
            (308, RedirectStatus::Permanent),
        ]);
        /// Whether servers are sent the path without that of the route
        STRIP_PREFIX: Flag = "strip_prefix", Default("false"), Flag;
        /// What servers are sent in the place of the route's path
        REPLACE_PREFIX: UrlPath = "replace_prefix", Optional("the path stays"), UrlPath::Alone;
        /// Changes of the requests that are passed on
        REQUEST_HEADERS: Table = "request_headers", Optional("nothing is changed"), Table(&FIELDS);
        /// Changes of the answers of servers and of files
        RESPONSE_HEADERS: Table = "response_headers", Optional("nothing is changed"), Table(&FIELDS);
        /// Bytes of a request's body; more is answered 413
        BODY_BYTES: Count = "body_bytes", Optional("`body_bytes` of [edge.limits]"), Count(0..=1 << 50);
        /// Bytes a second that a request's body must bring, as `body_rate` of [edge.limits]; 0: any, which streams of clients need
        BODY_RATE: Count = "body_rate", Optional("`body_rate` of [edge.limits]"), Count(0..=1 << 30);
        /// Until a server's first byte of a response, and between any two reads of a body; streams that may be silent need more
        RESPONSE_TIME: Period = "response_time", Optional("`response_time` of [edge.limits]"), ms(1, DAY_MS);
        /// A page, as a path from this file, that answers everything with 503: take the key out to serve again
        MAINTENANCE: Place = "maintenance", Optional("it serves"), Place;
    }
}

section!(
    FIELDS,
    "{ set = { Name = \"value\" }, remove = [\"Name\"] }",
    "Fields of a message that are written or left out.",
    [fields::SET, fields::REMOVE]
);
pub(crate) mod fields {
    use super::*;
    keys! {
        /// Names and values, each in the place of all fields of that name
        SET: Settings = "set", Optional("none is written"),
            Settings { example: "{ Cache-Control = \"no-cache\" }", scalars: false };
        /// Names of fields that are left out
        REMOVE: ListOf<Text> = "remove", Optional("none is left out"), ListOf {
            item: Text { wanted: "the name of a field", example: "something like \"Server\"", empty: false },
            min: 0,
        };
    }
}
