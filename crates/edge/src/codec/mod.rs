//! HTTP/1.1 as pure functions of bytes (RFC 9110, RFC 9112): heads in, heads out, bodies decoded and framed anew.
//!
//! Sans-I/O: nothing here reads a socket or a clock. It is stricter than `httparse`, which it uses to find the
//! fields: whatever two readers could frame in two ways is a [`Fault`], and after a fault no byte of that connection
//! is read as a message again. Workers call it; so do the health checks.
//!
//! The target's grammar is RFC 3986 plus what browsers leave as it is (WHATWG URL): `| ^ [ ] { }`, the backtick and
//! the backslash in a query, and percent signs there that encode nothing.

mod body;
mod edit;
mod fault;
mod fields;
mod forwarded;
mod grammar;
mod path;
mod request;
mod response;
mod trace;
mod write;

#[cfg(test)]
mod tests;

pub use body::{BodyDecoder, Decoded};
pub use edit::{Edits, replaced_prefix, with_path};
pub use fault::Fault;
pub use fields::{Field, HeadLimits, Known};
pub use forwarded::{Believed, HOPS, believed};
pub use grammar::host_without_port;
pub use path::{canonical, encoded_byte, is_of, taken, without_slashes};
pub use request::{Method, RequestHead};
pub use response::{Asked, ResponseHead};
pub use write::{
    Forwarding, LAST_CHUNK, RequestSpans, ResponseExtras, add_line, write_chunk_line, write_request,
    write_response, write_trace,
};

/// A range of the buffer that a head was parsed from. Valid until those bytes are consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// `start <= end`, both below 4 GiB: heads are bounded far below that.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// Where `part`, a slice of `whole`, lies in it.
    fn within(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        debug_assert!(start + part.len() <= whole.len());
        Self::new(start, start + part.len())
    }

    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes; empty if `buffer` is not the one that was parsed.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.range()).unwrap_or(&[])
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    /// Of streams whose heads were translated; no head says so itself.
    Http2,
}

/// How the length of a body is known (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    #[default]
    None,
    /// `Content-Length`, bytes.
    Length(u64),
    Chunked,
    /// Responses only: until the server closes.
    UntilClose,
}

/// Where a parser stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Ask again when another line has arrived.
    More,
    /// The head is `len` bytes at the start of the buffer, any empty lines before it included.
    Done { len: usize },
}
