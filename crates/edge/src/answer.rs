//! Answers that are the edge's own: redirects, and short pages that say what went wrong to whoever reads them.

use std::time::Duration;

use crate::access_log::{Outcome, Tried};
use crate::codec::{Asked, BodyLength, Edits, Method};
use crate::connection::{Connection, Request};
use crate::counters::Reason;
use crate::pages::Page;
use crate::servers::Server;
use crate::tunnel::Carried;
use crate::wire::Io;
use crate::worker::Worker;

/// How a request ended, for the log and for the connection.
pub struct Answered<'a> {
    /// 0: the client was told none.
    pub status: u16,
    /// Of the body, or through the tunnel, that the client was sent.
    pub bytes: u64,
    pub server: Option<&'a Server>,
    pub tries: u32,
    /// Those that brought no answer, in their order.
    pub tried: Vec<Tried<'a>>,
    pub connect: Duration,
    pub first_byte: Duration,
    pub why: Option<&'static str>,
    /// It was no answer but a tunnel.
    pub tunnel: Option<Carried>,
    pub end: End,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Keep,
    Close,
    /// Closed so that nobody takes what was sent for whole.
    Reset,
}

impl<'a> Answered<'a> {
    /// A try ended without an answer.
    pub fn failed(&mut self, server: &'a Server, result: Outcome, took: Duration) {
        self.tried.push(Tried { server: server.id.as_str(), result, took });
    }

    pub fn own(status: u16, why: Option<&'static str>, end: End) -> Self {
        let zero = Duration::ZERO;
        Self {
            status,
            bytes: 0,
            server: None,
            tries: 0,
            tried: Vec::new(),
            connect: zero,
            first_byte: zero,
            why,
            tunnel: None,
            end,
        }
    }
}

/// Answers with a page of the edge's own.
pub async fn fail<'a, S: Io>(
    connection: &mut Connection<S>,
    request: &Request,
    status: u16,
    reason: Reason,
) -> Answered<'a> {
    connection.worker.counters.reason(reason);
    let extra = if status == 503 { "Retry-After: 1\r\n" } else { "" };
    reply(connection, request, status, words(status), Some(reason.label()), extra).await
}

/// To the same target over HTTPS. The method stays: 301 for those that have no body, 308 for the others
/// (RFC 9110 section 15.4).
pub async fn redirect<'a, S: Io>(connection: &mut Connection<S>, request: &Request) -> Answered<'a> {
    let status = if matches!(request.method, Method::Get | Method::Head) { 301 } else { 308 };
    let host = crate::codec::host_without_port(request.spans.host.of(&request.head));
    let port = match connection.worker.shared.https_port() {
        None | Some(443) => String::new(),
        Some(port) => format!(":{port}"),
    };
    let target = if request.target() == b"*" { b"/" } else { request.target() };
    let extra = format!(
        "Location: https://{}{port}{}\r\n",
        String::from_utf8_lossy(host),
        String::from_utf8_lossy(target)
    );
    reply(connection, request, status, words(status), None, &extra).await
}

/// As the recipient that `Max-Forwards: 0` makes of the edge: a TRACE is told how it arrived, an OPTIONS that somebody
/// is here.
pub async fn last_hop<'a, S: Io>(
    connection: &mut Connection<S>,
    request: &Request,
    seen: &[u8],
) -> Answered<'a> {
    match request.method {
        Method::Trace => {
            say(connection, request, 200, "Content-Type: message/http\r\n", seen, None, None).await
        }
        _ => say(connection, request, 204, "", &[], None, None).await,
    }
}

/// For the route of the request: with the lines of `extra`, changed by its rules, and without a body.
pub async fn by_route<'a, S: Io>(
    connection: &mut Connection<S>,
    request: &Request,
    status: u16,
    extra: &str,
) -> Answered<'a> {
    let edits = request.rules().map(|rules| &rules.response);
    say(connection, request, status, extra, &[], None, edits).await
}

/// With a short page for whoever reads it.
pub async fn reply<'a, S: Io>(
    connection: &mut Connection<S>,
    request: &Request,
    status: u16,
    words: &str,
    why: Option<&'static str>,
    extra: &str,
) -> Answered<'a> {
    if let Some(page) = request.error_page(status) {
        let extra = format!("{}{extra}", described(page));
        return say(connection, request, status, &extra, &page.bytes, why, None).await;
    }
    let body = body(status, words, request.id.as_str());
    let extra = format!("{HTML}{extra}");
    say(connection, request, status, &extra, body.as_bytes(), why, None).await
}

/// Where the route of the request sends it.
pub async fn redirect_by_rule<'a, S: Io>(
    connection: &mut Connection<S>,
    request: &Request,
    status: u16,
) -> Answered<'a> {
    let rules = request.rules();
    let redirect = rules.and_then(|rules| Some((rules, rules.redirect.as_ref()?)));
    let Some((rules, redirect)) = redirect else {
        return fail(connection, request, 404, Reason::NoRoute).await;
    };
    let extra = format!("Location: {}\r\n", rules.location(&redirect.to, request.target()));
    by_route(connection, request, status, &extra).await
}

/// That the site, or this part of it, is being worked on.
pub async fn maintenance<'a, S: Io>(connection: &mut Connection<S>, request: &Request) -> Answered<'a> {
    let Some(page) = request.maintenance() else {
        return fail(connection, request, 503, Reason::Maintenance).await;
    };
    connection.worker.counters.reason(Reason::Maintenance);
    let extra = format!("{}Retry-After: {MAINTENANCE_RETRY_S}\r\n", described(page));
    let why = Some(Reason::Maintenance.label());
    say(connection, request, 503, &extra, &page.bytes, why, None).await
}

/// When a client may ask again, seconds. Work takes longer than a restart.
const MAINTENANCE_RETRY_S: u32 = 120;

fn described(page: &Page) -> String {
    format!("Content-Type: {}\r\nCache-Control: no-store\r\n", page.media_type)
}

async fn say<'a, S: Io>(
    connection: &mut Connection<S>,
    request: &Request,
    status: u16,
    extra: &str,
    body: &[u8],
    why: Option<&'static str>,
    edits: Option<&Edits>,
) -> Answered<'a> {
    // A body that is not read would be taken for the next request.
    let keeps = request.persists && request.body == BodyLength::None && !connection.worker.draining.get();
    let extra = format!("{extra}{}", request.connection_line(keeps));
    let mut text = head(&connection.worker, status, request.id.as_str(), &extra, body.len());
    if let Some(edits) = edits {
        edits.apply(&mut text, 0);
    }
    let mut bytes = 0;
    if request.method != Method::Head {
        text.extend_from_slice(body);
        bytes = body.len() as u64;
    }
    let end = if keeps { End::Keep } else { End::Close };
    match connection.send(text).await {
        Ok(_) => Answered { bytes, ..Answered::own(status, why, end) },
        Err(reason) => Answered::own(status, why.or(Some(reason.label())), End::Reset),
    }
}

const HTML: &str = "Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n";

/// A whole response with a small page, for what is no request.
pub fn page(worker: &Worker, status: u16, words: &str, id: &str) -> Vec<u8> {
    let body = body(status, words, id);
    let mut text = head(worker, status, id, &format!("{HTML}Connection: close\r\n"), body.len());
    text.extend_from_slice(body.as_bytes());
    text
}

fn head(worker: &Worker, status: u16, id: &str, extra: &str, body_bytes: usize) -> Vec<u8> {
    let title = title(status);
    // RFC 9110 section 8.6.
    let length = if status == 204 { String::new() } else { format!("Content-Length: {body_bytes}\r\n") };
    let text = worker.with_date(|date| {
        format!("HTTP/1.1 {status} {title}\r\n{length}Date: {date}\r\nX-Request-Id: {id}\r\n{extra}\r\n")
    });
    text.into_bytes()
}

fn body(status: u16, words: &str, id: &str) -> String {
    let title = title(status);
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{status} {title}</title>\n<style>body{{font:17px/1.5 system-ui,sans-serif;\
         max-width:34em;margin:18vh auto;padding:0 1.5em;color:#222;background:#fafaf8}}h1{{font-size:1.5em;margin:0}}\
         p{{margin:.6em 0}}small{{color:#777;font-family:ui-monospace,monospace}}@media(prefers-color-scheme:dark)\
         {{body{{color:#ddd;background:#1b1b1a}}}}</style>\n<h1>{title}</h1><p>{}</p><p><small>{status} &middot; request {id}\
         </small></p></html>\n",
        words.replace('&', "&amp;").replace('<', "&lt;")
    )
}

pub fn title(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

/// For whoever reads the page.
pub fn words(status: u16) -> &'static str {
    match status {
        301 | 308 => "This page is served over HTTPS.",
        404 => "There is nothing at this address.",
        405 => "This address does not know that method.",
        408 => "The request did not arrive in time.",
        412 => "The file is not the one that was expected.",
        416 => "The file is shorter than the range that was asked for.",
        421 => "No site of that name is served here.",
        500 => "The file could not be read.",
        502 => "The application closed the connection or answered with something that is not HTTP.",
        503 => "No server can answer at the moment. Please try again shortly.",
        504 => "The application did not answer in time.",
        _ => "The request could not be answered.",
    }
}

impl Request {
    /// As its answer's parser needs to know it.
    pub fn asked(&self) -> Asked {
        match self.method {
            Method::Head => Asked::Head,
            _ if self.offers_websocket => Asked::WebSocket,
            _ => Asked::Other,
        }
    }

    /// The target as a server is sent it, with its query.
    pub fn target(&self) -> &[u8] {
        let start = self.spans.method.of(&self.head).len() + 1;
        let rest = &self.head[start..];
        &rest[..memchr::memchr(b' ', rest).unwrap_or(rest.len())]
    }

    /// The `Connection` line of an answer, empty where silence says the same.
    pub fn connection_line(&self, keeps: bool) -> &'static str {
        match (keeps, self.version) {
            (false, _) => "Connection: close\r\n",
            (true, crate::codec::Version::Http10) => "Connection: keep-alive\r\n",
            (true, crate::codec::Version::Http11 | crate::codec::Version::Http2) => "",
        }
    }
}
