//! Messages on their way through: bodies in every framing, answers without one, interim answers, early ones.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::Read;

use common::*;

#[test]
fn bodies_go_both_ways_in_every_framing() {
    let server = Server::start(|mut peer| {
        while let Some((head, body)) = peer.request() {
            let text = String::from_utf8_lossy(&body).into_owned();
            if head.contains("/chunked") {
                peer.say(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x};x=y\r\n{text}\r\n0\r\nT: v\r\n\r\n", body.len()));
            } else if head.contains("/close") {
                peer.say(&format!("HTTP/1.0 200 OK\r\n\r\n{text}"));
                return;
            } else {
                peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", body.len()));
            }
        }
    });
    let edge = start(config(&[server.address]));
    let mut client = Client::new(&edge);
    for size in [1usize, 4096, 5000, 16384, 300_000] {
        let body = "x".repeat(size);
        for path in ["/length", "/chunked", "/close"] {
            client.say(&format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{body}"));
            assert_eq!(client.response(false).unwrap().body.len(), size, "{path} {size}");
            let (first, second) = body.split_at(size / 2);
            let mut chunked = String::new();
            for part in [first, second].iter().filter(|p| !p.is_empty()) {
                chunked += &format!("{:x}\r\n{part}\r\n", part.len());
            }
            client.say(&format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}0\r\nT: v\r\n\r\n"));
            assert_eq!(client.response(false).unwrap().body.len(), size, "{path} {size}, chunked");
        }
    }
    let mut old = Client::new(&edge);
    old.say("GET /chunked HTTP/1.0\r\nHost: a\r\n\r\n");
    let response = old.response(false).unwrap();
    assert!(field(&response.head, "transfer-encoding").is_none(), "{}", response.head);
}

#[test]
fn interim_answers_and_pipelines() {
    let server = Server::start(|mut peer| {
        while let Some(head) = peer.head() {
            if head.contains("100-continue") {
                peer.say("HTTP/1.1 100 Continue\r\n\r\n");
                let mut body = [0; 2];
                peer.stream.read_exact(&mut body).unwrap();
                peer.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            } else {
                let path = head.split(' ').nth(1).unwrap();
                peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()));
            }
        }
    });
    let edge = start(config(&[server.address]));
    let mut client = Client::new(&edge);
    client.say("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.response(false).unwrap().status, 100);
    client.say("hi");
    assert_eq!(client.response(false).unwrap().status, 103);
    assert_eq!(client.response(false).unwrap().body, "ok");
    let pipeline: String = (0..20).map(|i| format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.say(&pipeline);
    for i in 0..20 {
        assert_eq!(client.response(false).unwrap().body, format!("/{i}"));
    }
}

#[test]
fn the_seventeenth_interim_answer_is_one_too_many() {
    for (interim, status) in [(16, 200), (17, 502)] {
        let server = Server::start(move |mut peer| {
            while peer.head().is_some() {
                // In one piece, and in many: the edge may have half of them when it looks.
                for _ in 0..interim {
                    peer.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
                }
                peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        });
        let edge = start(config(&[server.address]));
        let mut client = Client::new(&edge);
        client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        for _ in 0..16 {
            assert_eq!(client.response(false).unwrap().status, 103);
        }
        assert_eq!(client.response(false).unwrap().status, status, "{interim}");
        let bad = u64::from(status == 502);
        assert_eq!(server_stats(&edge, "s0").failures.bad_response, bad);
        let stats = edge.stats();
        assert_eq!((stats.server_faults["too_many_interim"], stats.refused["bad_response"]), (bad, bad));
        assert_eq!(stats.refused["client_gone"], 0);
        // The client is answered, and may go on.
        client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response(false).unwrap().status, 103);
    }
}

#[test]
fn http_1_0_sees_no_interim_answer() {
    let server = Server::start(|mut peer| {
        while peer.head().is_some() {
            peer.say("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let edge = start(config(&[server.address]));
    let mut client = Client::new(&edge);
    client.say("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response(false).unwrap();
    assert_eq!((response.status, &*response.body), (200, "ok"));
    assert_eq!(field(&response.head, "connection"), Some("keep-alive"));
}

#[test]
fn http_1_0_without_a_host_is_for_the_site_of_all_names() {
    let server = Server::named("x");
    let mut config = config(&[server.address]);
    let edge = start(config.clone());
    let ask = |edge: &tiebeam_edge::Edge, line: &str| {
        let mut client = Client::new(edge);
        client.say(&format!("{line}\r\n\r\n"));
        client.response(false).unwrap().status
    };
    assert_eq!(ask(&edge, "GET /old HTTP/1.0"), 200);
    let head = server.heads().pop().unwrap();
    assert_eq!((field(&head, "host"), field(&head, "x-forwarded-host")), (Some(""), None), "{head}");
    assert_eq!(ask(&edge, "GET / HTTP/1.1"), 400);
    let site = config.sites.pop_first().unwrap().1;
    config.sites.insert("shop.example".parse().unwrap(), site);
    edge.publish(config);
    assert_eq!(ask(&edge, "GET / HTTP/1.0"), 421);
    assert_eq!(ask(&edge, "GET http://shop.example/ HTTP/1.0"), 200);
}

#[test]
fn answers_without_a_body_leave_the_connection_in_order() {
    let server = Server::start(|mut peer| {
        while let Some((head, _)) = peer.request() {
            peer.say(match head.split(' ').next_back().map(|_| head.split(' ').nth(1).unwrap()) {
                Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("/304") => "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: \"x\"\r\n\r\n",
                _ if head.starts_with("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
            });
        }
    });
    let edge = start_with(config(&[server.address]), 1);
    let mut client = Client::new(&edge);
    for _ in 0..2 {
        for (method, path, status, length) in [
            ("HEAD", "/", 200, Some("4")),
            ("GET", "/204", 204, None),
            ("GET", "/304", 304, Some("9")),
            ("GET", "/", 200, Some("4")),
        ] {
            client.say(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let response = client.response(method == "HEAD").unwrap();
            assert_eq!((response.status, field(&response.head, "content-length")), (status, length));
            assert!(field(&response.head, "transfer-encoding").is_none(), "{}", response.head);
        }
    }
    assert_eq!(server_stats(&edge, "s0").connects, 1);
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let server = Server::start(move |mut peer| {
        if peer.head().is_some() {
            peer.say("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
            // Reads nothing of the body, and does not go away before the answer was read.
            let _ = released.lock().unwrap().recv_timeout(std::time::Duration::from_secs(20));
        }
    });
    let edge = start(config(&[server.address]));
    let mut client = Client::new(&edge);
    client.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    client.say(&"x".repeat(500_000));
    let response = client.response(false).unwrap();
    assert_eq!((response.status, &*response.body), (401, "no"));
    release.send(()).unwrap();
    // What is left of the body must not be taken for a request.
    assert_eq!(field(&response.head, "connection"), Some("close"));
    client.say("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.is_closed());
    assert_eq!((server.asked("POST"), server.asked("GET")), (1, 0));
}

#[test]
fn connection_takes_away_no_more_than_it_may() {
    let server = Server::named("ok");
    let edge = start(config(&[server.address]));
    let mut client = Client::new(&edge);
    let options =
        "Host, Content-Length, Transfer-Encoding, Expect, Via, Date, X-Forwarded-For, X-Request-Id, X-Mine";
    for (framing, body) in
        [("Content-Length: 2", "hi"), ("Transfer-Encoding: chunked", "2\r\nhi\r\n0\r\n\r\n")]
    {
        client.say(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\nVia: 1.1 cdn\r\nDate: x\r\nX-Mine: 1\r\n\
             Expect: 100-continue\r\n{framing}\r\n\r\n{body}"
        ));
        assert_eq!(client.response(false).unwrap().body, "ok");
        let head = server.heads().pop().unwrap();
        let (name, value) = framing.split_once(": ").unwrap();
        for (name, value) in
            [(name, value), ("Host", "a"), ("Via", "1.1 cdn"), ("Date", "x"), ("Expect", "100-continue")]
        {
            assert_eq!(field(&head, name), Some(value), "{name}: {head}");
        }
        assert!(
            field(&head, "x-forwarded-for").is_some() && field(&head, "x-request-id").is_some(),
            "{head}"
        );
        assert!(field(&head, "x-mine").is_none() && field(&head, "connection").is_none(), "{head}");
    }
}

#[test]
fn a_client_that_waits_for_a_100_may_be_told_otherwise() {
    let server = Server::start(|mut peer| {
        if peer.head().is_some() {
            peer.say("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
            // A body that comes all the same would be taken for the next request here.
            peer.head();
        }
    });
    let edge = start(config(&[server.address]));
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut client = Client::new(&edge);
        client.say(&format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{framing}\r\n\r\n"));
        let response = client.response(false).unwrap();
        assert_eq!((response.status, &*response.body), (401, "no"), "{framing}");
        // The body never came, so whatever comes next may be that: nothing more is read.
        assert_eq!(field(&response.head, "connection"), Some("close"), "{framing}");
        client.say("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.is_closed());
    }
    assert_eq!((server.asked("POST"), server.asked("GET")), (2, 0));
}

#[test]
fn an_expectation_without_a_body_or_in_http_1_0_is_none() {
    let server = Server::named("ok");
    let edge = start(config(&[server.address]));
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let mut client = Client::new(&edge);
        client.say(request);
        assert_eq!(client.response(false).unwrap().status, 200, "{request:?}");
        let head = server.heads().pop().unwrap();
        assert_eq!(field(&head, "expect"), None, "{head}");
    }
}
