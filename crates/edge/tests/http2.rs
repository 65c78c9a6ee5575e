//! HTTP/2 toward clients: what a request becomes, how an answer comes back, and what is done to who floods.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use base64::Engine;
use bytes::Bytes;
use common::http2::{Http2, run, whole};
use common::tls::Https;
use common::*;
use h2::Reason;
use http::Request;
use tiebeam_edge::{Config, Edge};
use tiebeam_topology::Http2 as Setting;

fn prior_knowledge(servers: &[std::net::SocketAddr]) -> Config {
    Config { http2: Setting::PriorKnowledge, ..config(servers) }
}

async fn connect(edge: &Edge) -> Http2 {
    Http2::plain(edge.addresses().http.unwrap()).await
}

/// Answers every request with its head and body.
fn mirror() -> Server {
    Server::start(|mut peer| {
        while let Some((head, body)) = peer.request() {
            let text = format!("{head}{}", String::from_utf8_lossy(&body));
            if !peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())) {
                return;
            }
        }
    })
}

#[test]
fn it_is_chosen_by_alpn_and_sites_are_kept_apart() {
    let server = Server::named("secure");
    let https = Https::with(config(&[server.address]));
    run(async {
        let mut client = Http2::secure(https.http2(), "one.example").await;
        let answer = client.get("https://one.example/x?q=1").await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"secure"[..]));
        assert_eq!(answer.fields["content-length"], "6");
        assert_eq!(answer.fields["strict-transport-security"], "max-age=31536000");
        assert_eq!(answer.fields["via"], "1.1 tiebeam");
        assert!(!answer.fields.contains_key("connection"));
        assert_eq!(client.get("https://two.example/").await.unwrap().status, 421);
    });
    let head = &server.heads()[0];
    assert!(head.starts_with("GET /x?q=1 HTTP/1.1\r\nHost: one.example\r\n"), "{head}");
    assert_eq!(field(head, "via"), Some("2.0 tiebeam"));
    assert_eq!(field(head, "x-forwarded-proto"), Some("https"));
    // Clients that do not ask for it are answered as before.
    assert!(https.get("one.example", "one.example").unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(https.edge.stats().connections.http2, 1);
}

#[test]
fn it_can_be_turned_off() {
    let server = Server::named("secure");
    let https = Https::with(Config { http2: Setting::Off, ..config(&[server.address]) });
    let (at, config) = https.http2();
    let is_refused = run(async {
        let stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let name = "one.example".to_owned().try_into().unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.is_err()
    });
    assert!(is_refused, "a client that speaks nothing else");
}

#[test]
fn prior_knowledge_needs_to_be_allowed() {
    let server = mirror();
    let edge = start(prior_knowledge(&[server.address]));
    assert_eq!(get(&edge, "/").status, 200);
    run(async {
        let mut client = connect(&edge).await;
        assert_eq!(client.get("http://shop.example/").await.unwrap().status, 200);
    });
    let strict = start(config(&[server.address]));
    let mut client = Client::new(&strict);
    client.say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(client.response(false).unwrap().status, 505);
}

#[test]
fn bodies_go_both_ways() {
    let server = mirror();
    let edge = start(prior_knowledge(&[server.address]));
    run(async {
        let mut client = connect(&edge).await;
        // Without a length, in pieces; with one; and one that is larger than every window.
        let (answer, mut body) = client.ask(Request::post("http://a/chunked").body(()).unwrap(), false).await;
        for piece in ["one ", "two ", "three"] {
            body.send_data(Bytes::from_static(piece.as_bytes()), false).unwrap();
            tokio::task::yield_now().await;
        }
        body.send_data(Bytes::new(), true).unwrap();
        let text = String::from_utf8(whole(answer.await.unwrap()).await.unwrap().body).unwrap();
        assert!(text.ends_with("\r\n\r\none two three"), "{text}");
        assert_eq!(field(&text, "transfer-encoding"), Some("chunked"));

        let large = Bytes::from(vec![b'x'; 300_000]);
        let request = Request::put("http://a/length").header("content-length", large.len()).body(()).unwrap();
        let (answer, mut body) = client.ask(request, false).await;
        send_all(&mut body, large.clone()).await;
        let text = String::from_utf8(whole(answer.await.unwrap()).await.unwrap().body).unwrap();
        assert_eq!(field(&text, "content-length"), Some("300000"));
        assert!(text.ends_with(std::str::from_utf8(&large).unwrap()));
    });
}

async fn send_all(stream: &mut h2::SendStream<Bytes>, mut data: Bytes) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
        let piece = data.split_to(room.min(data.len()));
        stream.send_data(piece, data.is_empty()).unwrap();
    }
}

#[test]
fn answers_of_every_framing() {
    let server = Server::start(|mut peer| {
        while let Some((head, _)) = peer.request() {
            let path = head.split(' ').nth(1).unwrap();
            let (text, closes) = match path {
                "/chunked" => {
                    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", false)
                }
                "/close" => ("HTTP/1.1 200 OK\r\n\r\nuntil the end", true),
                "/empty" => ("HTTP/1.1 204 No Content\r\n\r\n", false),
                "/head" => ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", false),
                "/early" => (
                    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
                    false,
                ),
                "/cut" => ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", true),
                "/cut-chunk" => ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", true),
                _ => ("nonsense", true),
            };
            if !peer.say(text) || closes {
                return;
            }
        }
    });
    let edge = start(prior_knowledge(&[server.address]));
    run(async {
        let mut client = connect(&edge).await;
        for (path, status, body) in [
            ("chunked", 200, "abc"),
            ("close", 200, "until the end"),
            ("empty", 204, ""),
            ("early", 200, "x"),
            ("nonsense", 502, "<!doctype"),
        ] {
            let answer = client.get(&format!("http://a/{path}")).await.unwrap();
            let text = String::from_utf8(answer.body).unwrap();
            assert_eq!((answer.status, text.starts_with(body)), (status, true), "{path}: {text}");
        }
        let (answer, _) = client.ask(Request::head("http://a/head").body(()).unwrap(), true).await;
        let answer = whole(answer.await.unwrap()).await.unwrap();
        assert_eq!((answer.body.len(), &answer.fields["content-length"]), (0, &"9".parse().unwrap()));
        // What was cut short never ends as if it were whole.
        for path in ["cut", "cut-chunk"] {
            let error = client.get(&format!("http://a/{path}")).await.err().expect(path);
            assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{path}");
        }
        assert_eq!(client.get("http://a/empty").await.unwrap().status, 204, "the connection goes on");
    });
}

#[test]
fn streams_do_not_wait_for_each_other() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = Server::start(move |mut peer| {
        while let Some((head, _)) = peer.request() {
            if head.starts_with("GET /slow") {
                wait.lock().unwrap().recv().unwrap();
            }
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let edge = start(prior_knowledge(&[server.address]));
    run(async {
        let mut client = connect(&edge).await;
        let (slow, _) = client.ask(Request::get("http://a/slow").body(()).unwrap(), true).await;
        assert_eq!(client.get("http://a/fast").await.unwrap().status, 200);
        go.send(()).unwrap();
        assert_eq!(slow.await.unwrap().status(), 200);
    });
}

/// More at once than a worker keeps tasks for, and then again with those that it kept: each gets its own answer.
#[test]
fn hundreds_of_streams_run_at_once() {
    const CONNECTIONS: usize = 3;
    const STREAMS: usize = 100;
    let open = Arc::new(AtomicBool::new(false));
    let may_answer = open.clone();
    let server = Server::start(move |mut peer| {
        while let Some((head, _)) = peer.request() {
            until("all have asked", || may_answer.load(Ordering::SeqCst));
            let path = head.split(' ').nth(1).unwrap();
            peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()));
        }
    });
    let edge = start_with(prior_knowledge(&[server.address]), 1);
    run(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(connect(&edge).await);
        }
        for round in 1..=2 {
            open.store(false, Ordering::SeqCst);
            let mut asked = Vec::new();
            for (number, client) in clients.iter_mut().enumerate() {
                for stream in 0..STREAMS {
                    let path = format!("/{round}/{number}/{stream}");
                    let request = Request::get(format!("http://a{path}")).body(()).unwrap();
                    asked.push((path, client.ask(request, true).await.0));
                }
            }
            let heads = server.heads.clone();
            let count = round * CONNECTIONS * STREAMS;
            let have_asked = move || until("all have asked", || heads.lock().unwrap().len() == count);
            tokio::task::spawn_blocking(have_asked).await.unwrap();
            open.store(true, Ordering::SeqCst);
            for (path, answer) in asked {
                assert_eq!(whole(answer.await.unwrap()).await.unwrap().body, path.as_bytes());
            }
        }
    });
}

#[test]
fn a_request_that_is_taken_back_leaves_its_server() {
    let left = Arc::new(AtomicBool::new(false));
    let seen = left.clone();
    let server = Server::start(move |mut peer| {
        // The first check says nothing.
        if peer.head().is_some() {
            seen.store(peer.head().is_none(), Ordering::SeqCst);
        }
    });
    let edge = start(prior_knowledge(&[server.address]));
    run(async {
        let mut client = connect(&edge).await;
        let (answer, mut stream) = client.ask(Request::get("http://a/").body(()).unwrap(), true).await;
        tokio::task::spawn_blocking({
            let heads = server.heads.clone();
            move || until("the server has it", || heads.lock().unwrap().len() == 1)
        })
        .await
        .unwrap();
        stream.send_reset(Reason::CANCEL);
        drop((answer, stream));
        tokio::task::spawn_blocking(move || until("its connection ended", || left.load(Ordering::SeqCst)))
            .await
            .unwrap();
    });
    until("it is counted", || edge.stats().refused["client_gone"] == 1);
}

#[test]
fn who_takes_back_too_much_is_sent_away() {
    let server = Server::start(|mut peer| while peer.request().is_some() {});
    let edge = start(prior_knowledge(&[server.address]));
    run(async {
        let client = connect(&edge).await;
        for _ in 0..5000 {
            let Ok(mut ready) = client.0.clone().ready().await else { break };
            let Ok((_, mut stream)) = ready.send_request(Request::get("http://a/").body(()).unwrap(), true)
            else {
                break;
            };
            tokio::task::yield_now().await;
            stream.send_reset(Reason::CANCEL);
        }
        let error = client.1.await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error}");
    });
}

#[test]
fn limits_hold_for_streams_as_for_requests() {
    let server = mirror();
    let mut config = prior_knowledge(&[server.address]);
    config.limits.body_bytes = 10;
    config.limits.header_bytes = 2048;
    config.limits.streams = 3;
    let edge = start(config);
    run(async {
        let mut client = connect(&edge).await;
        let request = Request::post("http://a/").header("content-length", 11).body(()).unwrap();
        let (answer, _body) = client.ask(request, false).await;
        assert_eq!(answer.await.unwrap().status(), 413);
        let request = Request::get("http://a/").header("x-long", "x".repeat(4000)).body(()).unwrap();
        let (answer, _) = client.ask(request, true).await;
        assert_eq!(answer.await.unwrap().status(), 431);
        let request = Request::get("http://a/").header("expect", "nothing").body(()).unwrap();
        let (answer, _) = client.ask(request, true).await;
        assert_eq!(answer.await.unwrap().status(), 417);
        assert_eq!(client.0.current_max_send_streams(), 3);
    });
}

#[test]
fn an_edge_that_ends_lets_streams_finish() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = Server::start(move |mut peer| {
        if peer.request().is_none() {
            return;
        }
        wait.lock().unwrap().recv().unwrap();
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let edge = Arc::new(start(prior_knowledge(&[server.address])));
    run(async {
        let idle = connect(&edge).await;
        let mut busy = connect(&edge).await;
        let (answer, _) = busy.ask(Request::get("http://a/").body(()).unwrap(), true).await;
        until_asked(&server).await;
        let ending = tokio::task::spawn_blocking({
            let edge = edge.clone();
            move || drain(&edge, std::time::Duration::from_secs(20))
        });
        // Told to go, and gone.
        idle.1.await.unwrap().unwrap();
        assert!(idle.0.clone().ready().await.is_err(), "no new streams");
        go.send(()).unwrap();
        assert_eq!(whole(answer.await.unwrap()).await.unwrap().body, b"ok");
        ending.await.unwrap();
    });
    assert_eq!(edge.stats().refused["drain_time"], 0);
}

async fn until_asked(server: &Server) {
    let heads = server.heads.clone();
    tokio::task::spawn_blocking(move || until("the server has it", || heads.lock().unwrap().len() == 1))
        .await
        .unwrap();
}

#[test]
fn a_stream_carries_a_websocket() {
    let server = Server::start(|mut peer| {
        let Some(head) = peer.head() else { return };
        if !head.contains("chat") {
            peer.say("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone");
            return;
        }
        let key = field(&head, "sec-websocket-key").unwrap();
        assert_eq!(key.len(), 24, "{head}");
        let keyed = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, keyed.as_bytes());
        let mut accept = base64::engine::general_purpose::STANDARD.encode(digest);
        if head.contains("deaf") {
            accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        }
        peer.say(&format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: p\r\n\r\nfirst ",
        ));
        if head.contains("deaf") {
            // The edge closes: such a server is not spoken to any further.
            assert!(!matches!(std::io::Read::read(&mut peer.stream, &mut [0]), Ok(1..)));
            return;
        }
        let mut heard = [0; 5];
        std::io::Read::read_exact(&mut peer.stream, &mut heard).unwrap();
        peer.say(&String::from_utf8_lossy(&heard));
        // The client has ended its side.
        assert_eq!(std::io::Read::read(&mut peer.stream, &mut [0]).unwrap(), 0);
    });
    let edge = start(prior_knowledge(&[server.address]));
    run(async {
        let mut client = connect(&edge).await;
        client.get("http://a/").await.unwrap();
        assert!(client.0.is_extended_connect_protocol_enabled());
        let connect = |path: &str| {
            Request::connect(format!("http://a/{path}"))
                .extension(h2::ext::Protocol::from_static("websocket"))
                .header("sec-websocket-version", "13")
                .body(())
                .unwrap()
        };
        let (answer, mut stream) = client.ask(connect("chat"), false).await;
        let answer = answer.await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().get("sec-websocket-accept")), (200, None));
        assert_eq!(answer.headers()["sec-websocket-protocol"], "p");
        stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
        assert_eq!(whole(answer).await.unwrap().body, b"first hello");
        // A server that answers every key alike, as a cache would, speaks no WebSocket.
        let (answer, _stream) = client.ask(connect("deaf-chat"), false).await;
        assert_eq!(answer.await.unwrap().status(), 502);
        let (answer, _stream) = client.ask(connect("other"), false).await;
        let answer = whole(answer.await.unwrap()).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (404, &b"none"[..]));
    });
    assert_eq!((edge.stats().tunnels.opened, edge.stats().server_faults["websocket_key"]), (1, 1));
}
