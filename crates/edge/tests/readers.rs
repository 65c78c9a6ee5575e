//! Clients that read slowly or not at all: they are given their time, whatever holds the bytes meanwhile.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::tls::{Https, Stream};
use common::*;
use tiebeam_edge::Config;
use tiebeam_topology::{Route, Target};

/// More than the kernel's buffers hold on their way.
const BODY_BYTES: usize = 8 << 20;

/// A server whose every answer is [`BODY_BYTES`] long.
fn large() -> Server {
    Server::start(|mut peer| {
        while peer.head().is_some() {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
            if !peer.say(&head) || !peer.say(&"x".repeat(BODY_BYTES)) {
                return;
            }
        }
    })
}

/// `/file` is a file, everything else the server's; both as long. No time is longer than `time`.
fn both(server: &Server, time: Duration) -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x"), "x".repeat(BODY_BYTES)).unwrap();
    let mut config = config(&[server.address]);
    let files = Route::new("/file/", Target::Files(folder.path().to_owned()));
    config.sites.values_mut().next().unwrap().routes.insert(0, files);
    (config.limits.idle_time, config.limits.response_time) = (time, time);
    (folder, config)
}

fn ask(stream: &mut Stream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: one.example\r\n\r\n").as_bytes()).unwrap();
    stream.flush().unwrap();
}

#[test]
fn a_stalled_reader_of_tls_is_given_up() {
    let server = large();
    let (_folder, config) = both(&server, Duration::from_millis(300));
    let https = Https::with(config);
    for (count, path) in [(1, "/file/x"), (2, "/proxied")] {
        let mut stream = https.connect("one.example").unwrap();
        ask(&mut stream, path);
        stream.read_exact(&mut [0; 100]).unwrap();
        until("the reader is given up", || https.edge.stats().refused["reader_time"] == count);
        until("the connection is closed", || https.edge.stats().connections.open == 0);
        assert_eq!(https.edge.stats().responses.cut, count, "{path}");
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_err() && rest.len() < BODY_BYTES, "{path}: it looks whole");
    }
    // It was not the server's fault.
    assert_eq!(https.edge.stats().refused["answer_cut"], 0);
    assert_eq!(server_stats(&https.edge, "s0").failures.bad_response, 0);
}

#[test]
fn a_slow_steady_reader_of_tls_gets_all_of_it() {
    let server = large();
    let time = Duration::from_millis(400);
    let (_folder, config) = both(&server, time);
    let https = Https::with(config);
    for path in ["/file/x", "/proxied"] {
        let mut stream = https.connect("one.example").unwrap();
        ask(&mut stream, path);
        let (mut piece, mut read, began) = (vec![0; 16 * 1024], 0, Instant::now());
        // So slowly that the kernel takes nothing new for longer than that time; then all the rest.
        while began.elapsed() < 8 * time {
            read += stream.read(&mut piece).unwrap();
            slow_step(Duration::from_millis(40));
        }
        assert!(read < BODY_BYTES / 4, "too fast to tell anything");
        while read < BODY_BYTES {
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0, "{path}: {read}");
            read += count;
        }
    }
    assert_eq!((https.edge.stats().refused["reader_time"], https.edge.stats().responses.cut), (0, 0));
}
