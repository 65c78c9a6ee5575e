//! Which bytes may stand where (RFC 9110 section 5.6, RFC 3986), as tables, and the two grammars that need more.

const TOKEN: u8 = 1;
const PATH: u8 = 2;
const QUERY: u8 = 4;
const HOST: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let alnum = b.is_ascii_alphanumeric();
        let mut class = 0;
        if alnum || among(b, b"!#$%&'*+-.^_`|~") {
            class |= TOKEN;
        }
        if alnum || among(b, b"-._~!$&'()*+,;=:@/%") || among(b, b"|[]^") {
            class |= PATH | QUERY;
        }
        if among(b, b"?{}`\\") {
            class |= QUERY;
        }
        if alnum || among(b, b"-._") {
            class |= HOST;
        }
        table[i] = class;
        i += 1;
    }
    table
};

const fn among(b: u8, set: &[u8]) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == b {
            return true;
        }
        i += 1;
    }
    false
}

fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|b| CLASSES[usize::from(*b)] & class != 0)
}

pub fn is_token_byte(b: u8) -> bool {
    CLASSES[usize::from(b)] & TOKEN != 0
}

pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// May a field's value hold this byte? (RFC 9110 section 5.5, `obs-text` included.)
pub fn is_value_byte(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 0x7f)
}

/// `/path?query`: in the path each percent sign must encode a byte.
pub fn is_origin_form(target: &[u8]) -> bool {
    if target.first() != Some(&b'/') {
        return false;
    }
    let split = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at(split);
    let encoded =
        |at: usize| path.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    all(path, PATH) && all(query, QUERY) && memchr::memchr_iter(b'%', path).all(encoded)
}

/// `?query`, which stands for `/?query` in absolute form.
pub fn is_query(target: &[u8]) -> bool {
    target.first() == Some(&b'?') && all(target, QUERY)
}

/// A host name, an IPv4 address or an IPv6 address in brackets, then an optional port (RFC 9110 section 7.2).
pub fn is_host(host: &[u8]) -> bool {
    let name = host_without_port(host);
    let port = &host[name.len()..];
    let port_fits = match port {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0')) <= 65535
        }
        _ => false,
    };
    let name_fits = match name {
        [b'[', inner @ .., b']'] => {
            std::str::from_utf8(inner).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
        }
        _ => !name.is_empty() && name.len() <= 254 && all(name, HOST) && name[0] != b'.',
    };
    port_fits && name_fits
}

/// The host without `:port`.
pub fn host_without_port(host: &[u8]) -> &[u8] {
    let name_end = if host.first() == Some(&b'[') {
        memchr::memchr(b']', host).map_or(host.len(), |i| i + 1)
    } else {
        memchr::memchr(b':', host).unwrap_or(host.len())
    };
    &host[..name_end]
}
