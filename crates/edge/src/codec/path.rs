//! Paths as servers may understand them: decoded, without parameters, several slashes as one (RFC 3986 sections 3.3 and
//! 6.2.2).
//!
//! Pure. It changes no path, for what a client says goes on as it is; it only sees to it that no spelling of a path leads
//! around the rules of a route. [`super::request`] has it judge targets, [`crate::snapshot`] asks it which route it is.

use std::borrow::Cow;

use super::Fault;

/// Refuses a path that servers would understand in ways that do not agree.
pub fn judge(target: &[u8]) -> Result<(), Fault> {
    let path = &target[..memchr::memchr(b'?', target).unwrap_or(target.len())];
    if has_dot_segment(path) {
        return Err(Fault::DotSegment);
    }
    if is_unclear(path) { Err(Fault::Path) } else { Ok(()) }
}

/// Does it have an encoded zero byte, which ends it for some, or an encoded slash in a parameter, which ends that or not?
fn is_unclear(path: &[u8]) -> bool {
    if memchr::memchr(b'%', path).is_none() {
        return false;
    }
    let mut in_parameter = false;
    for unit in Units(path) {
        match unit {
            Unit { byte: 0, .. } => return true,
            Unit { byte: b'/', len: 3 } if in_parameter => return true,
            Unit { byte: b'/', .. } => in_parameter = false,
            Unit { byte: b';', len: 1 } => in_parameter = true,
            _ => {}
        }
    }
    false
}

/// Does `path` have a segment that is `.` or `..`? An encoded dot counts, a slash or a backslash that is
/// encoded ends a segment, and so does the semicolon of a parameter: there are servers to which each of them is that.
fn has_dot_segment(path: &[u8]) -> bool {
    if memchr::memchr2(b'.', b'%', path).is_none() {
        return false;
    }
    // Of the segment so far: one dot or two and nothing else, or more than that.
    const MORE: u8 = 3;
    let mut dots = 0;
    for unit in Units(path) {
        let is_dots = matches!(dots, 1 | 2);
        dots = match unit {
            Unit { byte: b'/', .. } if is_dots => return true,
            Unit { byte: b';', len: 1 } if is_dots => return true,
            Unit { byte: b'/', .. } => 0,
            Unit { byte: b'.', .. } => MORE.min(dots + 1),
            _ => MORE,
        };
    }
    matches!(dots, 1 | 2)
}

/// `path` as routes are compared: decoded, without parameters (from a `;` to the next slash), slashes in a row as one.
pub fn canonical(path: &[u8]) -> Cow<'_, [u8]> {
    if is_canonical(path) {
        Cow::Borrowed(path)
    } else {
        Canonical::new(path).map(|unit| unit.byte).collect()
    }
}

/// Is `path` the `route`'s: equal to it, or longer from the end of a segment on? Both are canonical.
pub fn is_of(route: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || route.ends_with(b"/") || rest[0] == b'/')
}

/// How many bytes of `path` are the `route`'s, which is canonical, with the parameters of its segments. `None`: it is not
/// the route's.
pub fn taken(route: &[u8], path: &[u8]) -> Option<usize> {
    if !is_of(route, &canonical(path)) {
        return None;
    }
    if is_canonical(path) {
        return Some(route.len());
    }
    Some(Canonical::new(path).take(route.len()).last().map_or(0, |unit| unit.end))
}

/// `rest` without the slashes that it begins with, in whatever spelling.
pub fn without_slashes(rest: &[u8]) -> &[u8] {
    let slashes: usize = Units(rest).take_while(Unit::is_slash).map(|unit| unit.len).sum();
    &rest[slashes..]
}

/// Does it end with a slash, in whatever spelling?
pub fn ends_with_slash(path: &[u8]) -> bool {
    let last_units = path.len().saturating_sub(3);
    path.ends_with(b"/")
        || Units(&path[last_units..]).last().is_some_and(|unit| unit.is_slash() && unit.len == 3)
}

/// The byte that `text` begins with, if that is percent-encoded.
pub fn encoded_byte(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |b: u8| char::from(b).to_digit(16);
    Some((digit(*high)? * 16 + digit(*low)?) as u8)
}

fn is_canonical(path: &[u8]) -> bool {
    let is_doubled = |at: usize| path.get(at + 1) == Some(&b'/');
    memchr::memchr2(b'%', b';', path).is_none() && !memchr::memchr_iter(b'/', path).any(is_doubled)
}

/// The bytes of the canonical form of a path.
struct Canonical<'p> {
    path: &'p [u8],
    at: usize,
    is_after_slash: bool,
}

struct CanonicalByte {
    byte: u8,
    /// Of what stands for it in the path; behind a segment's parameters, but before more slashes.
    end: usize,
}

impl<'p> Canonical<'p> {
    fn new(path: &'p [u8]) -> Self {
        Self { path, at: 0, is_after_slash: false }
    }

    fn skip_parameters(&mut self) {
        let rest = &self.path[self.at..];
        if rest.first() == Some(&b';') {
            self.at += memchr::memchr(b'/', rest).unwrap_or(rest.len());
        }
    }
}

impl Iterator for Canonical<'_> {
    type Item = CanonicalByte;
    fn next(&mut self) -> Option<CanonicalByte> {
        loop {
            // Of a segment without a name.
            self.skip_parameters();
            let unit = Units(&self.path[self.at..]).next()?;
            self.at += unit.len;
            if unit.is_slash() {
                if !std::mem::replace(&mut self.is_after_slash, true) {
                    return Some(CanonicalByte { byte: unit.byte, end: self.at });
                }
                continue;
            }
            self.is_after_slash = false;
            self.skip_parameters();
            return Some(CanonicalByte { byte: unit.byte, end: self.at });
        }
    }
}

/// The bytes that a path stands for.
struct Units<'p>(&'p [u8]);

#[derive(Clone, Copy)]
struct Unit {
    /// A slash also for a backslash: as it is it comes in no path, but encoded it may.
    byte: u8,
    /// Bytes in the path: 1 as it is, 3 encoded.
    len: usize,
}

impl Unit {
    fn is_slash(&self) -> bool {
        self.byte == b'/'
    }
}

impl Iterator for Units<'_> {
    type Item = Unit;
    fn next(&mut self) -> Option<Unit> {
        let unit = match encoded_byte(self.0) {
            Some(b'\\') => Unit { byte: b'/', len: 3 },
            Some(byte) => Unit { byte, len: 3 },
            None => Unit { byte: *self.0.first()?, len: 1 },
        };
        self.0 = &self.0[unit.len..];
        Some(unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dot_segments_in_every_spelling() {
        for path in [
            "/.",
            "/..",
            "/./a",
            "/../a",
            "/a/..",
            "/a/.",
            "/a/../b",
            "//..//",
            "/%2e",
            "/%2E%2e/a",
            "/.%2e",
            "/%2E./",
            "/a/%2e?b",
            "/..;a/b",
            "/a/.;/b",
            "/..;",
            "/a%2f..",
            "/a%2F%2e%2E%2fb",
            "/..%2f",
            "/a%5c..%5Cb",
            "/.%5c",
        ] {
            assert_eq!(judge(path.as_bytes()), Err(Fault::DotSegment), "{path}");
        }
        for path in [
            "",
            "*",
            "?/../",
            "/",
            "/a",
            "/a?/../b",
            "/...",
            "/.../a",
            "/.a",
            "/..a/",
            "/a.",
            "/a..",
            "/a../b",
            "/%2ea",
            "/a%2e%2e",
            "/%2e%2e%2e",
            "/..%3b/",
            "/a;/..b",
            "/;..",
            "/%2fa",
            "/%",
            "/%2",
            "/.%zz",
            "/%252e/",
            "/a;b%3b/%2f",
            "/a%3b%2f",
            "/a?%00;%2f",
        ] {
            assert_eq!(judge(path.as_bytes()), Ok(()), "{path}");
        }
    }

    #[test]
    fn what_servers_do_not_agree_about() {
        for path in ["/%00", "/..%00", "/a%00b/c", "/;%2fa", "/a;b%2F", "/a/b;c=%5cd/e", "/a;/b;%5C?c"] {
            assert_eq!(judge(path.as_bytes()), Err(Fault::Path), "{path}");
        }
    }

    #[test]
    fn what_is_a_routes() {
        for (route, path, expected) in [
            ("/", "/", Some(1)),
            ("/", "//a", Some(1)),
            ("/", "/%2fa", Some(1)),
            ("/", "*", None),
            ("/admin", "/admin", Some(6)),
            ("/admin", "/admin/x", Some(6)),
            ("/admin", "/administration", None),
            ("/admin", "/admi", None),
            ("/admin", "/Admin", None),
            ("/admin", "//admin", Some(7)),
            ("/admin", "///admin//x", Some(8)),
            ("/admin", "/%61dmin/x", Some(8)),
            ("/admin", "/admi%6E", Some(8)),
            ("/admin", "/admin%2fx", Some(6)),
            ("/admin", "/admin%5Cx", Some(6)),
            ("/admin", "/%2fadmin", Some(9)),
            ("/admin", "/admin%61", None),
            ("/admin", "/%2561dmin", None),
            ("/admin", "/admi%", None),
            ("/admin/", "/admin", None),
            ("/admin/", "/%61dmin", None),
            ("/admin/", "//admin/", Some(8)),
            ("/admin/", "//admin//x", Some(8)),
            ("/admin/", "/admin%2Fx", Some(9)),
            ("/a/b", "/a//b/c", Some(5)),
            ("/a/b", "/a%2fb", Some(6)),
            ("/caf%C3%A9", "/caf%c3%a9/x", Some(10)),
            ("/a//b", "/a/b/c", Some(4)),
            ("/%61dmin", "/admin", Some(6)),
            ("/admin", "/admin;x", Some(8)),
            ("/admin", "/admin;x=1;y/users;z", Some(12)),
            ("/admin", "/;/admin/users", Some(8)),
            ("/admin", "/;a//;b/%61dmin;c//x", Some(17)),
            ("/admin", "/adm;in", None),
            ("/admin", "/admin%3bx", None),
            ("/admin/", "/admin;x", None),
            ("/admin/", "/admin;x/y", Some(9)),
            ("/a/b", "/a;b/b;a", Some(8)),
            ("/", "/;a/b", Some(1)),
            ("/", "/a;b", Some(1)),
            ("/a%3Bb", "/a%3bb/c", Some(6)),
            ("/a%3Bb", "/a;b", None),
        ] {
            let found = taken(&canonical(route.as_bytes()), path.as_bytes());
            assert_eq!(found, expected, "{route} {path}");
        }
    }

    #[test]
    fn what_routes_are_compared_with_is_short() {
        for (path, expected) in [
            ("/a", "/a"),
            ("/%41%2f%2F/b", "/A/b"),
            ("/;/a;b;c/", "/a/"),
            ("/;", "/"),
            ("/%zz%", "/%zz%"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(canonical(path.as_bytes()), expected.as_bytes(), "{path}");
        }
        // Each route is compared with these, and not with what they were made of.
        let slashes = ["/".repeat(8000), "%2f".repeat(2000), "/;".repeat(4000)].map(|path| path + "/a");
        assert!(slashes.iter().all(|path| &*canonical(path.as_bytes()) == b"/a"));
    }

    #[test]
    fn slashes_at_the_seam() {
        for (rest, expected) in
            [("", ""), ("a/", "a/"), ("//a", "a"), ("%2F/%5c%2fa%2f", "a%2f"), ("%2", "%2")]
        {
            assert_eq!(without_slashes(rest.as_bytes()), expected.as_bytes(), "{rest}");
        }
        for (path, expected) in
            [("", false), ("/", true), ("/a", false), ("%2f", true), ("/a%5C", true), ("%2f2", false)]
        {
            assert_eq!(ends_with_slash(path.as_bytes()), expected, "{path}");
        }
    }

    proptest! {
        /// Whatever of a path is encoded, however often its slashes stand there and whatever parameters its segments have:
        /// it is the same path, of the same route, and is refused or not.
        #[test]
        fn no_spelling_makes_a_difference(
            segments in proptest::collection::vec("[.a!]{0,3}", 1..5),
            route in "(/[.a]{1,2}){0,2}/?",
            encoded: u32,
            added in proptest::collection::vec("(;[a=;]{0,2})?/{0,2}", 4),
        ) {
            let path = segments.iter().fold(String::new(), |path, segment| format!("{path}/{segment}"));
            let mut at = 0;
            let mut spell = |text: &str| -> String {
                let spell = |b: u8| {
                    at += 1;
                    if encoded >> at & 1 == 1 { format!("%{b:02x}") } else { char::from(b).to_string() }
                };
                text.bytes().map(spell).collect()
            };
            let mut other = String::new();
            for (segment, added) in segments.iter().zip(added.iter().map(String::as_str).chain([""])) {
                // Encoded, a slash does not end a parameter but is refused.
                let in_parameter = other.rsplit('/').next().is_some_and(|last| last.contains(';'));
                let slash = if in_parameter { "/".to_owned() } else { spell("/") };
                other = format!("{other}{slash}{}{added}", spell(segment));
            }
            // Slashes that were added at the end are one more segment, without a name.
            let path = if other.ends_with('/') { path + "/" } else { path };
            let (path, other) = (path.as_bytes(), other.as_bytes());
            prop_assert_eq!(judge(path), judge(other), "{:?}", other.escape_ascii());
            prop_assert_eq!(canonical(path), canonical(other), "{:?}", other.escape_ascii());
            let route = canonical(route.as_bytes());
            let read = |path: &[u8]| taken(&route, path).map(|taken| canonical(&path[..taken]).into_owned());
            prop_assert_eq!(read(path), read(other), "{:?}", other.escape_ascii());
            prop_assert!(read(path).is_none_or(|read| read == *route));
        }
    }
}
