//! The end of an edge: what runs is finished, and what takes too long is cut so that everybody can tell.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use common::*;
use tiebeam_edge::{Edge, Listeners, LogFile, LogSink};

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
    let edge = start_with(config(&[server.address]), 1);
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
fn what_runs_longer_is_cut_and_looks_so() {
    let server = Server::start(|mut peer| {
        while let Some((head, _)) = peer.request() {
            if head.contains("/begun") {
                // Ends by closing: a cut that looked like an end would pass for the whole.
                peer.say("HTTP/1.0 200 OK\r\n\r\nhalf");
            }
            if head.contains("/quick") {
                peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                continue;
            }
            let _ = peer.stream.read(&mut [0]);
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let listeners = Listeners { http: Some(loopback()), https: None, workers: 1 };
    let sink = LogSink::File(LogFile::at(path.clone()));
    let edge = Edge::start(listeners, config(&[server.address]), sink).unwrap();
    let mut idle = Client::new(&edge);
    let said = [
        "GET /begun HTTP/1.0\r\n\r\n",
        "GET /silent HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /quick HTTP/1.1\r\nHost: a\r\n\r\nGET /half HTT",
    ];
    let mut clients = said.map(|said| {
        let mut client = Client::new(&edge);
        client.say(said);
        client
    });
    until("all are asked", || server.heads().len() == 3);
    clients[0].0.get_ref().peek(&mut [0]).unwrap();
    assert_eq!(clients[2].response(false).unwrap().body, "ok");
    until("all are accepted", || edge.stats().connections.open == 4);
    let began = Instant::now();
    drain(&edge, Duration::from_millis(300));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    assert!(idle.is_closed());
    for client in &mut clients {
        let mut rest = Vec::new();
        let error = client.0.read_to_end(&mut rest).expect_err("a reset, not an end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let stats = edge.stats();
    assert_eq!((stats.responses.cut, stats.refused["drain_time"], stats.connections.open), (2, 3, 0));
    // Two were told 200; the silent one's client was told nothing, and nothing is counted as told.
    let told = stats.responses;
    assert_eq!((told.successful, told.client_error, told.server_error), (2, 0, 0));
    // The server is not blamed.
    let failures = server_stats(&edge, "s0").failures;
    assert_eq!((failures.timeout, failures.bad_response, stats.in_flight), (0, 0, 0));
    let log = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<serde_json::Value> = log.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    lines.sort_by_key(|line| line["path"].to_string());
    let seen: Vec<_> =
        lines.iter().map(|l| (l["path"].as_str(), l["why"].as_str(), l["server"].as_str())).collect();
    let why = Some("drain_time");
    assert_eq!(
        seen,
        [
            (Some("/begun"), why, Some("s0")),
            (Some("/quick"), None, Some("s0")),
            (Some("/silent"), why, Some("s0")),
        ]
    );
}
