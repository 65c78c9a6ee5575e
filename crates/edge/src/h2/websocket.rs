//! The key of a WebSocket, where the edge is the one that made it up: clients of HTTP/2 have none (RFC 8441 section 5), and
//! servers of HTTP/1.1 want one and answer it (RFC 6455 section 4.2.2).
//!
//! Pure. Clients of HTTP/1.1 check the answer to their own key themselves; here nobody but [`crate::attempt`] can.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::codec::ResponseHead;
use crate::fields;

/// What the protocol puts behind a key, so that nobody answers it who has never heard of WebSockets.
const BEHIND_KEY: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Does `head`, read from `answer`, answer the key of `request` once and rightly?
pub fn is_accepted(request: &[u8], head: &ResponseHead, answer: &[u8]) -> bool {
    let Some(key) = fields::first(request, b"sec-websocket-key") else { return false };
    let wanted = accepts(key);
    let is_accept = |name: &[u8]| name.eq_ignore_ascii_case(b"sec-websocket-accept");
    let mut said = head.fields().iter().filter(|field| is_accept(field.name.of(answer)));
    said.next().is_some_and(|field| field.value.of(answer) == wanted.as_bytes()) && said.next().is_none()
}

fn accepts(key: &[u8]) -> String {
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, BEHIND_KEY].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Asked, HeadLimits};

    #[test]
    fn the_answer_to_a_key() {
        // The example of RFC 6455 section 1.3.
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let right = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        for (request, said, is_right) in [
            (&request[..], right.to_owned(), true),
            (request, right.to_lowercase().replace("s3pplmbitxaq9kygzzhzrbk+xoo=", "x"), false),
            (request, right.replace("xOo", "xoo"), false),
            (request, right.replace("xOo=", "xOo"), false),
            (request, right.repeat(2), false),
            (request, String::new(), false),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", right.to_owned(), false),
        ] {
            let text = format!("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{said}\r\n");
            let limits = HeadLimits { bytes: 1000, fields: 10, line_bytes: 100 };
            let mut head = ResponseHead::default();
            head.parse(text.as_bytes(), &limits, Asked::WebSocket).unwrap();
            assert_eq!(is_accepted(request, &head, text.as_bytes()), is_right, "{said}");
        }
    }
}
