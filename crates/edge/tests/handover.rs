//! An edge goes on with the sockets of another one: nobody who comes meanwhile is refused, and who keeps a connection
//! loses no request.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::*;
use tiebeam_edge::{Edge, Listeners, LogSink};

const LONG: Duration = Duration::from_secs(20);

fn at(http: SocketAddr, workers: usize) -> Listeners {
    Listeners { http: Some(http), https: None, workers }
}

/// An edge that answers with `server`'s name, on the sockets of `before`.
fn next(before: &Edge, server: &Server, workers: usize) -> Edge {
    let sockets = before.listening().unwrap();
    Edge::prepare(workers, sockets, config(&[server.address]), LogSink::Off).unwrap()
}

fn drain_gently(edge: &Edge, within: Duration, idle: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(edge.drain_gently(within, idle));
}

#[test]
fn every_socket_is_accepted_on_whatever_the_number_of_workers() {
    for (before, after) in [(3, 1), (1, 3), (2, 2)] {
        let (one, two) = (Server::named("one"), Server::named("two"));
        let old = start_with(config(&[one.address]), before);
        let address = old.addresses().http.unwrap();
        let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let mut client = Client(std::io::BufReader::new(TcpStream::connect(address).unwrap()));
                    assert_eq!(client.get("/").status, 200);
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
            let new = next(&old, &two, after);
            assert_eq!(new.listening().unwrap().len(), 0);
            new.open(at(address, after)).unwrap();
            assert_eq!(new.addresses().http, Some(address));
            // Who has connected and not asked yet is idle, and may ask once.
            drain_gently(&old, LONG, LONG);
            let seen = asked.load(Ordering::SeqCst);
            until("new connections", || asked.load(Ordering::SeqCst) > seen + 50);
            for _ in 0..20 {
                assert_eq!(get(&new, "/").body, "two", "{before} {after}");
            }
            is_over.store(true, Ordering::SeqCst);
            asking.join().unwrap();
            assert_eq!(new.listening().unwrap().len(), before.max(after));
        });
    }
}

#[test]
fn a_socket_that_is_not_named_is_closed_and_an_end_leaves_nothing_open() {
    let server = Server::named("one");
    let old = start_with(config(&[server.address]), 1);
    let address = old.addresses().http.unwrap();
    let new = next(&old, &server, 1);
    new.open(at(loopback(), 1)).unwrap();
    drain(&old, LONG);
    assert!(TcpStream::connect(address).is_err(), "nobody listens at an address that was given up");
    let address = new.addresses().http.unwrap();
    assert!(TcpStream::connect(address).is_ok());
    drain(&new, LONG);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_gentle_drain_answers_once_more_on_each_idle_connection() {
    let server = Server::named("one");
    let edge = start_with(config(&[server.address]), 1);
    let mut clients = [Client::new(&edge), Client::new(&edge)];
    assert!(clients.iter_mut().all(|client| client.get("/").status == 200));
    std::thread::scope(|scope| {
        scope.spawn(|| drain_gently(&edge, LONG, LONG));
        for client in &mut clients {
            // Whoever asks before the drain is seen is answered without it.
            until("the last answer", || field(&client.get("/").head, "connection") == Some("close"));
            assert!(client.is_closed());
        }
    });
}

#[test]
fn who_says_nothing_is_let_go_in_time() {
    let server = Server::named("one");
    let edge = start_with(config(&[server.address]), 1);
    let mut silent = Client::new(&edge);
    assert_eq!(silent.get("/").status, 200);
    let began = Instant::now();
    drain_gently(&edge, LONG, Duration::from_millis(300));
    assert!(began.elapsed() >= Duration::from_millis(300) && began.elapsed() < LONG);
    assert!(silent.is_closed());
}

#[test]
fn a_drain_that_has_begun_can_be_hurried() {
    let server = Server::start(|mut peer| {
        while let Some((head, _)) = peer.request() {
            if head.contains("/never") {
                let _ = std::io::Read::read(&mut peer.stream, &mut [0]);
            }
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let edge = start_with(config(&[server.address]), 2);
    let (mut silent, mut running) = (Client::new(&edge), Client::new(&edge));
    assert_eq!(silent.get("/").status, 200);
    running.say("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the endless one runs", || server.asked("GET /never") == 1);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| drain_gently(&edge, LONG * 10, LONG * 10));
        let address = edge.addresses().http.unwrap();
        until("it drains", || TcpStream::connect(address).is_err());
        until("only the two are there", || edge.stats().connections.open == 2);
        // Later moments change nothing.
        scope.spawn(|| drain_gently(&edge, LONG * 20, LONG * 20));
        scope.spawn(|| drain_gently(&edge, LONG * 10, Duration::ZERO));
        assert!(silent.is_closed());
        until("only one runs", || edge.stats().connections.open == 1);
        drain(&edge, Duration::from_millis(100));
    });
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
    assert_eq!((edge.stats().connections.open, edge.stats().refused["drain_time"]), (0, 1));
}
