//! The messages of a server, as far as a router must look into them. Sans I/O.

use super::{WireError, cstr};

pub(crate) const AUTH: u8 = b'R';
pub(crate) const PARAMETER: u8 = b'S';
pub(crate) const KEY: u8 = b'K';
pub(crate) const READY: u8 = b'Z';
pub(crate) const ERROR: u8 = b'E';
pub(crate) const NOTICE: u8 = b'N';
pub(crate) const NOTIFICATION: u8 = b'A';
pub(crate) const PARSE_COMPLETE: u8 = b'1';
pub(crate) const BIND_COMPLETE: u8 = b'2';
pub(crate) const CLOSE_COMPLETE: u8 = b'3';
pub(crate) const NO_DATA: u8 = b'n';
pub(crate) const ROW_DESCRIPTION: u8 = b'T';
pub(crate) const DATA_ROW: u8 = b'D';
pub(crate) const COMPLETE: u8 = b'C';
pub(crate) const EMPTY_QUERY: u8 = b'I';
pub(crate) const SUSPENDED: u8 = b's';
pub(crate) const COPY_IN: u8 = b'G';
pub(crate) const COPY_BOTH: u8 = b'W';

/// The answer to a login step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Auth<'a> {
    Ok,
    Cleartext,
    Md5,
    /// The mechanisms, zero-terminated each.
    Sasl(&'a [u8]),
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    Other(u32),
}

pub(crate) fn auth(body: &[u8]) -> Result<Auth<'_>, WireError> {
    let (kind, rest) = body.split_first_chunk::<4>().ok_or(WireError::Form('R'))?;
    Ok(match u32::from_be_bytes(*kind) {
        0 => Auth::Ok,
        3 => Auth::Cleartext,
        5 => Auth::Md5,
        10 => Auth::Sasl(rest),
        11 => Auth::SaslContinue(rest),
        12 => Auth::SaslFinal(rest),
        other => Auth::Other(other),
    })
}

/// A ParameterStatus.
pub(crate) fn parameter(body: &[u8]) -> Result<(&str, &str), WireError> {
    let text = |b| std::str::from_utf8(b).map_err(|_| WireError::Text);
    let (name, rest) = cstr(body).ok_or(WireError::Form('S'))?;
    let (value, _) = cstr(rest).ok_or(WireError::Form('S'))?;
    Ok((text(name)?, text(value)?))
}

/// A BackendKeyData: the process and its secret.
pub(crate) fn key(body: &[u8]) -> Result<(u32, &[u8]), WireError> {
    let (pid, secret) = body.split_first_chunk::<4>().ok_or(WireError::Form('K'))?;
    Ok((u32::from_be_bytes(*pid), secret))
}

/// A DataRow's columns as text; `None` is NULL.
pub(crate) fn row(body: &[u8]) -> Result<Vec<Option<String>>, WireError> {
    let wrong = || WireError::Form('D');
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(wrong)?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (len, after) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
        rest = after;
        columns.push(match usize::try_from(i32::from_be_bytes(*len)) {
            Err(_) => None,
            Ok(len) => {
                let (value, after) = rest.split_at_checked(len).ok_or_else(wrong)?;
                rest = after;
                Some(String::from_utf8(value.to_vec()).map_err(|_| WireError::Text)?)
            }
        });
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        assert_eq!(row(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff"), Ok(vec![Some("a".into()), None]));
        assert!(row(b"\0\x01\0\0\0\x02a").is_err());
        assert!(row(b"\0").is_err());
    }

    #[test]
    fn login_steps() {
        assert_eq!(auth(b"\0\0\0\0"), Ok(Auth::Ok));
        assert_eq!(auth(b"\0\0\0\x0aSCRAM\0\0"), Ok(Auth::Sasl(b"SCRAM\0\0")));
        assert!(auth(b"\0\0").is_err());
        assert_eq!(parameter(b"a\0b\0"), Ok(("a", "b")));
        assert_eq!(key(b"\0\0\0\x07abcd"), Ok((7, &b"abcd"[..])));
    }
}
