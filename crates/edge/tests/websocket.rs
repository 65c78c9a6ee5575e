//! WebSockets: when a tunnel opens, what it carries, how it ends; and every 101 that opens none.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::tls::{Https, Stream};
use common::*;
use tiebeam_edge::{Edge, Listeners, LogFile, LogSink};

/// What a browser asks with.
const ASKED: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: two.example\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket, h2c\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Protocol: chat\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Answers each request with a tunnel in which it says back what it hears.
fn echo() -> Server {
    Server::start(|mut peer| {
        if peer.head().is_none() || !peer.say(SWITCHED) {
            return;
        }
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = peer.stream.read(&mut piece) {
            if peer.stream.get_mut().write_all(&piece[..count]).is_err() {
                return;
            }
        }
    })
}

/// A server that does `play` in its tunnel, and says what that brought.
fn tunnelled<T: Send + 'static>(
    play: impl Fn(Peer) -> T + Send + Sync + 'static,
) -> (Server, std::sync::mpsc::Receiver<T>) {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = Mutex::new(tell);
    let server = Server::start(move |mut peer| {
        // The first check has nothing to say.
        if peer.head().is_some() {
            peer.say(SWITCHED);
            let result = play(peer);
            let _ = tell.lock().unwrap().send(result);
        }
    });
    (server, told)
}

fn opened(edge: &Edge) -> Client {
    let mut client = Client::new(edge);
    client.say(ASKED);
    assert_eq!(client.response(false).unwrap().status, 101);
    client
}

fn said(client: &mut Client, count: usize) -> String {
    let mut bytes = vec![0; count];
    client.0.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn bytes_behind_either_head_belong_to_the_tunnel() {
    let (server, told) = tunnelled(|mut peer| {
        peer.say("first");
        let mut heard = [0; 5];
        peer.stream.read_exact(&mut heard).unwrap();
        // The client has ended; the server goes on.
        assert_eq!(peer.stream.read(&mut [0]).unwrap(), 0);
        peer.say("last");
        String::from_utf8(heard.to_vec()).unwrap()
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let listeners = Listeners { http: Some(loopback()), https: None, workers: 1 };
    let sink = LogSink::File(LogFile::at(path.clone()));
    let edge = Edge::start(listeners, config(&[server.address]), sink).unwrap();
    let mut client = Client::new(&edge);
    client.say(&format!("{ASKED}early"));
    let head = client.response(false).unwrap().head;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert_eq!((field(&head, "connection"), field(&head, "upgrade")), (Some("Upgrade"), Some("websocket")));
    assert_eq!(field(&head, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!((field(&head, "content-length"), field(&head, "transfer-encoding")), (None, None));
    let asked = server.heads().pop().unwrap();
    assert_eq!((field(&asked, "connection"), field(&asked, "upgrade")), (Some("Upgrade"), Some("websocket")));
    assert_eq!(field(&asked, "sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_eq!(said(&mut client, 5), "first");
    until("it is counted as open", || edge.stats().tunnels.open == 1);
    assert_eq!(server_stats(&edge, "s0").in_flight, 1);
    client.0.get_ref().shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    client.0.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), told.recv().unwrap().as_str()), ("last", "early"));
    until("it has ended", || edge.stats().connections.open == 0);
    let stats = edge.stats();
    assert_eq!(
        (stats.tunnels.open, stats.tunnels.opened, stats.in_flight, stats.responses.cut),
        (0, 1, 0, 0)
    );
    assert_eq!(stats.refused.values().sum::<u64>(), 0);
    drain(&edge, Duration::from_secs(5));
    let log = std::fs::read_to_string(&path).unwrap();
    let line: serde_json::Value = serde_json::from_str(log.trim_end()).unwrap();
    assert_eq!((&line["status"], &line["bytes"], &line["received"]), (&101.into(), &9.into(), &5.into()));
    assert_eq!((&line["server"], &line["why"]), (&"s0".into(), &serde_json::Value::Null));
}

#[test]
fn megabytes_go_both_ways_at_once_and_come_out_equal() {
    const BYTES: usize = 8 << 20;
    let pattern = |i: usize| (i * 31 % 251) as u8;
    let server = echo();
    let https = Https::with(config(&[server.address]));
    let mut plain = opened(&https.edge).0.into_inner();
    let mut writer = plain.try_clone().unwrap();
    let sends = std::thread::spawn(move || {
        let bytes: Vec<u8> = (0..BYTES).map(pattern).collect();
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut heard = Vec::new();
    plain.read_to_end(&mut heard).unwrap();
    sends.join().unwrap();
    assert!(heard.len() == BYTES && heard.iter().enumerate().all(|(i, b)| *b == pattern(i)));
    // Within TLS by turns, as one thread plays the client.
    let mut secure = secure(&https);
    let block: Vec<u8> = (0..1 << 14).map(pattern).collect();
    for _ in 0..64 {
        secure.write_all(&block).unwrap();
        let mut heard = vec![0; block.len()];
        secure.read_exact(&mut heard).unwrap();
        assert!(heard == block);
    }
    secure.conn.send_close_notify();
    secure.flush().unwrap();
    assert_eq!(secure.read(&mut [0]).unwrap(), 0, "the end is TLS's own, too");
    until("both have ended", || https.edge.stats().connections.open == 0);
    assert_eq!((https.edge.stats().responses.cut, https.edge.stats().tunnels.opened), (0, 2));
}

fn secure(https: &Https) -> Stream {
    let mut stream = https.connect("two.example").unwrap();
    stream.write_all(ASKED.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

#[test]
fn what_was_not_asked_for_opens_nothing() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n";
    let switched = "HTTP/1.1 101 Switching Protocols\r\n";
    let both = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    // What is asked, whether the offer is passed on, and the 101 that a server says to it.
    for (asked, is_offered, answer) in [
        (format!("{get}\r\n"), false, format!("{switched}{both}\r\n")),
        (format!("{get}Upgrade: websocket\r\n\r\n"), false, format!("{switched}{both}\r\n")),
        (format!("{get}Connection: upgrade\r\n\r\n"), false, format!("{switched}{both}\r\n")),
        (
            format!(
                "{get}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
            ),
            false,
            format!("{switched}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
        ),
        (format!("GET / HTTP/1.0\r\nHost: a\r\n{both}\r\n"), false, format!("{switched}{both}\r\n")),
        (format!("POST / HTTP/1.1\r\nHost: a\r\n{both}\r\n"), false, format!("{switched}{both}\r\n")),
        (format!("{get}{both}Content-Length: 2\r\n\r\nhi"), false, format!("{switched}{both}\r\n")),
        (format!("{get}{both}\r\n"), true, format!("{switched}\r\n")),
        (format!("{get}{both}\r\n"), true, format!("{switched}Upgrade: websocket\r\n\r\n")),
        (format!("{get}{both}\r\n"), true, format!("{switched}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n")),
        (format!("{get}{both}\r\n"), true, format!("{switched}{both}Upgrade: h2c\r\n\r\n")),
        (format!("{get}{both}\r\n"), true, format!("{switched}{both}Content-Length: 3\r\n\r\n")),
        (format!("{get}{both}\r\n"), true, format!("{switched}{both}Transfer-Encoding: chunked\r\n\r\n")),
        (format!("{get}{both}\r\n"), true, format!("HTTP/1.0 101 Switching Protocols\r\n{both}\r\n")),
    ] {
        let said = answer.clone();
        let server = Server::start(move |mut peer| {
            if peer.head().is_some() {
                peer.say(&said);
                let _ = peer.stream.read(&mut [0; 2]);
            }
        });
        let edge = start_with(config(&[server.address]), 1);
        let mut client = Client::new(&edge);
        client.say(&asked);
        assert_eq!(client.response(false).unwrap().status, 502, "{asked}{answer}");
        let head = server.heads().pop().unwrap();
        assert_eq!(field(&head, "upgrade").is_some(), is_offered, "{head}");
        assert_eq!(field(&head, "connection").is_some(), is_offered, "{head}");
        assert_eq!(field(&head, "http2-settings"), None, "{head}");
        let stats = edge.stats();
        assert_eq!((stats.server_faults["switched"], stats.tunnels.opened), (1, 0), "{asked}{answer}");
    }
}

#[test]
fn a_server_that_stays_with_http_answers_as_ever() {
    let server = Server::start(|mut peer| {
        while let Some(head) = peer.head() {
            peer.say(match head.contains("/chat") {
                true => "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket, x\r\nContent-Length: 2\r\n\r\nno",
                false => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            });
        }
    });
    let edge = start_with(config(&[server.address]), 1);
    let mut client = Client::new(&edge);
    // What follows is the next request then, and no part of a tunnel.
    client.say(&format!("{ASKED}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.response(false).unwrap().status, 103);
    let response = client.response(false).unwrap();
    assert_eq!((response.status, &*response.body), (426, "no"));
    // It may say what it wants; what else it named is not to be had through the edge.
    assert_eq!(field(&response.head, "upgrade"), Some("websocket"));
    assert_eq!(client.response(false).unwrap().body, "ok");
    assert_eq!(server_stats(&edge, "s0").connects, 1);
}

#[test]
fn a_broken_end_breaks_the_other() {
    let (server, told) = tunnelled(|mut peer| peer.stream.read(&mut [0; 9]).map_err(|error| error.kind()));
    let edge = start_with(config(&[server.address]), 1);
    let client = opened(&edge).0.into_inner();
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(told.recv().unwrap(), Err(ErrorKind::ConnectionReset));
    until("it has ended", || edge.stats().connections.open == 0);
    assert_eq!((edge.stats().refused["client_gone"], edge.stats().refused["server_gone"]), (1, 0));

    let (server, _told) = tunnelled(|mut peer| {
        peer.stream.read_exact(&mut [0]).unwrap();
        peer.reset();
    });
    let https = Https::with(config(&[server.address]));
    let mut client = opened(&https.edge);
    client.say("x");
    assert_eq!(client.0.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    // TLS is not said goodbye to.
    let mut client = secure(&https);
    client.write_all(b"x").unwrap();
    assert!(client.read(&mut [0]).is_err());
    until("both have ended", || https.edge.stats().connections.open == 0);
    let stats = https.edge.stats();
    assert_eq!((stats.refused["server_gone"], stats.responses.cut), (2, 2));
    assert_eq!(server_stats(&https.edge, "s0").failures.bad_response, 0);
}

#[test]
fn a_silent_tunnel_ends_in_its_time_and_a_talkative_one_does_not() {
    let server = echo();
    let mut config = config(&[server.address]);
    config.limits.tunnel_idle_time = Duration::from_millis(600);
    // These have nothing to say here.
    (config.limits.idle_time, config.limits.response_time) =
        (Duration::from_secs(60), Duration::from_millis(100));
    let edge = start(config);
    let mut client = opened(&edge);
    for _ in 0..30 {
        client.say("ping");
        assert_eq!(said(&mut client, 4), "ping");
        slow_step(Duration::from_millis(50));
    }
    let began = Instant::now();
    assert_eq!(client.0.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    until("it is counted", || edge.stats().refused["tunnel_idle_time"] == 1);
    assert_eq!(edge.stats().tunnels.open, 0);
}

#[test]
fn a_tunnel_that_one_side_has_ended_has_the_time_of_an_idle_connection() {
    let (server, _told) = tunnelled(|peer| {
        until("it is reset", || peer.stream.get_ref().take_error().unwrap().is_some());
    });
    let mut config = config(&[server.address]);
    config.limits.idle_time = Duration::from_millis(200);
    let edge = start(config);
    let mut client = opened(&edge);
    client.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert!(client.0.read(&mut [0]).is_err());
    assert_eq!(edge.stats().refused["tunnel_idle_time"], 1);
}

#[test]
fn who_does_not_read_holds_the_other_back() {
    let written = Arc::<AtomicUsize>::default();
    let counter = written.clone();
    let (server, _told) = tunnelled(move |mut peer| {
        let block = vec![b'x'; 1 << 16];
        while counter.load(Ordering::SeqCst) < 256 << 20 && peer.stream.get_mut().write_all(&block).is_ok() {
            counter.fetch_add(block.len(), Ordering::SeqCst);
        }
        // Unread, it would make the end a reset.
        peer.stream.read_exact(&mut [0; 10]).unwrap();
    });
    let edge = start(config(&[server.address]));
    let mut client = opened(&edge);
    client.0.get_ref().peek(&mut [0]).unwrap();
    let held = steady(|| written.load(Ordering::SeqCst));
    assert!(held < 256 << 20, "nothing held the server back");
    // The other direction is free.
    let received = edge.stats().bytes.to_servers;
    client.say("still here");
    until("it is passed on", || edge.stats().bytes.to_servers == received + 10);
    let mut rest = Vec::new();
    client.0.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 256 << 20);
}

#[test]
fn draining_gives_tunnels_their_time_and_no_more() {
    let server = echo();
    let edge = start_with(config(&[server.address]), 1);
    let (mut ends, mut stays) = (opened(&edge), opened(&edge));
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| drain(&edge, Duration::from_millis(1500)));
        until("it drains", || TcpStream::connect(edge.addresses().http.unwrap()).is_err());
        for client in [&mut ends, &mut stays] {
            client.say("still");
            assert_eq!(said(client, 5), "still");
        }
        ends.0.get_ref().shutdown(Shutdown::Write).unwrap();
        assert_eq!(ends.0.read(&mut [0]).unwrap(), 0, "it ended by itself");
        assert_eq!(stays.0.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
    assert!(began.elapsed() >= Duration::from_millis(1500) && began.elapsed() < Duration::from_secs(10));
    let stats = edge.stats();
    assert_eq!((stats.refused["drain_time"], stats.tunnels.open, stats.tunnels.opened), (1, 0, 2));
}

#[test]
fn another_configuration_cuts_no_tunnel() {
    let (first, second) = (echo(), Server::named("second"));
    let edge = start(config(&[first.address]));
    let mut client = opened(&edge);
    edge.publish(config(&[second.address]));
    assert_eq!(get(&edge, "/").body, "second");
    client.say("still");
    assert_eq!(said(&mut client, 5), "still");
}
