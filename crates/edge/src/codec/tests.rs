//! The codec against its corpus, and what must hold for every input.

use proptest::prelude::*;
use tiebeam_topology::Traces;

use super::*;
use crate::corpus;

const ID: &str = "0123456789abcdef0123456789abcdef";
const LIMITS: HeadLimits = HeadLimits { bytes: 32 * 1024, fields: 128, line_bytes: 8 * 1024 };

/// What one client connection makes of bytes: the head written for a server and the body, or the fault.
fn read(parts: &[&[u8]]) -> Result<(String, Vec<u8>), Fault> {
    let (mut head, mut buffer, mut judged) = (RequestHead::default(), Vec::new(), 0);
    let mut parsed = None::<(String, BodyDecoder, Vec<u8>)>;
    for part in parts {
        buffer.extend_from_slice(part);
        if parsed.is_none() {
            // As the worker does.
            if !LIMITS.is_worth_a_look(&buffer, judged) {
                continue;
            }
            judged = buffer.len();
            if let Progress::Done { len } = head.parse(&buffer, &LIMITS)? {
                let mut out = Vec::new();
                let from = Forwarding {
                    chain: "192.0.2.1",
                    scheme: "http",
                    host: None,
                    certificate: None,
                    form: Default::default(),
                    request_id: ID,
                    via: true,
                    traces: Traces::On,
                };
                write_request(&mut out, &head, &buffer, &from);
                buffer.drain(..len);
                parsed = Some((
                    String::from_utf8_lossy(&out).into_owned(),
                    BodyDecoder::new(head.body),
                    Vec::new(),
                ));
            }
        }
        if let Some((_, decoder, body)) = &mut parsed {
            let decoded = decoder.decode(&mut buffer)?;
            body.extend_from_slice(&buffer[..decoded.data]);
            buffer.drain(..decoded.consumed);
        }
    }
    let (text, mut decoder, body) = parsed.ok_or(Fault::BodyCut)?;
    decoder.finish()?;
    Ok((text, body))
}

#[test]
fn every_case_of_the_corpus() {
    let cases = corpus::cases();
    assert!(cases.len() >= 400, "{}", cases.len());
    for case in cases {
        let expected = (case.status, case.label.as_str());
        let found = match read(&[&case.bytes]) {
            Ok(_) => (200, "-"),
            Err(fault) => (fault.status(), fault.label()),
        };
        assert_eq!(found, expected, "line {} of requests.txt", case.line);
        let bytewise: Vec<&[u8]> = case.bytes.chunks(1).collect();
        let split = match read(&bytewise) {
            Ok(_) => (200, "-"),
            Err(fault) => (fault.status(), fault.label()),
        };
        assert_eq!(split, expected, "line {} of requests.txt, byte by byte", case.line);
    }
}

#[test]
fn faults_have_their_own_number_and_name() {
    let labels: std::collections::BTreeSet<_> = Fault::ALL.iter().map(|f| f.label()).collect();
    assert_eq!(labels.len(), Fault::ALL.len());
    assert!(Fault::ALL.iter().enumerate().all(|(i, f)| *f as usize == i));
}

#[test]
fn a_request_is_written_anew() {
    let (text, _) = read(&[b"GET http://Shop.Example:80/a?b HTTP/1.1\r\nHost: evil\r\nConnection: close, X-Mine, Host\r\n\
        X-Mine: 1\r\nAccept: */*\r\nVia: 1.1 cdn\r\nX-Forwarded-For: 6.6.6.6\r\nx_forwarded_for: 6.6.6.6\r\n\
        X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Request-Id: mine\r\nUpgrade: h2c\r\nTE: trailers\r\n\
        Keep-Alive: 5\r\nProxy-Connection: x\r\nmy_field: kept\r\nTrailer: x\r\nContent_Length: 4\r\n\r\n"])
    .unwrap();
    assert_eq!(
        text,
        "GET /a?b HTTP/1.1\r\nHost: Shop.Example:80\r\nAccept: */*\r\nVia: 1.1 cdn\r\nmy_field: kept\r\n\
         Via: 1.1 tiebeam\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: Shop.Example:80\r\nX-Request-Id: 0123456789abcdef0123456789abcdef\r\n\
         traceparent: 00-0123456789abcdef0123456789abcdef-0123456789abcdef-01\r\n\r\n"
    );
}

#[test]
fn a_trace_goes_on_only_if_it_is_valid() {
    let valid = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n";
    let state = "tracestate: a=1\r\ntracestate: b=2\r\n";
    for (fields, goes_on) in [
        (format!("{valid}{state}"), true),
        (format!("{valid}{valid}{state}"), false),
        (format!("{}{state}", valid.to_uppercase()), false),
        (state.to_owned(), false),
    ] {
        let (text, _) = read(&[format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()]).unwrap();
        assert_eq!((text.contains(valid), text.contains(state)), (goes_on, goes_on), "{text}");
        assert_eq!(text.matches("traceparent: ").count(), 1, "{text}");
    }
}

fn response(text: &str, to_head: bool) -> Result<(u16, BodyLength, bool), Fault> {
    let mut head = ResponseHead::default();
    match head.parse(text.as_bytes(), &LIMITS, if to_head { Asked::Head } else { Asked::Other })? {
        Progress::Done { len } => {
            assert_eq!(len, text.find("\r\n\r\n").unwrap() + 4);
            Ok((head.status, head.body, head.persists))
        }
        Progress::More => panic!("not whole: {text:?}"),
    }
}

#[test]
fn responses_are_framed_in_one_way_only() {
    use BodyLength::*;
    let fine = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, (200, Length(5), true)),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false, (200, None, true)),
        ("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n", false, (200, Chunked, true)),
        ("HTTP/1.1 200 OK\r\n\r\n", false, (200, UntilClose, false)),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, (200, Length(5), false)),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n",
            false,
            (200, Length(5), true),
        ),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n", false, (200, Length(5), false)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, (200, None, true)),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, (304, None, true)),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false, (204, None, false)),
        ("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", false, (103, None, true)),
    ];
    for (text, to_head, expected) in fine {
        assert_eq!(response(text, to_head), Ok(expected), "{text:?}");
    }
    let bad = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::BothLengths),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Fault::TransferEncoding),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::TransferEncodingInHttp10),
        ("HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n", Fault::BareLineFeed),
        ("HTTP/1.1 200 OK\r\nX: y\nContent-Length: 5\r\n\r\n", Fault::BareLineFeed),
        ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", Fault::FieldName),
        ("HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n", Fault::FieldName),
        ("HTTP/1.1 200 OK\r\nX: \0\r\n\r\n", Fault::FieldValue),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Fault::Switched),
        ("HTTP/1.1 20 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 099 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 2000 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/2.0 200 OK\r\n\r\n", Fault::StatusLine),
        ("http/1.1 200 OK\r\n\r\n", Fault::StatusLine),
        ("SSH-2.0-OpenSSH", Fault::StatusLine),
    ];
    for (text, fault) in bad {
        assert_eq!(
            ResponseHead::default().parse(text.as_bytes(), &LIMITS, Asked::Other),
            Err(fault),
            "{text:?}"
        );
    }
}

/// Splits `bytes` at `cuts`.
fn split<'b>(bytes: &'b [u8], cuts: &[prop::sample::Index]) -> Vec<&'b [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|w| &bytes[w[0]..w[1]]).filter(|p| !p.is_empty()).collect()
}

fn name() -> impl Strategy<Value = String> {
    // None that the edge treats in a way of its own.
    "[A-Za-z!#$%&'*+.^`|~-]{1,12}".prop_map(|name| format!("Q-{name}"))
}

proptest! {
    #[test]
    fn any_split_gives_the_same(
        case in prop::sample::select(corpus::cases().into_iter().map(|c| c.bytes).filter(|b| b.len() < 1000).collect::<Vec<_>>()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        prop_assert_eq!(read(&split(&case, &cuts)), read(&[&case]));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), begins in any::<bool>()) {
        let mut text = if begins { b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec() } else { Vec::new() };
        text.extend(&bytes);
        let _ = read(&[&text]);
        let mut answer = if begins { b"HTTP/1.1 200 OK\r\n".to_vec() } else { Vec::new() };
        answer.extend(&bytes);
        let _ = ResponseHead::default().parse(&answer, &LIMITS, Asked::Other);
    }

    #[test]
    fn nearly_right_bytes_never_panic(
        case in prop::sample::select(corpus::cases().into_iter().map(|c| c.bytes).filter(|b| b.len() < 1000).collect::<Vec<_>>()),
        at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut case = case;
        if !case.is_empty() {
            let i = at.index(case.len());
            case[i] = byte;
        }
        let whole = read(&[&case]);
        prop_assert_eq!(read(&case.chunks(1).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn a_written_head_parses_equal(
        method in "[A-Z]{1,9}", path in "/[a-z0-9/._~-]{0,20}(\\?[a-z0-9=&]{0,9})?",
        fields in prop::collection::vec((name(), "([!-~]([ -~\\t]{0,20}[!-~])?)?"), 0..20),
    ) {
        prop_assume!(method != "CONNECT" && path::judge(path.as_bytes()).is_ok());
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: a.b:8\r\n");
        fields.iter().for_each(|(n, v)| text += &format!("{n}: {v}\r\n"));
        text += "\r\n";
        let (written, _) = read(&[text.as_bytes()]).unwrap();
        let mut again = RequestHead::default();
        let parsed = again.parse(written.as_bytes(), &LIMITS);
        prop_assert_eq!(parsed, Ok(Progress::Done { len: written.len() }));
        let bytes = written.as_bytes();
        prop_assert_eq!(again.method_name.of(bytes), method.as_bytes());
        prop_assert_eq!(again.target.of(bytes), path.as_bytes());
        prop_assert_eq!(again.host.of(bytes), b"a.b:8");
        let found: Vec<_> = again.fields().iter().filter(|f| f.name.of(bytes).starts_with(b"Q-"))
            .map(|f| (String::from_utf8_lossy(f.name.of(bytes)).into_owned(), String::from_utf8_lossy(f.value.of(bytes)).into_owned())).collect();
        prop_assert_eq!(found, fields);
    }

    #[test]
    fn chunks_decode_whatever_their_split(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        after in prop::collection::vec(any::<u8>(), 0..5),
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            write_chunk_line(&mut wire, chunk.len());
            wire.extend(chunk);
            wire.extend(b"\r\n");
        }
        wire.extend(LAST_CHUNK);
        let body_bytes = wire.len();
        wire.extend(&after);
        let (mut decoder, mut data, mut used) = (BodyDecoder::new(BodyLength::Chunked), Vec::new(), 0);
        for part in split(&wire, &cuts) {
            let mut part = part.to_vec();
            let decoded = decoder.decode(&mut part).unwrap();
            data.extend_from_slice(&part[..decoded.data]);
            used += decoded.consumed;
        }
        prop_assert!(decoder.is_done());
        prop_assert_eq!(used, body_bytes);
        prop_assert_eq!(data, chunks.concat());
    }
}
