//! How streams and connections of HTTP/2 end when a client is slow, gone before it is served, or misled.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::async_server::{Async, reach};
use common::http2::{Http2, run, whole};
use common::*;
use h2::Reason;
use http::Request;
use tiebeam_edge::{Config, Reach, ServerTls};
use tiebeam_topology::Http2 as Setting;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

fn prior_knowledge(servers: &[std::net::SocketAddr]) -> Config {
    Config { http2: Setting::PriorKnowledge, ..config(servers) }
}

#[test]
fn a_websocket_is_not_open_because_its_server_says_200() {
    let server = Server::named("words");
    let edge = start(prior_knowledge(&[server.address]));
    run(async {
        let mut client = Http2::plain(edge.addresses().http.unwrap()).await;
        client.get("http://a/").await.unwrap();
        let connect = Request::connect("http://a/chat")
            .extension(h2::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap();
        let (answer, _stream) = client.ask(connect, false).await;
        assert_eq!(answer.await.unwrap().status(), 502);
    });
}

#[test]
fn streams_that_are_taken_back_do_not_pile_up_before_a_server_that_is_slow_to_accept() {
    // It takes connections and never says a word of TLS.
    let (open, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let peak = most.clone();
    let server = Async::start(move |mut stream| {
        let (open, most) = (open.clone(), most.clone());
        async move {
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            while stream.read(&mut [0; 1000]).await.is_ok_and(|n| n > 0) {}
            open.fetch_sub(1, Ordering::SeqCst);
        }
    });
    let tls = Some(ServerTls::new(rustls::RootCertStore::empty(), None).unwrap());
    let mut config = reach(prior_knowledge(&[server.address]), Reach { tls, http2: false });
    config.limits.connect_time = Duration::from_secs(20);
    let edge = start_with(config, 1);
    run(async {
        let client = Http2::plain(edge.addresses().http.unwrap()).await;
        let mut asked = 0;
        'flood: for _ in 0..20 {
            let mut streams = Vec::new();
            for _ in 0..50 {
                let Ok(mut ready) = client.0.clone().ready().await else { break 'flood };
                let request = Request::get("http://a/").body(()).unwrap();
                let Ok((_, stream)) = ready.send_request(request, true) else { break 'flood };
                streams.push(stream);
            }
            asked += 50;
            // The edge has begun with each of them before it is taken back.
            while edge.stats().requests < asked && !client.1.is_finished() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            streams.iter_mut().for_each(|stream| stream.send_reset(Reason::CANCEL));
        }
        let error = client.1.await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error}");
    });
    let (begun, peak) = (server.connections.load(Ordering::SeqCst), peak.load(Ordering::SeqCst));
    assert!(begun <= 450 && peak <= 250, "{begun} connections, {peak} at once");
    assert_eq!(edge.stats().refused["reset_flood"], 1);
}

#[test]
fn what_a_slow_client_has_yet_to_read_outlives_the_drain_and_the_idle_time() {
    // Each fits into what h2 holds of a stream, all together into no socket.
    const BODY_BYTES: usize = 30_000;
    const STREAMS: usize = 300;
    let server = Server::start(|mut peer| {
        while peer.request().is_some() {
            let body = "x".repeat(BODY_BYTES);
            if !peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n{body}")) {
                return;
            }
        }
    });
    let mut config = prior_knowledge(&[server.address]);
    config.limits.idle_time = Duration::from_secs(1);
    config.limits.streams = STREAMS;
    let edge = Arc::new(start_with(config, 1));
    run(async {
        // As little as may be on the way.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let socket = socket.connect(edge.addresses().http.unwrap()).await.unwrap();
        let slow = Slow { stream: socket, pause: Box::pin(tokio::time::sleep(Duration::ZERO)) };
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 28);
        let mut client = Http2::over(slow, &mut builder).await;
        client.get("http://a/").await.unwrap();
        let mut answers = Vec::new();
        for _ in 0..STREAMS {
            answers.push(client.ask(Request::get("http://a/").body(()).unwrap(), true).await.0);
        }
        let all_told = {
            let edge = edge.clone();
            move || until("all are answered", || edge.stats().responses.successful == STREAMS as u64 + 1)
        };
        let answers = tokio::task::spawn_local(async move {
            let mut bytes = 0;
            for answer in answers {
                bytes += whole(answer.await?).await?.body.len();
            }
            Ok::<_, h2::Error>(bytes)
        });
        tokio::task::spawn_blocking(all_told).await.unwrap();
        let ending = tokio::task::spawn_blocking({
            let edge = edge.clone();
            move || drain(&edge, Duration::from_secs(20))
        });
        assert_eq!(answers.await.unwrap().unwrap(), STREAMS * BODY_BYTES);
        ending.await.unwrap();
    });
}

#[test]
fn a_body_that_is_not_as_long_as_was_said_is_no_other_request() {
    let whole_ones = Arc::new(AtomicUsize::new(0));
    let counter = whole_ones.clone();
    let server = Server::start(move |mut peer| {
        while let Some((head, body)) = peer.request() {
            // That nothing follows may be passed on before it turns out to be untrue.
            if head.starts_with("POST") && !body.is_empty() {
                counter.fetch_add(1, Ordering::SeqCst);
            }
            let told = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            if !peer.say(&told) || !peer.bytes(&body) {
                return;
            }
        }
    });
    let edge = start_with(prior_knowledge(&[server.address]), 1);
    const EVIL: &[u8] = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    run(async {
        let mut client = Http2::plain(edge.addresses().http.unwrap()).await;
        for said in ["0", "5", "1000", "33, 33", "+33", "0x21"] {
            let request = Request::post("http://a/").header("content-length", said).body(()).unwrap();
            let (answer, mut body) = client.ask(request, false).await;
            let _ = body.send_data(Bytes::from_static(EVIL), true);
            let is_well = answer.await.is_ok_and(|answer| answer.status().is_success());
            assert!(!is_well, "{said}");
            assert_eq!(client.get("http://a/next").await.unwrap().status, 200, "{said}");
        }
    });
    assert_eq!(whole_ones.load(Ordering::SeqCst), 0);
    assert_eq!(server.asked("GET /evil"), 0);
}

#[test]
fn what_a_server_breaks_off_is_not_held_against_the_client() {
    let server = Server::start(|mut peer| {
        while let Some((head, _)) = peer.request() {
            let body = if head.contains("/whole") { "whole" } else { "br" };
            if !peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{body}")) || body.len() < 5 {
                return;
            }
        }
    });
    let edge = start(prior_knowledge(&[server.address]));
    run(async {
        let mut client = Http2::plain(edge.addresses().http.unwrap()).await;
        for _ in 0..300 {
            assert!(client.get("http://a/broken").await.is_err());
        }
        assert_eq!(client.get("http://a/whole").await.unwrap().body, b"whole");
    });
}

#[test]
fn a_connection_on_which_nothing_was_said_holds_no_drain_up() {
    let server = Server::named("one");
    let edge = start(prior_knowledge(&[server.address]));
    let _silent = Client::new(&edge);
    let mut begun = Client::new(&edge);
    begun.say("P");
    until("both are there", || edge.stats().connections.open == 2);
    let started = Instant::now();
    begun.say("OST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(begun.response(false).unwrap().body, "one");
    drain(&edge, Duration::from_secs(15));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// Reads a few kilobytes at a time, and no more often than every few milliseconds.
struct Slow {
    stream: tokio::net::TcpStream,
    pause: Pin<Box<tokio::time::Sleep>>,
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.pause.as_mut().poll(cx));
        let mut piece = [0; 16 << 10];
        let most = piece.len().min(space.remaining());
        let mut read = ReadBuf::new(&mut piece[..most]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        space.put_slice(read.filled());
        self.pause.set(tokio::time::sleep(Duration::from_millis(2)));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
