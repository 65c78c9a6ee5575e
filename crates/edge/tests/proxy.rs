//! The edge between real sockets: whose turn it is, what is tried again, what never is.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
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
fn answered(text: &str, by_reset: bool) -> (Edge, Option<Response>) {
    let text = text.to_owned();
    let (release, released) = std::sync::mpsc::channel();
    let released = std::sync::Mutex::new(released);
    let server = Server::start(move |mut peer| {
        if peer.head().is_some() {
            peer.say(&text);
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
        let stats = edge.stats();
        // A server's faults are not its clients'.
        assert_eq!(stats.refused.values().sum::<u64>(), 1, "{text:?}");
        assert_eq!((stats.refused["bad_response"], stats.server_faults.values().sum()), (1, 1), "{text:?}");
    }
}

#[test]
fn a_cut_body_never_ends_cleanly() {
    for (text, by_reset) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", false),
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
fn chunks_that_are_malformed_before_anything_went_out_are_a_502() {
    for chunks in
        ["x\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "fffffffffffffffff\r\n", "5\r\nhello\r\n0\r\nno colon\r\n\r\n"]
    {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let (edge, response) = answered(&text, false);
        assert_eq!(response.unwrap().status, 502, "{chunks:?}");
        assert_eq!(server_stats(&edge, "s0").failures.bad_response, 1);
    }
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
    /// Ends the clients even if an assertion fails: the scope waits for them.
    struct Ends<'b>(&'b AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
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
    });
    let stats = edge.stats();
    assert_eq!((stats.responses.client_error, stats.responses.server_error, stats.retries), (0, 0, 0));
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
