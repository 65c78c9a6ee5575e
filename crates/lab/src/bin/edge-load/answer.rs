//! Just enough of HTTP/1.1 to know where an answer ends: a head with `Content-Length`.

use std::io::Read;

use crate::report::Failure;

/// A GET that leaves the connection open.
pub fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").into_bytes()
}

/// The length of the answer that `bytes` begin with, head and body; `None` while its head is not whole.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes[..head]);
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        return Err(Failure::Answer(format!("answered {status:?}")));
    }
    let named = lines.filter_map(|line| line.split_once(':'));
    let body = named.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value);
    match body.last().map(|value| value.trim().parse::<usize>()) {
        Some(Ok(body)) => Ok(Some(head + 4 + body)),
        _ => Err(Failure::Answer(format!("an answer without a length: {text}"))),
    }
}

/// Reads one answer from a blocking stream.
pub fn read(stream: &mut impl Read, scratch: &mut [u8]) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    let mut whole = None;
    while whole.is_none_or(|whole| bytes.len() < whole) {
        let count = stream.read(scratch)?;
        if count == 0 {
            return Err(Failure::Answer("closed before the end of an answer".into()));
        }
        bytes.extend_from_slice(&scratch[..count]);
        whole = length(&bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        for (bytes, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Len", Some(None)),
            ("HTTP/1.1 200 OK\r\nA: b\r\ncontent-length: 3\r\n\r\nab", Some(Some(47))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
            ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", None),
        ] {
            assert_eq!(length(bytes.as_bytes()).ok(), expected, "{bytes}");
        }
    }
}
