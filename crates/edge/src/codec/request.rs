//! The head of a request: parsed strictly, refused if in doubt (RFC 9112 sections 2, 3 and 6).

use super::fields::{Fields, FirstLine};
use super::{BodyLength, Fault, Field, HeadLimits, Known, Progress, Span, Version, grammar, path, trace};

/// The methods that the edge itself tells apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    #[default]
    Get,
    Head,
    Options,
    Trace,
    /// Any other token: passed on as it is.
    Other,
}

impl Method {
    /// Safe methods may be sent again without harm (RFC 9110 section 9.2.1).
    pub fn is_safe(self) -> bool {
        self != Self::Other
    }
}

/// A request's head, by ranges of the buffer it was parsed from. Reused from one request to the next.
#[derive(Debug, Default)]
pub struct RequestHead {
    pub method: Method,
    pub method_name: Span,
    /// In origin form, or `*`. Without its leading slash if it was in absolute form and without a path: then empty, or
    /// only a query.
    pub target: Span,
    pub version: Version,
    /// With its port, if any. Of the target if that is in absolute form (RFC 9112 section 3.2.2). Empty only in
    /// HTTP/1.0, where a request need not name one.
    pub host: Span,
    pub body: BodyLength,
    pub persists: bool,
    /// The client waits for a 100 before it sends its body.
    pub expects_continue: bool,
    /// The client would go on in the WebSocket protocol (RFC 6455 section 4.1): a server may answer 101.
    pub offers_websocket: bool,
    /// How often an OPTIONS or a TRACE may still be passed on (RFC 9110 section 7.6.2). At 0 whoever has it answers.
    pub max_forwards: Option<u32>,
    pub(super) fields: Fields,
}

/// Longest method that is passed on, bytes.
const METHOD_BYTES: usize = 32;
/// Empty lines before a request line that are let pass (RFC 9112 section 2.2).
const EMPTY_LINES: usize = 4;

impl RequestHead {
    /// Looks for a head at the start of `buffer`. The answer does not depend on how the bytes arrived: only whole
    /// lines are judged. Ask again when `buffer` has another line or holds `limits.bytes`.
    pub fn parse(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<Progress, Fault> {
        let text = &buffer[..buffer.len().min(limits.bytes)];
        let is_full = text.len() == limits.bytes;
        let start = after_empty_lines(text);
        // TLS and binary protocols may never send a line's end: say so at the first byte, whatever follows.
        if text.get(start).is_some_and(|b| !grammar::is_token_byte(*b) && *b != b'\r') {
            return Err(Fault::Method);
        }
        let Some(line_bytes) = memchr::memchr(b'\n', &text[start..]) else {
            return unfinished_line(&text[start..], is_full, limits);
        };
        if line_bytes > limits.line_bytes + 1 {
            return Err(Fault::LineTooLong);
        }
        let line_end = start + line_bytes;
        self.parse_line(text, start, line_end)?;
        let lines_end = memchr::memrchr(b'\n', text).map_or(0, |i| i + 1);
        // Before CR LF.
        let minor = line_end - 2;
        match self.fields.parse(&text[..lines_end], start, minor, limits.fields, FirstLine::Request)? {
            None if is_full => Err(Fault::HeadTooLong),
            None => Ok(Progress::More),
            Some(end) => {
                self.judge(text)?;
                Ok(Progress::Done { len: end })
            }
        }
    }

    pub fn fields(&self) -> &[Field] {
        &self.fields.list
    }

    /// Does some field say for whom it was forwarded?
    pub fn says_forwarded(&self) -> bool {
        self.fields.has_forwarded
    }

    /// The value of its `traceparent`, and where the trace's id lies in that: if there is one, and it is valid.
    pub(super) fn trace<'b>(&self, buffer: &'b [u8]) -> Option<(&'b [u8], Span)> {
        if self.fields.trace_parents != 1 {
            return None;
        }
        let field = self.fields().iter().find(|field| field.known == Known::TraceParent)?;
        let value = field.value.of(buffer);
        Some((value, trace::trace_id(value)?))
    }

    fn parse_line(&mut self, text: &[u8], start: usize, line_end: usize) -> Result<(), Fault> {
        let line = text[start..line_end].strip_suffix(b"\r").ok_or(Fault::BareLineFeed)?;
        let method_end = memchr::memchr(b' ', line).ok_or(Fault::RequestLine)?;
        let target_end = memchr::memrchr(b' ', line).ok_or(Fault::RequestLine)?;
        let (method, version) = (&line[..method_end], &line[target_end + 1..]);
        if !grammar::is_token(method) {
            return Err(Fault::Method);
        }
        if method.len() > METHOD_BYTES {
            return Err(Fault::MethodTooLong);
        }
        if target_end <= method_end + 1 {
            return Err(Fault::RequestLine);
        }
        self.version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                // A later minor version is treated as the highest that is known (RFC 9110 section 2.5).
                if *major == b'1' { Version::Http11 } else { return Err(Fault::Version) }
            }
            _ => return Err(Fault::RequestLine),
        };
        self.method = match method {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"CONNECT" => return Err(Fault::Connect),
            _ => Method::Other,
        };
        self.method_name = Span::new(start, start + method_end);
        self.host = Span::default();
        self.parse_target(text, start + method_end + 1, start + target_end)?;
        path::judge(self.target.of(text))
    }

    fn parse_target(&mut self, text: &[u8], start: usize, end: usize) -> Result<(), Fault> {
        let target = &text[start..end];
        self.target = Span::new(start, end);
        if grammar::is_origin_form(target) || (target == b"*" && self.method == Method::Options) {
            return Ok(());
        }
        let scheme_end = [b"http://".as_slice(), b"https://"]
            .iter()
            .find(|s| target.len() > s.len() && target[..s.len()].eq_ignore_ascii_case(s))
            .map(|s| s.len())
            .ok_or(Fault::Target)?;
        let rest = &target[scheme_end..];
        let authority_end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_end);
        let is_path = path.is_empty() || grammar::is_query(path) || grammar::is_origin_form(path);
        if !grammar::is_host(authority) || !is_path {
            return Err(Fault::Target);
        }
        self.host = Span::new(start + scheme_end, start + scheme_end + authority_end);
        self.target = Span::new(start + scheme_end + authority_end, end);
        Ok(())
    }

    /// What the fields must fulfil together.
    fn judge(&mut self, text: &[u8]) -> Result<(), Fault> {
        match self.fields.host {
            Some(host) if !grammar::is_host(host.of(text)) => return Err(Fault::HostInvalid),
            Some(host) if self.host == Span::default() => self.host = host,
            None if self.version == Version::Http11 => return Err(Fault::HostMissing),
            _ => {}
        }
        self.body = self.fields.body_length(self.version)?.unwrap_or(BodyLength::None);
        if self.body == BodyLength::Length(0) {
            // Nothing follows; the field itself is still passed on for methods that mean something by a body.
            self.body = BodyLength::None;
        }
        if self.method == Method::Trace && self.body != BodyLength::None {
            return Err(Fault::TraceBody);
        }
        self.persists = self.fields.persists(self.version);
        self.expects_continue =
            self.fields.expects_continue && self.version == Version::Http11 && self.body != BodyLength::None;
        self.offers_websocket = self.fields.offers_websocket()
            && self.method == Method::Get
            && self.version == Version::Http11
            && self.body == BodyLength::None;
        self.max_forwards = self.max_forwards(text)?;
        Ok(())
    }

    fn max_forwards(&self, text: &[u8]) -> Result<Option<u32>, Fault> {
        if !matches!(self.method, Method::Options | Method::Trace) {
            return Ok(None);
        }
        let mut fields = self.fields.list.iter().filter(|field| field.known == Known::MaxForwards);
        let Some(field) = fields.next() else { return Ok(None) };
        let digits = field.value.of(text);
        if fields.next().is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Fault::MaxForwards);
        }
        let add = |n: u32, digit: &u8| n.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
        Ok(Some(digits.iter().fold(0, add)))
    }
}

fn after_empty_lines(text: &[u8]) -> usize {
    let mut start = 0;
    while start < 2 * EMPTY_LINES && text[start..].starts_with(b"\r\n") {
        start += 2;
    }
    start
}

/// There is no line end yet: is there still hope?
fn unfinished_line(line: &[u8], is_full: bool, limits: &HeadLimits) -> Result<Progress, Fault> {
    if line.len() > limits.line_bytes + 1 || is_full {
        return Err(Fault::LineTooLong);
    }
    Ok(Progress::More)
}
