//! Sites: HTTPS by name, redirects, and the access log.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::{BufReader, Read, Write};
use std::time::Duration;

use common::tls::Https;
use common::*;
use tiebeam_edge::{Edge, Listeners, LogFile, LogSink};
use tiebeam_topology::AccessLog;

#[test]
fn https_by_name() {
    let https = Https::start();
    let one = https.get("one.example", "one.example").unwrap();
    assert!(one.starts_with("HTTP/1.1 200 ") && one.ends_with("secure"), "{one}");
    assert!(one.contains("\r\nStrict-Transport-Security: max-age=31536000\r\n"), "{one}");
    let two = https.get("two.example", "two.example:443").unwrap();
    assert!(two.starts_with("HTTP/1.1 200 ") && !two.contains("Strict-Transport"), "{two}");
    let crossed = https.get("one.example", "two.example").unwrap();
    assert!(crossed.starts_with("HTTP/1.1 421 "), "{crossed}");
    // No certificate has that name: the handshake ends, no page is served under a wrong one.
    assert!(https.get("three.example", "three.example").is_err());
    until("the handshake is counted", || https.edge.stats().connections.tls_handshakes_failed == 1);
}

#[test]
fn a_client_that_comes_back_needs_no_whole_handshake() {
    let https = Https::start();
    for expected in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
        let mut stream = https.connect("one.example").unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: one.example\r\nConnection: close\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(stream.conn.handshake_kind(), Some(expected));
    }
}

#[test]
fn plain_http_is_sent_to_https() {
    let https = Https::start();
    let port = https.edge.addresses().https.unwrap().port();
    let mut client = Client::new(&https.edge);
    client.say("GET /a?b HTTP/1.1\r\nHost: one.example:80\r\n\r\n");
    let response = client.response(false).unwrap();
    assert_eq!(response.status, 301);
    assert_eq!(field(&response.head, "location"), Some(&*format!("https://one.example:{port}/a?b")));
    client.say("POST /a HTTP/1.1\r\nHost: one.example\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response(false).unwrap().status, 308);
    client.say("GET / HTTP/1.1\r\nHost: two.example\r\n\r\n");
    assert_eq!(client.response(false).unwrap().body, "secure");
}

#[test]
fn one_line_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let server = Server::named("x");
    let mut config = config(&[server.address]);
    config.access_log = AccessLog::Json;
    config.limits.body_bytes = 10;
    let listeners = Listeners { http: Some(loopback()), https: None, workers: 1 };
    let edge = Edge::start(listeners, config, LogSink::File(LogFile::at(path.clone()))).unwrap();
    let mut client = Client::new(&edge);
    let response = client.get("/a/b?token=secret");
    client.say("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    client.response(false).unwrap();
    client.say("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response(false).unwrap().status, 400);
    let mut client = Client::new(&edge);
    client.say("PUT /large HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    assert_eq!(client.response(false).unwrap().status, 413);
    drain(&edge, Duration::from_secs(10));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(
        (&lines[0]["path"], &lines[0]["method"], &lines[0]["host"]),
        (&"/a/b".into(), &"GET".into(), &"shop.example".into())
    );
    assert_eq!(lines[0]["id"], field(&response.head, "x-request-id").unwrap());
    assert_eq!(
        (&lines[0]["server"], &lines[0]["status"], &lines[0]["bytes"]),
        (&"s0".into(), &200.into(), &1.into())
    );
    assert_eq!((&lines[1]["path"], &lines[1]["method"]), (&"/body".into(), &"POST".into()));
    assert_eq!((&lines[2]["status"], &lines[2]["why"]), (&400.into(), &"host_missing".into()));
    let large = ["method", "host", "path", "status", "why"].map(|name| lines[3][name].to_string());
    assert_eq!(large, ["\"PUT\"", "\"a\"", "\"/large\"", "413", "\"body_bytes\""]);
    assert!(server.heads()[0].contains(lines[0]["id"].as_str().unwrap()));
    // Two readers of one file cannot be mistaken: whole lines only.
    assert!(BufReader::new(text.as_bytes()).into_inner().ends_with(b"}\n"));
}
