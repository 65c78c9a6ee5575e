//! From the path of a request to the name of a file below a directory: decoded once, and refused if in doubt.
//!
//! Pure. What it lets through still cannot lead out of the directory: [`super::open`] asks the kernel to see to that.

use crate::codec::encoded_byte;

/// What stays reachable though it starts with a dot, at the root of a site only (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

/// The name of a file as the path gives it, relative to a route's directory. Empty, or ending in a slash: a folder.
#[derive(Debug, PartialEq, Eq)]
pub enum Inside {
    Name(String),
    /// The route's own path without its final slash: a folder whose address ends with one.
    NeedsSlash,
}

/// `path` without its first `prefix` bytes, percent-decoded and checked. `None`: no file has such a name here.
pub fn inside(path: &[u8], prefix: usize) -> Option<Inside> {
    let rest = path.get(prefix..)?;
    if rest.is_empty() && !path.ends_with(b"/") {
        return Some(Inside::NeedsSlash);
    }
    let text = decoded(rest)?;
    let is_root = path[..prefix].iter().all(|b| *b == b'/');
    let name = text.strip_prefix('/').unwrap_or(&text);
    let last = name.split('/').count() - 1;
    let is_fine = |(at, segment): (usize, &str)| match segment {
        "" => at == last,
        WELL_KNOWN => is_root && at == 0 && at != last,
        _ => !segment.starts_with('.'),
    };
    name.split('/').enumerate().all(is_fine).then(|| Inside::Name(name.to_owned()))
}

fn decoded(path: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len() + 10);
    let mut rest = path;
    while let Some(first) = rest.first() {
        let (byte, len) = match encoded_byte(rest) {
            // It is not a separator, and no name holds one.
            Some(b'/') => return None,
            Some(byte) => (byte, 3),
            None if *first == b'%' => return None,
            None => (*first, 1),
        };
        bytes.push(byte);
        rest = &rest[len..];
    }
    // A backslash separates folders elsewhere: whoever sends one means to get past a check.
    String::from_utf8(bytes).ok().filter(|text| !text.contains(['\\', '\0']))
}

/// The target with a slash behind its path, and its query. One slash leads: `//x/` would be the host `x`
/// (RFC 3986 section 4.2).
pub fn with_slash(target: &[u8]) -> String {
    let target = String::from_utf8_lossy(target);
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    format!("/{}/{query}", path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str, prefix: usize) -> Option<String> {
        match inside(path.as_bytes(), prefix)? {
            Inside::Name(name) => Some(name),
            Inside::NeedsSlash => Some("needs a slash".to_owned()),
        }
    }

    #[test]
    fn names_that_do_not_exist() {
        for bad in [
            "/../x",
            "/a/../../x",
            "/%2e%2e/x",
            "/a/%2E%2e/x",
            "/.git/config",
            "/a/.env",
            "/a%2fb",
            "/a%00",
            "/a//b",
            "/%ff",
            "/a\\b",
            "/%5c..",
            "/%",
            "/%4",
            "/%+1",
            "/.",
            "/..",
            "/a/.",
            "/.well-known",
            "/.well-known/.env",
            "/.well-known/../x",
            "/a/.well-known/x",
            "/.well-known2/x",
        ] {
            assert_eq!(name(bad, 1), None, "{bad}");
        }
    }

    #[test]
    fn names_that_may() {
        for (path, prefix, expected) in [
            ("/a%20b.txt", 1, "a b.txt"),
            ("/a/", 1, "a/"),
            ("/", 1, ""),
            ("/%c3%a9/%C3%A9", 1, "é/é"),
            ("/a..b/c.", 1, "a..b/c."),
            ("/.well-known/acme", 1, ".well-known/acme"),
            ("/%2ewell-known/acme", 1, ".well-known/acme"),
            ("/assets/x", 8, "x"),
            ("/assets/x", 7, "x"),
            ("/assets/", 8, ""),
            ("/assets/", 7, ""),
            ("/assets", 7, "needs a slash"),
        ] {
            assert_eq!(name(path, prefix).as_deref(), Some(expected), "{path} {prefix}");
        }
        assert_eq!(name("/assets/.well-known/x", 8), None);
    }

    #[test]
    fn a_slash_leads_to_no_other_host() {
        for (target, expected) in
            [("/docs", "/docs/"), ("//docs", "/docs/"), ("///docs?a=/b?c", "/docs/?a=/b?c"), ("/a?", "/a/?")]
        {
            assert_eq!(with_slash(target.as_bytes()), expected, "{target}");
        }
    }
}
