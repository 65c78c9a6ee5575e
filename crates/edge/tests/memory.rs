//! What a slow reader costs: alone in its file, because it measures the whole process.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;

#[test]
fn a_slow_reader_holds_little() {
    let total = 64 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    let server = Server::start(move |mut peer| {
        peer.head();
        peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n"));
        let block = vec![b'x'; 1 << 16];
        let mut left = total;
        while left > 0 && peer.stream.get_mut().write_all(&block).is_ok() {
            left -= block.len();
            counter.fetch_add(block.len(), Ordering::SeqCst);
        }
    });
    let edge = start(config(&[server.address]));
    let resident_kib = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    let before = resident_kib();
    let mut client = Client::new(&edge);
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.0.get_ref().peek(&mut [0]).unwrap();
    let sent = steady(|| written.load(Ordering::SeqCst));
    assert!(sent < total, "nothing held the server back");
    // The whole process, test included; the kernel's own buffers are not in it.
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 4 * 1024, "{grown} KiB");
    assert_eq!(client.response(false).map(|r| r.body.len()), Some(total));
}
