//! Each bound that no other test reaches, reached.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs::OpenOptions;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::tls::Https;
use common::*;
use tiebeam_edge::{Edge, Listeners, LogFile, LogSink, State};

#[test]
fn an_idle_connection_is_closed_in_its_time() {
    let server = Server::named("x");
    let mut config = config(&[server.address]);
    config.limits.idle_time = Duration::from_millis(200);
    let edge = start(config);
    let mut client = Client::new(&edge);
    assert_eq!(client.get("/").status, 200);
    let began = Instant::now();
    assert!(client.is_closed());
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    until("it is counted", || edge.stats().refused["idle_time"] == 1);
}

#[test]
fn a_server_that_accepts_nothing_costs_connect_time() {
    // A queue for one connection, which is taken: what follows is not answered at all.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&loopback().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let held: Vec<_> = (0..4)
        .map(|_| {
            let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address.into());
            client
        })
        .collect();
    let mut config = config(&[address]);
    config.limits.connect_time = Duration::from_millis(100);
    config.pools.values_mut().next().unwrap().health.fall = 100;
    let edge = start(config);
    let began = Instant::now();
    assert_eq!(get(&edge, "/").status, 503);
    let (took, tries) = (began.elapsed(), server_stats(&edge, "s0").failures.connect);
    // One for each server of the pool, and as many again as there are repeats.
    assert_eq!(tries, 4);
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(edge.stats().refused["no_connection"], 1);
    drop(held);
}

#[test]
fn a_body_that_trickles_is_given_up_and_one_that_flows_is_not() {
    let server = Server::named("x");
    let mut config = config(&[server.address]);
    (config.limits.body_grace, config.limits.body_rate) = (Duration::from_millis(400), 1000);
    let edge = start_with(config, 1);
    for (piece, status) in [(1, 408), (500, 200)] {
        let mut client = Client::new(&edge);
        client.say(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", piece * 30));
        let began = Instant::now();
        for _ in 0..30 {
            slow_step(Duration::from_millis(50));
            // The edge may have refused by now.
            let _ = client.0.get_mut().write_all(&vec![b'x'; piece]);
        }
        let response = client.response(false).expect("an answer");
        assert_eq!(response.status, status, "{piece} bytes at a time");
        assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());
        assert_eq!(field(&response.head, "connection"), (status == 408).then_some("close"));
    }
    assert_eq!((edge.stats().refused["body_rate"], edge.stats().refused["body_time"]), (1, 0));
}

#[test]
fn a_body_whose_server_takes_its_time_is_not_slow() {
    const BYTES: usize = 16 << 20;
    let server = Server::start(|mut peer| {
        if let Some(head) = peer.head() {
            slow_step(Duration::from_millis(900));
            let mut body = vec![0; field(&head, "content-length").unwrap().parse().unwrap()];
            peer.stream.read_exact(&mut body).unwrap();
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let mut config = config(&[server.address]);
    // A gigabyte a second beyond a moment: nobody could, if the server's time were counted.
    (config.limits.body_grace, config.limits.body_rate) = (Duration::from_millis(400), 1 << 30);
    let edge = start_with(config, 1);
    let mut client = Client::new(&edge);
    client.say(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BYTES}\r\n\r\n"));
    client.say(&"x".repeat(BYTES));
    assert_eq!(client.response(false).unwrap().status, 200);
}

#[test]
fn one_address_takes_no_more_than_its_share() {
    let server = Server::named("x");
    let mut config = config(&[server.address]);
    config.limits.connections_per_address = Some(3);
    let edge = start(config.clone());
    let mut clients: Vec<_> = (0..3).map(|_| Client::new(&edge)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    let reset = || {
        // It may be gone before this end has noticed that it was there.
        let stream = TcpStream::connect(edge.addresses().http.unwrap());
        stream.and_then(|mut stream| stream.read(&mut [0])).is_err()
    };
    assert!(reset() && reset());
    let stats = edge.stats();
    assert_eq!((stats.refused["connections_per_address"], stats.connections.open), (2, 3));
    // Another address has its own.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 63, 0, 1], 0)).into()).unwrap();
    socket.connect(&edge.addresses().http.unwrap().into()).unwrap();
    assert_eq!(Client(BufReader::new(socket.into())).get("/").status, 200);
    // Who goes makes room, and a new configuration counts at once.
    drop(clients.pop());
    until("there is room", || edge.stats().connections.open == 2);
    assert_eq!(get(&edge, "/").status, 200);
    config.limits.connections_per_address = Some(1);
    edge.publish(config);
    until("the last one is gone", || edge.stats().connections.open == 2);
    assert!(reset());
}

#[test]
fn a_request_is_repeated_twice_and_no_more() {
    let servers: Vec<_> = (0..5).map(|_| Server::start(|mut peer| drop(peer.request()))).collect();
    let edge = start(config(&servers.iter().map(|s| s.address).collect::<Vec<_>>()));
    let response = get(&edge, "/");
    assert_eq!(response.status, 502);
    assert_eq!(servers.iter().map(|s| s.asked("GET")).sum::<usize>(), 3);
    let stats = edge.stats();
    assert_eq!((stats.retries, stats.refused["server_closed"]), (2, 1));
}

#[test]
fn idle_connections_to_a_server_are_few() {
    const CLIENTS: usize = 300;
    const KEPT: usize = 256;
    more_descriptors();
    let (asked, ended) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let counters = (asked.clone(), ended.clone());
    let server = Server::start(move |mut peer| {
        while peer.request().is_some() {
            counters.0.fetch_add(1, Ordering::SeqCst);
            until("all are asked", || counters.0.load(Ordering::SeqCst) >= CLIENTS);
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        counters.1.fetch_add(1, Ordering::SeqCst);
    });
    let edge = start_with(config(&[server.address]), 1);
    // The first check's connection has ended before anything is counted.
    until("the first check", || ended.load(Ordering::SeqCst) == 1);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::new(&edge)).collect();
    for client in &mut clients {
        client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response(false).unwrap().body, "ok");
    }
    assert_eq!(asked.load(Ordering::SeqCst), CLIENTS);
    until("the others are closed", || ended.load(Ordering::SeqCst) > CLIENTS - KEPT);
    assert_eq!(server_stats(&edge, "s0").state, State::Serving);
    // Those that were kept are closed in their time, too.
    until("all are closed", || ended.load(Ordering::SeqCst) == CLIENTS + 1);
}

fn more_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// Refuses a request whose client stays and may go on to send.
fn refused(edge: &Edge) -> TcpStream {
    let mut client = Client::new(edge);
    client.say("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response(false).unwrap().status, 400);
    client.0.into_inner()
}

#[test]
fn a_client_that_was_refused_is_listened_to_for_a_second() {
    let edge = start(config(&[]));
    let began = Instant::now();
    let stream = refused(&edge);
    until("its connection is closed", || edge.stats().connections.open == 0);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(10), "{took:?}");
    drop(stream);
}

#[test]
fn a_client_that_was_refused_is_listened_to_for_a_megabyte() {
    let edge = start(config(&[]));
    let mut stream = refused(&edge);
    let (block, mut sent) = ([b'x'; 1 << 16], 0usize);
    while let Ok(count) = stream.write(&block) {
        sent += count;
        assert!(sent < 256 << 20, "it is read without end");
    }
    assert!(sent >= 1 << 20, "{sent}");
    until("its connection is closed", || edge.stats().connections.open == 0);
}

#[test]
fn a_handshake_has_the_time_of_a_head() {
    let mut config = config(&[]);
    config.limits.header_time = Duration::from_millis(200);
    let https = Https::with(config);
    let mut stream = TcpStream::connect(https.edge.addresses().https.unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The beginning of a record that never ends.
    stream.write_all(b"\x16\x03\x01").unwrap();
    let began = Instant::now();
    assert!(matches!(stream.read(&mut [0]), Ok(0)));
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    until("it is counted", || https.edge.stats().connections.tls_handshakes_failed == 1);
}

#[test]
fn a_log_that_nobody_takes_costs_lines_and_no_request() {
    const REQUESTS: usize = 1500;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
    // Open at both ends, so that the edge need not wait for a reader.
    let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let server = Server::named("x");
    let listeners = Listeners { http: Some(loopback()), https: None, workers: 1 };
    let sink = LogSink::File(LogFile::at(path.clone()));
    let edge = Edge::start(listeners, config(&[server.address]), sink).unwrap();
    let long = format!("/{}", "x".repeat(7000));
    let mut client = Client::new(&edge);
    for _ in 0..REQUESTS {
        assert_eq!(client.get(&long).status, 200);
    }
    until("lines are dropped", || edge.stats().log_lines_dropped > 0);
    let mut reader = OpenOptions::new().read(true).open(&path).unwrap();
    let taken = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    drain(&edge, Duration::from_secs(10));
    drop(both);
    let text = taken.join().unwrap();
    assert!(text.lines().all(|line| line.starts_with('{') && line.ends_with('}')));
    assert_eq!(text.lines().count() as u64 + edge.stats().log_lines_dropped, REQUESTS as u64);
}
