//! What becomes of connections of HTTP/2 to servers: whom they serve, and until when.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::async_server::{Async, http2_without_tls, reach, speak_http2};
use common::http2::{Http2, run, whole};
use common::*;
use http::{Request, Response};
use tiebeam_edge::{Config, State};
use tiebeam_topology::{CHANGED_FIELDS_MAX, Http2 as Setting};

fn over_http2(server: &Async) -> Config {
    Config { http2: Setting::PriorKnowledge, ..reach(config(&[server.address]), http2_without_tls()) }
}

/// After the health check's.
async fn connections(server: &Async, count: usize) {
    let connections = server.connections.clone();
    let is_so = move || connections.load(Ordering::SeqCst) == count;
    tokio::task::spawn_blocking(move || until("connections", is_so)).await.unwrap();
}

#[test]
fn a_connection_whose_server_has_said_goodbye_gets_no_more_requests() {
    let server = Async::start(|stream| async move {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        let is_leaving = Rc::new(Cell::new(false));
        while let Some(Ok((request, mut respond))) = std::future::poll_fn(|cx| {
            if is_leaving.take() {
                connection.graceful_shutdown();
            }
            connection.poll_accept(cx)
        })
        .await
        {
            let is_last = request.uri().path() == "/last";
            is_leaving.set(is_last);
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"one"), !is_last).unwrap();
            if is_last {
                // It goes on for as long as the client stays.
                tokio::task::spawn_local(async move {
                    let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                });
            }
        }
    });
    let edge = start_with(over_http2(&server), 1);
    run(async {
        connections(&server, 1).await;
        let mut client = Http2::plain(edge.addresses().http.unwrap()).await;
        let (last, _) = client.ask(Request::get("http://a/last").body(()).unwrap(), true).await;
        let _last = last.await.unwrap();
        for _ in 0..20 {
            assert_eq!(client.get("http://a/next").await.unwrap().status, 200);
        }
    });
    let stats = server_stats(&edge, "s0");
    assert_eq!((stats.state, stats.failures.connect), (State::Serving, 0));
}

/// Answers that nobody reads, fewer than a connection may have, and what a server may send of each: the edge's own bound.
const UNREAD: usize = 50;
const STREAM_WINDOW_BYTES: usize = 64 * 1024;

#[test]
fn who_reads_slowly_keeps_nobody_else_from_a_shared_connection() {
    let sent = Arc::<AtomicUsize>::default();
    let counter = sent.clone();
    let server = Async::start(move |stream| {
        let sent = counter.clone();
        speak_http2(stream, move |parts, _, mut respond| {
            let sent = sent.clone();
            async move {
                let mut stream = respond.send_response(Response::new(()), false).ok()?;
                if parts.uri.path() == "/short" {
                    return stream.send_data(Bytes::from_static(b"short"), true).ok();
                }
                loop {
                    stream.reserve_capacity(16 << 10);
                    let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await?.ok()?;
                    let room = room.min(16 << 10);
                    stream.send_data(vec![b'x'; room].into(), false).ok()?;
                    sent.fetch_add(room, Ordering::SeqCst);
                }
            }
        })
    });
    let mut config = over_http2(&server);
    config.limits.response_time = Duration::from_secs(5);
    let edge = start_with(config, 1);
    run(async {
        connections(&server, 1).await;
        // Each asks for more than every window holds, and reads none of it.
        let mut client = Http2::plain(edge.addresses().http.unwrap()).await;
        let mut unread = Vec::new();
        for _ in 0..UNREAD {
            let (answer, _) = client.ask(Request::get("http://a/long").body(()).unwrap(), true).await;
            unread.push(answer.await.unwrap());
        }
        // The answers go as far as they can before the next is asked for: each has its own window at least.
        while sent.load(Ordering::SeqCst) < UNREAD * STREAM_WINDOW_BYTES {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut other = Http2::plain(edge.addresses().http.unwrap()).await;
        let answer = other.get("http://a/short").await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"short"[..]));
    });
}

#[test]
fn a_connection_that_fell_silent_is_left() {
    let opened = Arc::new(AtomicUsize::new(0));
    let server = Async::start(move |stream| {
        // The health check's is the first; the second answers nothing.
        let is_silent = opened.fetch_add(1, Ordering::SeqCst) == 1;
        speak_http2(stream, move |_, _, mut respond| async move {
            if is_silent {
                std::future::pending::<()>().await;
            }
            respond.send_response(Response::new(()), true).ok().map(drop)
        })
    });
    let mut config = over_http2(&server);
    config.limits.response_time = Duration::from_millis(200);
    let edge = start_with(config, 1);
    run(connections(&server, 1));
    assert_eq!(get(&edge, "/").status, 504);
    assert_eq!(get(&edge, "/").status, 200);
}

#[test]
fn connections_that_are_for_one_client_each_are_kept_in_bounds() {
    /// What one worker keeps to one server, and one that is being asked.
    const MOST: usize = 256 + 1;
    let open = Arc::new(AtomicUsize::new(0));
    let most_open = Arc::new(AtomicUsize::new(0));
    let (counted, most) = (open.clone(), most_open.clone());
    let server = Async::start(move |mut stream| {
        let (counted, most) = (counted.clone(), most.clone());
        async move {
            use tokio::io::AsyncReadExt;
            // The header of version 1 ends with its line.
            while !matches!(stream.read_u8().await, Ok(b'\n') | Err(_)) {}
            most.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            speak_http2(stream, |_, _, mut respond| async move {
                respond.send_response(Response::new(()), true).ok().map(drop)
            })
            .await;
            counted.fetch_sub(1, Ordering::SeqCst);
        }
    });
    let mut config = over_http2(&server);
    config.pools.values_mut().next().unwrap().proxy_protocol = Some(tiebeam_topology::ProxyVersion::V1);
    let edge = start_with(config, 1);
    for _ in 0..MOST + 40 {
        assert_eq!(Client::new(&edge).get("/").status, 200);
    }
    assert!(open.load(Ordering::SeqCst) > MOST / 2, "they are kept");
    // The health check's, and what was not yet heard to be closed.
    assert!(most_open.load(Ordering::SeqCst) <= MOST + 20, "{most_open:?}");
}

#[test]
fn what_a_goodbye_leaves_out_is_asked_again_and_what_it_names_is_not() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0];
    for (last_stream, status, asked) in [(0, 200, 2), (1, 502, 1)] {
        let opened = Arc::new(AtomicUsize::new(0));
        let seen = opened.clone();
        let server = Async::start(move |mut stream| {
            // The health check's is the first.
            let is_leaving = opened.fetch_add(1, Ordering::SeqCst) == 1;
            async move {
                if !is_leaving {
                    let answer = |_, _, mut respond: h2::server::SendResponse<Bytes>| async move {
                        respond.send_response(Response::new(()), true).ok().map(drop)
                    };
                    return speak_http2(stream, answer).await;
                }
                stream.write_all(SETTINGS).await.unwrap();
                let mut heard = Vec::new();
                // HEADERS of stream 1, with the end of it.
                while !heard.windows(6).any(|w| w == [1, 5, 0, 0, 0, 1]) {
                    assert!(stream.read_buf(&mut heard).await.unwrap() > 0);
                }
                let goodbye = [GOAWAY, &[0, 0, 0, last_stream, 0, 0, 0, 0]].concat();
                stream.write_all(&goodbye).await.unwrap();
                stream.shutdown().await.unwrap();
                while stream.read_buf(&mut heard).await.is_ok_and(|n| n > 0) {}
            }
        });
        let edge = start_with(over_http2(&server), 1);
        run(connections(&server, 1));
        let mut client = Client::new(&edge);
        client.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.response(false).unwrap().status, status, "{last_stream}");
        assert_eq!(seen.load(Ordering::SeqCst), 1 + asked, "{last_stream}");
    }
}

#[test]
fn a_request_that_http2_has_no_form_for_is_not_held_against_the_server() {
    let server = Async::start(|stream| {
        speak_http2(stream, |_, _, mut respond| async move {
            respond.send_response(Response::new(()), true).ok().map(drop)
        })
    });
    let edge = start_with(over_http2(&server), 1);
    for (request, status) in [
        ("GET / HTTP/1.0", 400),
        ("GET / HTTP/1.0\r\nHost: a", 200),
        ("GET / HTTP/1.1\r\nHost: a:", 200),
        ("GET / HTTP/1.1\r\nHost: [::1]:80", 200),
        ("GET /%01?/!$&'()*+,;=:@~ HTTP/1.1\r\nHost: a", 200),
        ("!#$%&'*+-.^_`|~09Az / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09: \u{e9}\tx\r\nY:", 200),
        ("OPTIONS * HTTP/1.1\r\nHost: a", 200),
    ] {
        let mut client = Client::new(&edge);
        client.say(&format!("{request}\r\n\r\n"));
        assert_eq!(client.response(false).unwrap().status, status, "{request:?}");
    }
    assert_eq!(edge.stats().refused["host_invalid"], 1);
    let stats = server_stats(&edge, "s0");
    assert_eq!((stats.failures.bad_response, edge.stats().retries), (0, 0));
}

#[test]
fn a_request_that_has_all_the_fields_it_may_have_is_sent_with_those_that_rules_add() {
    let server = Async::start(|stream| {
        speak_http2(stream, |parts, _, mut respond| async move {
            let count = parts.headers.keys().filter(|name| name.as_str().starts_with("x-of-")).count();
            let response = Response::builder().header("count", count).body(()).ok()?;
            respond.send_response(response, true).ok().map(drop)
        })
    });
    let mut config = over_http2(&server);
    let client_fields = config.limits.header_count - 1;
    let set =
        |of: &str| (0..CHANGED_FIELDS_MAX).map(|i| (format!("X-Of-{of}-{i}"), "1".to_owned())).collect();
    let site = config.sites.values_mut().next().unwrap();
    site.rules.request_headers.set = set("Site");
    site.routes[0].rules.request_headers.set = set("Route");
    let edge = start_with(config, 1);
    let mut client = Client::new(&edge);
    let fields: String = (0..client_fields).map(|i| format!("X-Of-Client-{i}: 1\r\n")).collect();
    client.say(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    let response = client.response(false).unwrap();
    let all = (client_fields + 2 * CHANGED_FIELDS_MAX).to_string();
    assert_eq!((response.status, field(&response.head, "count")), (200, Some(&*all)));
}

#[test]
fn another_way_to_a_server_takes_new_connections() {
    let server = Async::start(|stream| async move {
        // The same port speaks both.
        let mut start = [0; 3];
        let is_http2 = matches!(stream.peek(&mut start).await, Ok(3)) && &start == b"PRI";
        if is_http2 {
            speak_http2(stream, |_, _, mut respond| async move {
                let mut stream = respond.send_response(Response::new(()), false).ok()?;
                stream.send_data(Bytes::from_static(b"two"), true).ok()
            })
            .await;
        } else {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = stream;
            let mut heard = Vec::new();
            while stream.read_buf(&mut heard).await.is_ok_and(|n| n > 0) {
                if heard.ends_with(b"\r\n\r\n") {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").await.unwrap();
                    heard.clear();
                }
            }
        }
    });
    let edge = start_with(config(&[server.address]), 1);
    assert_eq!(get(&edge, "/").body, "one");
    edge.publish(over_http2(&server));
    let mut client = Client::new(&edge);
    until("the new way", || client.get("/").body == "two");
    assert_eq!(client.get("/").body, "two");
}

#[test]
fn an_answer_that_ends_before_its_request_is_whole() {
    let server = Async::start(|stream| {
        speak_http2(stream, |parts, _body, mut respond| async move {
            if parts.uri.path() == "/trailers-only" {
                let response = Response::builder().header("grpc-status", "7").body(()).ok()?;
                return respond.send_response(response, true).ok().map(drop);
            }
            let mut stream = respond.send_response(Response::new(()), false).ok()?;
            stream.send_data(vec![b'x'; 30_000].into(), false).ok()?;
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "7".parse().ok()?);
            stream.send_trailers(trailers).ok()
        })
    });
    let edge = start_with(over_http2(&server), 1);
    run(async {
        let mut client = Http2::plain(edge.addresses().http.unwrap()).await;
        for i in 0..20 {
            let (answer, mut body) =
                client.ask(Request::post("http://a/trailers-only").body(()).unwrap(), false).await;
            if i % 2 == 0 {
                body.send_data(Bytes::from_static(b"ping"), false).unwrap();
            }
            let answer = whole(answer.await.unwrap()).await.unwrap();
            assert_eq!(answer.fields["grpc-status"], "7");
            let (answer, mut body) =
                client.ask(Request::post("http://a/body").body(()).unwrap(), false).await;
            if i % 2 == 0 {
                body.send_data(Bytes::from_static(b"ping"), false).unwrap();
            }
            let answer = whole(answer.await.unwrap()).await.unwrap();
            assert_eq!(
                (answer.body.len(), &answer.trailers.unwrap()["grpc-status"]),
                (30_000, &"7".parse::<http::HeaderValue>().unwrap())
            );
        }
    });
    assert_eq!(edge.stats().responses.cut, 0);
}
