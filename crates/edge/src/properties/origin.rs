//! From where a request came: nobody is believed further than those who are trusted, and what is written is read again.

use std::net::{IpAddr, Ipv4Addr};

use tiebeam_topology::{Forwarded, ProxyVersion, Traces};

use super::{LIMITS, Plain};
use crate::codec::{Forwarding, HOPS, Progress, RequestHead, believed, write_request};
use crate::proxy_protocol::{HEADER_BYTES, parse, write};

/// Inputs up to this long are looked at byte by byte.
const BYTEWISE: usize = 512;
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// A header of the PROXY protocol is known as soon as it is whole, whatever follows; what is none never becomes one.
pub fn proxy_protocol(data: &[u8]) {
    let whole = parse(data);
    for end in 0..data.len().min(BYTEWISE) {
        match (parse(&data[..end]), &whole) {
            (Ok(None), _) => {}
            (Ok(Some((announced, len))), whole) => {
                assert!(len <= end);
                assert_eq!(*whole, Ok(Some((announced, len))), "at {end}");
            }
            (Err(_), whole) => assert!(whole.is_err(), "at {end}"),
        }
    }
    let Ok(Some((announced, len))) = whole else { return };
    assert!(len <= data.len() && len <= HEADER_BYTES);
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut written = Vec::new();
        write(&mut written, version, &announced);
        assert_eq!(parse(&written), Ok(Some((announced, written.len()))), "{}", written.escape_ascii());
    }
}

/// Whoever is said to be the client is so by the word of trusted proxies alone, and a server is told it in one way.
pub fn forwarded(data: &[u8]) {
    let mut head = RequestHead::default();
    let Ok(Progress::Done { .. }) = head.parse(data, &LIMITS[0]) else { return };
    for form in [Forwarded::XForwarded, Forwarded::Rfc7239, Forwarded::Both] {
        let Ok(found) = believed(&head, data, PEER, form, trusts) else { continue };
        assert_eq!(found.chain.last(), Some(&PEER), "{found:?}");
        assert!(found.chain.len() <= HOPS + 1, "{found:?}");
        assert!(found.chain[1..].iter().all(|ip| trusts(*ip)), "{found:?}");
        let chain: Vec<_> = found.chain.iter().map(IpAddr::to_string).collect();
        let from = Forwarding {
            chain: &chain.join(", "),
            scheme: if found.is_https == Some(true) { "https" } else { "http" },
            host: found.host,
            certificate: None,
            form,
            request_id: "0123456789abcdef0123456789abcdef",
            via: false,
            traces: Traces::On,
        };
        let mut written = Vec::new();
        write_request(&mut written, &head, data, &from);
        let plain = Plain::of(&written);
        let (x, rfc7239) =
            (usize::from(form != Forwarded::Rfc7239), usize::from(form != Forwarded::XForwarded));
        for (name, count) in [("x-forwarded-for", x), ("x-forwarded-proto", x), ("forwarded", rfc7239)] {
            assert_eq!(plain.values(name).len(), count, "{name}: {plain:?}");
        }

        // Another edge that trusts this one comes to the same.
        let mut again = RequestHead::default();
        if again.parse(&written, &super::WIDE).is_err() {
            return;
        }
        let found_again = believed(&again, &written, PEER, form, trusts).map(|found| found.chain);
        let mut expected = found.chain;
        expected.push(PEER);
        match found_again {
            Ok(chain) => assert_eq!(chain, expected, "{plain:?}"),
            Err(_) => assert!(expected.len() > HOPS, "{plain:?}"),
        }
    }
}

fn trusts(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.octets()[0] == 10)
}
