//! HTTP/2 heads to HTTP/1.1 heads and back, as pure functions (RFC 9113 section 8, RFC 9110 section 7.6).
//!
//! A request becomes the text that an HTTP/1.1 client would have sent, and [`crate::codec`] judges that text: there is
//! one set of rules, one place that enforces them, and whatever HTTP/2 lets pass that HTTP/1.1 would not is refused
//! (RFC 9113 section 10.3). `h2` has checked the pseudo fields and the frames before.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{self, Authority, PathAndQuery, Uri};
use http::{Method, Request, Response, StatusCode, Version, response};

use crate::codec::{Asked, BodyLength, Fault, Known, RequestHead};

/// Does it ask for a stream that carries a WebSocket (RFC 8441)?
pub fn is_websocket(parts: &Parts) -> bool {
    parts.method == Method::CONNECT
        && parts.extensions.get::<Protocol>().is_some_and(|p| p.as_str().eq_ignore_ascii_case("websocket"))
}

/// Appends the head of `parts` as HTTP/1.1 text. `has_body`: the stream goes on after the head. `key`: 16 random bytes,
/// for servers of WebSockets, which want one in HTTP/1.1 (RFC 6455 section 4.1).
///
/// # Errors
/// What HTTP/1.1 has no form for. What has a form may still be refused by the codec.
pub fn write_request(out: &mut Vec<u8>, parts: &Parts, has_body: bool, key: [u8; 16]) -> Result<(), Fault> {
    let is_websocket = is_websocket(parts);
    let method = if is_websocket { &Method::GET } else { &parts.method };
    if *method == Method::CONNECT {
        return Err(Fault::Connect);
    }
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(parts.uri.path_and_query().ok_or(Fault::Target)?.as_str().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(host(parts)?);
    out.extend_from_slice(b"\r\n");
    write_fields(out, &parts.headers)?;
    if is_websocket {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ");
        out.extend_from_slice(BASE64.encode(key).as_bytes());
        out.extend_from_slice(b"\r\n");
    } else if parts.headers.contains_key(header::CONTENT_LENGTH) {
        // Its field was written with the others; `h2` holds the body to it.
    } else if has_body {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    } else if matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
        // Servers that want a length for such methods cannot see that the stream has ended (RFC 9110 section 8.6).
        out.extend_from_slice(b"Content-Length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// `:authority`, or `Host` where that is missing. Two that differ are two hosts (RFC 9113 section 8.3.1).
fn host(parts: &Parts) -> Result<&[u8], Fault> {
    let mut fields = parts.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Fault::HostRepeated);
    }
    let authority = parts.uri.authority().map(|a| a.as_str().as_bytes());
    match (authority, field) {
        (Some(one), Some(other)) if !one.eq_ignore_ascii_case(other) => Err(Fault::HostRepeated),
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(Fault::HostMissing),
    }
}

fn write_fields(out: &mut Vec<u8>, fields: &HeaderMap) -> Result<(), Fault> {
    for (name, value) in fields {
        if [header::HOST, header::COOKIE, header::SEC_WEBSOCKET_KEY].contains(name) {
            continue;
        }
        // A request with one is malformed, but for what it says of trailers (RFC 9113 section 8.2.2).
        if *name != header::TE && is_of_connection(name.as_str().as_bytes()) {
            return Err(Fault::FieldName);
        }
        write_field(out, name.as_str(), value.as_bytes());
    }
    // A cookie may come in pieces, which HTTP/1.1 does not know (RFC 9113 section 8.2.3).
    let mut pieces = fields.get_all(header::COOKIE).iter();
    if let Some(first) = pieces.next() {
        out.extend_from_slice(b"cookie: ");
        out.extend_from_slice(first.as_bytes());
        for piece in pieces {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(piece.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A response that the edge wrote for an HTTP/1.1 client, as one of HTTP/2 is told it.
pub struct Said {
    pub response: Response<()>,
    /// Bytes of its head as text.
    pub len: usize,
    pub body: BodyLength,
}

/// The response whose head `text` begins with. The edge wrote it, from what the codec let pass: it is taken apart here,
/// not judged again.
///
/// # Errors
/// [`Fault`] for what HTTP/2 cannot carry; the codec has let nothing of the kind pass.
pub fn read_response(text: &[u8], asked: Asked) -> Result<Said, Fault> {
    let len = memchr::memmem::find(text, b"\r\n\r\n").ok_or(Fault::HeadTooLong)? + 4;
    let status =
        StatusCode::from_bytes(text.get(9..12).unwrap_or_default()).map_err(|_| Fault::StatusLine)?;
    // No answer of the edge's own, such as a file, may be taken for an open tunnel.
    if asked == Asked::WebSocket && status.is_success() {
        return Err(Fault::NotSwitched);
    }
    let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
    let mut response = Response::new(());
    *response.version_mut() = Version::HTTP_2;
    // A stream that was asked to carry a WebSocket is told 200, and needs no key answered (RFC 8441 section 5).
    *response.status_mut() = if is_switch { StatusCode::OK } else { status };
    let fields = response.headers_mut();
    fields.reserve(FIELDS_USUAL);
    let mut length = None;
    // One copy for all values: each is a range of it.
    let shared = Bytes::copy_from_slice(&text[..len]);
    let mut start = memchr::memchr(b'\n', text).map_or(len, |end| end + 1);
    // Up to the empty line.
    while start < len - 2 {
        let end = start + memchr::memchr(b'\n', &text[start..len]).ok_or(Fault::BareLineFeed)?;
        let colon = start + memchr::memchr(b':', &text[start..end]).ok_or(Fault::FieldName)?;
        let value = shared.slice_ref(shared[colon + 1..end].trim_ascii());
        let name = &text[start..colon];
        start = end + 1;
        if is_of_connection(name) || is_switch && name.eq_ignore_ascii_case(b"sec-websocket-accept") {
            continue;
        }
        let (name, value) = field(name, value)?;
        if name == header::CONTENT_LENGTH {
            length = value.to_str().ok().and_then(|digits| digits.parse().ok());
        }
        fields.append(name, value);
    }
    let has_none = asked == Asked::Head && !status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || length == Some(0);
    let body = match length {
        _ if has_none => BodyLength::None,
        Some(bytes) => BodyLength::Length(bytes),
        None => BodyLength::UntilClose,
    };
    Ok(Said { response, len, body })
}

/// Fields that most answers have room for.
const FIELDS_USUAL: usize = 12;

/// Is it a field of one connection of HTTP/1.1, which HTTP/2 has no use for?
fn is_of_connection(name: &[u8]) -> bool {
    let candidates: &[&[u8]] = match name.len() {
        2 => &[b"te"],
        7 => &[b"upgrade", b"trailer"],
        10 => &[b"connection", b"keep-alive"],
        16 => &[b"proxy-connection"],
        17 => &[b"transfer-encoding"],
        _ => &[],
    };
    candidates.iter().any(|candidate| name.eq_ignore_ascii_case(candidate))
}

/// Names of values that never come again. They are not kept in the table of fields that both sides share: they would
/// only drive out what comes with each message (RFC 7541 section 7.1.3).
static UNREPEATED: [HeaderName; 2] =
    [HeaderName::from_static("x-request-id"), HeaderName::from_static("traceparent")];

fn field(name: &[u8], value: Bytes) -> Result<(HeaderName, HeaderValue), Fault> {
    let mut value = HeaderValue::from_maybe_shared(value).map_err(|_| Fault::FieldValue)?;
    let unrepeated = |one: &&HeaderName| name.eq_ignore_ascii_case(one.as_str().as_bytes());
    let name = match UNREPEATED.iter().find(unrepeated) {
        Some(name) => {
            value.set_sensitive(true);
            name.clone()
        }
        None => HeaderName::from_bytes(name).map_err(|_| Fault::FieldName)?,
    };
    Ok((name, value))
}

/// The request that the edge wrote for a server of HTTP/1.1, for one of HTTP/2; `text` is what `head` was parsed from.
/// The server is told that trailers are welcome: where they must be dropped they are dropped here.
///
/// # Errors
/// [`Fault`] for what HTTP/2 cannot carry, such as a request that names no host.
pub fn read_request(head: &RequestHead, text: &[u8], is_https: bool) -> Result<Request<()>, Fault> {
    let mut target = uri::Parts::default();
    target.scheme = Some(if is_https { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
    target.authority = Some(Authority::try_from(head.host.of(text)).map_err(|_| Fault::HostInvalid)?);
    target.path_and_query = Some(PathAndQuery::try_from(head.target.of(text)).map_err(|_| Fault::Target)?);
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = Method::from_bytes(head.method_name.of(text)).map_err(|_| Fault::Method)?;
    *request.uri_mut() = Uri::from_parts(target).map_err(|_| Fault::Target)?;
    let fields = request.headers_mut();
    fields.reserve(head.fields().len() + 1);
    let shared = Bytes::copy_from_slice(text);
    for field in head.fields() {
        let name = field.name.of(text);
        if is_of_connection(name) || field.known == Known::Host {
            continue;
        }
        let (name, value) = self::field(name, shared.slice(field.value.range()))?;
        fields.append(name, value);
    }
    fields.insert(header::TE, HeaderValue::from_static("trailers"));
    Ok(request)
}

/// The head of a response of HTTP/2 as HTTP/1.1 text. `is_empty`: its body has ended, and that is to be said.
pub fn write_response(parts: &response::Parts, is_empty: bool) -> Bytes {
    let status = parts.status;
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in &parts.headers {
        write_field(&mut out, name.as_str(), value.as_bytes());
    }
    let has_length = parts.headers.contains_key(header::CONTENT_LENGTH);
    if is_empty && !has_length && !status.is_informational() && !matches!(status.as_u16(), 204 | 304) {
        out.extend_from_slice(b"Content-Length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{HeadLimits, Progress};

    const LIMITS: HeadLimits = HeadLimits { bytes: 32 << 10, fields: 128, line_bytes: 8 << 10 };

    fn text(request: http::request::Builder, has_body: bool) -> Result<String, Fault> {
        let (parts, ()) = request.version(Version::HTTP_2).body(()).unwrap().into_parts();
        let mut out = Vec::new();
        write_request(&mut out, &parts, has_body, [7; 16])?;
        let mut head = RequestHead::default();
        assert_eq!(head.parse(&out, &LIMITS)?, Progress::Done { len: out.len() });
        assert!(head.body != BodyLength::Chunked || has_body);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn requests() {
        let get = |uri: &str| Request::get(uri);
        assert_eq!(
            text(get("https://shop.example/a?b").header("accept", "*/*"), false).unwrap(),
            "GET /a?b HTTP/1.1\r\nHost: shop.example\r\naccept: */*\r\n\r\n"
        );
        assert_eq!(
            text(get("https://shop.example/").header("cookie", "a=1").header("cookie", "b=2"), false)
                .unwrap(),
            "GET / HTTP/1.1\r\nHost: shop.example\r\ncookie: a=1; b=2\r\n\r\n"
        );
        assert_eq!(
            text(get("/").header("host", "shop.example"), false).unwrap(),
            "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"
        );
        assert_eq!(
            text(Request::options("*").header("host", "x"), false).unwrap(),
            "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        let post = || Request::post("https://x/");
        assert!(text(post(), false).unwrap().ends_with("Content-Length: 0\r\n\r\n"));
        assert!(text(post(), true).unwrap().ends_with("Transfer-Encoding: chunked\r\n\r\n"));
        assert!(
            text(post().header("content-length", "3"), true).unwrap().ends_with("content-length: 3\r\n\r\n")
        );
    }

    #[test]
    fn a_websocket() {
        let connect =
            |protocol| Request::connect("https://x/chat").extension(Protocol::from_static(protocol));
        assert_eq!(
            text(connect("websocket").header("sec-websocket-version", "13"), true).unwrap(),
            "GET /chat HTTP/1.1\r\nHost: x\r\nsec-websocket-version: 13\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Key: BwcHBwcHBwcHBwcHBwcHBw==\r\n\r\n"
        );
        assert_eq!(text(connect("connect-ip"), true), Err(Fault::Connect));
    }

    #[test]
    fn what_has_no_form_in_http11_is_refused() {
        let get = |uri: &str| Request::get(uri);
        for (request, fault) in [
            (get("/"), Fault::HostMissing),
            (get("https://x/").header("host", "y"), Fault::HostRepeated),
            (get("/").header("host", "x").header("host", "x"), Fault::HostRepeated),
            (get("https://user@x/"), Fault::HostInvalid),
            (get("https://x/").header("connection", "close"), Fault::FieldName),
            (get("https://x/").header("transfer-encoding", "chunked"), Fault::FieldName),
            (get("https://x/").header("keep-alive", "1"), Fault::FieldName),
            (Request::connect("x:1"), Fault::Connect),
            (get("https://x/\"quoted\""), Fault::Target),
            (get("https://x/").header("content-length", "1, 1"), Fault::ContentLength),
        ] {
            assert_eq!(text(request, false), Err(fault));
        }
    }

    #[test]
    fn responses() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\
                     Transfer-Encoding: chunked\r\nConnection: close\r\nVia: 1.1 x\r\n\r\nrest";
        let Said { response, len, body } = read_response(text, Asked::Other).unwrap();
        assert_eq!((&text[len..], body), (b"rest".as_slice(), BodyLength::UntilClose));
        assert_eq!(response.status(), 200);
        let fields: Vec<_> =
            response.headers().iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        assert_eq!(fields, ["content-type: text/plain", "set-cookie: a", "set-cookie: b", "via: 1.1 x"]);
    }
}
