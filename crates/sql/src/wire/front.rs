//! The messages of a client after login, as far as a router must look into them. Sans I/O.

use super::{WireError, cstr};

pub(crate) const QUERY: u8 = b'Q';
pub(crate) const PARSE: u8 = b'P';
pub(crate) const BIND: u8 = b'B';
pub(crate) const DESCRIBE: u8 = b'D';
pub(crate) const EXECUTE: u8 = b'E';
pub(crate) const CLOSE: u8 = b'C';
pub(crate) const SYNC: u8 = b'S';
pub(crate) const FLUSH: u8 = b'H';
pub(crate) const FUNCTION_CALL: u8 = b'F';
pub(crate) const COPY_DATA: u8 = b'd';
pub(crate) const COPY_DONE: u8 = b'c';
pub(crate) const COPY_FAIL: u8 = b'f';
pub(crate) const TERMINATE: u8 = b'X';
/// Passwords and SASL.
pub(crate) const AUTH: u8 = b'p';

/// A Parse: the statement's name, and all that follows the name, ready to be sent under another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parse<'a> {
    pub name: &'a [u8],
    pub query: &'a [u8],
    /// The query with its zero, and the parameters' types.
    pub tail: &'a [u8],
}

pub(crate) fn query(body: &[u8]) -> Result<&[u8], WireError> {
    match cstr(body) {
        Some((query, [])) => Ok(query),
        _ => Err(WireError::Form('Q')),
    }
}

pub(crate) fn parse(body: &[u8]) -> Result<Parse<'_>, WireError> {
    let (name, tail) = cstr(body).ok_or(WireError::Form('P'))?;
    let (query, types) = cstr(tail).ok_or(WireError::Form('P'))?;
    if types.len() < 2 {
        return Err(WireError::Form('P'));
    }
    Ok(Parse { name, query, tail })
}

/// The start of a Bind: portal, statement, and how many bytes of the body these two strings take.
pub(crate) fn bind(body: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let (portal, rest) = cstr(body)?;
    let (statement, _) = cstr(rest)?;
    Some((portal, statement, portal.len() + statement.len() + 2))
}

/// What a Describe or a Close is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About<'a> {
    Statement(&'a [u8]),
    Portal,
}

pub(crate) fn about(tag: u8, body: &[u8]) -> Result<About<'_>, WireError> {
    let wrong = WireError::Form(tag as char);
    let (&kind, rest) = body.split_first().ok_or(wrong.clone())?;
    match (kind, cstr(rest)) {
        (b'S', Some((name, []))) => Ok(About::Statement(name)),
        (b'P', Some((_, []))) => Ok(About::Portal),
        _ => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(query(b"select 1\0"), Ok(&b"select 1"[..]));
        assert!(query(b"select 1").is_err());
        assert!(query(b"a\0b\0").is_err());
        let p = parse(b"s\0select $1\0\0\x01\0\0\0\x17").unwrap();
        assert_eq!((p.name, p.query), (&b"s"[..], &b"select $1"[..]));
        assert_eq!(p.tail, b"select $1\0\0\x01\0\0\0\x17");
        assert!(parse(b"s\0select 1\0").is_err());
        assert_eq!(bind(b"p\0st\0rest"), Some((&b"p"[..], &b"st"[..], 5)));
        assert_eq!(bind(b"p\0st"), None);
        assert_eq!(about(b'D', b"Sx\0"), Ok(About::Statement(b"x")));
        assert_eq!(about(b'C', b"Px\0"), Ok(About::Portal));
        assert!(about(b'D', b"Xx\0").is_err());
        assert!(about(b'D', b"").is_err());
    }
}
