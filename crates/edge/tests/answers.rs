//! What servers may answer with, over real sockets: what is no answer gives 502, what is cut never looks whole, and what
//! follows an answer is never taken for the next.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;
#[path = "corpus/mod.rs"]
mod corpus;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

use common::*;
use corpus::{Case, Wants};
use tiebeam_edge::Edge;

/// What a client takes for the answer to its request.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    status: u16,
    /// Its body has an end that the client can know of.
    is_whole: bool,
    body: Vec<u8>,
}

/// An answer that would be somebody else's.
const SMUGGLED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nX-Smuggled: 1\r\n\r\nsmuggled";

/// Answers `/close/LINE` with that line of the corpus and closes, `/open/LINE` with what follows it in the same breath and
/// stays, and anything else with `fine`.
fn hostile() -> Server {
    let cases = corpus::answers();
    let lines: Vec<(usize, Vec<u8>)> = cases.into_iter().map(|case| (case.line, case.bytes)).collect();
    Server::start(move |mut peer| {
        while let Some(head) = peer.head() {
            let path = head.split(' ').nth(1).unwrap();
            let number = path.rsplit('/').next().unwrap().parse();
            let line = number.ok().and_then(|n: usize| lines.iter().find(|(line, _)| *line == n));
            let Some((_, bytes)) = line else {
                peer.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine");
                continue;
            };
            if path.starts_with("/close/") {
                peer.bytes(bytes);
                return;
            }
            peer.bytes(&[bytes, SMUGGLED].concat());
        }
    })
}

/// Asks on a connection of its own, then for `/fine` on the same if it stays.
fn ask(edge: &Edge, method: &str, path: &str, version: &str) -> (Got, Option<Got>) {
    let mut client = Client::new(edge);
    client.say(&format!("{method} {path} HTTP/{version}\r\nHost: a\r\n\r\n"));
    let (got, stays) = answer(&mut client.0, method == "HEAD");
    if !stays {
        let mut rest = Vec::new();
        let _ = client.0.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{path}: {}", rest.escape_ascii());
        return (got, None);
    }
    client.say("GET /fine HTTP/1.1\r\nHost: a\r\n\r\n");
    (got, Some(answer(&mut client.0, false).0))
}

/// Reads one final answer as strictly as it can be read, and whether another may follow.
fn answer(stream: &mut BufReader<TcpStream>, to_head: bool) -> (Got, bool) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(stream.read_until(b'\n', &mut head).unwrap() > 0, "no answer: {}", head.escape_ascii());
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        let status: u16 = head[9..12].parse().unwrap();
        if status < 200 {
            continue;
        }
        let has_none = to_head || matches!(status, 204 | 304);
        let mut body = Vec::new();
        let is_whole = match (field(&head, "content-length"), field(&head, "transfer-encoding")) {
            (Some(_), Some(_)) => panic!("two framings: {head}"),
            _ if has_none => true,
            (Some(length), None) => {
                let length = length.parse().unwrap();
                stream.by_ref().take(length).read_to_end(&mut body).is_ok() && body.len() as u64 == length
            }
            (None, Some(_)) => chunks(stream, &mut body).is_some(),
            (None, None) => stream.read_to_end(&mut body).is_ok(),
        };
        let stays = is_whole && field(&head, "connection") != Some("close");
        return (Got { status, is_whole, body }, stays);
    }
}

/// `None`: the last chunk never came.
fn chunks(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.strip_suffix("\r\n")?, 16).unwrap();
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).ok()?;
        assert!(chunk.ends_with(b"\r\n"));
        if size == 0 {
            return Some(());
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

#[test]
fn the_corpus_over_sockets() {
    let server = hostile();
    let edge = start_with(config(&[server.address]), 1);
    let fine = Some(Got { status: 200, is_whole: true, body: b"fine".to_vec() });
    for case in corpus::answers() {
        let method = if case.to_head { "HEAD" } else { "GET" };
        let before = edge.stats();
        for version in ["1.1", "1.0"] {
            let (got, next) = ask(&edge, method, &format!("/close/{}", case.line), version);
            let what = format!("line {} of responses.txt, HTTP/{version}: {got:?}", case.line);
            assert_eq!((got.status, got.is_whole), (case.status, !case.in_body), "{what}");
            assert!(next.is_none() || next == fine, "{what}: {next:?}");
            assert!(case.status != 502 || next.is_some() == (version == "1.1"), "{what}");
        }
        let after = edge.stats();
        match (&*case.label, case.in_body) {
            ("-", _) => assert_eq!(after.server_faults, before.server_faults, "line {}", case.line),
            (_, true) => assert_eq!(after.refused["answer_cut"], before.refused["answer_cut"] + 2),
            (label, false) => {
                assert_eq!(after.server_faults[label], before.server_faults[label] + 2, "line {}", case.line);
            }
        }
    }
    assert_eq!(edge.stats().refused["client_gone"], 0);
}

/// Does the edge wait for more of this answer, so that whatever follows belongs to it?
fn is_open_ended(case: &Case) -> bool {
    let text = String::from_utf8_lossy(&case.bytes).to_ascii_lowercase();
    let is_framed = text.contains("content-length:") || text.contains("transfer-encoding:");
    case.label == "body_cut" || (case.is_accepted() && !is_framed && !case.to_head && case.status == 200)
}

#[test]
fn what_follows_an_answer_is_nobodys() {
    let server = hostile();
    let edge = start_with(config(&[server.address]), 1);
    for case in corpus::answers().iter().filter(|case| !is_open_ended(case)) {
        let method = if case.to_head { "HEAD" } else { "GET" };
        let (got, next) = ask(&edge, method, &format!("/open/{}", case.line), "1.1");
        assert_eq!(got.status, case.status, "line {}: {got:?}", case.line);
        // On this connection or on another: the server's is not used again.
        let next = next.unwrap_or_else(|| ask(&edge, "GET", "/fine", "1.1").0);
        assert_eq!(String::from_utf8_lossy(&next.body), "fine", "line {}", case.line);
        assert!(!got.body.ends_with(b"smuggled"), "line {}: {got:?}", case.line);
    }
}

#[test]
fn the_corpora_say_why() {
    for (cases, name) in [(corpus::cases(), "requests.txt"), (corpus::answers(), "responses.txt")] {
        for case in cases {
            let against = match case.rule.wants {
                Wants::Accept => !case.is_accepted(),
                Wants::Refuse | Wants::Mend => case.is_accepted(),
                Wants::Either => false,
            };
            assert_eq!(against, case.rule.here.is_some(), "line {} of {name}: {:?}", case.line, case.rule);
        }
    }
}
