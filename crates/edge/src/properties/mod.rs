//! What must hold for every input, as functions of bytes that panic where it does not.
//!
//! They are no part of the program: libFuzzer calls them (`/fuzz`, which compiles this folder and what it uses, and
//! nothing else), and so do the tests here, with the inputs that were kept and with changes of them. An input is a
//! message as a peer would send it, so that what was found can be read. A new one gets a line in [`ALL`], a target in
//! `/fuzz`, and seeds in `tests/corpus`.

mod body;
mod files;
mod http2;
mod origin;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use body::chunked;
pub use files::{files, ranges};
pub use http2::http2;
pub use origin::{forwarded, proxy_protocol};
pub use request::request;
pub use response::response;

use std::fmt;

use crate::codec::HeadLimits;

/// Panics if it does not hold for an input.
pub type Property = fn(&[u8]);

/// All of them, by the names of their folders in `/fuzz/corpus`.
pub const ALL: [(&str, Property); 8] = [
    ("chunked", chunked),
    ("files", files),
    ("forwarded", forwarded),
    ("http2", http2),
    ("proxy_protocol", proxy_protocol),
    ("ranges", ranges),
    ("request", request),
    ("response", response),
];

/// Those of the default configuration, then such as short inputs reach.
const LIMITS: [HeadLimits; 2] = [
    HeadLimits { bytes: 32 * 1024, fields: 128, line_bytes: 8 * 1024 },
    HeadLimits { bytes: 200, fields: 3, line_bytes: 40 },
];

/// For what the edge itself wrote: it adds fields.
const WIDE: HeadLimits = HeadLimits { bytes: 64 * 1024, fields: 160, line_bytes: 9 * 1024 };

/// Ways in which `data` may arrive: at once, in pieces that it decides itself, and byte by byte if it is short.
fn arrivals(data: &[u8]) -> Vec<Vec<&[u8]>> {
    const BYTEWISE: usize = 512;
    let mut state = data
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    let mut ways = vec![vec![data]];
    for most in [8, 100] {
        let (mut pieces, mut rest) = (Vec::new(), data);
        while !rest.is_empty() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (piece, after) = rest.split_at(rest.len().min(1 + (state >> 33) as usize % most));
            pieces.push(piece);
            rest = after;
        }
        ways.push(pieces);
    }
    if data.len() <= BYTEWISE {
        ways.push(data.chunks(1).collect());
    }
    ways
}

/// A head that was written, taken apart by rules that no reader could understand in another way.
struct Plain<'h> {
    head: &'h [u8],
    first: &'h [u8],
    fields: Vec<(String, &'h [u8])>,
}

impl<'h> Plain<'h> {
    fn of(head: &'h [u8]) -> Self {
        let shown = head.escape_ascii();
        let text = head.strip_suffix(b"\r\n\r\n").unwrap_or_else(|| panic!("no end: {shown}"));
        let mut lines = lines(text);
        let first = lines.remove(0);
        let fields = lines.into_iter().map(|line| {
            let colon = line.iter().position(|b| *b == b':').unwrap_or_else(|| panic!("no colon: {shown}"));
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
            assert!(!name.is_empty() && name.iter().all(is_token), "a bad name: {shown}");
            let value = value.strip_prefix(b" ").unwrap_or_else(|| panic!("no space: {shown}"));
            assert_eq!(value, value.trim_ascii(), "whitespace around a value: {shown}");
            (String::from_utf8_lossy(name).to_ascii_lowercase(), value)
        });
        Self { head, first, fields: fields.collect() }
    }

    fn values(&self, name: &str) -> Vec<&'h [u8]> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| *value).collect()
    }

    /// The one framing that it has at most: `Content-Length` or `chunked`.
    fn framing(&self) -> Option<Result<u64, ()>> {
        let (lengths, codings) = (self.values("content-length"), self.values("transfer-encoding"));
        match (&lengths[..], &codings[..]) {
            ([], []) => None,
            ([length], []) => {
                assert!(length.iter().all(u8::is_ascii_digit), "{self:?}");
                Some(Ok(String::from_utf8_lossy(length).parse().expect("a number")))
            }
            ([], [b"chunked"]) => Some(Err(())),
            _ => panic!("two framings: {self:?}"),
        }
    }
}

impl fmt::Debug for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.head.escape_ascii())
    }
}

/// Split at CR LF; neither of them, nor NUL or another control, stands anywhere else.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    let is_clean = |b: &u8| *b == b'\t' || (*b >= b' ' && *b != 0x7f);
    for line in &lines {
        assert!(!line.is_empty() && line.iter().all(is_clean), "a bad line: {}", line.escape_ascii());
    }
    lines
}
