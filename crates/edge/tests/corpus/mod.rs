//! Reads `requests.txt`: used by the codec's own tests and by those over sockets.
#![allow(dead_code, clippy::unwrap_used, reason = "test code; each of its users leaves something out")]

/// One request and what must become of it.
pub struct Case {
    pub line: usize,
    /// 200: it is accepted.
    pub status: u16,
    pub label: String,
    /// Its head is fine, its body is not.
    pub in_body: bool,
    pub bytes: Vec<u8>,
}

pub fn cases() -> Vec<Case> {
    let text = include_str!("requests.txt");
    let lines = text.lines().enumerate().filter(|(_, l)| !l.starts_with('#') && !l.is_empty());
    lines.map(|(i, l)| case(i + 1, l)).collect()
}

fn case(line: usize, text: &str) -> Case {
    let (expected, bytes) = text.split_once(" | ").expect("a bar between the expectation and the bytes");
    let (in_body, expected) = match expected.strip_prefix("body ") {
        Some(rest) => (true, rest),
        None => (false, expected),
    };
    let (status, label) = expected.split_once(' ').expect("a status and a name");
    Case { line, status: status.parse().unwrap(), label: label.to_owned(), in_body, bytes: unescape(bytes) }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '\\' => {
                let (byte, taken) = match rest.as_bytes()[0] {
                    b'r' => (b'\r', 1),
                    b'n' => (b'\n', 1),
                    b't' => (b'\t', 1),
                    b'0' => (0, 1),
                    b'\\' => (b'\\', 1),
                    b'x' => (u8::from_str_radix(&rest[1..3], 16).unwrap(), 3),
                    other => panic!("no such escape: {}", char::from(other)),
                };
                bytes.push(byte);
                rest = &rest[taken..];
            }
            '{' if rest.split_once('}').is_some_and(|(inner, _)| inner.contains('*')) => {
                let (inner, after) = rest.split_once('}').unwrap();
                let (what, times) = inner.rsplit_once('*').unwrap();
                bytes.extend(unescape(what).repeat(times.parse().unwrap()));
                rest = after;
            }
            other => bytes.extend(other.to_string().bytes()),
        }
    }
    bytes
}
