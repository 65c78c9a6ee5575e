//! Sites: HTTPS by name, redirects, files, and the access log.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::{BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::time::Duration;

use common::tls::Https;
use common::*;
use tiebeam_edge::{Config, Edge, Listeners, LogFile, LogSink};
use tiebeam_topology::{AccessLog, Route, Target};

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

fn files() -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let public = folder.path().join("public");
    std::fs::create_dir_all(public.join("sub/.git")).unwrap();
    std::fs::write(folder.path().join("secret"), "secret").unwrap();
    std::fs::write(public.join("hello world.txt"), "0123456789").unwrap();
    std::fs::write(public.join("sub/index.html"), "<p>index").unwrap();
    std::fs::write(public.join(".env"), "secret").unwrap();
    std::fs::write(public.join("sub/.git/config"), "secret").unwrap();
    std::fs::write(public.join("large.bin"), vec![b'x'; 300_000]).unwrap();
    symlink(folder.path().join("secret"), public.join("absolute")).unwrap();
    symlink("../secret", public.join("out")).unwrap();
    symlink("..", public.join("up")).unwrap();
    symlink("hello world.txt", public.join("inside")).unwrap();
    let mut config = config(&[]);
    let route = Route { path: "/assets/".to_owned(), to: Target::Files(public) };
    config.sites.values_mut().next().unwrap().routes = vec![route];
    (folder, config)
}

#[test]
fn files_and_no_way_out() {
    let (_folder, config) = files();
    let edge = start(config);
    let mut client = Client::new(&edge);
    for path in [
        "../secret",
        "%2e%2e/secret",
        "..%2fsecret",
        "sub/../../secret",
        "absolute",
        "out",
        "up/secret",
        ".env",
        "sub/.git/config",
        "%2eenv",
        "/etc/passwd",
        "%2fetc/passwd",
        "nothing",
        "a%00b",
        "sub//index.html",
        "hello%20world.txt/",
        "..",
        ".",
        "sub/%2e",
        "%c0%ae%c0%ae/secret",
        "sub%5c..",
    ] {
        let response = client.get(&format!("/assets/{path}"));
        assert_eq!(response.status, 404, "{path}");
        assert!(!response.body.contains("secret"), "{path}");
    }
    assert_eq!(client.get("/assets/hello%20world.txt").body, "0123456789");
    assert_eq!(client.get("/assets/inside?v=1").body, "0123456789");
    assert_eq!(client.get("/assets/large.bin").body.len(), 300_000);
    let index = client.get("/assets/sub/");
    assert_eq!(
        (&*index.body, field(&index.head, "content-type")),
        ("<p>index", Some("text/html; charset=utf-8"))
    );
    let redirect = client.get("/assets/sub");
    assert_eq!((redirect.status, field(&redirect.head, "location")), (301, Some("/assets/sub/")));
    assert_eq!(client.get("/assets/").status, 404);
    client.say("POST /assets/inside HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let response = client.response(false).unwrap();
    assert_eq!((response.status, field(&response.head, "allow")), (405, Some("GET, HEAD")));
}

#[test]
fn a_redirect_to_a_folder_stays_here() {
    let (_folder, mut config) = files();
    config.sites.values_mut().next().unwrap().routes[0].path = "/".to_owned();
    let edge = start(config);
    for (path, location) in [("//sub", "/sub/"), ("/sub?next=//b", "/sub/?next=//b"), ("/sub", "/sub/")] {
        let response = get(&edge, path);
        assert_eq!((response.status, field(&response.head, "location")), (301, Some(location)), "{path}");
        assert!(!response.body.contains("HTTPS"), "{}", response.body);
    }
}

#[test]
fn a_file_that_becomes_shorter_is_cut() {
    let (folder, config) = files();
    let large = folder.path().join("public/large.bin");
    std::fs::write(&large, vec![b'x'; 64 << 20]).unwrap();
    let edge = start(config);
    let mut client = Client::new(&edge);
    client.say("GET /assets/large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    client.0.get_ref().peek(&mut [0]).unwrap();
    std::fs::File::options().write(true).open(&large).unwrap().set_len(0).unwrap();
    assert!(client.response(false).is_none());
    until("it is counted", || edge.stats().responses.cut == 1);
    assert_eq!(edge.stats().refused["answer_cut"], 1);
}

#[test]
fn files_by_condition_and_range() {
    let (_folder, config) = files();
    let edge = start(config);
    let mut client = Client::new(&edge);
    let path = "/assets/hello%20world.txt";
    let whole = client.get(path);
    let tag = field(&whole.head, "etag").unwrap();
    let modified = field(&whole.head, "last-modified").unwrap();
    let mut ask = |fields: &str, method: &str| {
        client.say(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        client.response(method == "HEAD").unwrap()
    };
    assert_eq!(ask(&format!("If-None-Match: \"x\", W/{tag}\r\n"), "GET").status, 304);
    assert_eq!(ask(&format!("If-Modified-Since: {modified}\r\n"), "GET").status, 304);
    assert_eq!(ask("If-None-Match: \"x\"\r\n", "GET").status, 200);
    let part = ask("Range: bytes=2-4\r\n", "GET");
    assert_eq!((part.status, &*part.body), (206, "234"));
    assert_eq!(field(&part.head, "content-range"), Some("bytes 2-4/10"));
    assert_eq!(ask("Range: bytes=2-4\r\nIf-Range: \"old\"\r\n", "GET").status, 200);
    let beyond = ask("Range: bytes=10-\r\n", "GET");
    assert_eq!((beyond.status, field(&beyond.head, "content-range")), (416, Some("bytes */10")));
    let head = ask("", "HEAD");
    assert_eq!((head.status, field(&head.head, "content-length")), (200, Some("10")));
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
