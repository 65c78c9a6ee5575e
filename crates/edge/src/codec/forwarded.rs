//! Whom a request was forwarded for: read from the fields of proxies that are trusted, and written for servers.
//!
//! `X-Forwarded-For` and `Forwarded` (RFC 7239) are lists to which each proxy adds whom it had the request from. Read
//! from the right, each address is as good as the word of the one behind it: the first that is no trusted proxy is the
//! client, and what stands left of it is the client's own word, which is dropped.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use tiebeam_topology::Forwarded as Form;

use super::grammar;
use super::{Fault, Known, RequestHead};

/// Trusted proxies that a request may have come through, this edge's client not counted. More are refused.
pub const HOPS: usize = 32;

/// What trusted proxies say about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Believed<'b> {
    /// The client, and after it the proxies that the request came through. Not empty; the last is the one at the other
    /// end of the connection.
    pub chain: Vec<IpAddr>,
    /// Did the client come by HTTPS?
    pub is_https: Option<bool>,
    /// The host that the client asked for, as a `Host` field may say it.
    pub host: Option<&'b [u8]>,
}

/// Reads the fields of a request that came from `peer`, which is trusted. `buffer` is what `head` was parsed from.
///
/// What a proxy wrote in the place of an address and is none (`unknown`, an obfuscated name) ends the list there: who
/// wrote it counts as the client.
///
/// # Errors
/// [`Fault::Forwarded`] if a `Forwarded` field does not follow its grammar, for then a client could hide itself in it by
/// an open quotation mark; or if a list goes on beyond [`HOPS`] trusted proxies.
pub fn believed<'b>(
    head: &RequestHead,
    buffer: &'b [u8],
    peer: IpAddr,
    form: Form,
    trusts: impl Fn(IpAddr) -> bool,
) -> Result<Believed<'b>, Fault> {
    let values =
        |known: Known| head.fields().iter().filter(move |f| f.known == known).map(|f| f.value.of(buffer));
    let mut walk = Walk { chain: vec![peer], trusts };
    if form == Form::Rfc7239 {
        let mut elements = VecDeque::new();
        for value in values(Known::Forwarded) {
            elements_of(value, &mut elements)?;
        }
        let last = walk.along(elements.into_iter().rev(), |element| node(element.client?))?;
        let last = last.unwrap_or_default();
        let host = last.host.filter(|host| grammar::is_host(host));
        return Ok(Believed { chain: walk.finish(), is_https: last.scheme.and_then(is_https), host });
    }
    let fields: Vec<&[u8]> = values(Known::ForwardedFor).collect();
    walk.along(fields.into_iter().rev().flat_map(items_from_the_right), node)?;
    let last_item = |known| values(known).next_back().and_then(|value| items_from_the_right(value).next());
    Ok(Believed {
        chain: walk.finish(),
        is_https: last_item(Known::ForwardedProto).and_then(is_https),
        host: last_item(Known::ForwardedHost).filter(|host| grammar::is_host(host)),
    })
}

/// From the one at the other end toward the client, as far as each is trusted.
struct Walk<F> {
    chain: Vec<IpAddr>,
    trusts: F,
}

impl<F: Fn(IpAddr) -> bool> Walk<F> {
    /// Goes along `items`, the nearest first; returns the last that was looked at.
    fn along<T: Copy>(
        &mut self,
        items: impl Iterator<Item = T>,
        address: impl Fn(T) -> Option<IpAddr>,
    ) -> Result<Option<T>, Fault> {
        let mut last = None;
        for item in items {
            last = Some(item);
            let Some(address) = address(item) else { break };
            self.chain.push(address);
            if !(self.trusts)(address) {
                break;
            }
            if self.chain.len() > HOPS {
                return Err(Fault::Forwarded);
            }
        }
        Ok(last)
    }

    fn finish(mut self) -> Vec<IpAddr> {
        self.chain.reverse();
        self.chain
    }
}

fn is_https(scheme: &[u8]) -> Option<bool> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case(b"https") => Some(true),
        _ if scheme.eq_ignore_ascii_case(b"http") => Some(false),
        _ => None,
    }
}

/// The items of a list without quotations; empty ones are skipped (RFC 9110 section 5.6.1).
fn items_from_the_right(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.rsplit(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// An address, in brackets or not, with a port or not.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let ip = text.parse::<IpAddr>().ok().or_else(bare);
    ip.or_else(|| text.parse::<SocketAddr>().ok().map(|at| at.ip())).map(|ip| ip.to_canonical())
}

/// What one proxy says in `Forwarded`. A quotation with an escape in it counts as not said: neither an address nor a
/// host needs one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Element<'b> {
    client: Option<&'b [u8]>,
    scheme: Option<&'b [u8]>,
    host: Option<&'b [u8]>,
}

/// Appends the elements of a field, and keeps the last that may matter.
fn elements_of<'b>(value: &'b [u8], elements: &mut VecDeque<Element<'b>>) -> Result<(), Fault> {
    let mut rest = value;
    while !rest.is_empty() {
        let (element, after) = element(rest)?;
        rest = after;
        if element != Element::default() {
            elements.push_back(element);
        }
        if elements.len() > HOPS + 1 {
            elements.pop_front();
        }
    }
    Ok(())
}

/// `name=value` pairs between semicolons, up to a comma or the end (RFC 7239 section 4).
fn element(text: &[u8]) -> Result<(Element<'_>, &[u8]), Fault> {
    let (mut element, mut rest) = (Element::default(), text.trim_ascii_start());
    loop {
        if let [b';', after @ ..] = rest {
            rest = after;
            continue;
        }
        let name_bytes = rest.iter().take_while(|b| grammar::is_token_byte(**b)).count();
        if name_bytes > 0 {
            let (name, after) = rest.split_at(name_bytes);
            let (value, after) = pair_value(after.strip_prefix(b"=").ok_or(Fault::Forwarded)?)?;
            let place = match name {
                _ if name.eq_ignore_ascii_case(b"for") => Some(&mut element.client),
                _ if name.eq_ignore_ascii_case(b"proto") => Some(&mut element.scheme),
                _ if name.eq_ignore_ascii_case(b"host") => Some(&mut element.host),
                _ => None,
            };
            if place.is_some_and(|place| place.replace(value).is_some()) {
                return Err(Fault::Forwarded);
            }
            rest = after;
        }
        rest = rest.trim_ascii_start();
        match rest {
            [] => return Ok((element, rest)),
            [b',', after @ ..] => return Ok((element, after)),
            [b';', ..] => {}
            _ => return Err(Fault::Forwarded),
        }
    }
}

/// A token or a quotation, and what is behind it.
fn pair_value(text: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let bytes = text.iter().take_while(|b| grammar::is_token_byte(**b)).count();
        return if bytes == 0 { Err(Fault::Forwarded) } else { Ok(text.split_at(bytes)) };
    };
    let (mut at, mut is_plain) = (0, true);
    loop {
        match quoted.get(at) {
            None => return Err(Fault::Forwarded),
            Some(b'"') => {
                let value = if is_plain { &quoted[..at] } else { b"".as_slice() };
                return Ok((value, &quoted[at + 1..]));
            }
            Some(b'\\') => (at, is_plain) = (at + 2, false),
            Some(_) => at += 1,
        }
    }
}

/// Appends a `Forwarded` field: the client with what it asked for, and after it the proxies, as `chain` lists them.
pub fn write_forwarded(out: &mut Vec<u8>, chain: &str, scheme: &str, host: &[u8]) {
    out.extend_from_slice(b"Forwarded: for=");
    let mut proxies = chain.split(", ");
    write_node(out, proxies.next().unwrap_or_default());
    if !host.is_empty() {
        // A host holds no quotation mark and no backslash; with a port it is no token.
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(host);
        out.push(b'"');
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(scheme.as_bytes());
    for proxy in proxies {
        out.extend_from_slice(b", for=");
        write_node(out, proxy);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_node(out: &mut Vec<u8>, address: &str) {
    let (before, after): (&[u8], &[u8]) = if address.contains(':') { (b"\"[", b"]\"") } else { (b"", b"") };
    out.extend_from_slice(before);
    out.extend_from_slice(address.as_bytes());
    out.extend_from_slice(after);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{HeadLimits, Progress};

    const LIMITS: HeadLimits = HeadLimits { bytes: 32 << 10, fields: 128, line_bytes: 8 << 10 };

    fn trusts(ip: IpAddr) -> bool {
        matches!(ip, IpAddr::V4(v4) if v4.octets()[0] == 10)
    }

    /// What a request with these fields, which 10.0.0.1 sent, is believed: the chain, the scheme and the host.
    fn read(fields: &str, form: Form) -> Result<String, Fault> {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        assert!(matches!(head.parse(text.as_bytes(), &LIMITS)?, Progress::Done { .. }));
        let found = believed(&head, text.as_bytes(), "10.0.0.1".parse().unwrap(), form, trusts)?;
        let chain: Vec<_> = found.chain.iter().map(IpAddr::to_string).collect();
        let scheme = found.is_https.map_or("-", |is| if is { "https" } else { "http" });
        Ok(format!("{} {scheme} {}", chain.join(","), String::from_utf8_lossy(found.host.unwrap_or(b"-"))))
    }

    #[test]
    fn x_forwarded() {
        for (fields, expected) in [
            ("", "10.0.0.1 - -"),
            ("X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1,10.0.0.1 - -"),
            ("X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.2\r\n", "192.0.2.1,10.0.0.2,10.0.0.1 - -"),
            ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1,10.0.0.1 - -"),
            ("X-Forwarded-For: 10.0.0.3 ,, 10.0.0.2\r\n", "10.0.0.3,10.0.0.2,10.0.0.1 - -"),
            ("X-Forwarded-For: 192.0.2.1:4711\r\n", "192.0.2.1,10.0.0.1 - -"),
            ("X-Forwarded-For: [2001:db8::1]:4711\r\n", "2001:db8::1,10.0.0.1 - -"),
            ("X-Forwarded-For: [2001:db8::1]\r\n", "2001:db8::1,10.0.0.1 - -"),
            ("X-Forwarded-For: ::ffff:192.0.2.1\r\n", "192.0.2.1,10.0.0.1 - -"),
            ("X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.2\r\n", "10.0.0.2,10.0.0.1 - -"),
            ("X-Forwarded-For: 192.0.2.1, 10.0.0.02\r\n", "10.0.0.1 - -"),
            ("X-Forwarded-Proto: http, HTTPS\r\nX-Forwarded-Host: a:8\r\n", "10.0.0.1 https a:8"),
            ("X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: a/b\r\n", "10.0.0.1 - -"),
            ("Forwarded: for=\"\r\n", "10.0.0.1 - -"),
        ] {
            for form in [Form::XForwarded, Form::Both] {
                assert_eq!(read(fields, form).unwrap(), expected, "{fields}");
            }
        }
    }

    #[test]
    fn rfc7239() {
        for (value, expected) in [
            ("for=192.0.2.1", "192.0.2.1,10.0.0.1 - -"),
            ("For=\"192.0.2.1:80\";Proto=https;by=10.0.0.1", "192.0.2.1,10.0.0.1 https -"),
            ("for=\"[2001:db8::1]:4711\";host=\"a:8\"", "2001:db8::1,10.0.0.1 - a:8"),
            (
                "for=6.6.6.6;proto=http, for=192.0.2.1;proto=https , for=10.0.0.2;proto=http",
                "192.0.2.1,10.0.0.2,10.0.0.1 https -",
            ),
            ("for=unknown;proto=https", "10.0.0.1 https -"),
            ("for=_hidden, for=10.0.0.2", "10.0.0.2,10.0.0.1 - -"),
            ("proto=https", "10.0.0.1 https -"),
            (",, for=192.0.2.1 ,", "192.0.2.1,10.0.0.1 - -"),
            ("for=192.0.2.1;", "192.0.2.1,10.0.0.1 - -"),
            ("secret=\"a\\\"b,c;d\";for=192.0.2.1", "192.0.2.1,10.0.0.1 - -"),
            ("for=\"192.0.2.\\1\"", "10.0.0.1 - -"),
        ] {
            let fields = format!("X-Forwarded-For: 6.6.6.6\r\nForwarded: {value}\r\n");
            assert_eq!(read(&fields, Form::Rfc7239).as_deref(), Ok(expected), "{value}");
        }
        for value in [
            "for",
            "for=",
            "for=\"",
            "for=\"\\",
            "for= 1",
            "for=1 for=2",
            "for=1;for=2",
            "for=a:b",
            "=1",
            "for=6.6.6.6;x=\", for=\"[2001:db8::1]\"",
        ] {
            assert_eq!(
                read(&format!("Forwarded: {value}\r\n"), Form::Rfc7239),
                Err(Fault::Forwarded),
                "{value}"
            );
        }
    }

    #[test]
    fn a_list_of_proxies_ends_somewhere() {
        let list = |count: usize, name: &str| vec![format!("{name}10.0.0.2"); count].join(",");
        for (form, field, name) in
            [(Form::XForwarded, "X-Forwarded-For", ""), (Form::Rfc7239, "Forwarded", "for=")]
        {
            let most = format!("{field}: 6.6.6.6,{name}192.0.2.1,{}\r\n", list(HOPS - 1, name));
            let most = if name.is_empty() { most } else { most.replacen("6.6.6.6", "for=6.6.6.6", 1) };
            assert!(read(&most, form).unwrap().starts_with("192.0.2.1,10.0.0.2,"));
            let more = format!("{field}: {}\r\n", list(HOPS, name));
            assert_eq!(read(&more, form), Err(Fault::Forwarded));
        }
    }

    #[test]
    fn written() {
        let mut out = Vec::new();
        write_forwarded(&mut out, "2001:db8::1, 10.0.0.2", "https", b"a.example:8443");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Forwarded: for=\"[2001:db8::1]\";host=\"a.example:8443\";proto=https, for=10.0.0.2\r\n"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(chain in prop::collection::vec(any::<[u8; 3]>(), 0..8), client: IpAddr, is_https: bool) {
            let client = client.to_canonical();
            prop_assume!(!trusts(client));
            let mut all = vec![client];
            all.extend(chain.iter().map(|[a, b, c]| IpAddr::from([10, *a, *b, *c])));
            let text: Vec<String> = all.iter().map(IpAddr::to_string).collect();
            let mut out = Vec::new();
            write_forwarded(&mut out, &text.join(", "), if is_https { "https" } else { "http" }, b"a");
            let expected = format!("{},10.0.0.1 {} a", text.join(","), if is_https { "https" } else { "http" });
            prop_assert_eq!(read(&String::from_utf8(out).unwrap(), Form::Rfc7239), Ok(expected));
        }

        #[test]
        fn no_list_panics(value in "[fortproh=\"\\\\;,.: 0-9a-f_\\[\\]-]{0,60}") {
            let _ = read(&format!("Forwarded: {value}\r\nX-Forwarded-For: {value}\r\n"), Form::Rfc7239);
            let _ = read(&format!("Forwarded: {value}\r\nX-Forwarded-For: {value}\r\n"), Form::XForwarded);
        }
    }
}
