//! A process without descriptors left: alone in its file, because the limit is the whole process's.

mod common;

use std::fs::File;
use std::time::{Duration, Instant};

use common::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn without_descriptors_accepting_pauses_and_goes_on() {
    // Each request needs a connection of its own.
    let server = Server::start(|mut peer| {
        if peer.request().is_some() {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
        }
    });
    let edge = start_with(config(&[server.address]), 1);
    end_of_first_check(&edge, &server);
    let mut early = Client::new(&edge);
    assert_eq!(early.get("/").status, 200);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), maximum: before.maximum }).unwrap();
    let mut held = Vec::new();
    // A client that is there already is told. Connections of before may still give a descriptor back.
    until("there is no descriptor left", || {
        while let Ok(file) = File::open("/dev/null") {
            held.push(file);
        }
        early.get("/").status == 503
    });
    assert_eq!(edge.stats().refused["no_resources"], 1);
    // The server is not blamed.
    assert_eq!(server_stats(&edge, "s0").failures.connect, 0);
    socket.connect(&edge.addresses().http.unwrap().into()).unwrap();
    let pauses = || edge.stats().connections.paused_without_descriptors;
    until("the pause is counted", || pauses() > 0);
    let (began, first) = (Instant::now(), pauses());
    until("it looks again", || pauses() >= first + 3);
    // 20, 40 and 80 ms, of which the first may have begun.
    assert!(began.elapsed() > Duration::from_millis(80), "it spins");
    drop(held);
    let stream: std::net::TcpStream = socket.into();
    let mut client = Client(std::io::BufReader::new(stream));
    assert_eq!(client.get("/").body, "x");
    // Another edge takes what there is into account.
    setrlimit(Resource::Nofile, Rlimit { current: Some(300), maximum: before.maximum }).unwrap();
    let small = start_with(config(&[server.address]), 1);
    assert_eq!(small.stats().connections.bound, 22);
    setrlimit(Resource::Nofile, before).unwrap();
    let mut few = config(&[server.address]);
    few.limits.connections = 7;
    small.publish(few);
    assert_eq!(small.stats().connections.bound, 7);
}

/// The check's connection would otherwise need a descriptor at a bad moment.
fn end_of_first_check(edge: &tiebeam_edge::Edge, server: &Server) {
    until("the first check", || server.connections.load(std::sync::atomic::Ordering::SeqCst) > 0);
    assert_eq!(server_stats(edge, "s0").state, tiebeam_edge::State::Serving);
}
