//! Writes whole messages into a buffer. Sans I/O.

use bytes::{BufMut, BytesMut};

/// ParseComplete.
pub(crate) const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
/// CloseComplete.
pub(crate) const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
pub(crate) const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
pub(crate) const NO_DATA: &[u8] = b"n\0\0\0\x04";
/// A Flush of the router's own.
pub(crate) const FLUSH: &[u8] = b"H\0\0\0\x04";
/// A Sync of the router's own.
pub(crate) const SYNC: &[u8] = b"S\0\0\0\x04";
pub(crate) const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// A message whose body `body` writes.
pub(crate) fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_u32(0);
    body(out);
    let len = (out.len() - at) as u32;
    out[at..at + 4].copy_from_slice(&len.to_be_bytes());
}

fn cstr(out: &mut BytesMut, text: &[u8]) {
    out.put_slice(text);
    out.put_u8(0);
}

/// A Query.
pub(crate) fn query(out: &mut BytesMut, sql: &str) {
    message(out, b'Q', |out| cstr(out, sql.as_bytes()));
}

/// A Parse under `name`, with the rest of another Parse.
pub(crate) fn parse(out: &mut BytesMut, name: &[u8], tail: &[u8]) {
    message(out, b'P', |out| {
        cstr(out, name);
        out.put_slice(tail);
    });
}

/// A Describe or a Close of a statement.
pub(crate) fn about_statement(out: &mut BytesMut, tag: u8, name: &[u8]) {
    message(out, tag, |out| {
        out.put_u8(b'S');
        cstr(out, name);
    });
}

/// The start of a Bind: its `rest` (of `rest_bytes` bytes in all) follows.
pub(crate) fn bind_head(out: &mut BytesMut, portal: &[u8], statement: &[u8], rest_bytes: usize) {
    out.put_u8(b'B');
    out.put_u32((4 + portal.len() + 1 + statement.len() + 1 + rest_bytes) as u32);
    cstr(out, portal);
    cstr(out, statement);
}

/// CopyFail.
pub(crate) fn copy_fail(out: &mut BytesMut, why: &str) {
    message(out, b'f', |out| cstr(out, why.as_bytes()));
}

/// ReadyForQuery with `I`, `T` or `E`.
pub(crate) fn ready(out: &mut BytesMut, status: u8) {
    message(out, b'Z', |out| out.put_u8(status));
}

/// CommandComplete.
pub(crate) fn complete(out: &mut BytesMut, tag: &str) {
    message(out, b'C', |out| cstr(out, tag.as_bytes()));
}

/// ParameterStatus.
pub(crate) fn parameter(out: &mut BytesMut, name: &str, value: &str) {
    message(out, b'S', |out| {
        cstr(out, name.as_bytes());
        cstr(out, value.as_bytes());
    });
}

/// BackendKeyData.
pub(crate) fn key(out: &mut BytesMut, pid: u32, secret: u32) {
    message(out, b'K', |out| {
        out.put_u32(pid);
        out.put_u32(secret);
    });
}

/// An Authentication message.
pub(crate) fn auth(out: &mut BytesMut, kind: u32, data: &[u8]) {
    message(out, b'R', |out| {
        out.put_u32(kind);
        out.put_slice(data);
    });
}

/// NegotiateProtocolVersion: 3.0 is the newest here, and these extensions are unknown.
pub(crate) fn negotiate(out: &mut BytesMut, extensions: &[String]) {
    message(out, b'v', |out| {
        out.put_u32(3 << 16);
        out.put_u32(extensions.len() as u32);
        for name in extensions {
            cstr(out, name.as_bytes());
        }
    });
}

/// SASLInitialResponse.
pub(crate) fn sasl_initial(out: &mut BytesMut, mechanism: &str, data: &[u8]) {
    message(out, b'p', |out| {
        cstr(out, mechanism.as_bytes());
        out.put_u32(data.len() as u32);
        out.put_slice(data);
    });
}

/// SASLResponse or a password.
pub(crate) fn password(out: &mut BytesMut, data: &[u8]) {
    message(out, b'p', |out| out.put_slice(data));
}

/// Parse, Bind, Execute and Sync of a statement with text parameters and text results.
pub(crate) fn parameterized(out: &mut BytesMut, sql: &str, params: &[&str]) {
    message(out, b'P', |out| {
        cstr(out, b"");
        cstr(out, sql.as_bytes());
        out.put_u16(0);
    });
    message(out, b'B', |out| {
        cstr(out, b"");
        cstr(out, b"");
        out.put_u16(0);
        out.put_u16(params.len() as u16);
        for param in params {
            out.put_u32(param.len() as u32);
            out.put_slice(param.as_bytes());
        }
        out.put_u16(0);
    });
    message(out, b'E', |out| {
        cstr(out, b"");
        out.put_u32(0);
    });
    out.put_slice(SYNC);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{HEAD_BYTES, front, head};

    #[test]
    fn lengths_are_right() {
        let mut out = BytesMut::new();
        parse(&mut out, b"x", b"select 1\0\0\0");
        assert_eq!(head(&out).unwrap().unwrap().len, out.len());
        assert_eq!(front::parse(&out[HEAD_BYTES..]).unwrap().query, b"select 1");
        out.clear();
        bind_head(&mut out, b"p", b"s", 4);
        out.put_u32(0);
        assert_eq!(head(&out).unwrap().unwrap().len, out.len());
    }
}
