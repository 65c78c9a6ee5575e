//! The messages before a session exists: they have no tag. Read by `session::login`, nobody else. Sans I/O.

use super::{WireError, cstr};

/// Longest first message, bytes (`MAX_STARTUP_PACKET_LENGTH` of PostgreSQL).
pub(crate) const STARTUP_BYTES_MAX: usize = 10_000;

const CANCEL_CODE: u32 = 80_877_102;
const SSL_CODE: u32 = 80_877_103;
const GSS_CODE: u32 = 80_877_104;
/// Protocol extensions; none is known here, each is named in NegotiateProtocolVersion.
const EXTENSION_PREFIX: &str = "_pq_.";

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Startup {
    Ssl,
    Gss,
    Cancel { pid: u32, secret: Vec<u8> },
    Start(Start),
}

/// A StartupMessage of major version 3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// More than 0 asks for what is not spoken here.
    pub minor: u16,
    /// In the order of the message, without the extensions.
    pub params: Vec<(String, String)>,
    pub extensions: Vec<String>,
}

/// The message at the start of `bytes` and its length; `None` if it has not wholly arrived.
pub(crate) fn startup(bytes: &[u8]) -> Result<Option<(Startup, usize)>, WireError> {
    let Some(len) = be32(bytes) else { return Ok(None) };
    let len = len as usize;
    if !(8..=STARTUP_BYTES_MAX).contains(&len) {
        return Err(WireError::Length(len as i64));
    }
    let Some(message) = bytes.get(..len) else { return Ok(None) };
    let code = be32(&message[4..]).ok_or(WireError::Startup)?;
    let body = &message[8..];
    let startup = match code {
        SSL_CODE => Startup::Ssl,
        GSS_CODE => Startup::Gss,
        CANCEL_CODE => {
            let pid = be32(body).ok_or(WireError::Startup)?;
            Startup::Cancel { pid, secret: body[4..].to_vec() }
        }
        version => Startup::Start(start(version, body)?),
    };
    Ok(Some((startup, len)))
}

fn start(version: u32, mut body: &[u8]) -> Result<Start, WireError> {
    let (major, minor) = ((version >> 16) as u16, version as u16);
    if major != 3 {
        return Err(WireError::Version(major, minor));
    }
    let mut start = Start { minor, ..Start::default() };
    loop {
        let (name, rest) = cstr(body).ok_or(WireError::Startup)?;
        if name.is_empty() {
            return if rest.is_empty() { Ok(start) } else { Err(WireError::Startup) };
        }
        let (value, rest) = cstr(rest).ok_or(WireError::Startup)?;
        body = rest;
        let (name, value) = (text(name)?, text(value)?);
        if name.starts_with(EXTENSION_PREFIX) {
            start.extensions.push(name);
        } else {
            start.params.push((name, value));
        }
    }
}

fn text(bytes: &[u8]) -> Result<String, WireError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| WireError::Text)
}

fn be32(bytes: &[u8]) -> Option<u32> {
    let four = bytes.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*four))
}

/// The whole SSLRequest.
pub(crate) fn ssl_request() -> [u8; 8] {
    coded(8, SSL_CODE)
}

/// A whole CancelRequest for a server's process.
pub(crate) fn cancel_request(pid: u32, secret: &[u8]) -> Vec<u8> {
    let mut out = coded(12 + secret.len() as u32, CANCEL_CODE).to_vec();
    out.extend_from_slice(&pid.to_be_bytes());
    out.extend_from_slice(secret);
    out
}

fn coded(len: u32, code: u32) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&len.to_be_bytes());
    out[4..].copy_from_slice(&code.to_be_bytes());
    out
}

/// A whole StartupMessage for protocol 3.0.
pub(crate) fn start_message<'a>(params: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = coded(0, 3 << 16).to_vec();
    for (name, value) in params {
        for text in [name, value] {
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
    }
    out.push(0);
    let len = out.len() as u32;
    out[..4].copy_from_slice(&len.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_startup_message_is_read_back() {
        let message = start_message([("user", "ann"), ("_pq_.x", "1"), ("database", "shop")].into_iter());
        let (read, len) = startup(&message).unwrap().unwrap();
        assert_eq!(len, message.len());
        let Startup::Start(start) = read else { panic!("{read:?}") };
        assert_eq!(start.params, [("user".into(), "ann".into()), ("database".into(), "shop".into())]);
        assert_eq!(start.extensions, ["_pq_.x"]);
        for end in 0..message.len() {
            assert_eq!(startup(&message[..end]), Ok(None));
        }
    }

    #[test]
    fn requests() {
        assert_eq!(startup(&ssl_request()), Ok(Some((Startup::Ssl, 8))));
        let cancel = cancel_request(7, &[1, 2, 3, 4]);
        assert_eq!(startup(&cancel), Ok(Some((Startup::Cancel { pid: 7, secret: vec![1, 2, 3, 4] }, 16))));
    }

    #[test]
    fn what_is_not_a_startup_message_is_refused() {
        assert_eq!(startup(b"GET / HTTP/1.1\r\n"), Err(WireError::Length(0x4745_5420)));
        assert_eq!(startup(&coded(7, 0)), Err(WireError::Length(7)));
        assert_eq!(startup(&coded(8, 2 << 16)), Err(WireError::Version(2, 0)));
        assert_eq!(startup(&coded(8, 3 << 16)), Err(WireError::Startup));
        assert_eq!(startup(&coded(8, CANCEL_CODE)), Err(WireError::Startup));
        let mut unfinished = start_message([("user", "ann")].into_iter());
        let last = unfinished.len() - 1;
        unfinished[last] = b'x';
        assert_eq!(startup(&unfinished), Err(WireError::Startup));
    }
}
