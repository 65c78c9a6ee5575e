//! The edge between real sockets: whose turn it is, what is tried again, what never is.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use tiebeam_edge::{Edge, State};

#[test]
fn three_hundred_requests_over_three_servers_and_all_workers() {
    let servers = [Server::named("s0"), Server::named("s1"), Server::named("s2")];
    let edge = start_with(config(&servers.each_ref().map(|s| s.address)), 3);
    let counts = std::sync::Mutex::new(BTreeMap::<String, usize>::new());
    std::thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                let mut client = Client::new(&edge);
                for _ in 0..10 {
                    let response = client.get("/");
                    assert_eq!(response.status, 200);
                    *counts.lock().unwrap().entry(response.body).or_default() += 1;
                }
            });
        }
    });
    let expected = [("s0", 100), ("s1", 100), ("s2", 100)].map(|(n, c)| (n.to_owned(), c));
    assert_eq!(counts.into_inner().unwrap(), BTreeMap::from(expected));
    let stats = edge.stats();
    assert_eq!((out_of_turn(&stats), stats.retries, stats.requests), (0, 0, 300));
    until("all answers are counted", || edge.stats().responses.successful == 300);
    assert!(["s0", "s1", "s2"].iter().all(|id| server_stats(&edge, id).picks == 100));
    assert_eq!(edge.stats().latency.counts.iter().sum::<u64>(), 300);
}

#[test]
fn a_dead_server_is_skipped_and_nobody_notices() {
    let alive = Server::named("alive");
    let dead = Server::named("dead");
    let edge = start(config(&[dead.address, alive.address]));
    end_after_first_check(dead);
    let mut client = Client::new(&edge);
    for _ in 0..5 {
        client.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(client.response(false).unwrap().body, "alive");
    }
    let stats = edge.stats();
    assert_eq!((out_of_turn(&stats), stats.retries), (1, 1));
    let dead = server_stats(&edge, "s0");
    assert_eq!((dead.state, dead.failures.connect, dead.requests), (State::Ejected, 1, 0));
}

#[test]
fn without_a_server_the_page_says_so() {
    let dead = Server::named("dead");
    let edge = start(config(&[dead.address]));
    end_after_first_check(dead);
    for _ in 0..2 {
        let response = get(&edge, "/");
        assert_eq!(response.status, 503);
        assert_eq!(field(&response.head, "retry-after"), Some("1"));
        let id = field(&response.head, "x-request-id").unwrap();
        assert!(id.len() == 32 && response.body.contains(id), "{}", response.body);
    }
    let refused = edge.stats().refused;
    assert_eq!((refused["no_connection"], refused["no_server"]), (1, 1));
}

/// What a client gets from a server that answers a GET with `text` and then ends, properly or by a reset.
fn answered(text: &'static str, by_reset: bool) -> (Edge, Option<Response>) {
    let (release, released) = std::sync::mpsc::channel();
    let released = std::sync::Mutex::new(released);
    let server = Server::start(move |mut peer| {
        if peer.head().is_some() {
            peer.say(text);
            if by_reset {
                // The reset must not overtake the bytes before it.
                let _ = released.lock().unwrap().recv_timeout(Duration::from_secs(20));
                peer.reset();
            }
        }
    });
    let edge = start(config(&[server.address]));
    let mut client = Client::new(&edge);
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let _ = client.0.get_ref().peek(&mut [0]);
    let _ = release.send(());
    let response = client.response(false);
    (edge, response)
}

#[test]
fn servers_that_do_not_speak_http() {
    for text in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let (edge, response) = answered(text, false);
        assert_eq!(response.unwrap().status, 502, "{text:?}");
        assert_eq!(server_stats(&edge, "s0").failures.bad_response, 1, "{text:?}");
        assert_eq!(edge.stats().refused["bad_response"], 1, "{text:?}");
    }
}

#[test]
fn a_cut_body_never_ends_cleanly() {
    for (text, by_reset) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\nhello", true),
    ] {
        let (edge, response) = answered(text, by_reset);
        assert!(response.is_none(), "{text:?}: {response:?}");
        until("the cut is counted", || edge.stats().responses.cut == 1);
    }
    // Only a clean end is one, for those that end by closing.
    let (_, response) = answered("HTTP/1.1 200 OK\r\n\r\nhello", false);
    assert_eq!(response.unwrap().body, "hello");
}

#[test]
fn bytes_after_an_answer_are_never_the_next_one() {
    let server = Server::start(|mut peer| {
        while peer.request().is_some() {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        }
    });
    let edge = start_with(config(&[server.address]), 1);
    let mut client = Client::new(&edge);
    for _ in 0..5 {
        assert_eq!(client.get("/").body, "ok");
    }
    assert_eq!(server_stats(&edge, "s0").connects, 5);
}

#[test]
fn a_silent_server_is_a_504_and_a_post_is_sent_once() {
    let server = Server::start(|mut peer| {
        peer.request();
        let _ = peer.stream.read(&mut [0]);
    });
    let mut config = config(&[server.address]);
    config.limits.response_time = Duration::from_millis(200);
    let edge = start(config);
    let mut client = Client::new(&edge);
    client.say("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.response(false).unwrap().status, 504);
    assert_eq!(server.asked("POST"), 1);
    assert_eq!(server_stats(&edge, "s0").failures.timeout, 1);
}

#[test]
fn an_idle_connection_that_dies_is_repeated_for_get_and_never_for_post() {
    // Each connection answers once; then it reads the next request and closes without a word.
    let server = Server::start(|mut peer| {
        if peer.request().is_some() {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            peer.request();
        }
    });
    let edge = start_with(config(&[server.address]), 1);
    let mut client = Client::new(&edge);
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(edge.stats().refused["server_closed"], 0);
    let posts = 6;
    let mut failed = 0;
    for i in 0..posts {
        let mut client = Client::new(&edge);
        client.say(&format!("POST /{i} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"));
        let status = client.response(false).unwrap().status;
        assert!(status == 200 || status == 502, "{status}");
        failed += usize::from(status == 502);
    }
    assert!(failed > 0);
    for i in 0..posts {
        assert_eq!(
            server.asked(&format!("POST /{i} ")),
            1,
            "POST number {i} was sent more than once or never"
        );
    }
}

#[test]
fn a_server_that_dies_while_asked_is_replaced_for_get() {
    let dying = Server::start(|mut peer| drop(peer.request()));
    let alive = Server::named("alive");
    let edge = start(config(&[dying.address, alive.address]));
    let mut client = Client::new(&edge);
    for _ in 0..4 {
        assert_eq!(client.get("/").body, "alive");
    }
    assert!(out_of_turn(&edge.stats()) >= 1);
}

#[test]
fn health_ejects_and_brings_back() {
    let server = Server::named("one");
    let address = server.address;
    let mut config = config(&[address]);
    let pool = config.pools.values_mut().next().unwrap();
    pool.app = true;
    pool.health.path = Some("/healthz".to_owned());
    pool.health.every = Duration::from_millis(20);
    pool.health.timeout = Duration::from_millis(1000);
    let edge = start(config);
    until("it serves", || server_stats(&edge, "s0").state == State::Serving);
    assert_eq!(get(&edge, "/").status, 200);
    assert!(server.asked("GET /healthz HTTP/1.1") > 0);
    drop(server);
    until("it is ejected", || server_stats(&edge, "s0").state == State::Ejected);
    assert_eq!(get(&edge, "/").status, 503);
    let _server = Server::start_at(address, |peer| serve_name(peer, "two"));
    until("it serves again", || server_stats(&edge, "s0").state == State::Serving);
    assert_eq!(get(&edge, "/").body, "two");
}

#[test]
fn an_unhealthy_answer_ejects_after_fall_checks() {
    let server = Server::start(|mut peer| {
        while peer.request().is_some() {
            peer.say("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let mut config = config(&[server.address]);
    let pool = config.pools.values_mut().next().unwrap();
    pool.health.path = Some("/".to_owned());
    pool.health.every = Duration::from_millis(20);
    let edge = start(config);
    until("it is ejected", || server_stats(&edge, "s0").state == State::Ejected);
    assert!(server.asked("GET") >= 2);
}

#[test]
fn publishing_under_load_fails_no_request() {
    let servers = [Server::named("s0"), Server::named("s1"), Server::named("s2")];
    let all = servers.each_ref().map(|s| s.address);
    let edge = start(config(&all));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::new(&edge);
                while !is_over.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/").status, 200);
                }
            });
        }
        let mut picks = 0;
        for i in 0..150 {
            let requests = edge.stats().requests;
            edge.publish(config(&all[..1 + i % 3]));
            let now = server_stats(&edge, "s0").picks;
            assert!(now >= picks, "the counts of s0 did not survive");
            picks = now;
            until("requests go on", || edge.stats().requests > requests);
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let stats = edge.stats();
    assert_eq!((stats.responses.client_error, stats.responses.server_error, stats.retries), (0, 0, 0));
}

#[test]
fn draining_finishes_what_runs() {
    let (release, released) = std::sync::mpsc::channel();
    let released = std::sync::Mutex::new(released);
    let server = Server::start(move |mut peer| {
        while let Some((head, _)) = peer.request() {
            if head.contains("/slow") {
                let _ = released.lock().unwrap().recv_timeout(Duration::from_secs(20));
            }
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let edge = start(config(&[server.address]));
    let mut idle = Client::new(&edge);
    assert_eq!(idle.get("/").status, 200);
    let mut running = Client::new(&edge);
    running.say("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the slow one runs", || server.asked("GET /slow") == 1);
    let address = edge.addresses().http.unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| drain(&edge, Duration::from_secs(10)));
        assert!(idle.is_closed());
        release.send(()).unwrap();
        let response = running.response(false).unwrap();
        assert_eq!((response.status, field(&response.head, "connection")), (200, Some("close")));
    });
    assert!(std::net::TcpStream::connect(address).is_err());
    assert_eq!(edge.stats().connections.open, 0);
}

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
fn a_slow_reader_holds_little() {
    let total = 64 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    let server = Server::start(move |mut peer| {
        peer.head();
        peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n"));
        let block = vec![b'x'; 1 << 16];
        let mut left = total;
        while left > 0 && peer.stream.get_mut().write_all(&block).is_ok() {
            left -= block.len();
            counter.fetch_add(block.len(), Ordering::SeqCst);
        }
    });
    let edge = start(config(&[server.address]));
    let resident_kib = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    let before = resident_kib();
    let mut client = Client::new(&edge);
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.0.get_ref().peek(&mut [0]).unwrap();
    let sent = steady(|| written.load(Ordering::SeqCst));
    assert!(sent < total, "nothing held the server back");
    // The whole process, test included; the kernel's own buffers are not in it.
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 4 * 1024, "{grown} KiB");
    assert_eq!(client.response(false).map(|r| r.body.len()), Some(total));
}

#[test]
fn slow_heads_and_silent_bodies_end() {
    let server = Server::named("x");
    let mut config = config(&[server.address]);
    config.limits.header_time = Duration::from_millis(150);
    config.limits.response_time = Duration::from_millis(150);
    let edge = start(config);
    let mut client = Client::new(&edge);
    client.say("GET / HTTP/1.1\r\nHos");
    assert_eq!(client.response(false).unwrap().status, 408);
    assert!(client.is_closed());
    let mut client = Client::new(&edge);
    client.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(client.response(false).unwrap().status, 408);
    let refused = edge.stats().refused;
    assert_eq!((refused["header_time"], refused["body_time"]), (1, 1));
}
