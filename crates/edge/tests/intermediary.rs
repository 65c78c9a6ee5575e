//! What HTTP asks of whoever stands between a client and a server (RFC 9110 sections 7.6 and 10.1.1).
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::Read;
use std::net::Shutdown;
use std::time::Duration;

use common::*;

#[test]
fn the_edge_names_itself_unless_the_file_says_otherwise() {
    let server = Server::start(|mut peer| {
        while peer.request().is_some() {
            peer.say("HTTP/1.1 200 OK\r\nVia: 1.1 before\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let all = |head: &str| {
        let of = |line: &str| line.strip_prefix("Via: ").map(str::to_owned);
        head.lines().filter_map(of).collect::<Vec<_>>()
    };
    for (via, own) in [(true, &["1.1 tiebeam"][..]), (false, &[])] {
        let edge = start_with(tiebeam_edge::Config { via, ..config(&[server.address]) }, 1);
        let mut client = Client::new(&edge);
        client.say("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 cdn\r\n\r\n");
        let response = client.response(false).unwrap();
        // Those of others stay, in their order, before it.
        assert_eq!(all(&response.head), [&["1.1 before"], own].concat());
        assert_eq!(all(&server.heads().pop().unwrap()), [&["1.0 cdn"], own].concat());
    }
}

#[test]
fn max_forwards_ends_here_or_is_counted_down() {
    let server = Server::named("reached");
    let edge = start_with(config(&[server.address]), 1);
    let mut client = Client::new(&edge);
    // The method, what it says, what a server is told then; `None`: it is not asked.
    for (method, said, told) in [
        ("TRACE", Some("1"), Some(Some("0"))),
        ("OPTIONS", Some("10"), Some(Some("9"))),
        ("OPTIONS", Some("99999999999999999999"), Some(Some("4294967294"))),
        ("OPTIONS", None, Some(None)),
        ("TRACE", None, Some(None)),
        ("TRACE", Some("0"), None),
        ("OPTIONS", Some("0"), None),
        // It means nothing to other methods, and is passed on as it is.
        ("GET", Some("0"), Some(Some("0"))),
        ("POST", Some("x"), Some(Some("x"))),
    ] {
        let before = server.heads().len();
        let field_line = said.map_or(String::new(), |n| format!("Max-Forwards: {n}\r\n"));
        client.say(&format!("{method} /a?b HTTP/1.1\r\nHost: shop.example\r\nCookie: secret=1\r\nX-Key: secret\r\nVia: 1.1 x\r\n{field_line}\r\n"));
        let response = client.response(false).unwrap();
        match told {
            Some(left) => {
                assert_eq!(response.body, "reached", "{method} {said:?}");
                assert_eq!(field(&server.heads()[before], "max-forwards"), left, "{method} {said:?}");
            }
            None => {
                assert_eq!(server.heads().len(), before, "{method} {said:?}");
                assert_eq!(field(&response.head, "connection"), None, "{}", response.head);
            }
        }
        match (method, said) {
            ("OPTIONS", Some("0")) => assert_eq!((response.status, &*response.body), (204, "")),
            ("TRACE", Some("0")) => {
                assert_eq!(field(&response.head, "content-type"), Some("message/http"));
                assert_eq!(
                    response.body,
                    "TRACE /a?b HTTP/1.1\r\nHost: shop.example\r\nVia: 1.1 x\r\nMax-Forwards: 0\r\n\r\n"
                );
            }
            _ => assert_eq!(response.status, 200),
        }
    }
    // Of the server as a whole.
    client.say("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response(false).unwrap().body, "reached");
    client.say("OPTIONS http://shop.example HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response(false).unwrap().body, "reached");
    let heads = server.heads();
    assert!(heads[heads.len() - 2].starts_with("OPTIONS * HTTP/1.1\r\nHost: a\r\n"));
    assert!(heads[heads.len() - 1].starts_with("OPTIONS * HTTP/1.1\r\nHost: shop.example\r\n"));
    client.say("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    assert_eq!(client.response(false).unwrap().status, 204);
}

/// Answers the head alone: `/refused` at once, everything else once it has the two bytes of the body.
fn careful() -> Server {
    Server::start(|mut peer| {
        while let Some(head) = peer.head() {
            if head.contains("/refused") {
                peer.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
                // Whoever reads no body cannot read another request.
                let _ = peer.stream.get_ref().shutdown(Shutdown::Write);
                let _ = peer.stream.read_to_end(&mut Vec::new());
                return;
            }
            if head.contains("/asks") {
                peer.say("HTTP/1.1 100 Continue\r\n\r\n");
            }
            if peer.stream.read_exact(&mut [0; 2]).is_err() {
                return;
            }
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    })
}

#[test]
fn an_expectation_is_passed_on_and_nobody_waits_for_ever() {
    let server = careful();
    let edge = start_with(config(&[server.address]), 1);
    let post = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n")
    };
    let mut client = Client::new(&edge);
    client.say(&post("/asks"));
    assert_eq!(client.response(false).unwrap().status, 100);
    client.say("hi");
    assert_eq!(client.response(false).unwrap().body, "ok");
    assert!(server.heads()[0].contains("\r\nExpect: 100-Continue\r\n"), "{:?}", server.heads());
    // A client that does not wait, and one that gives up waiting, as for servers that know no expectations.
    client.say(&(post("/quiet") + "hi"));
    assert_eq!(client.response(false).unwrap().body, "ok");
    client.say(&post("/quiet"));
    until("the server has the head", || server.heads().len() == 3);
    client.say("hi");
    assert_eq!(client.response(false).unwrap().body, "ok");
    // A final answer instead: the body was never sent, so nothing that follows can be told from it.
    client.say(&post("/refused"));
    let response = client.response(false).unwrap();
    assert_eq!((response.status, field(&response.head, "connection")), (413, Some("close")));
    client.say("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.is_closed());
    assert_eq!(server.asked("GET"), 0);
    // HTTP/1.0 has no 1xx: the expectation is not passed on (RFC 9110 section 10.1.1).
    let mut old = Client::new(&edge);
    old.say(&(post("/quiet").replace("HTTP/1.1", "HTTP/1.0") + "hi"));
    assert_eq!(old.response(false).unwrap().status, 200);
    assert!(!server.heads().pop().unwrap().contains("Expect"));
}

#[test]
fn the_time_in_which_a_client_waits_for_100_is_not_its_own() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let server = Server::start(move |mut peer| {
        if peer.head().is_some() {
            let _ = released.lock().unwrap().recv_timeout(Duration::from_secs(20));
            peer.say("HTTP/1.1 100 Continue\r\n\r\n");
            let _ = peer.stream.read_exact(&mut [0; 2]);
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let mut config = config(&[server.address]);
    (config.limits.body_grace, config.limits.body_rate) = (Duration::from_millis(300), 1 << 20);
    let edge = start_with(config, 1);
    let mut client = Client::new(&edge);
    client.say("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    until("the server has the head", || server.asked("POST") == 1);
    slow_step(Duration::from_millis(900));
    release.send(()).unwrap();
    assert_eq!(client.response(false).unwrap().status, 100);
    client.say("hi");
    assert_eq!(client.response(false).unwrap().body, "ok");
    assert_eq!(edge.stats().refused["body_rate"], 0);
}

#[test]
fn a_client_that_has_said_all_it_will_is_still_answered() {
    let server = Server::start(|mut peer| {
        while let Some((_, body)) = peer.request() {
            slow_step(Duration::from_millis(100));
            peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            slow_step(Duration::from_millis(100));
            peer.say(&String::from_utf8(body).unwrap());
        }
    });
    let edge = start_with(config(&[server.address]), 1);
    let mut client = Client::new(&edge);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    client.say(&post.repeat(3));
    client.0.get_ref().shutdown(Shutdown::Write).unwrap();
    for _ in 0..3 {
        assert_eq!(client.response(false).unwrap().body, "hello");
    }
    assert!(matches!(client.0.read(&mut [0]), Ok(0)), "a clean end");
    assert_eq!(edge.stats().responses.cut, 0);
}

#[test]
fn trailers_are_checked_and_dropped() {
    let server = Server::start(|mut peer| {
        while peer.request().is_some() {
            peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n");
        }
    });
    let edge = start_with(config(&[server.address]), 1);
    let mut client = Client::new(&edge);
    for _ in 0..2 {
        client.say("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\nHost: b\r\n\r\n");
        // Reads the last chunk and the empty line behind it: anything else there would spoil the next answer.
        let response = client.response(false).unwrap();
        assert_eq!((response.body.as_str(), field(&response.head, "trailer")), ("ok", None));
        let head = server.heads().pop().unwrap();
        assert_eq!((field(&head, "te"), field(&head, "trailer")), (None, None));
    }
    assert_eq!(server_stats(&edge, "s0").connects, 1);
}
