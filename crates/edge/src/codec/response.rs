//! The head of a response. What cannot be framed in one way only is a fault: the client gets a 502, and the
//! connection to the server is closed (RFC 9112 section 6.3).

use super::fields::{Fields, FirstLine};
use super::{BodyLength, Fault, Field, HeadLimits, Progress, Span, Version, grammar};

/// What the request was, as far as its answer's framing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Head,
    /// A server may answer 101: see [`super::RequestHead::offers_websocket`].
    WebSocket,
    Other,
}

/// Where the digit of the minor version stands.
const MINOR_AT: usize = "HTTP/1.".len();

/// A response's head, by ranges of the buffer it was parsed from. Reused from one response to the next.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// 100 to 999.
    pub status: u16,
    pub reason: Span,
    pub version: Version,
    /// What follows on the wire.
    pub body: BodyLength,
    /// `Content-Length` as the server said it; with [`BodyLength::None`] it describes what a GET would bring.
    pub content_length: Option<u64>,
    pub persists: bool,
    pub(super) fields: Fields,
}

impl ResponseHead {
    /// Looks for a head at the start of `buffer`. As with requests, only whole lines are judged.
    pub fn parse(&mut self, buffer: &[u8], limits: &HeadLimits, asked: Asked) -> Result<Progress, Fault> {
        let text = &buffer[..buffer.len().min(limits.bytes)];
        let is_full = text.len() == limits.bytes;
        // What is no HTTP may never send a line's end: say so at its first byte, whatever follows.
        if text.iter().zip(b"HTTP/1.").any(|(a, b)| a != b) {
            return Err(Fault::StatusLine);
        }
        let Some(line_end) = memchr::memchr(b'\n', text) else {
            return if is_full { Err(Fault::StatusLine) } else { Ok(Progress::More) };
        };
        self.parse_line(text, line_end)?;
        let lines_end = memchr::memrchr(b'\n', text).map_or(0, |i| i + 1);
        match self.fields.parse(&text[..lines_end], 0, MINOR_AT, limits.fields, FirstLine::Status)? {
            None if is_full => Err(Fault::HeadTooLong),
            None => Ok(Progress::More),
            Some(end) => {
                self.judge(asked)?;
                Ok(Progress::Done { len: end })
            }
        }
    }

    pub fn fields(&self) -> &[Field] {
        &self.fields.list
    }

    /// Does another head follow?
    pub fn is_interim(&self) -> bool {
        self.status < 200 && !self.is_switch()
    }

    /// What follows is no HTTP any more. Only ever true if it was asked for.
    pub fn is_switch(&self) -> bool {
        self.status == 101
    }

    fn parse_line(&mut self, text: &[u8], line_end: usize) -> Result<(), Fault> {
        let line = text[..line_end].strip_suffix(b"\r").ok_or(Fault::BareLineFeed)?;
        let (version, rest) = line.split_at_checked(9).ok_or(Fault::StatusLine)?;
        self.version = match version {
            b"HTTP/1.0 " => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9', b' '] => Version::Http11,
            _ => return Err(Fault::StatusLine),
        };
        let (code, reason) = rest.split_at_checked(3).ok_or(Fault::StatusLine)?;
        if !code.iter().all(u8::is_ascii_digit) || code[0] == b'0' {
            return Err(Fault::StatusLine);
        }
        self.status = code.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
        self.reason = match reason {
            [] => Span::default(),
            [b' ', words @ ..] if words.iter().all(|b| grammar::is_value_byte(*b)) => {
                Span::new(13, 13 + words.len())
            }
            _ => return Err(Fault::StatusLine),
        };
        Ok(())
    }

    fn judge(&mut self, asked: Asked) -> Result<(), Fault> {
        let said = self.fields.body_length(self.version)?;
        if self.is_switch() {
            let is_fine = asked == Asked::WebSocket
                && self.version == Version::Http11
                && self.fields.accepts_websocket()
                && matches!(said, None | Some(BodyLength::Length(0)));
            if !is_fine {
                return Err(Fault::Switched);
            }
        }
        self.content_length = self.fields.content_length;
        self.persists = self.fields.persists(self.version);
        self.body = if asked == Asked::Head || self.status < 200 || matches!(self.status, 204 | 304) {
            // A server that sends a body all the same must not be believed about the next message.
            if matches!(self.status, 100..=199 | 204) && said.is_some_and(|b| b != BodyLength::Length(0)) {
                self.persists = false;
            }
            BodyLength::None
        } else {
            match said {
                Some(BodyLength::Length(0)) => BodyLength::None,
                Some(length) => length,
                None => BodyLength::UntilClose,
            }
        };
        if self.body == BodyLength::UntilClose {
            self.persists = false;
        }
        Ok(())
    }
}
