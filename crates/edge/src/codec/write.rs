//! Heads written anew: only what was understood is passed on, and what one connection said of itself is not.

use std::io::Write;

use tiebeam_topology::{Forwarded, Traces};

use super::forwarded::write_forwarded;
use super::{BodyLength, Known, RequestHead, ResponseHead, Span, Version};

/// Ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Offers the WebSocket protocol, and accepts it.
const SWITCH: &[u8] = b"Connection: Upgrade\r\nUpgrade: websocket\r\n";

/// What the edge adds to a request.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    /// The client's address, and behind it those of the proxies that it came through, with `, ` between them.
    pub chain: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host that the client asked for, if not the request's own.
    pub host: Option<&'a [u8]>,
    /// The client's certificate, if it has one, as RFC 9440 writes it.
    pub certificate: Option<&'a str>,
    /// By which fields a server is told so.
    pub form: Forwarded,
    /// 32 hexadecimal digits, neither half all zeros.
    pub request_id: &'a str,
    /// Whether the edge names itself in `Via`.
    pub via: bool,
    pub traces: Traces,
}

/// Where the parts that a log line needs lie in a written request.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestSpans {
    pub method: Span,
    /// Without the query: that may hold secrets.
    pub path: Span,
    pub host: Span,
    /// Of its trace: 32 hexadecimal digits; empty if it belongs to none.
    pub trace: Span,
}

/// Appends the request for a server, in origin form and HTTP/1.1, with an empty `Host` if the client named none
/// (RFC 9110 section 7.2). `buffer` is what `head` was parsed from.
pub fn write_request(
    out: &mut Vec<u8>,
    head: &RequestHead,
    buffer: &[u8],
    from: &Forwarding<'_>,
) -> RequestSpans {
    let (method, host) = (head.method_name.of(buffer), head.host.of(buffer));
    let method_start = out.len();
    out.extend_from_slice(method);
    let method_end = out.len();
    out.push(b' ');
    let path_start = out.len();
    write_target(out, head, buffer);
    let path_end = path_start + memchr::memchr(b'?', &out[path_start..]).unwrap_or(out.len() - path_start);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    let host_start = out.len();
    out.extend_from_slice(host);
    let host_end = out.len();
    out.extend_from_slice(b"\r\n");
    let trace = if from.traces == Traces::Off { None } else { head.trace(buffer) };
    for field in head.fields() {
        let passes = match field.known {
            Known::Other => head.fields.named.is_empty() || !head.fields.is_named(buffer, field),
            Known::Via | Known::Date | Known::StrictTransportSecurity => true,
            Known::TraceState => trace.is_some(),
            Known::Expect => head.expects_continue,
            // Means nothing to other methods, and is theirs.
            Known::MaxForwards => head.max_forwards.is_none(),
            _ => false,
        };
        if passes {
            write_field(out, field.name.of(buffer), field.value.of(buffer));
        }
    }
    if head.offers_websocket {
        out.extend_from_slice(SWITCH);
    }
    match head.body {
        BodyLength::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        _ => {
            if let Some(length) = head.fields.content_length {
                write_length(out, length);
            }
        }
    }
    if let Some(left) = head.max_forwards {
        let _ = write!(out, "Max-Forwards: {}\r\n", left.saturating_sub(1));
    }
    write_via(out, from.via, head.version);
    write_origin(out, from, from.host.unwrap_or(host));
    out.extend_from_slice(b"X-Request-Id: ");
    out.extend_from_slice(from.request_id.as_bytes());
    let trace = match (trace, from.traces) {
        (None, Traces::Pass | Traces::Off) => Span::default(),
        (trace, _) => write_trace_parent(out, trace, from.request_id),
    };
    out.extend_from_slice(b"\r\n\r\n");
    RequestSpans {
        method: Span::new(method_start, method_end),
        path: Span::new(path_start, path_end),
        host: Span::new(host_start, host_end),
        trace,
    }
}

fn write_origin(out: &mut Vec<u8>, from: &Forwarding<'_>, host: &[u8]) {
    if from.form != Forwarded::Rfc7239 {
        out.extend_from_slice(b"X-Forwarded-For: ");
        out.extend_from_slice(from.chain.as_bytes());
        out.extend_from_slice(b"\r\nX-Forwarded-Proto: ");
        out.extend_from_slice(from.scheme.as_bytes());
        if !host.is_empty() {
            out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
            out.extend_from_slice(host);
        }
        out.extend_from_slice(b"\r\n");
    }
    if from.form != Forwarded::XForwarded {
        write_forwarded(out, from.chain, from.scheme, host);
    }
    if let Some(certificate) = from.certificate {
        write_field(out, b"Client-Cert", certificate.as_bytes());
    }
}

/// The trace goes on unchanged, as this edge takes no part in it; or it starts here, with the request's id and half of
/// that for the edge's own part. W3C Trace Context section 3.2.2.5.1 would have it begin unsampled where nobody has
/// decided. But servers follow what they are told, and would then record nothing, which they do not do if they are told
/// nothing: so here it is marked as sampled, and `edge.traceparent = "pass"` leaves the decision to them.
fn write_trace_parent(out: &mut Vec<u8>, trace: Option<(&[u8], Span)>, request_id: &str) -> Span {
    out.extend_from_slice(b"\r\ntraceparent: ");
    let at = out.len();
    let id = match trace {
        Some((value, id)) => {
            out.extend_from_slice(value);
            id.range()
        }
        None => {
            out.extend_from_slice(b"00-");
            out.extend_from_slice(request_id.as_bytes());
            out.push(b'-');
            out.extend_from_slice(request_id.get(..16).unwrap_or_default().as_bytes());
            out.extend_from_slice(b"-01");
            3..3 + request_id.len()
        }
    };
    Span::new(at + id.start, at + id.end)
}

/// Appends a TRACE as it came, for its own answer: its first line, and of its fields those about its way. Any other may
/// be a secret that a script in a browser must not get to read (RFC 9110 section 9.3.8).
pub fn write_trace(out: &mut Vec<u8>, head: &RequestHead, buffer: &[u8]) {
    let line = buffer.get(head.method_name.start as usize..).unwrap_or_default();
    let end = memchr::memchr(b'\r', line).unwrap_or(line.len());
    out.extend_from_slice(&line[..end]);
    out.extend_from_slice(b"\r\n");
    for field in head.fields() {
        if matches!(field.known, Known::Host | Known::Via | Known::MaxForwards) {
            write_field(out, field.name.of(buffer), field.value.of(buffer));
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn write_target(out: &mut Vec<u8>, head: &RequestHead, buffer: &[u8]) {
    match head.target.of(buffer) {
        // `OPTIONS http://host` asks about the server as a whole (RFC 9112 section 3.2.4).
        [] if head.method == super::Method::Options => out.push(b'*'),
        [] => out.push(b'/'),
        query @ [b'?', ..] => {
            out.push(b'/');
            out.extend_from_slice(query);
        }
        target => out.extend_from_slice(target),
    }
}

/// What the edge adds to a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseExtras<'a> {
    pub request_id: &'a str,
    /// An HTTP date, for servers that sent none (RFC 9110 section 6.6.1).
    pub date: &'a str,
    pub hsts: bool,
    /// Whether the edge names itself in `Via`.
    pub via: bool,
    /// How the body is framed for this client.
    pub framing: BodyLength,
    /// The client speaks HTTP/1.0 and must be told that the connection stays.
    pub say_keep_alive: bool,
    pub say_close: bool,
}

/// Appends the response for a client. `buffer` is what `head` was parsed from.
pub fn write_response(out: &mut Vec<u8>, head: &ResponseHead, buffer: &[u8], extras: &ResponseExtras<'_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let status = head.status;
    out.extend_from_slice(&[status / 100, status / 10 % 10, status % 10].map(|d| b'0' + d as u8));
    out.push(b' ');
    out.extend_from_slice(head.reason.of(buffer));
    out.extend_from_slice(b"\r\n");
    for field in head.fields() {
        let passes = match field.known {
            Known::Other => head.fields.named.is_empty() || !head.fields.is_named(buffer, field),
            Known::Via | Known::Date | Known::TraceParent | Known::TraceState => true,
            Known::StrictTransportSecurity => !extras.hsts,
            _ => false,
        };
        if passes {
            write_field(out, field.name.of(buffer), field.value.of(buffer));
        }
    }
    if head.is_interim() {
        out.extend_from_slice(b"\r\n");
        return;
    }
    // A 426 says which protocol it wants (RFC 9110 section 15.5.22).
    if head.is_switch() || (status == 426 && head.fields.offers_websocket()) {
        out.extend_from_slice(SWITCH);
    }
    match extras.framing {
        BodyLength::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyLength::Length(length) => write_length(out, length),
        BodyLength::UntilClose => {}
        BodyLength::None => {
            if let Some(length) = head.content_length.filter(|_| !matches!(status, 101 | 204)) {
                write_length(out, length);
            }
        }
    }
    if !head.fields.has_date && !head.is_switch() {
        write_field(out, b"Date", extras.date.as_bytes());
    }
    if extras.hsts {
        out.extend_from_slice(b"Strict-Transport-Security: max-age=31536000\r\n");
    }
    write_via(out, extras.via, head.version);
    out.extend_from_slice(b"X-Request-Id: ");
    out.extend_from_slice(extras.request_id.as_bytes());
    out.extend_from_slice(match (extras.say_close && !head.is_switch(), extras.say_keep_alive) {
        (true, _) => b"\r\nConnection: close\r\n\r\n".as_slice(),
        (false, true) => b"\r\nConnection: keep-alive\r\n\r\n",
        (false, false) => b"\r\n\r\n",
    });
}

/// Adds a field, which comes with its end, to the head that `out` ends with.
pub fn add_line(out: &mut Vec<u8>, line: &str) {
    debug_assert!(out.ends_with(b"\r\n\r\n"));
    out.truncate(out.len().saturating_sub(2));
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends `SIZE CR LF` of a chunk.
pub fn write_chunk_line(out: &mut Vec<u8>, bytes: usize) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{bytes:x}\r\n");
}

/// The version is the one in which the message was received; the name is a pseudonym (RFC 9110 section 7.6.3).
fn write_via(out: &mut Vec<u8>, is_wanted: bool, received: Version) {
    if is_wanted {
        out.extend_from_slice(match received {
            Version::Http11 => b"Via: 1.1 tiebeam\r\n",
            Version::Http10 => b"Via: 1.0 tiebeam\r\n",
            Version::Http2 => b"Via: 2.0 tiebeam\r\n",
        });
    }
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    write_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// As `write!` would, without its detour: each message has one.
fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    // Digits of the largest 64-bit number.
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for length in [0, 7, 10, 99, 1_000_000_007, u64::MAX] {
            let mut out = Vec::new();
            write_length(&mut out, length);
            assert_eq!(out, format!("Content-Length: {length}\r\n").into_bytes());
        }
    }
}
