//! A process without descriptors left: alone in its file, because the limit is the whole process's.

mod common;

use std::fs::File;
use std::time::{Duration, Instant};

use common::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn without_descriptors_accepting_pauses_and_goes_on() {
    let server = Server::named("x");
    let edge = start_with(config(&[server.address]), 1);
    end_of_first_check(&edge, &server);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), maximum: before.maximum }).unwrap();
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
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
    setrlimit(Resource::Nofile, before).unwrap();
}

/// The check's connection would otherwise need a descriptor at a bad moment.
fn end_of_first_check(edge: &tiebeam_edge::Edge, server: &Server) {
    until("the first check", || server.connections.load(std::sync::atomic::Ordering::SeqCst) > 0);
    assert_eq!(server_stats(edge, "s0").state, tiebeam_edge::State::Serving);
}
