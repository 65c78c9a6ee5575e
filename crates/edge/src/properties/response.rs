//! Responses: parsed in any pieces to the same end, and written so that every client finds the same answer.

use super::{LIMITS, Plain, WIDE, arrivals, body};
use crate::codec::{
    Asked, BodyLength, Fault, HeadLimits, Progress, ResponseExtras, ResponseHead, Version, write_response,
};

/// Heads of one answer that are looked at: interim ones, then the final one.
const HEADS: usize = 4;

/// What a server's bytes are for a client.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    /// Where each head of the server's begins and ends.
    heads: Vec<(usize, usize)>,
    /// `None`: there is no final head yet.
    body: Option<Result<body::Body, Fault>>,
}

/// The same answer however its bytes arrive, whatever was asked; what a client is sent of it has one meaning.
pub fn response(data: &[u8]) {
    // A line that has no end may be judged or not.
    let data = &[data, b"\n"].concat();
    for limits in &LIMITS {
        for asked in [Asked::Other, Asked::Head, Asked::WebSocket] {
            let ways = arrivals(data);
            let whole = read(&ways[0], limits, asked);
            for way in &ways[1..] {
                assert_eq!(read(way, limits, asked), whole, "in {} pieces", way.len());
            }
            for (start, end) in whole.map(|read| read.heads).unwrap_or_default() {
                means_the_same(&data[start..end], limits, asked);
            }
        }
    }
}

fn read(pieces: &[&[u8]], limits: &HeadLimits, asked: Asked) -> Result<Read, Fault> {
    let (mut head, mut buffer, mut judged) = (ResponseHead::default(), Vec::new(), 0);
    let (mut heads, mut start) = (Vec::new(), 0);
    for (i, piece) in pieces.iter().enumerate() {
        buffer.extend_from_slice(piece);
        while heads.len() < HEADS && limits.is_worth_a_look(&buffer, judged) {
            judged = buffer.len();
            let Progress::Done { len } = head.parse(&buffer, limits, asked)? else { continue };
            assert!(len <= buffer.len() && len <= limits.bytes);
            heads.push((start, start + len));
            buffer.drain(..len);
            (start, judged) = (start + len, 0);
            if !head.is_interim() {
                let mut rest = vec![&buffer[..]];
                rest.extend_from_slice(&pieces[i + 1..]);
                return Ok(Read { heads, body: Some(body::decode(head.body, &rest)) });
            }
            assert_eq!(head.body, BodyLength::None, "an interim answer with a body");
        }
    }
    Ok(Read { heads, body: None })
}

fn means_the_same(said: &[u8], limits: &HeadLimits, asked: Asked) {
    let mut head = ResponseHead::default();
    assert_eq!(head.parse(said, limits, asked), Ok(Progress::Done { len: said.len() }));
    // As the edge frames it for clients of HTTP/1.1 and of HTTP/1.0.
    let framings = match head.body {
        BodyLength::Chunked | BodyLength::UntilClose => [BodyLength::Chunked, BodyLength::UntilClose],
        other => [other, other],
    };
    for (framing, say_close) in framings.into_iter().zip([false, true]) {
        let date = "Thu, 01 Jan 1970 00:00:00 GMT";
        let say_keep_alive = !say_close && !head.is_switch();
        let (hsts, via) = (say_close, say_close);
        let extras = ResponseExtras { request_id: "00", date, hsts, via, framing, say_keep_alive, say_close };
        let mut written = Vec::new();
        write_response(&mut written, &head, said, &extras);
        let plain = Plain::of(&written);
        assert!(plain.first.starts_with(format!("HTTP/1.1 {} ", head.status).as_bytes()), "{plain:?}");
        for name in ["keep-alive", "proxy-connection", "te", "trailer", "proxy-authenticate"] {
            assert!(plain.values(name).is_empty(), "{name} went on: {plain:?}");
        }
        let is_switch = head.is_switch();
        assert_eq!(plain.values("upgrade"), [&b"websocket"[..]; 1][..usize::from(is_switch)], "{plain:?}");
        let connection: &[&[u8]] = match (head.is_interim(), is_switch, say_close) {
            (true, ..) => &[],
            (_, true, _) => &[b"Upgrade"],
            (_, _, true) => &[b"close"],
            (_, _, false) => &[b"keep-alive"],
        };
        assert_eq!(plain.values("connection"), connection, "{plain:?}");
        if !head.is_interim() && !is_switch {
            assert!(!plain.values("date").is_empty(), "{plain:?}");
        }
        assert!(plain.values("strict-transport-security").len() <= 1 || !say_close, "{plain:?}");

        let mut again = ResponseHead::default();
        let parsed = again.parse(&written, &WIDE, asked);
        assert_eq!(parsed, Ok(Progress::Done { len: written.len() }), "{plain:?}");
        assert_eq!((again.status, again.version), (head.status, Version::Http11));
        assert_eq!(again.reason.of(&written), head.reason.of(said));
        assert_eq!(again.body, framing, "{plain:?}");
        assert_eq!(again.is_switch(), is_switch);
        if !head.is_interim() && !is_switch {
            assert_eq!(again.persists, !say_close && framing != BodyLength::UntilClose, "{plain:?}");
        }
        if matches!(head.status, 100..=199 | 204) {
            assert_eq!(plain.framing(), None, "{plain:?}");
        } else if let Some(length) = head.content_length {
            assert_eq!(plain.framing(), Some(Ok(length)), "{plain:?}");
        }
    }
}
