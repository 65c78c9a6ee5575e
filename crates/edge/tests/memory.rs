//! What slow readers cost: alone in its file, because it measures the whole process.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use common::tls::Https;
use common::*;

/// Far more than any buffer on the way.
const BODY_BYTES: usize = 256 << 20;
/// Of one body on its way, beside what the kernel holds.
const MOST_KIB: usize = 1024;

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Reads `bytes`, then waits until the sender has got stuck, and says how much the process has grown since `before`.
fn grown_after(reader: &mut impl Read, bytes: usize, sent: &AtomicUsize, before: usize) -> usize {
    std::io::copy(&mut reader.take(bytes as u64), &mut std::io::sink()).unwrap();
    let stuck = steady(|| sent.load(Ordering::SeqCst));
    assert!(stuck < BODY_BYTES, "nothing held the sender back");
    resident_kib().saturating_sub(before)
}

/// Sends a body, and counts.
fn send(mut to: impl Write, sent: &AtomicUsize) {
    let block = vec![b'x'; 1 << 16];
    while sent.load(Ordering::SeqCst) < BODY_BYTES && to.write_all(&block).is_ok() {
        sent.fetch_add(block.len(), Ordering::SeqCst);
    }
}

#[test]
fn a_long_body_for_a_slow_reader_holds_little() {
    let sent = Arc::<AtomicUsize>::default();
    let counter = sent.clone();
    let (give, given) = channel();
    let give = std::sync::Mutex::new(give);
    let server = Server::start(move |mut peer| {
        let Some(head) = peer.head() else { return };
        if head.starts_with("POST") {
            // The test reads it.
            return give.lock().unwrap().send(peer).unwrap();
        }
        peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n"));
        send(peer.stream.get_mut(), &counter);
    });
    let https = Https::with(config(&[server.address]));
    let get = "GET / HTTP/1.1\r\nHost: two.example\r\n\r\n";
    let mut plain = Client::new(&https.edge).0.into_inner();
    let mut secure = https.connect("two.example").unwrap();
    let mut first = None;
    for is_secure in [false, true, false, true] {
        sent.store(0, Ordering::SeqCst);
        let reader: &mut dyn ReadWrite = if is_secure { &mut secure } else { &mut plain };
        reader.write_all(get.as_bytes()).unwrap();
        let mut byte = [0];
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            reader.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let before = *first.get_or_insert_with(resident_kib);
        for read in [0, 1 << 20, 16 << 20] {
            let grown = grown_after(&mut &mut *reader, read, &sent, before);
            assert!(grown < MOST_KIB, "{grown} KiB, down, TLS: {is_secure}");
        }
        let rest = BODY_BYTES - (17 << 20);
        std::io::copy(&mut (&mut *reader).take(rest as u64), &mut std::io::sink()).unwrap();
    }
    // The other way, by a client that waits for nothing.
    sent.store(0, Ordering::SeqCst);
    let mut up = Client::new(&https.edge).0.into_inner();
    let head = format!("POST / HTTP/1.1\r\nHost: two.example\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    up.write_all(head.as_bytes()).unwrap();
    let before = resident_kib();
    std::thread::scope(|scope| {
        scope.spawn(|| send(&up, &sent));
        let mut peer = given.recv().unwrap();
        for read in [0, 1 << 20, 16 << 20] {
            let grown = grown_after(&mut peer.stream, read, &sent, before);
            assert!(grown < MOST_KIB, "{grown} KiB, up");
        }
        let rest = BODY_BYTES - (17 << 20);
        std::io::copy(&mut (&mut peer.stream).take(rest as u64), &mut std::io::sink()).unwrap();
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(
            Client(std::io::BufReader::new(up.try_clone().unwrap())).response(false).unwrap().body,
            "ok"
        );
    });
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}
