//! Paths as servers may understand them: decoded, with several slashes as one (RFC 3986 sections 3.3 and 6.2.2).
//!
//! Pure. It changes no path, for what a client says goes on as it is; it only sees to it that no spelling of a path leads
//! around the rules of a route. [`super::request`] asks it about dot segments, [`crate::snapshot`] which route it is.

/// Does the path of `target` have a segment that is `.` or `..`? An encoded dot counts, a slash or a backslash that is
/// encoded ends a segment, and so does the semicolon of a parameter: there are servers to which each of them is that.
pub fn has_dot_segment(target: &[u8]) -> bool {
    let path = &target[..memchr::memchr(b'?', target).unwrap_or(target.len())];
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

/// How many bytes of `path` are the `route`'s: all of it, or its beginning up to the end of a segment. Both are compared
/// decoded, and several slashes count as one, in whatever spelling.
pub fn taken(route: &[u8], path: &[u8]) -> Option<usize> {
    let is_whole = |rest: &[u8]| rest.is_empty() || route.ends_with(b"/") || rest[0] == b'/';
    if path.strip_prefix(route).is_some_and(is_whole) {
        return Some(route.len());
    }
    if is_plain(path) && is_plain(route) { None } else { taken_decoded(route, path) }
}

/// Is there but one spelling of it?
fn is_plain(path: &[u8]) -> bool {
    let is_doubled = |at: usize| path.get(at + 1) == Some(&b'/');
    memchr::memchr(b'%', path).is_none() && !memchr::memchr_iter(b'/', path).any(is_doubled)
}

fn taken_decoded(route: &[u8], path: &[u8]) -> Option<usize> {
    let (mut route, mut path) = (Units(route).peekable(), Units(path).peekable());
    let mut taken = 0;
    while let Some(wanted) = route.next() {
        let found = path.next().filter(|found| found.byte == wanted.byte)?;
        taken += found.len;
        if wanted.byte == b'/' {
            while route.next_if(Unit::is_slash).is_some() {}
            // What follows the last slash of a route is the rest, whatever it is.
            if route.peek().is_none() {
                return Some(taken);
            }
            while let Some(slash) = path.next_if(Unit::is_slash) {
                taken += slash.len;
            }
        }
    }
    path.peek().is_none_or(Unit::is_slash).then_some(taken)
}

/// The bytes that a path stands for.
struct Units<'p>(&'p [u8]);

#[derive(Clone, Copy)]
struct Unit {
    /// A slash also for the backslash, which only comes encoded.
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
        let digit = |b: u8| char::from(b).to_digit(16);
        let encoded = match self.0 {
            [b'%', high, low, ..] => digit(*high).zip(digit(*low)).map(|(high, low)| (high * 16 + low) as u8),
            _ => None,
        };
        let unit = match encoded {
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
            assert!(has_dot_segment(path.as_bytes()), "{path}");
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
            "/..%00",
            "/..%3b/",
            "/a;/..b",
            "/;..",
            "/%2fa",
            "/%",
            "/%2",
            "/.%zz",
            "/%252e/",
        ] {
            assert!(!has_dot_segment(path.as_bytes()), "{path}");
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
        ] {
            assert_eq!(taken(route.as_bytes(), path.as_bytes()), expected, "{route} {path}");
        }
    }

    proptest! {
        /// Whatever of a path is encoded, it is the same path. Nobody writes a route with two slashes in a row.
        #[test]
        fn no_spelling_makes_a_difference(path in "(/[.a;]{0,3}){1,4}", route in "(/[.a;]{1,2}){0,2}/?", encoded: u32) {
            let spell = |(i, b): (usize, u8)| match encoded >> i & 1 {
                1 if b != b';' => format!("%{b:02x}").into_bytes(),
                _ => vec![b],
            };
            let other: Vec<u8> = path.bytes().enumerate().flat_map(spell).collect();
            prop_assert_eq!(has_dot_segment(&other), has_dot_segment(path.as_bytes()));
            let (one, two) = (taken(route.as_bytes(), path.as_bytes()), taken(route.as_bytes(), &other));
            let decoded = |path: &[u8], taken: Option<usize>| taken.map(|len| Units(&path[..len]).count());
            prop_assert_eq!(decoded(&other, two), decoded(path.as_bytes(), one), "{:?}", other);
        }
    }
}
