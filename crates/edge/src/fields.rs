//! Fields of a request's head as it is written for servers: checked already, one line each.

/// The values of all fields of a name in lower case, without the space around them.
pub fn values<'h>(head: &'h [u8], name: &'static [u8]) -> impl Iterator<Item = &'h [u8]> {
    lines(head).filter_map(move |line| value(line, name))
}

/// The first value of a field; `name` is in lower case.
pub fn first<'h>(head: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    lines(head).find_map(|line| value(line, name))
}

fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    let mut is_request_line = true;
    std::iter::from_fn(move || {
        loop {
            let end = memchr::memchr(b'\n', rest)?;
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if line == b"\r" {
                return None;
            }
            if !std::mem::take(&mut is_request_line) {
                return Some(line);
            }
        }
    })
}

/// The value of a line that is a field of that name, without the space around it; `name` is in lower case.
pub fn value<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let head = b"GET /x: HTTP/1.1\r\nHost: a\r\nX-User:  bob \r\nx-user: eve\r\nX-Us: er\r\n\r\nX-Late: body\r\n";
        assert_eq!(first(head, b"x-user"), Some(b"bob".as_slice()));
        assert_eq!(values(head, b"x-user").collect::<Vec<_>>(), [b"bob".as_slice(), b"eve"]);
        assert_eq!(first(head, b"get /x"), None);
        assert_eq!(first(head, b"x-late"), None);
        assert_eq!(first(b"", b"host"), None);
    }
}
