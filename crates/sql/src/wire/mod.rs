//! The PostgreSQL protocol 3.0 as bytes and values ("Message Formats" of the PostgreSQL documentation). Sans I/O.
//!
//! It knows the messages that a router must understand and the head of every other one, so that those are relayed
//! by their length. `session`, `server` and `control` move the bytes.

pub(crate) mod back;
pub(crate) mod build;
pub(crate) mod error;
pub(crate) mod front;
pub(crate) mod startup;

/// Tag and length.
pub(crate) const HEAD_BYTES: usize = 5;
/// No message of PostgreSQL is larger (`PQ_LARGE_MESSAGE_LIMIT`).
pub(crate) const MESSAGE_BYTES_MAX: usize = (1 << 30) - 1;

/// What breaks the protocol; the connection it came from cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a message says it is {0} bytes long")]
    Length(i64),
    #[error("a message of type {0:?} does not have that form")]
    Form(char),
    #[error("a message of the unknown type {0:?}")]
    Tag(char),
    #[error("the startup message does not have that form")]
    Startup,
    #[error("protocol {0}.{1} is not spoken here, 3.0 is")]
    Version(u16, u16),
    #[error("text in a message is not UTF-8")]
    Text,
}

/// The start of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub tag: u8,
    /// The whole message, head included.
    pub len: usize,
}

/// The head of the message at the start of `bytes`; `None` if it has not wholly arrived.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, WireError> {
    let [tag, a, b, c, d, ..] = *bytes else { return Ok(None) };
    let length = i32::from_be_bytes([a, b, c, d]);
    match usize::try_from(length) {
        Ok(n) if (4..=MESSAGE_BYTES_MAX).contains(&n) => Ok(Some(Head { tag, len: n + 1 })),
        _ => Err(WireError::Length(length.into())),
    }
}

/// Splits a zero-terminated string off the front: the string without its zero, and the rest.
pub(crate) fn cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&b| b == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_bounded() {
        assert_eq!(head(b"Z\0\0\0"), Ok(None));
        assert_eq!(head(b"Z\0\0\0\x05I"), Ok(Some(Head { tag: b'Z', len: 6 })));
        assert_eq!(head(b"S\0\0\0\x04"), Ok(Some(Head { tag: b'S', len: 5 })));
        for wrong in [b"Z\0\0\0\x03", b"Z\xff\xff\xff\xff", b"Z\x40\0\0\0", b"Z\0\0\0\0"] {
            assert!(head(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn strings_end_at_their_zero() {
        assert_eq!(cstr(b"ab\0c"), Some((&b"ab"[..], &b"c"[..])));
        assert_eq!(cstr(b"\0"), Some((&b""[..], &b""[..])));
        assert_eq!(cstr(b"ab"), None);
    }
}
