//! Changes a head that was written: fields set and removed, and another target.
//!
//! Pure, and only for what the file asks for: a head that nothing changes never comes here. What frames a message is
//! never changed, for the file may not name it.

use super::path::{ends_with_slash, without_slashes};

/// Fields to write and to leave out. Names are compared without their case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    set: Vec<(String, String)>,
    remove: Vec<String>,
}

impl Edits {
    /// No name may be in `set` twice or in both, and all must be tokens and values of fields.
    pub fn new(set: Vec<(String, String)>, remove: Vec<String>) -> Self {
        Self { set, remove }
    }

    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// These, after `first`: where both name a field, these count.
    pub fn after(self, first: &Self) -> Self {
        let names = |name: &String| {
            let is_it = |other: &String| other.eq_ignore_ascii_case(name);
            self.remove.iter().any(is_it) || self.set.iter().any(|(other, _)| is_it(other))
        };
        let mut set: Vec<_> = first.set.iter().filter(|(name, _)| !names(name)).cloned().collect();
        let mut remove: Vec<_> = first.remove.iter().filter(|name| !names(name)).cloned().collect();
        set.extend(self.set);
        remove.extend(self.remove);
        Self { set, remove }
    }

    /// Changes the head that begins at `start` of `text`; what is before and behind it stays. A field that is set takes
    /// the place of the first of its name, or the last place.
    pub fn apply(&self, text: &mut Vec<u8>, start: usize) {
        let Some(end) = memchr::memmem::find(&text[start..], b"\r\n\r\n") else { return };
        let rest = text.split_off(start);
        let (head, behind) = rest.split_at(end + 2);
        let mut is_written = vec![false; self.set.len()];
        for (at, line) in head.split_inclusive(|b| *b == b'\n').enumerate() {
            let name = &line[..memchr::memchr(b':', line).unwrap_or(0)];
            let is_it = |other: &str| at > 0 && other.as_bytes().eq_ignore_ascii_case(name);
            if let Some(found) = self.set.iter().position(|(other, _)| is_it(other)) {
                if !std::mem::replace(&mut is_written[found], true) {
                    self.write(text, found);
                }
            } else if !self.remove.iter().any(|other| is_it(other)) {
                text.extend_from_slice(line);
            }
        }
        for missing in (0..self.set.len()).filter(|at| !is_written[*at]) {
            self.write(text, missing);
        }
        text.extend_from_slice(behind);
    }

    fn write(&self, text: &mut Vec<u8>, at: usize) {
        let (name, value) = &self.set[at];
        for part in [name, ": ", value, "\r\n"] {
            text.extend_from_slice(part.as_bytes());
        }
    }
}

/// A copy of the request `head` with another path; its query stays.
pub fn with_path(head: &[u8], path: std::ops::Range<usize>, new: &[u8]) -> Vec<u8> {
    [&head[..path.start], new, &head[path.end..]].concat()
}

/// `path` with `new` in the place of its beginning, `prefix` bytes of it. One slash stands between the two, and one at
/// the start: two would be the name of a host (RFC 3986 section 4.2).
pub fn replaced_prefix(path: &[u8], prefix: usize, new: &str) -> Vec<u8> {
    let (taken, rest) = path.split_at(prefix.min(path.len()));
    let mut out = new.as_bytes().to_vec();
    if !rest.is_empty() || ends_with_slash(taken) {
        while out.last() == Some(&b'/') {
            out.pop();
        }
        out.push(b'/');
    }
    out.extend_from_slice(without_slashes(rest));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(set: &[(&str, &str)], remove: &[&str]) -> Edits {
        let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Edits::new(set.collect(), remove.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn set_and_removed() {
        let before = "earlier";
        let head = "GET /host: HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nCookie: c\r\nx-a: 2\r\nEmpty: \r\n\r\nbody: X-A: 3\r\n\r\n";
        for (edits, expected) in [
            (edits(&[], &[]), head.to_owned()),
            (
                edits(&[("host", "b"), ("X-New", "n")], &[]),
                head.replace("Host: a", "host: b").replace("Empty: \r\n", "Empty: \r\nX-New: n\r\n"),
            ),
            (
                edits(&[("X-A", "")], &["cookie", "absent"]),
                head.replace("X-A: 1\r\nCookie: c\r\nx-a: 2", "X-A: "),
            ),
            (
                edits(&[], &["x-a", "Empty", "GET /host"]),
                head.replace("X-A: 1\r\nCookie: c\r\nx-a: 2\r\nEmpty: ", "Cookie: c"),
            ),
        ] {
            let mut text = format!("{before}{head}").into_bytes();
            edits.apply(&mut text, before.len());
            assert_eq!(String::from_utf8(text).unwrap(), format!("{before}{expected}"), "{edits:?}");
        }
        // Half a head is left alone.
        let mut text = b"HTTP/1.1 200 OK\r\nX-A: 1\r\n".to_vec();
        edits(&[], &["X-A"]).apply(&mut text, 0);
        assert!(text.ends_with(b"X-A: 1\r\n"));
    }

    #[test]
    fn of_a_site_and_then_of_a_route() {
        let site = edits(&[("X-A", "site"), ("X-B", "site")], &["X-C", "X-D"]);
        let route = edits(&[("x-a", "route"), ("x-c", "route")], &["x-b"]);
        assert_eq!(route.after(&site), edits(&[("x-a", "route"), ("x-c", "route")], &["X-D", "x-b"]));
    }

    #[test]
    fn prefixes_in_the_place_of_others() {
        for (path, prefix, new, expected) in [
            ("/api/users", "/api/", "/", "/users"),
            ("/api/", "/api/", "/", "/"),
            ("/api", "/api", "/", "/"),
            ("/api/users/1", "/api", "/", "/users/1"),
            ("/api//evil.example", "/api/", "/", "/evil.example"),
            ("/api//evil.example", "/api", "/", "/evil.example"),
            ("/v1/a", "/v1", "/v2", "/v2/a"),
            ("/v1/a", "/v1/", "/v2", "/v2/a"),
            ("/v1", "/v1", "/v2", "/v2"),
            ("/v1", "/v1", "/v2/", "/v2/"),
            ("/v1/", "/v1", "/v2", "/v2/"),
            ("/v1/", "/v1/", "/v2", "/v2/"),
            ("/a/b", "/", "/base/", "/base/a/b"),
            ("/", "/", "/base", "/base/"),
            ("/v1%2fa", "/v1", "/v2", "/v2/a"),
            ("/v1%2fa", "/v1%2f", "/v2", "/v2/a"),
            ("/v1/%5C%2F/a", "/v1", "/v2/", "/v2/a"),
            ("/v1%2f", "/v1%2f", "/v2", "/v2/"),
            ("/v1;x/a;y", "/v1;x", "/v2", "/v2/a;y"),
        ] {
            let found = replaced_prefix(path.as_bytes(), prefix.len(), new);
            assert_eq!(String::from_utf8(found).unwrap(), expected, "{path} {prefix} {new}");
        }
        let head = b"GET /a?/a HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(with_path(head, 4..6, b"/bcd"), b"GET /bcd?/a HTTP/1.1\r\nHost: a\r\n\r\n");
    }
}
