//! What goes wrong on either side: servers that break off, clients that vanish, in whatever state they are.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::tls::Https;
use common::*;

/// A server that says `text` to every request, and `rest` once it is told to; then it ends, by a reset if asked.
fn breaking(text: &'static str, rest: &'static str, by_reset: bool, told: Receiver<()>) -> Server {
    let told = Mutex::new(told);
    Server::start(move |mut peer| {
        if peer.head().is_some() {
            peer.say(text);
            // A reset must not overtake the bytes before it.
            let _ = told.lock().unwrap().recv_timeout(Duration::from_secs(20));
            peer.say(rest);
            if by_reset {
                peer.reset();
            }
        }
    })
}

/// Reads an answer to its end: fails if that was no clean one.
fn read_all(mut stream: impl Read + Write, version: &str, begun: impl FnOnce()) -> std::io::Result<Vec<u8>> {
    stream.write_all(format!("GET / HTTP/{version}\r\nHost: two.example\r\n\r\n").as_bytes())?;
    stream.flush()?;
    let mut all = vec![0];
    stream.read_exact(&mut all)?;
    begun();
    stream.read_to_end(&mut all)?;
    Ok(all)
}

#[test]
fn no_client_takes_a_cut_answer_for_a_whole_one() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    // What a server says, then when the client has begun to read, and whether it ends by a reset.
    for (text, rest, by_reset) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "", true),
        (chunked, "", false),
        (chunked, "0\r\n", false),
        (chunked, "no size\r\n", false),
        (chunked, "1\r\n!!\r\n", false),
        (chunked, "fffffffffffffffff\r\n", false),
        (chunked, "0\r\nno trailer\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\nhello", "", true),
    ] {
        for version in ["1.0", "1.1"] {
            let (tell, told) = channel();
            let server = breaking(text, rest, by_reset, told);
            let https = Https::with(config(&[server.address]));
            let plain = Client::new(&https.edge).0.into_inner();
            let read = read_all(plain, version, || tell.send(()).unwrap());
            assert!(read.is_err(), "HTTP/{version} {text:?} {rest:?}: {read:?}");
            // Without TLS's own goodbye, which would make it whole for HTTP/1.0.
            let secure = https.connect("two.example").unwrap();
            let read = read_all(secure, version, || tell.send(()).unwrap());
            assert!(read.is_err(), "HTTPS/{version} {text:?} {rest:?}: {read:?}");
            until("both are counted", || https.edge.stats().responses.cut == 2);
            let stats = https.edge.stats();
            assert_eq!((stats.refused["answer_cut"], stats.responses.successful), (2, 2));
        }
    }
}

#[test]
fn a_server_that_breaks_off_within_its_head_is_a_502_and_is_not_asked_again() {
    for (text, by_reset) in
        [("H", false), ("HTTP/1.1 200 OK\r\nContent-Le", true), ("HTTP/1.1 200 OK\r\nA: b\r\n", true)]
    {
        let (tell, told) = channel();
        let server = breaking(text, "", by_reset, told);
        let edge = start_with(config(&[server.address]), 1);
        let mut client = Client::new(&edge);
        client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        until("it has begun to answer", || server.asked("GET") == 1);
        tell.send(()).unwrap();
        assert_eq!(client.response(false).unwrap().status, 502, "{text:?}");
        assert_eq!((server.asked("GET"), edge.stats().retries), (1, 0), "{text:?}");
        // The client may go on.
        tell.send(()).unwrap();
        client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response(false).unwrap().status, 502, "{text:?}");
    }
}

#[test]
fn a_reset_before_a_byte_of_the_answer_repeats_a_get_and_never_a_post() {
    let breaks = Server::start(|mut peer| {
        if peer.request().is_some() {
            peer.reset();
        }
    });
    let alive = Server::named("alive");
    let edge = start_with(config(&[breaks.address, alive.address]), 1);
    for i in 0..4 {
        assert_eq!(get(&edge, &format!("/{i}")).body, "alive");
    }
    let mut failed = 0;
    for i in 0..4 {
        let mut client = Client::new(&edge);
        client.say(&format!("POST /{i} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"));
        failed += usize::from(client.response(false).unwrap().status == 502);
        let line = format!("POST /{i} ");
        assert_eq!(breaks.asked(&line) + alive.asked(&line), 1);
    }
    assert!(failed > 0);
}

#[test]
fn what_a_server_says_unasked_is_nobodys_answer() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let server = Server::start(move |mut peer| {
        while peer.request().is_some() {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            slow_step(Duration::from_millis(50));
            // As servers do that give up waiting.
            peer.say("HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nevil");
            let _ = tell.lock().unwrap().send(());
        }
    });
    let edge = start_with(config(&[server.address]), 1);
    let mut client = Client::new(&edge);
    for _ in 0..5 {
        assert_eq!(client.get("/").body, "ok");
        told.recv().unwrap();
    }
    assert_eq!(server_stats(&edge, "s0").connects, 5);
}

/// How far a client comes before it vanishes.
#[derive(Clone, Copy, Debug)]
enum Until {
    Connected,
    HalfAHead,
    HalfABody,
    /// A server has the request and is silent.
    Asked,
    HalfAnAnswer,
    /// With two more requests behind it that nobody looked at.
    Pipelined,
}

const BODY_BYTES: usize = 32 << 20;

/// Leaves, as programs do that end, or as machines do that break.
fn vanish(stream: TcpStream, by_reset: bool) {
    if by_reset {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    drop(stream);
}

#[test]
fn a_client_may_vanish_at_any_moment() {
    use Until::*;
    for state in [Connected, HalfAHead, HalfABody, Asked, HalfAnAnswer, Pipelined] {
        for by_reset in [false, true] {
            let (release, released) = channel::<()>();
            let released = Mutex::new(released);
            let server = Server::start(move |mut peer| {
                while let Some((head, _)) = peer.request() {
                    if head.contains("/silent") {
                        let _ = released.lock().unwrap().recv_timeout(Duration::from_secs(20));
                    }
                    let long = "x".repeat(if head.contains("/long") { BODY_BYTES } else { 2 });
                    peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len()));
                }
            });
            let edge = start_with(config(&[server.address]), 1);
            let mut client = Client::new(&edge);
            match state {
                Connected => until("it is accepted", || edge.stats().connections.open == 1),
                HalfAHead => client.say("GET / HTTP/1.1\r\nHo"),
                HalfABody => {
                    client.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
                    until("the server is asked", || server.asked("POST") == 1);
                }
                Asked | Pipelined => {
                    let get = "GET /silent HTTP/1.1\r\nHost: a\r\n\r\n";
                    client.say(&get.repeat(if matches!(state, Asked) { 1 } else { 3 }));
                    until("the server is asked", || server.asked("GET /silent") == 1);
                }
                HalfAnAnswer => {
                    client.say("GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
                    client.0.read_exact(&mut [0; 1000]).unwrap();
                }
            }
            vanish(client.0.into_inner(), by_reset);
            for _ in 0..3 {
                let _ = release.send(());
            }
            until("nothing is left of it", || {
                let stats = edge.stats();
                (stats.connections.open, stats.in_flight, server_stats(&edge, "s0").in_flight) == (0, 0, 0)
            });
            // Nobody else is to blame, and everybody else is served.
            let failures = server_stats(&edge, "s0").failures;
            assert_eq!((failures.timeout, failures.bad_response), (0, 0), "{state:?} {by_reset}");
            assert_eq!(get(&edge, "/").body, "xx", "{state:?} {by_reset}");
        }
    }
}

#[test]
fn a_client_may_vanish_within_its_handshake() {
    let server = Server::named("x");
    let https = Https::with(config(&[server.address]));
    for by_reset in [false, true] {
        let mut stream = TcpStream::connect(https.edge.addresses().https.unwrap()).unwrap();
        stream.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
        vanish(stream, by_reset);
    }
    until("both are counted", || https.edge.stats().connections.tls_handshakes_failed == 2);
    assert_eq!(https.edge.stats().connections.open, 0);
    assert!(https.get("two.example", "two.example").unwrap().ends_with('x'));
}
