//! HTTP/2 as HTTP/1.1 and back: one request stays one request, and nobody can say more in one version than in the other.
//!
//! An input is the head of a message as text: `METHOD PATH AUTHORITY`, or a status, then a field a line; an empty line
//! and more say that a body follows.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Response, StatusCode, uri};

use super::LIMITS;
use crate::codec::{Asked, BodyLength, Progress, RequestHead, ResponseHead};
use crate::h2::translate;

/// What `h2` has refused before (RFC 9113 section 8.2.2).
const OF_ONE_CONNECTION: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

pub fn http2(data: &[u8]) {
    let (head, has_body) = match memchr::memmem::find(data, b"\n\n") {
        Some(end) => (&data[..end], true),
        None => (data, false),
    };
    let mut lines = head.split(|b| *b == b'\n');
    let first = lines.next().unwrap_or_default();
    let Some(fields) = fields(lines) else { return };
    if let Some(request) = request(first, &fields) {
        going_up(request, has_body);
    }
    if let Ok(status) = StatusCode::from_bytes(first) {
        let mut response = Response::new(());
        (*response.status_mut(), *response.headers_mut()) = (status, fields);
        coming_down(response, !has_body);
    }
}

/// `None`: what is no field of HTTP/2 at all.
fn fields<'l>(lines: impl Iterator<Item = &'l [u8]>) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = memchr::memchr(b':', line)?;
        let name = HeaderName::from_lowercase(&line[..colon]).ok()?;
        fields.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    Some(fields)
}

fn request(line: &[u8], fields: &HeaderMap) -> Option<Request<()>> {
    let mut words = line.split(|b| *b == b' ');
    let (method, path, authority) = (words.next()?, words.next()?, words.next()?);
    let mut target = uri::Parts::default();
    target.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    if !authority.is_empty() {
        target.authority = Some(Authority::try_from(authority).ok()?);
        target.scheme = Some(Scheme::HTTP);
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::from_parts(target).ok()?;
    *request.headers_mut() = fields.clone();
    Some(request)
}

/// What is written is one whole head of HTTP/1.1 or refused, and what is read back is the request.
fn going_up(request: Request<()>, has_body: bool) {
    let (parts, ()) = request.into_parts();
    let (mut text, mut head) = (Vec::new(), RequestHead::default());
    if translate::write_request(&mut text, &parts, has_body, [7; 16]).is_err() {
        return;
    }
    let Ok(Progress::Done { len }) = head.parse(&text, &LIMITS[0]) else { return };
    assert_eq!(len, text.len(), "bytes follow the head, and would be another request");
    assert_eq!(head.method_name.of(&text), parts.method.as_str().as_bytes());
    assert_eq!(Some(head.target.of(&text)), parts.uri.path_and_query().map(|p| p.as_str().as_bytes()));
    assert!(parts.headers.keys().all(|name| !OF_ONE_CONNECTION.contains(&name.as_str())));
    match (head.body, parts.headers.contains_key("content-length")) {
        (BodyLength::Chunked, has_length) => assert!(has_body && !has_length),
        (BodyLength::Length(_), has_length) => assert!(has_length),
        (BodyLength::None, has_length) => assert!(!has_body || has_length),
        (BodyLength::UntilClose, _) => panic!("no request ends with its connection"),
    }
    let Ok(back) = translate::read_request(&head, &text, false) else { return };
    assert_eq!((back.method(), back.uri().path()), (&parts.method, parts.uri.path()));
    assert_eq!(back.uri().query(), parts.uri.query());
    for name in parts.headers.keys().filter(|name| !matches!(name.as_str(), "host" | "cookie" | "te")) {
        if back.headers().contains_key(name) {
            assert_eq!(values(back.headers(), name), values(&parts.headers, name), "{name}");
        }
    }
}

/// What a server said in HTTP/2 is one whole head of HTTP/1.1 or refused, and a client is told the same.
fn coming_down(response: Response<()>, is_empty: bool) {
    let (parts, ()) = response.into_parts();
    if parts.headers.keys().any(|name| OF_ONE_CONNECTION.contains(&name.as_str())) {
        return;
    }
    let (text, mut head) = (translate::write_response(&parts, is_empty), ResponseHead::default());
    for asked in [Asked::Other, Asked::Head] {
        let Ok(Progress::Done { len }) = head.parse(&text, &LIMITS[0], asked) else { continue };
        assert_eq!(len, text.len(), "bytes follow the head");
        assert_ne!(head.body, BodyLength::Chunked);
        let Ok(back) = translate::read_response(&text, asked) else { continue };
        assert_eq!((back.response.status(), back.len), (parts.status, len));
        // One that announces others ends with its head, and is not asked for a body.
        if !head.is_interim() {
            assert_eq!(back.body, head.body, "{asked:?}");
        }
        let (told, said) = (back.response.headers(), &parts.headers);
        for name in said.keys().filter(|name| !matches!(name.as_str(), "te" | "trailer")) {
            assert_eq!(values(told, name), values(said, name), "{name}");
        }
        let is_added = |name: &&HeaderName| !said.contains_key(*name);
        assert!(told.keys().filter(is_added).all(|name| is_empty && name == "content-length"), "{told:?}");
        assert!(!told.contains_key("te") && !told.contains_key("trailer"), "{told:?}");
    }
}

fn values(fields: &HeaderMap, name: &HeaderName) -> Vec<Vec<u8>> {
    fields.get_all(name).iter().map(|value| value.as_bytes().trim_ascii().to_vec()).collect()
}
