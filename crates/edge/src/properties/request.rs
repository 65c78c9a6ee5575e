//! Requests: parsed in any pieces to the same end, and written so that every reader finds the same request.

use tiebeam_topology::{Forwarded, Traces};

use super::{LIMITS, Plain, WIDE, arrivals, body};
use crate::codec::{
    BodyLength, Fault, Forwarding, HeadLimits, Known, Method, Progress, RequestHead, Version, write_request,
};

const FROM: Forwarding<'static> = Forwarding {
    chain: "192.0.2.1, 10.0.0.1",
    scheme: "http",
    host: None,
    certificate: None,
    form: Forwarded::Both,
    request_id: "0123456789abcdef0123456789abcdef",
    via: true,
    traces: Traces::On,
};
/// Fields that only the edge writes.
const OF_THE_EDGE: [&str; 5] =
    ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "traceparent"];

/// Fields that concern one connection, which no server is sent.
const HOP_BY_HOP: [&str; 6] =
    ["keep-alive", "proxy-connection", "te", "trailer", "http2-settings", "proxy-authorization"];

/// What a client's bytes are for a server.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    /// Written anew.
    head: Vec<u8>,
    /// Bytes of the client's.
    len: usize,
    body: Result<body::Body, Fault>,
}

/// The same request however its bytes arrive; what a server is sent of it has one meaning, and that is the client's.
pub fn request(data: &[u8]) {
    // A line that has no end may be judged or not.
    let data = &[data, b"\n"].concat();
    for limits in &LIMITS {
        let ways = arrivals(data);
        let whole = read(&ways[0], limits);
        for way in &ways[1..] {
            assert_eq!(read(way, limits), whole, "in {} pieces", way.len());
        }
        if let Ok(Some(read)) = whole {
            means_the_same(&data[..read.len], &read, limits);
        }
    }
}

/// `None`: there is no whole head yet.
fn read(pieces: &[&[u8]], limits: &HeadLimits) -> Result<Option<Read>, Fault> {
    let (mut head, mut buffer, mut judged) = (RequestHead::default(), Vec::new(), 0);
    for (i, piece) in pieces.iter().enumerate() {
        buffer.extend_from_slice(piece);
        if !limits.is_worth_a_look(&buffer, judged) {
            continue;
        }
        judged = buffer.len();
        if let Progress::Done { len } = head.parse(&buffer, limits)? {
            assert!(len <= buffer.len() && len <= limits.bytes);
            let mut written = Vec::new();
            write_request(&mut written, &head, &buffer, &FROM);
            let mut rest = vec![&buffer[len..]];
            rest.extend_from_slice(&pieces[i + 1..]);
            return Ok(Some(Read { head: written, len, body: body::decode(head.body, &rest) }));
        }
    }
    Ok(None)
}

fn means_the_same(said: &[u8], read: &Read, limits: &HeadLimits) {
    let mut head = RequestHead::default();
    assert_eq!(head.parse(said, limits), Ok(Progress::Done { len: said.len() }));
    let plain = Plain::of(&read.head);
    assert_eq!(plain.values("host"), [head.host.of(said)], "{plain:?}");
    for name in HOP_BY_HOP {
        assert!(plain.values(name).is_empty(), "{name} went on: {plain:?}");
    }
    for name in OF_THE_EDGE {
        assert_eq!(plain.values(name).len(), 1, "{name}: {plain:?}");
    }
    assert_eq!(plain.values("x-forwarded-for"), [FROM.chain.as_bytes()], "{plain:?}");
    let offer = usize::from(head.offers_websocket);
    assert_eq!(plain.values("connection"), [&b"Upgrade"[..]; 1][..offer], "{plain:?}");
    assert_eq!(plain.values("upgrade"), [&b"websocket"[..]; 1][..offer], "{plain:?}");
    let words: Vec<&[u8]> = plain.first.split(|b| *b == b' ').collect();
    let target = match (head.target.of(said), head.method) {
        (b"", Method::Options) => b"*".to_vec(),
        (rest @ (b"" | [b'?', ..]), _) => [b"/", rest].concat(),
        (target, _) => target.to_vec(),
    };
    assert_eq!(words, [head.method_name.of(said), &target, b"HTTP/1.1"]);
    stays_below(&target);
    let framing = match head.body {
        BodyLength::Chunked => Some(Err(())),
        BodyLength::Length(length) => Some(Ok(length)),
        BodyLength::None => plain.framing().filter(|framing| *framing == Ok(0)),
        BodyLength::UntilClose => panic!("a request that ends with its connection"),
    };
    assert_eq!(plain.framing(), framing, "{plain:?}");

    // What has no meaning of its own went on as it was, in its order, unless the client said that it must not.
    let kept = head.fields().iter().filter(|f| f.known == Known::Other && !is_named(&head, said, f));
    let kept: Vec<_> = kept.map(|f| (f.name.of(said).to_ascii_lowercase(), f.value.of(said))).collect();
    let sent: Vec<_> = plain.fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), *value)).collect();
    let sent: Vec<_> = sent.into_iter().filter(|field| kept.contains(field)).collect();
    assert_eq!(sent, kept, "{plain:?}");

    let mut again = RequestHead::default();
    let (written, parsed) = (&read.head[..], again.parse(&read.head, &WIDE));
    if head.host.of(said).is_empty() {
        // Which HTTP/1.0 allows, and a sender of HTTP/1.1 then says so; the edge itself lets no client say it.
        assert_eq!((head.version, parsed), (Version::Http10, Err(Fault::HostInvalid)));
        return;
    }
    assert_eq!(parsed, Ok(Progress::Done { len: written.len() }), "{plain:?}");
    assert_eq!(again.method_name.of(written), head.method_name.of(said));
    assert_eq!(again.target.of(written), target);
    assert_eq!(again.host.of(written), head.host.of(said));
    assert_eq!((again.body, again.version), (head.body, Version::Http11));
    assert_eq!((again.expects_continue, again.persists), (head.expects_continue, true));
    assert_eq!(again.offers_websocket, head.offers_websocket);
    assert_eq!(again.max_forwards, head.max_forwards.map(|left| left.saturating_sub(1)));
}

/// No server that decodes the path, as a whole or segment by segment, finds one in it that leads up.
fn stays_below(target: &[u8]) {
    let path = String::from_utf8_lossy(target).to_ascii_lowercase();
    let path = path.split('?').next().unwrap_or_default();
    let decoded = path.replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    for segment in decoded.split('/') {
        let name = segment.split(';').next();
        assert!(!matches!(name, Some("." | "..")), "{path}");
    }
}

fn is_named(head: &RequestHead, said: &[u8], field: &crate::codec::Field) -> bool {
    let name = field.name.of(said);
    let options = head.fields().iter().filter(|f| f.known == Known::Connection);
    let mut options = options.flat_map(|f| f.value.of(said).split(|b| *b == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name))
}
