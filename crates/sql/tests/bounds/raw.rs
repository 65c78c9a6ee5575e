//! A client that sends exactly the bytes that a test wants, after a login like any other.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use crate::common::PASSWORD;

/// Nothing takes longer, but what never comes.
const PATIENCE: Duration = Duration::from_secs(30);
/// With no progress for so long, a peer takes no more.
const STALL: Duration = Duration::from_secs(2);

pub struct Raw {
    pub stream: TcpStream,
    /// For CancelRequests.
    pub key: [u8; 8],
    input: Vec<u8>,
}

pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
    out
}

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

pub fn close(name: &str) -> Vec<u8> {
    message(b'C', format!("S{name}\0").as_bytes())
}

/// Bind and Execute of the unnamed statement.
pub fn execute() -> Vec<u8> {
    [message(b'B', &[0; 8]), message(b'E', &[0; 5])].concat()
}

pub const SYNC: &[u8] = b"S\0\0\0\x04";

/// An untagged message.
fn start(code: u32, body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32 + 8).to_be_bytes().to_vec();
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(body);
    out
}

pub fn cancel(address: SocketAddr, key: [u8; 8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&start(80_877_102, &key)).unwrap();
    // The router has taken it when it closes.
    let _ = stream.read(&mut [0]);
}

/// What is told to a client that says who it is and no more: an error with its fields, or the tag of another message.
pub fn refused(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(&start(3 << 16, b"user\0ann\0database\0shop\0\0"));
    let mut text = vec![0; 1];
    let read = stream.read(&mut text);
    // A question is no refusal, and nothing follows it.
    if matches!(read, Ok(1)) && text == b"E" {
        let _ = stream.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Self { stream, key: [0; 8], input: Vec::new() };
        raw.send(&start(3 << 16, b"user\0ann\0database\0shop\0\0"));
        let mut scram = ScramSha256::new(PASSWORD.as_bytes(), ChannelBinding::unsupported());
        loop {
            let (tag, body) = raw.next();
            match (tag, body.get(..4)) {
                (b'R', Some([0, 0, 0, 10])) => {
                    let first = scram.message().to_vec();
                    let mut body = b"SCRAM-SHA-256\0".to_vec();
                    body.extend_from_slice(&(first.len() as u32).to_be_bytes());
                    body.extend_from_slice(&first);
                    raw.send(&message(b'p', &body));
                }
                (b'R', Some([0, 0, 0, 11])) => {
                    scram.update(&body[4..]).unwrap();
                    raw.send(&message(b'p', scram.message()));
                }
                (b'K', _) => raw.key.copy_from_slice(&body),
                (b'E', _) => panic!("{}", String::from_utf8_lossy(&body)),
                (b'Z', _) => return raw,
                _ => {}
            }
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends until the router takes no more; how many bytes it took.
    pub fn send_until_stalled(&mut self, bytes: &[u8]) -> usize {
        self.stream.set_write_timeout(Some(STALL)).unwrap();
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.stream.set_write_timeout(None).unwrap();
        sent
    }

    pub fn next(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some([tag, a, b, c, d]) = self.input.first_chunk() {
                let (tag, end) = (*tag, u32::from_be_bytes([*a, *b, *c, *d]) as usize + 1);
                if self.input.len() >= end {
                    let body = self.input[5..end].to_vec();
                    self.input.drain(..end);
                    return (tag, body);
                }
            }
            let mut chunk = [0; 4096];
            let n = self.stream.read(&mut chunk).unwrap();
            assert!(n > 0, "the router closed the connection");
            self.input.extend_from_slice(&chunk[..n]);
        }
    }

    /// The tags up to the next ReadyForQuery, and its state.
    pub fn tags(&mut self) -> String {
        let mut tags = String::new();
        loop {
            let (tag, body) = self.next();
            tags.push(tag as char);
            if tag == b'Z' {
                tags.push(body[0] as char);
                return tags;
            }
        }
    }

    /// The SQLSTATE of the next error.
    pub fn error(&mut self) -> String {
        loop {
            if let (b'E', body) = self.next() {
                let fields: Vec<_> = body.split(|&b| b == 0).map(String::from_utf8_lossy).collect();
                return fields.iter().find_map(|field| field.strip_prefix('C')).unwrap().to_owned();
            }
        }
    }
}
