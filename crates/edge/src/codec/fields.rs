//! The fields of a head: found by `httparse`, then checked for what it lets pass, and named where the edge cares.

use std::mem::MaybeUninit;

use tiebeam_topology::CHANGED_FIELDS_MAX;

use super::{BodyLength, Fault, Span, Version, grammar};

/// Bounds of a head, from `edge.limits`.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Of the whole head, bytes.
    pub bytes: usize,
    pub fields: usize,
    /// Of the request line without its CR LF, bytes.
    pub line_bytes: usize,
}

/// A head has at most this many fields of the edge's own, above those that a sender may give it.
const OWN_FIELDS: usize = 16;
/// Those of its site and those of its route, each of which may add fields.
const RULES_PER_REQUEST: usize = 2;

impl HeadLimits {
    /// For what the edge itself made of heads that were within these.
    pub fn for_own_text(&self) -> Self {
        let added = OWN_FIELDS + RULES_PER_REQUEST * CHANGED_FIELDS_MAX;
        Self { bytes: 1 << 30, fields: self.fields + added, line_bytes: 1 << 30 }
    }

    /// May parsing `data` say more than it did when only its first `judged` bytes were there? Another line, the bound
    /// of a line or of the head: so a sender of single bytes costs one parse a line, not one a byte.
    pub fn is_worth_a_look(&self, data: &[u8], judged: usize) -> bool {
        let crossed = |bound: usize| judged < bound && data.len() >= bound;
        data.len() > judged
            && (judged == 0
                || crossed(self.bytes)
                || crossed(self.line_bytes + 2)
                || memchr::memchr(b'\n', &data[judged..]).is_some())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    /// Without the whitespace around it.
    pub value: Span,
    pub known: Known,
}

/// What the edge does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Passed on, unless `Connection` names it.
    Other,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Expect,
    MaxForwards,
    Via,
    Date,
    RequestId,
    StrictTransportSecurity,
    /// Dropped in requests, and written anew: from where a request came says the edge alone. What trusted proxies say in
    /// these is read first.
    Forwarded,
    ForwardedFor,
    ForwardedProto,
    ForwardedHost,
    /// The same, but never read.
    Origin,
    /// Passed on while they are valid (W3C Trace Context).
    TraceParent,
    TraceState,
    /// Written anew when it offers or accepts `websocket`, else dropped (RFC 9110 section 7.8).
    Upgrade,
    /// Dropped both ways: it concerns one connection only (RFC 9110 section 7.6.1), or trailers, which are dropped.
    HopByHop,
    /// A known name spelt with underscores, which CGI-like servers would take for the real one: dropped.
    Lookalike,
}

/// Fields of heads in one reused vector, and what they say together.
#[derive(Debug, Default)]
pub struct Fields {
    pub list: Vec<Field>,
    /// Names that `Connection` listed.
    pub named: Vec<Span>,
    /// How many options it listed in all.
    options: usize,
    pub close: bool,
    pub keep_alive: bool,
    pub content_length: Option<u64>,
    pub chunked: bool,
    pub host: Option<Span>,
    pub expects_continue: bool,
    pub has_date: bool,
    /// There is a field that says for whom a request was forwarded.
    pub has_forwarded: bool,
    pub trace_parents: usize,
    /// `Connection` listed `upgrade`.
    upgrade: bool,
    /// `Upgrade` listed `websocket`.
    websocket: bool,
    /// `Upgrade` listed something else.
    other_protocol: bool,
}

/// Which kind of line stands before the fields.
#[derive(Clone, Copy, Debug)]
pub enum FirstLine {
    Request,
    Status,
}

/// Options that `Connection` may list, in all its fields: each field of a head is compared with each of them.
const CONNECTION_OPTIONS: usize = 32;
/// Heads with up to this many fields are parsed without allocating: by default, also those that rules have added to.
const FIELDS_ON_STACK: usize = 288;

impl Fields {
    /// Parses the fields of the message that starts at `from` with a line that has been checked, and that has the digit
    /// of its minor version at `minor`. Returns where its head ends; `None`: that is not in `buffer` yet.
    pub fn parse(
        &mut self,
        buffer: &[u8],
        from: usize,
        minor: usize,
        most: usize,
        first_line: FirstLine,
    ) -> Result<Option<usize>, Fault> {
        let copy;
        let buffer = match buffer.get(minor) {
            Some(b'0' | b'1') => buffer,
            // `httparse` knows no later one.
            _ => {
                copy = as_http11(buffer, minor);
                &copy
            }
        };
        *self = Self {
            list: std::mem::take(&mut self.list),
            named: std::mem::take(&mut self.named),
            ..Self::default()
        };
        self.list.clear();
        self.named.clear();
        if most <= FIELDS_ON_STACK {
            let mut space = [const { MaybeUninit::uninit() }; FIELDS_ON_STACK];
            self.parse_into(buffer, from, &mut space[..most], first_line)
        } else {
            let mut space = vec![MaybeUninit::uninit(); most];
            self.parse_into(buffer, from, &mut space, first_line)
        }
    }

    fn parse_into<'b>(
        &mut self,
        buffer: &'b [u8],
        from: usize,
        space: &mut [MaybeUninit<httparse::Header<'b>>],
        first_line: FirstLine,
    ) -> Result<Option<usize>, Fault> {
        let Some((end, headers)) = find(&buffer[from..], space, first_line)? else { return Ok(None) };
        let end = from + end;
        for header in headers {
            let name = Span::within(buffer, header.name.as_bytes());
            // The line before this one ended just here: with CR LF, or `httparse` was lenient.
            if name.start < 2 || &buffer[name.start as usize - 2..name.start as usize] != b"\r\n" {
                return Err(Fault::BareLineFeed);
            }
            let value =
                if header.value.is_empty() { Span::default() } else { Span::within(buffer, header.value) };
            let known = match (first_line, classify(header.name.as_bytes())) {
                // They mean nothing in a response, whatever they say.
                (FirstLine::Status, Known::Host | Known::Expect | Known::MaxForwards) => Known::Other,
                (_, known) => known,
            };
            self.note(buffer, Field { name, value, known })?;
        }
        if !buffer[..end].ends_with(b"\r\n\r\n") {
            return Err(Fault::BareLineFeed);
        }
        Ok(Some(end))
    }

    fn note(&mut self, buffer: &[u8], field: Field) -> Result<(), Fault> {
        let value = field.value.of(buffer);
        match field.known {
            Known::Host if self.host.replace(field.value).is_some() => return Err(Fault::HostRepeated),
            Known::ContentLength => {
                let length = decimal(value).ok_or(Fault::ContentLength)?;
                if self.content_length.replace(length).is_some() {
                    return Err(Fault::ContentLength);
                }
            }
            Known::TransferEncoding => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::TransferEncoding);
                }
                self.chunked = true;
            }
            Known::Connection => self.note_connection(buffer, value)?,
            Known::Expect => {
                for expectation in elements(value) {
                    if !expectation.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Fault::Expectation);
                    }
                    self.expects_continue = true;
                }
            }
            Known::Date => self.has_date = true,
            Known::Forwarded | Known::ForwardedFor | Known::ForwardedProto | Known::ForwardedHost => {
                self.has_forwarded = true;
            }
            Known::TraceParent => self.trace_parents += 1,
            Known::Upgrade => self.note_upgrade(value),
            _ => {}
        }
        self.list.push(field);
        Ok(())
    }

    fn note_connection(&mut self, buffer: &[u8], value: &[u8]) -> Result<(), Fault> {
        for option in elements(value) {
            self.options += 1;
            if self.options > CONNECTION_OPTIONS {
                return Err(Fault::TooManyOptions);
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.named.push(Span::within(buffer, option));
            }
        }
        Ok(())
    }

    fn note_upgrade(&mut self, value: &[u8]) {
        for protocol in elements(value) {
            if protocol.eq_ignore_ascii_case(b"websocket") {
                self.websocket = true;
            } else {
                self.other_protocol = true;
            }
        }
    }

    /// May the other side go on in the WebSocket protocol? An `Upgrade` that `Connection` does not name came from
    /// somebody before this connection, and says nothing (RFC 9110 section 7.8).
    pub fn offers_websocket(&self) -> bool {
        self.upgrade && self.websocket
    }

    /// Does a 101 go on in the WebSocket protocol and nothing else?
    pub fn accepts_websocket(&self) -> bool {
        self.offers_websocket() && !self.other_protocol
    }

    /// What the fields say about the body's length, before the rules of either direction.
    pub fn body_length(&self, version: Version) -> Result<Option<BodyLength>, Fault> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(Fault::BothLengths),
            (true, None) if version == Version::Http10 => Err(Fault::TransferEncodingInHttp10),
            (true, None) => Ok(Some(BodyLength::Chunked)),
            (false, Some(length)) => Ok(Some(BodyLength::Length(length))),
            (false, None) => Ok(None),
        }
    }

    /// May the connection carry another message?
    pub fn persists(&self, version: Version) -> bool {
        !self.close && (version != Version::Http10 || self.keep_alive)
    }

    /// Did `Connection` name this field? Those the edge relies on are not [`Known::Other`] and never dropped so.
    pub fn is_named(&self, buffer: &[u8], field: &Field) -> bool {
        field.known == Known::Other
            && self.named.iter().any(|name| name.of(buffer).eq_ignore_ascii_case(field.name.of(buffer)))
    }
}

/// A later minor version is treated as the highest that is known (RFC 9110 section 2.5).
fn as_http11(buffer: &[u8], minor: usize) -> Vec<u8> {
    let mut copy = buffer.to_vec();
    if let Some(digit) = copy.get_mut(minor) {
        *digit = b'1';
    }
    copy
}

type Found<'s, 'b> = Option<(usize, &'s [httparse::Header<'b>])>;

/// `httparse` takes uninitialised space for whole messages only, so it sees the first line again, already checked.
fn find<'s, 'b>(
    message: &'b [u8],
    space: &'s mut [MaybeUninit<httparse::Header<'b>>],
    first_line: FirstLine,
) -> Result<Found<'s, 'b>, Fault> {
    let config = httparse::ParserConfig::default();
    let (parsed, headers): (_, &'s [httparse::Header<'b>]) = match first_line {
        FirstLine::Request => {
            let mut request = httparse::Request::new(&mut []);
            let parsed = config.parse_request_with_uninit_headers(&mut request, message, space);
            (parsed, request.headers)
        }
        FirstLine::Status => {
            let mut response = httparse::Response::new(&mut []);
            let parsed = config.parse_response_with_uninit_headers(&mut response, message, space);
            (parsed, response.headers)
        }
    };
    match parsed {
        Ok(httparse::Status::Complete(end)) => Ok(Some((end, headers))),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(Fault::TooManyFields),
        Err(httparse::Error::HeaderValue) => Err(Fault::FieldValue),
        Err(httparse::Error::NewLine) => Err(Fault::BareLineFeed),
        Err(_) => Err(Fault::FieldName),
    }
}

/// Of a list; empty ones are none (RFC 9110 section 5.6.1).
fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Digits only, and few enough that nobody's number overflows (RFC 9110 section 8.6).
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')))
}

const LONGEST_KNOWN: usize = 25;

fn classify(name: &[u8]) -> Known {
    if memchr::memchr(b'_', name).is_some() && name.len() <= LONGEST_KNOWN {
        let mut dashed = [0; LONGEST_KNOWN];
        let dashed = &mut dashed[..name.len()];
        dashed.copy_from_slice(name);
        dashed.iter_mut().filter(|b| **b == b'_').for_each(|b| *b = b'-');
        return if by_name(dashed) == Known::Other { Known::Other } else { Known::Lookalike };
    }
    by_name(name)
}

fn by_name(name: &[u8]) -> Known {
    use Known::*;
    let candidates: &[(&[u8], Known)] = match name.len() {
        2 => &[(b"te", HopByHop)],
        3 => &[(b"via", Via)],
        4 => &[(b"host", Host), (b"date", Date)],
        6 => &[(b"expect", Expect)],
        7 => &[(b"upgrade", Upgrade), (b"trailer", HopByHop)],
        9 => &[(b"x-real-ip", Origin), (b"forwarded", Forwarded)],
        10 => &[(b"connection", Connection), (b"keep-alive", HopByHop), (b"tracestate", TraceState)],
        11 => &[(b"traceparent", TraceParent), (b"client-cert", Origin)],
        12 => &[(b"x-request-id", RequestId), (b"max-forwards", MaxForwards)],
        14 => &[(b"content-length", ContentLength), (b"http2-settings", HopByHop)],
        15 => &[(b"x-forwarded-for", ForwardedFor)],
        16 => &[(b"proxy-connection", HopByHop), (b"x-forwarded-host", ForwardedHost)],
        17 => &[
            (b"transfer-encoding", TransferEncoding),
            (b"x-forwarded-proto", ForwardedProto),
            (b"client-cert-chain", Origin),
        ],
        18 => &[(b"proxy-authenticate", HopByHop)],
        19 => &[(b"proxy-authorization", HopByHop)],
        25 => &[(b"strict-transport-security", StrictTransportSecurity)],
        _ => &[],
    };
    // The first letter tells most of them apart.
    let is = |name: &[u8], text: &[u8]| name[0] | 0x20 == text[0] && name.eq_ignore_ascii_case(text);
    if let Some((_, known)) = candidates.iter().find(|(text, _)| is(name, text)) {
        return *known;
    }
    let forwarded = b"x-forwarded-";
    if name.len() >= forwarded.len() && is(&name[..forwarded.len()], forwarded) {
        return Origin;
    }
    debug_assert!(grammar::is_token(name));
    Other
}
