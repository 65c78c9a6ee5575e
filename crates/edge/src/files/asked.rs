//! What a request wants of a file, taken from its fields into a value that can go to another thread.

use std::time::SystemTime;

use super::conditions::Conditions;
use super::encoding::Accepted;
use crate::codec::Method;
use crate::connection::Request;

#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub accepted: Accepted,
    pub conditions: Conditions,
    /// For GET only: other methods know no ranges (RFC 9110 section 14.2).
    pub range: Option<String>,
}

impl Asked {
    pub fn of(request: &Request) -> Self {
        let fields = Fields(&request.head);
        let date = |name| fields.single(name).as_deref().and_then(parsed);
        Self {
            accepted: fields.list("Accept-Encoding").map_or_else(Accepted::default, |v| Accepted::parse(&v)),
            conditions: Conditions {
                if_match: fields.list("If-Match"),
                if_none_match: fields.list("If-None-Match"),
                if_modified_since: date("If-Modified-Since"),
                if_unmodified_since: date("If-Unmodified-Since"),
                if_range: fields.single("If-Range"),
            },
            range: fields.single("Range").filter(|_| request.method == Method::Get),
        }
    }
}

fn parsed(date: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(date).ok()
}

/// The fields of a head as `write_request` wrote it: `Name: value`, each ended by CR LF.
struct Fields<'h>(&'h [u8]);

impl<'h> Fields<'h> {
    fn values(&self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        let mut rest = self.0;
        let lines = std::iter::from_fn(move || {
            let end = memchr::memchr(b'\n', rest)?;
            let line = &rest[..end];
            rest = &rest[end + 1..];
            Some(line.strip_suffix(b"\r").unwrap_or(line))
        });
        let name = name.as_bytes();
        lines.skip(1).filter_map(move |line| {
            let (field, value) = line.split_at_checked(name.len())?;
            field.eq_ignore_ascii_case(name).then(|| value.strip_prefix(b": "))?
        })
    }

    /// A field that may stand on several lines, as one (RFC 9110 section 5.3).
    fn list(&self, name: &str) -> Option<String> {
        self.values(name).map(|value| String::from_utf8_lossy(value).into_owned()).reduce(|mut all, more| {
            all.push(',');
            all.push_str(&more);
            all
        })
    }

    /// A field that has one value: written twice it says nothing.
    fn single(&self, name: &str) -> Option<String> {
        let mut values = self.values(name);
        let first = values.next()?;
        values.next().is_none().then(|| String::from_utf8_lossy(first).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_head() {
        let head =
            b"GET /range: HTTP/1.1\r\nHost: a\r\nRANGE: bytes=0-1\r\nIf-Match: \"a\"\r\nX-If-Match: x\r\n\
              if-match: \"b\xff\"\r\nIf-Range: a\r\nIf-Range: b\r\nRanges: x\r\nEmpty: \r\n\r\n";
        let fields = Fields(head);
        assert_eq!(fields.single("Range").as_deref(), Some("bytes=0-1"));
        assert_eq!(fields.list("If-Match").as_deref(), Some("\"a\",\"b\u{fffd}\""));
        assert_eq!(fields.single("If-Range"), None);
        assert_eq!(fields.single("Empty").as_deref(), Some(""));
        assert_eq!(fields.list("If-None-Match"), None);
    }
}
