//! The PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy, 2020), as pure functions of bytes.
//!
//! A proxy says in it from where a connection came to it, before the connection's own bytes. Whom to believe is
//! decided where connections are accepted. Extensions (TLV) are skipped: nothing that they say is used.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tiebeam_topology::ProxyVersion;

/// The longest header that is read, bytes: the addresses, and what proxies say of themselves behind them.
pub const HEADER_BYTES: usize = 4096;

/// What a header says about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// Nothing: it is a connection of the proxy's own, such as a health check, or came by no IP.
    Nothing,
    Client(Route),
}

/// From where to where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub from: SocketAddr,
    pub to: SocketAddr,
}

/// What begins the connection is no header of the protocol. What follows must not be read as anything else.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

const V1: &[u8] = b"PROXY ";
/// The longest line of version 1, its CR LF included (section 2.1).
const V1_BYTES: usize = 107;
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, and the length of what follows (section 2.2).
const V2_FIXED_BYTES: usize = 16;

/// The header that `bytes` begins with, and its length; `None`: it is not whole yet.
pub fn parse(bytes: &[u8]) -> Result<Option<(Announced, usize)>, Malformed> {
    let begins = |signature: &[u8]| {
        let common = bytes.len().min(signature.len());
        bytes[..common] == signature[..common]
    };
    match (begins(V1), begins(V2)) {
        (true, _) if bytes.len() > V1.len() => parse_v1(bytes),
        (_, true) if bytes.len() >= V2_FIXED_BYTES => parse_v2(bytes),
        (false, false) => Err(Malformed),
        _ => Ok(None),
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(Announced, usize)>, Malformed> {
    let text = &bytes[..bytes.len().min(V1_BYTES)];
    let Some(end) = memchr::memchr(b'\n', text) else {
        return if text.len() == V1_BYTES { Err(Malformed) } else { Ok(None) };
    };
    let line = text[V1.len()..end].strip_suffix(b"\r").ok_or(Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let words: Vec<&str> = line.split(' ').collect();
    let announced = match words[..] {
        // What follows is to be ignored.
        ["UNKNOWN", ..] => Announced::Nothing,
        ["TCP4", from, to, from_port, to_port] => {
            let ip = |text: &str| text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| Malformed);
            Announced::Client(Route {
                from: SocketAddr::new(ip(from)?, port(from_port)?),
                to: SocketAddr::new(ip(to)?, port(to_port)?),
            })
        }
        ["TCP6", from, to, from_port, to_port] => {
            let ip = |text: &str| text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| Malformed);
            Announced::Client(Route {
                from: SocketAddr::new(ip(from)?, port(from_port)?),
                to: SocketAddr::new(ip(to)?, port(to_port)?),
            })
        }
        _ => return Err(Malformed),
    };
    Ok(Some((announced, end + 1)))
}

/// Decimal, without leading zeros (section 2.1).
fn port(text: &str) -> Result<u16, Malformed> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or(Malformed)
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Announced, usize)>, Malformed> {
    let (command, family) = (bytes[V2.len()], bytes[V2.len() + 1]);
    let length = usize::from(u16::from_be_bytes([bytes[V2.len() + 2], bytes[V2.len() + 3]]));
    let whole = V2_FIXED_BYTES + length;
    // The wrong are told so before they have sent all of it.
    if !matches!(command, 0x20 | 0x21) || whole > HEADER_BYTES {
        return Err(Malformed);
    }
    let Some(body) = bytes.get(V2_FIXED_BYTES..whole) else { return Ok(None) };
    let announced = match (command, family) {
        // LOCAL: the rest is to be skipped, the family too.
        (0x20, _) => Announced::Nothing,
        // Of no family, or between unix sockets: there are no addresses of IP.
        (_, 0x00 | 0x31) => Announced::Nothing,
        (_, 0x11) => {
            let [a, b, c, d, e, f, g, h, ports @ ..] = *body.first_chunk::<12>().ok_or(Malformed)?;
            route(Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into(), ports)
        }
        (_, 0x21) => {
            let (from, rest) = body.split_first_chunk::<16>().ok_or(Malformed)?;
            let (to, rest) = rest.split_first_chunk::<16>().ok_or(Malformed)?;
            let ports = *rest.first_chunk::<4>().ok_or(Malformed)?;
            route(Ipv6Addr::from(*from).into(), Ipv6Addr::from(*to).into(), ports)
        }
        // Datagrams, and what no version knows.
        _ => return Err(Malformed),
    };
    Ok(Some((announced, whole)))
}

fn route(from: IpAddr, to: IpAddr, [a, b, c, d]: [u8; 4]) -> Announced {
    Announced::Client(Route {
        from: SocketAddr::new(from, u16::from_be_bytes([a, b])),
        to: SocketAddr::new(to, u16::from_be_bytes([c, d])),
    })
}

/// Appends the header that announces a connection.
pub fn write(out: &mut Vec<u8>, version: ProxyVersion, announced: &Announced) {
    match version {
        ProxyVersion::V1 => write_v1(out, announced),
        ProxyVersion::V2 => write_v2(out, announced),
    }
}

// Writing to a vector cannot fail, so the results of `write!` below are not looked at.

fn write_v1(out: &mut Vec<u8>, announced: &Announced) {
    let Announced::Client(Route { from, to }) = announced else {
        return out.extend_from_slice(b"PROXY UNKNOWN\r\n");
    };
    let (from_port, to_port) = (from.port(), to.port());
    let _ = match alike(from.ip(), to.ip()) {
        Alike::V4(from, to) => write!(out, "PROXY TCP4 {from} {to} {from_port} {to_port}\r\n"),
        Alike::V6(from, to) => write!(out, "PROXY TCP6 {from} {to} {from_port} {to_port}\r\n"),
    };
}

fn write_v2(out: &mut Vec<u8>, announced: &Announced) {
    out.extend_from_slice(V2);
    let Announced::Client(Route { from, to }) = announced else {
        return out.extend_from_slice(&[0x20, 0, 0, 0]);
    };
    match alike(from.ip(), to.ip()) {
        Alike::V4(from, to) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        Alike::V6(from, to) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
    }
    out.extend_from_slice(&from.port().to_be_bytes());
    out.extend_from_slice(&to.port().to_be_bytes());
}

enum Alike {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// Both of one family, as a header wants them: if they are not, in the form of version 6.
fn alike(from: IpAddr, to: IpAddr) -> Alike {
    let mapped = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Alike::V4(from, to),
        (from, to) => Alike::V6(mapped(from), mapped(to)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(from: &str, to: &str) -> Announced {
        Announced::Client(Route { from: from.parse().unwrap(), to: to.parse().unwrap() })
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2, &[command, family], &length, body].concat()
    }

    #[test]
    fn what_is_right() {
        let four = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 4, 1, 0xbb];
        let with_extension = [&four[..], &[4, 0, 1, 0]].concat();
        let far = client("192.0.2.1:56324", "198.51.100.7:443");
        let longest = [b"PROXY UNKNOWN ".as_slice(), &[b'f'; V1_BYTES - 16], b"\r\n"].concat();
        for (bytes, announced) in [
            (b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n".to_vec(), far),
            (b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n".to_vec(), client("[2001:db8::1]:0", "[::1]:65535")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Announced::Nothing),
            (longest, Announced::Nothing),
            (v2(0x21, 0x11, &four), far),
            (v2(0x21, 0x11, &with_extension), far),
            (v2(0x20, 0x11, &four), Announced::Nothing),
            (v2(0x20, 0xff, b"?"), Announced::Nothing),
            (v2(0x21, 0x00, b""), Announced::Nothing),
            (v2(0x21, 0x31, &[0; 216]), Announced::Nothing),
            (v2(0x20, 0, &vec![0; HEADER_BYTES - V2_FIXED_BYTES]), Announced::Nothing),
        ] {
            let expected = Ok(Some((announced, bytes.len())));
            assert_eq!(parse(&[&bytes, b"GET / ".as_slice()].concat()), expected, "{}", bytes.escape_ascii());
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{} of {}", end, bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_wrong() {
        let lines = [
            "GET / HTTP/1.1\r\n",
            "PROXY\r\n",
            "PROXY  TCP4 192.0.2.1 198.51.100.7 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 1 2\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 1 65536\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.7 1 2\r\n",
        ];
        let too_long = [b"PROXY UNKNOWN ".as_slice(), &[b'f'; V1_BYTES]].concat();
        let long = u16::try_from(HEADER_BYTES).unwrap().to_be_bytes();
        let binary = [
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x12, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x41, &[0; 36]),
            [V2, &[0x21, 0x11], &long].concat(),
            too_long,
        ];
        for bytes in lines.iter().map(|line| line.as_bytes().to_vec()).chain(binary) {
            assert_eq!(parse(&bytes), Err(Malformed), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn addresses_of_two_families() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let mixed = client("192.0.2.1:1", "[::1]:2");
        write(&mut one, ProxyVersion::V1, &mixed);
        assert_eq!(one, b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n");
        write(&mut two, ProxyVersion::V2, &mixed);
        assert_eq!(parse(&two).unwrap().unwrap().0, client("[::ffff:192.0.2.1]:1", "[::1]:2"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(from: SocketAddr, to: SocketAddr, version in prop::sample::select(vec![ProxyVersion::V1, ProxyVersion::V2]), nothing: bool) {
            prop_assume!(from.is_ipv4() == to.is_ipv4());
            // Flows and scopes have no place in a header.
            let plain = |at: SocketAddr| SocketAddr::new(at.ip(), at.port());
            let route = Route { from: plain(from), to: plain(to) };
            let announced = if nothing { Announced::Nothing } else { Announced::Client(route) };
            let mut bytes = Vec::new();
            write(&mut bytes, version, &announced);
            prop_assert_eq!(parse(&bytes), Ok(Some((announced, bytes.len()))));
            for end in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..end]), Ok(None));
            }
        }

        #[test]
        fn more_bytes_never_change_a_verdict(damaged in any::<prop::sample::Index>(), with: u8, two: bool, more in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut bytes = Vec::new();
            let version = if two { ProxyVersion::V2 } else { ProxyVersion::V1 };
            write(&mut bytes, version, &client("192.0.2.1:1", "198.51.100.7:2"));
            let at = damaged.index(bytes.len());
            bytes[at] = with;
            bytes.extend(more);
            let mut verdict = None;
            for end in 0..=bytes.len() {
                let now = parse(&bytes[..end]);
                if let Some(verdict) = &verdict {
                    prop_assert_eq!(&now, verdict);
                } else if now != Ok(None) {
                    verdict = Some(now);
                }
            }
        }
    }
}
