//! Who the client is: what proxies before the edge say, whom they are believed, and what servers are told.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::{BufRead, Read, Write};
use std::time::Duration;

use common::tls::Https;
use common::*;
use tiebeam_edge::{Config, Edge, Listeners, LogFile, LogSink};
use tiebeam_topology::{Forwarded, ProxyVersion, Traces};

/// What tests connect from, on this machine.
const HERE: &str = "127.0.0.0/8";

fn behind(mut config: Config, trusted: &[&str], protocol: bool) -> Config {
    config.proxies.trusted = trusted.iter().map(|network| network.parse().unwrap()).collect();
    config.proxies.protocol = protocol;
    config
}

const ASK: &str = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";

#[test]
fn a_header_of_the_proxy_protocol_says_who_the_client_is() {
    let server = Server::named("x");
    let edge = start(behind(config(&[server.address]), &[HERE], true));
    let v2 = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x09\0\x0a";
    for (header, client) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.7 4711 80\r\n", "192.0.2.1"),
        ("PROXY TCP6 2001:db8::1 ::1 4711 80\r\n", "2001:db8::1"),
        (v2, "1.2.3.4"),
    ] {
        let mut client_of = Client::new(&edge);
        // Header, request and a part of the next one in one piece: nothing behind the header is lost.
        client_of.say(&format!("{header}{ASK}GET /2"));
        assert_eq!(client_of.response(false).unwrap().body, "x");
        client_of.say(" HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client_of.response(false).unwrap().body, "x");
        let heads = server.heads();
        for head in &heads[heads.len() - 2..] {
            assert_eq!(field(head, "x-forwarded-for"), Some(client), "{head}");
        }
    }
    // The proxy's own connection, in two pieces.
    let mut own = Client::new(&edge);
    own.say("PROXY UNKN");
    own.say(&format!("OWN\r\n{ASK}"));
    assert_eq!(own.response(false).unwrap().status, 200);
    let head = server.heads().pop().unwrap();
    assert!(field(&head, "x-forwarded-for").unwrap().starts_with("127."), "{head}");
}

#[test]
fn who_needs_a_header_and_has_none_is_refused() {
    let server = Server::named("x");
    let mut config = behind(config(&[server.address]), &[HERE], true);
    let edge = start(config.clone());
    let refused = |why: &str| edge.stats().refused[why];
    for bytes in [ASK, "PROXY TCP4 192.0.2.1\r\n", "\u{16}\u{3}\u{1}"] {
        let mut client = Client::new(&edge);
        client.say(bytes);
        assert!(client.is_closed(), "{bytes:?}");
    }
    assert_eq!(refused("proxy_header"), 3);
    config.limits.header_time = Duration::from_millis(100);
    edge.publish(config.clone());
    let mut slow = Client::new(&edge);
    // It may be told to go before it has said that.
    let _ = slow.0.get_mut().write_all(b"PROXY TCP4");
    assert!(slow.is_closed());
    assert_eq!(refused("header_time"), 1);
    // From elsewhere not even a right one is read.
    edge.publish(behind(config, &["192.0.2.0/24"], true));
    let mut stranger = Client::new(&edge);
    assert!(stranger.is_closed());
    assert_eq!(refused("proxy_untrusted"), 1);
    assert_eq!(server.asked("GET"), 0);
}

#[test]
fn connections_are_counted_for_the_client_and_not_for_its_proxy() {
    let server = Server::named("x");
    let mut config = behind(config(&[server.address]), &[HERE], true);
    config.limits.connections_per_address = Some(1);
    let edge = start(config);
    let from = |address: &str| {
        let mut client = Client::new(&edge);
        client.say(&format!("PROXY TCP4 {address} 198.51.100.7 1 2\r\n{ASK}"));
        let is_answered = client.response(false).is_some();
        (client, is_answered)
    };
    let (_first, is_answered) = from("192.0.2.1");
    assert!(is_answered);
    assert!(from("192.0.2.2").1);
    assert!(!from("192.0.2.1").1);
    assert_eq!(edge.stats().refused["connections_per_address"], 1);
}

#[test]
fn tls_follows_the_header() {
    let server = Server::named("secure");
    let https = Https::with(behind(config(&[server.address]), &[HERE], true));
    let mut stream = https.connect("one.example").unwrap();
    stream.sock.write_all(b"PROXY TCP4 192.0.2.1 198.51.100.7 4711 443\r\n").unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: one.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("secure"), "{text}");
    assert_eq!(field(&server.heads()[0], "x-forwarded-for"), Some("192.0.2.1"));
}

/// What a server is told about a request with these fields, and the access log's line about it.
fn told(config: Config, fields: &str) -> (String, serde_json::Value) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let listeners = Listeners { http: Some(loopback()), https: None, workers: 1 };
    let server = Server::named("x");
    let mut one = config;
    one.pools.values_mut().for_each(|pool| pool.servers[0].address = server.address);
    let edge = Edge::start(listeners, one, LogSink::File(LogFile::at(path.clone()))).unwrap();
    let mut client = Client::new(&edge);
    client.say(&format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n"));
    client.response(false).unwrap();
    drain(&edge, Duration::from_secs(10));
    let text = std::fs::read_to_string(&path).unwrap();
    (server.heads().pop().unwrap_or_default(), serde_json::from_str(text.lines().next().unwrap()).unwrap())
}

const SAID: &str = "X-Forwarded-For: 6.6.6.6, 192.0.2.1, 127.9.9.9\r\nX-Forwarded-Proto: https\r\n\
    X-Forwarded-Host: www.shop.example\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\
    Client-Cert: :MIIB:\r\nClient-Cert-Chain: :MIIB:\r\n";

#[test]
fn trusted_proxies_are_believed_and_others_are_not() {
    let any = || config(&[loopback()]);
    let (head, line) = told(behind(any(), &[HERE], false), SAID);
    let us = line["client"].as_str().unwrap();
    assert_eq!(us, "192.0.2.1");
    assert_eq!(line["scheme"], "https");
    let chain = field(&head, "x-forwarded-for").unwrap();
    assert!(chain.starts_with("192.0.2.1, 127.9.9.9, 127."), "{head}");
    assert_eq!(field(&head, "x-forwarded-proto"), Some("https"));
    assert_eq!(field(&head, "x-forwarded-host"), Some("www.shop.example"));
    assert!(!head.contains("6.6.6.6") && !head.to_lowercase().contains("client-cert"), "{head}");

    let (head, line) = told(behind(any(), &["192.0.2.0/24"], false), SAID);
    assert!(line["client"].as_str().unwrap().starts_with("127."), "{line}");
    assert_eq!((&line["scheme"], field(&head, "x-forwarded-proto")), (&"http".into(), Some("http")));
    assert_eq!(field(&head, "x-forwarded-for"), line["client"].as_str());
    assert_eq!(field(&head, "x-forwarded-host"), Some("shop.example"));
}

#[test]
fn forwarded_is_written_and_read_where_the_file_says_so() {
    let mut one = behind(config(&[loopback()]), &[HERE], false);
    one.proxies.forwarded = Forwarded::Rfc7239;
    let said = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=\"[2001:db8::1]:80\";proto=https\r\n";
    let (head, line) = told(one.clone(), said);
    assert_eq!(line["client"], "2001:db8::1");
    let written = field(&head, "forwarded").unwrap();
    let start = "for=\"[2001:db8::1]\";host=\"shop.example\";proto=https, for=127.";
    assert!(written.starts_with(start), "{written}");
    assert_eq!(field(&head, "x-forwarded-for"), None);
    let (head, line) = told(one.clone(), "Forwarded: for=\"\r\n");
    assert_eq!((head.as_str(), &line["status"], &line["why"]), ("", &400.into(), &"forwarded".into()));
    one.proxies.forwarded = Forwarded::Both;
    let (head, line) = told(one, "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=\"\r\n");
    assert_eq!(line["client"], "192.0.2.1");
    assert!(field(&head, "forwarded").unwrap().starts_with("for=192.0.2.1;host="), "{head}");
    assert!(field(&head, "x-forwarded-for").unwrap().starts_with("192.0.2.1, 127."), "{head}");
}

#[test]
fn a_proxy_that_speaks_tls_is_not_sent_to_https() {
    let server = Server::named("secure");
    let https = Https::with(behind(config(&[server.address]), &[HERE], false));
    let mut client = Client::new(&https.edge);
    let ask = |client: &mut Client, fields: &str| {
        client.say(&format!("GET / HTTP/1.1\r\nHost: one.example\r\n{fields}\r\n"));
        client.response(false).unwrap()
    };
    assert_eq!(ask(&mut client, "").status, 301);
    assert_eq!(ask(&mut client, "X-Forwarded-Proto: http\r\n").status, 301);
    let answer = ask(&mut client, "X-Forwarded-Proto: https\r\n");
    assert_eq!(answer.body, "secure");
    assert!(field(&answer.head, "strict-transport-security").is_some(), "{}", answer.head);
}

#[test]
fn a_trace_goes_on_or_starts_here() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-00");
    let (head, line) = told(config(&[loopback()]), &format!("traceparent: {parent}\r\ntracestate: a=1\r\n"));
    assert_eq!((&line["trace"], field(&head, "traceparent")), (&trace.into(), Some(&*parent)));
    assert_eq!(field(&head, "tracestate"), Some("a=1"));
    let (head, line) = told(config(&[loopback()]), "traceparent: 00-0-0-0\r\ntracestate: a=1\r\n");
    let id = line["id"].as_str().unwrap();
    assert_eq!(line["trace"], id);
    assert_eq!(field(&head, "traceparent").unwrap(), format!("00-{id}-{}-01", &id[..16]));
    assert_eq!(field(&head, "tracestate"), None);
    for (traces, goes_on) in [(Traces::Pass, true), (Traces::Off, false)] {
        let said = format!("traceparent: {parent}\r\ntracestate: a=1\r\n");
        let (head, line) = told(Config { traces, ..config(&[loopback()]) }, &said);
        assert_eq!(field(&head, "traceparent"), goes_on.then_some(&*parent), "{traces:?}");
        assert_eq!(field(&head, "tracestate"), goes_on.then_some("a=1"), "{traces:?}");
        assert_eq!(line["trace"].as_str(), goes_on.then_some(trace), "{traces:?}");
        let (head, line) = told(Config { traces, ..config(&[loopback()]) }, "");
        assert_eq!((field(&head, "traceparent"), &line["trace"]), (None, &serde_json::Value::Null));
        assert!(head.ends_with("\r\n\r\n") && field(&head, "x-request-id").is_some(), "{head}");
    }
}

/// A server that reads a header of the PROXY protocol (version 1) before each connection, and answers with it.
fn announced() -> Server {
    Server::start(|mut peer| {
        let mut line = String::new();
        if peer.stream.read_line(&mut line).is_err() {
            return;
        }
        while peer.request().is_some() {
            let length = line.len();
            if !peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{line}")) {
                return;
            }
        }
    })
}

#[test]
fn servers_are_told_by_the_proxy_protocol_too() {
    let server = announced();
    let mut one = behind(config(&[server.address]), &[HERE], false);
    one.pools.values_mut().for_each(|pool| pool.proxy_protocol = Some(ProxyVersion::V1));
    let edge = start_with(one, 1);
    let (mut first, mut second) = (Client::new(&edge), Client::new(&edge));
    let at = edge.addresses().http.unwrap();
    let line = |client: &Client| {
        let from = client.0.get_ref().local_addr().unwrap();
        format!("PROXY TCP4 {} {} {} {}\r\n", from.ip(), at.ip(), from.port(), at.port())
    };
    let (one, two) = (line(&first), line(&second));
    for _ in 0..3 {
        assert_eq!(first.get("/").body, one);
        assert_eq!(second.get("/").body, two);
    }
    // A connection for each client, and none of one for the other's requests.
    assert_eq!(server_stats(&edge, "s0").connects, 2);
    first.say("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
    let told = first.response(false).unwrap().body;
    assert_eq!(told, format!("PROXY TCP4 192.0.2.1 {} 0 {}\r\n", at.ip(), at.port()));
    assert_eq!(first.get("/").body, one);
    assert_eq!(server_stats(&edge, "s0").connects, 3);
}

#[test]
fn a_check_announces_nobody() {
    let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = lines.clone();
    let server = Server::start(move |mut peer| {
        let mut header = [0; 16];
        if peer.stream.read_exact(&mut header).is_ok() {
            seen.lock().unwrap().push(header);
        }
        if peer.head().is_some() {
            peer.say("HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    let mut one = config(&[server.address]);
    one.pools.values_mut().for_each(|pool| {
        pool.proxy_protocol = Some(ProxyVersion::V2);
        pool.health.path = Some("/healthz".to_owned());
    });
    let _edge = start(one);
    until("a check", || server.asked("GET /healthz") == 1);
    assert_eq!(lines.lock().unwrap()[0], *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
}
