//! What is refused over real sockets: never reaches a server, is answered once, and ends the connection.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;
#[path = "corpus/mod.rs"]
mod corpus;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use common::*;

/// Everything the edge says to these bytes until it closes.
fn all_said(edge: &tiebeam_edge::Edge, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(edge.addresses().http.unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The edge may refuse and close before all is written.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn the_corpus_over_sockets() {
    let server = Server::named("reached");
    let edge = start_with(config(&[server.address]), 1);
    let mut accepted = 0;
    for case in corpus::cases() {
        // What follows a refused message must never be read as a request.
        let mut bytes = case.bytes.clone();
        bytes.extend_from_slice(b"\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let before = server.heads().len();
        let said = all_said(&edge, if case.status == 200 { &case.bytes } else { &bytes });
        let statuses: Vec<&str> = said.matches("HTTP/1.1 ").collect();
        assert_eq!(statuses.len(), 1, "line {}: {said}", case.line);
        assert!(said.starts_with(&format!("HTTP/1.1 {} ", case.status)), "line {}: {said}", case.line);
        if case.status == 200 {
            accepted += 1;
        } else {
            assert!(said.contains("\r\nConnection: close\r\n"), "line {}: {said}", case.line);
            if !case.in_body {
                assert_eq!(server.heads().len(), before, "line {}: a server was asked", case.line);
            }
            assert!(edge.stats().refused[case.label.as_str()] > 0, "line {}", case.line);
        }
    }
    assert_eq!(server.asked("GET /smuggled"), 0);
    assert!(accepted > 10);
    // What was no request has no latency.
    until("all are counted", || edge.stats().latency.counts.iter().sum::<u64>() == edge.stats().requests);
}

/// A request whose one long field arrives in pieces without a line's end, as large fields do from a network.
fn in_pieces(edge: &tiebeam_edge::Edge, field_bytes: usize) -> u16 {
    let mut client = Client::new(edge);
    client.say("GET / HTTP/1.1\r\nHost: a\r\nX-Long: ");
    let piece = "x".repeat(1000);
    for _ in 0..field_bytes / piece.len() {
        // The edge may have refused by now.
        let _ = client.0.get_mut().write_all(piece.as_bytes());
        slow_step(Duration::from_millis(5));
    }
    let _ = client.0.get_mut().write_all(b"\r\n\r\n");
    client.response(false).expect("an answer").status
}

#[test]
fn a_long_head_in_pieces_is_read_up_to_its_bound() {
    let server = Server::named("x");
    let edge = start(config(&[server.address]));
    assert_eq!(in_pieces(&edge, 20_000), 200);
    assert!(server.heads()[0].len() > 20_000);
    assert_eq!(in_pieces(&edge, 33_000), 431);
    assert_eq!(edge.stats().refused["header_bytes"], 1);
}

#[test]
fn a_body_beyond_its_bound() {
    let server = Server::named("x");
    let mut config = config(&[server.address]);
    config.limits.body_bytes = 10;
    let edge = start(config);
    let said = all_said(&edge, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n01234567890");
    assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
    assert!(server.heads().is_empty());
    let chunked =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n";
    let said = all_said(&edge, chunked);
    assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
    assert_eq!(edge.stats().refused["body_bytes"], 2);
    let said = all_said(&edge, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789");
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
}

#[test]
fn names_and_routes_that_do_not_exist() {
    let server = Server::named("x");
    let mut config = config(&[server.address]);
    let mut site = config.sites.pop_first().unwrap().1;
    site.routes[0].path = "/api".to_owned();
    config.sites.insert("Shop.Example".parse().unwrap(), site.clone());
    config.sites.insert("*.wild.example".parse().unwrap(), site);
    let edge = start(config);
    let status = |host: &str, path: &str| {
        let mut client = Client::new(&edge);
        client.say(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.response(false).unwrap().status
    };
    assert_eq!(status("other.example", "/api"), 421);
    assert_eq!(status("wild.example", "/api"), 421);
    assert_eq!(status("a.b.wild.example", "/api"), 421);
    assert_eq!(status("a.wild.example", "/api"), 200);
    assert_eq!(status("SHOP.example.:80", "/api/x?y"), 200);
    assert_eq!(status("shop.example", "/apix"), 404);
    assert_eq!(status("shop.example", "/"), 404);
}

#[test]
fn at_the_bound_of_connections_accepting_pauses() {
    let server = Server::named("x");
    let mut config = config(&[server.address]);
    (config.limits.connections, config.limits.connections_per_address) = (2, Some(10));
    let edge = start_with(config, 1);
    let (mut first, mut second) = (Client::new(&edge), Client::new(&edge));
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    let mut third = Client::new(&edge);
    third.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the pause is counted", || edge.stats().connections.paused_at_bound > 0);
    assert_eq!(edge.stats().connections.open, 2);
    drop(first);
    assert_eq!(third.response(false).unwrap().status, 200);
}

#[test]
fn a_port_in_use_is_an_error() {
    let server = Server::named("x");
    let edge = start(config(&[server.address]));
    let listeners = tiebeam_edge::Listeners { http: edge.addresses().http, https: None, workers: 2 };
    let Err(error) =
        tiebeam_edge::Edge::start(listeners, config(&[server.address]), tiebeam_edge::LogSink::Off)
    else {
        panic!("two edges share a port");
    };
    assert!(error.to_string().contains("edge.http") && error.to_string().contains("ss -ltnp"), "{error}");
}
