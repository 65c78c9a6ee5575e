//! A client comes back to the server that it had: the cookie says which, and only the cluster can have written it.
//!
//! The cookie's value is a code (HMAC-SHA-256, cut to 128 bits) of the pool's and the server's names under a key that all
//! edges share. It names no server to whoever reads it, nobody can make one up, and every edge knows it, also after a
//! restart. Nothing is remembered.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tiebeam_topology::PoolName;

use crate::config::{Secret, ServerId};
use crate::fields;

/// What the names of these cookies begin with.
const COOKIE: &str = "tiebeam-";
/// Bytes of a code.
const CODE_BYTES: usize = 16;

pub struct Sticky {
    /// Of the cookie: `tiebeam-web`.
    name: String,
    /// One for each server of the pool, in its order, as hexadecimal.
    codes: Vec<String>,
}

impl Sticky {
    pub fn new<'s>(secret: &Secret, pool: &PoolName, servers: impl Iterator<Item = &'s ServerId>) -> Self {
        let codes = servers.map(|server| code(secret, pool, server)).collect();
        Self { name: format!("{COOKIE}{pool}"), codes }
    }

    /// Is it this pool's cookie?
    pub fn is_named(&self, cookie: &[u8]) -> bool {
        cookie == self.name.as_bytes()
    }

    /// The server that a request's head, as it is written for servers, asks for.
    pub fn server(&self, head: &[u8]) -> Option<usize> {
        let values = fields::values(head, b"cookie");
        let pairs = values.flat_map(|value| value.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
        let given = pairs.filter_map(|pair| pair.strip_prefix(self.name.as_bytes())?.strip_prefix(b"="));
        let known = |given: &[u8]| self.codes.iter().position(|code| code.as_bytes().ct_eq(given).into());
        given.into_iter().find_map(known)
    }

    /// The field that tells the client so. A cookie of the session, since a pool's servers are seldom the same for long.
    pub fn set_cookie(&self, server: usize, is_https: bool) -> String {
        let secure = if is_https { "; Secure" } else { "" };
        let code = self.codes.get(server).map_or("", String::as_str);
        format!("Set-Cookie: {}={code}; Path=/; HttpOnly; SameSite=Lax{secure}\r\n", self.name)
    }
}

/// A copy of a request's head, as it is written for servers, without the cookies that are the edge's own; all others stay
/// byte for byte. `None`: there are none. `is_own` is asked with the names of cookies.
pub fn without_own(head: &[u8], is_own: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    memchr::memmem::find(head, COOKIE.as_bytes())?;
    let is_pair_own = |pair: &&[u8]| {
        let pair = pair.trim_ascii_start();
        // A head may have thousands of cookies, and a node many pools.
        pair.starts_with(COOKIE.as_bytes())
            && memchr::memchr(b'=', pair).is_some_and(|end| is_own(pair[..end].trim_ascii()))
    };
    let mut out = Vec::with_capacity(head.len());
    for (at, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let value = fields::value(line, b"cookie").filter(|_| at > 0);
        let Some(value) = value.filter(|value| value.split(is_semicolon).any(|pair| is_pair_own(&pair)))
        else {
            out.extend_from_slice(line);
            continue;
        };
        let left: Vec<_> = value.split(is_semicolon).filter(|pair| !is_pair_own(pair)).collect();
        let left = left.join(&b';');
        if !left.trim_ascii().is_empty() {
            for part in [b"Cookie: ", left.trim_ascii_start(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
    (out.len() < head.len()).then_some(out)
}

fn is_semicolon(byte: &u8) -> bool {
    *byte == b';'
}

fn code(secret: &Secret, pool: &PoolName, server: &ServerId) -> String {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.bytes()) else { return String::new() };
    // A pool's name holds no zero byte, so no two pairs are one text.
    for part in [b"tiebeam sticky\0".as_slice(), pool.as_str().as_bytes(), b"\0", server.as_str().as_bytes()]
    {
        mac.update(part);
    }
    mac.finalize().into_bytes().iter().take(CODE_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sticky(key: u8) -> Sticky {
        let servers = ["a/web.1", "b/web.1"].map(ServerId::new);
        Sticky::new(&Secret::new([key; 32]), &"web".parse().unwrap(), servers.iter())
    }

    #[test]
    fn its_own_cookies_are_left_out_and_no_others() {
        let is_own = |name: &[u8]| [b"tiebeam-web".as_slice(), b"tiebeam-api"].contains(&name);
        for (cookies, expected) in [
            ("Cookie: tiebeam-web=1\r\n", Some("")),
            ("cookie: tiebeam-web=1;\r\n", Some("")),
            ("Cookie: tiebeam-web=1; a=b\r\n", Some("Cookie: a=b\r\n")),
            ("Cookie: a=b; tiebeam-web=1\r\n", Some("Cookie: a=b\r\n")),
            ("Cookie: a=b;  tiebeam-web=1;c=\"d e\";\tf\r\n", Some("Cookie: a=b;c=\"d e\";\tf\r\n")),
            (
                "Cookie: tiebeam-web=1; tiebeam-api=2; tiebeam-web=\r\nX: y\r\ncookie: a=tiebeam-web=\r\n",
                Some("X: y\r\ncookie: a=tiebeam-web=\r\n"),
            ),
            ("Cookie: a=b=c; tiebeam-web = 1; d\r\n", Some("Cookie: a=b=c; d\r\n")),
            ("Cookie: tiebeam-other=1; Tiebeam-Web=2; xtiebeam-web=3; tiebeam-web\r\n", None),
            ("X-Cookie: tiebeam-web=1\r\n", None),
            ("Cookie: a=b\r\n", None),
        ] {
            let head =
                |cookies: &str| format!("GET /cookie:tiebeam-web=1 HTTP/1.1\r\nHost: a\r\n{cookies}\r\n");
            let found = without_own(head(cookies).as_bytes(), is_own);
            let found = found.map(|found| String::from_utf8(found).unwrap());
            assert_eq!(found, expected.map(head), "{cookies}");
        }
    }

    #[test]
    fn a_cookie_is_found_and_none_can_be_made_up() {
        let (mine, other) = (sticky(1), sticky(2));
        let asked = |sticky: &Sticky, cookies: &str| {
            sticky.server(format!("GET / HTTP/1.1\r\nHost: a\r\n{cookies}\r\n").as_bytes())
        };
        let code = mine.codes[1].clone();
        for (cookies, expected) in [
            (format!("Cookie: tiebeam-web={code}\r\n"), Some(1)),
            (format!("COOKIE: a=b;  tiebeam-web={code}; c=d\r\n"), Some(1)),
            (format!("Cookie: a=b\r\nCookie: tiebeam-web={code}\r\n"), Some(1)),
            (format!("Cookie: tiebeam-web=; tiebeam-web={code}\r\n"), Some(1)),
            (format!("Cookie: tiebeam-web={code}0\r\n"), None),
            (format!("Cookie: xtiebeam-web={code}\r\n"), None),
            (format!("Cookie: tiebeam-api={code}\r\n"), None),
            (format!("X-Cookie: tiebeam-web={code}\r\n"), None),
            ("Cookie: tiebeam-web=\r\nCookie:\r\nCookie: =;;\r\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(asked(&mine, &cookies), expected, "{cookies}");
            assert_eq!(asked(&other, &cookies), None, "another key");
        }
        assert_eq!((code.len(), code == mine.codes[0]), (2 * CODE_BYTES, false));
        let field = mine.set_cookie(1, true);
        assert_eq!(
            field,
            format!("Set-Cookie: tiebeam-web={code}; Path=/; HttpOnly; SameSite=Lax; Secure\r\n")
        );
    }
}
