//! Clients that leave while nobody has answered them yet: before a server has a place, before there is a connection, and
//! before a second server is asked.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::net::Shutdown;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::async_server::{Async, reach};
use common::http2::{Http2, run};
use common::*;
use h2::Reason;
use http::Request;
use tiebeam_edge::{Config, Edge, PoolStats, Reach, ServerTls};
use tiebeam_topology::Http2 as Setting;

const FOR_EVER: Duration = Duration::from_secs(600);

fn with(mut config: Config, change: impl FnOnce(&mut Config)) -> Edge {
    config.http2 = Setting::PriorKnowledge;
    change(&mut config);
    start_with(config, 1)
}

fn pool(edge: &Edge) -> PoolStats {
    edge.stats().pools[&"web".parse().unwrap()].clone()
}

/// Answers everything but `/hold`, and counts those whose connection ended meanwhile.
fn holding() -> (Server, Arc<AtomicUsize>) {
    let ended = Arc::<AtomicUsize>::default();
    let counter = ended.clone();
    let server = Server::start(move |mut peer| {
        while let Some((head, _)) = peer.request() {
            if head.contains(" /hold") {
                assert!(peer.request().is_none());
                counter.fetch_add(1, Ordering::SeqCst);
                return;
            }
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    (server, ended)
}

/// In every way in which a client can leave: over HTTP/1.1 by a reset, over HTTP/2 by taking its stream back and by closing
/// its connection. Its request is under way once `has_come` says so for the nth time.
fn leave(edge: &Edge, path: &str, has_come: impl Fn(usize) -> bool, is_over: impl Fn(usize) -> bool) {
    let mut client = Client::new(edge);
    client.say(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\nGET /pipelined HTTP/1.1\r\nHost: a\r\n\r\n"));
    until("it has come", || has_come(1));
    socket2::SockRef::from(client.0.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    until("it was reset", || is_over(1));
    run(async {
        let patience = || tokio::time::sleep(Duration::from_millis(2));
        let mut client = Http2::plain(edge.addresses().http.unwrap()).await;
        let request = || Request::get(format!("http://a{path}")).body(()).unwrap();
        let (_answer, mut stream) = client.ask(request(), true).await;
        while !has_come(2) {
            patience().await;
        }
        stream.send_reset(Reason::CANCEL);
        while !is_over(2) {
            patience().await;
        }
        let _asked = client.ask(request(), true).await;
        while !has_come(3) {
            patience().await;
        }
        client.1.abort();
        while !is_over(3) {
            patience().await;
        }
    });
    assert_eq!(edge.stats().refused["client_gone"], 3);
}

#[test]
fn a_place_in_the_queue_is_given_up() {
    let (server, _) = holding();
    let edge = with(config(&[server.address]), |config| {
        let balancing = &mut config.pools.values_mut().next().unwrap().balancing;
        (balancing.in_flight, balancing.queue, balancing.queue_time) = (NonZeroU32::new(1), 1, FOR_EVER);
    });
    let mut first = Client::new(&edge);
    first.say("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it is asked", || server.asked("GET /hold") == 1);
    let waited = |n: usize| (pool(&edge).waiting, pool(&edge).waited) == (1, n as u64);
    let is_over =
        |n: usize| (pool(&edge).waiting, edge.stats().in_flight) == (0, 1) && pool(&edge).waited == n as u64;
    leave(&edge, "/", waited, is_over);
    // One that has only ended its side is not waited for either.
    let mut client = Client::new(&edge);
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it waits", || waited(4));
    client.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert!(client.is_closed());
    assert!(is_over(4));
    assert_eq!((server.heads().len(), edge.stats().refused["client_gone"]), (1, 4));
}

#[test]
fn a_connection_that_is_being_made_is_given_up() {
    // It takes connections, never says a word of TLS, and hears when they end.
    let ended = Arc::<AtomicUsize>::default();
    let counter = ended.clone();
    let server = Async::start(move |mut stream| {
        let counter = counter.clone();
        async move {
            use tokio::io::AsyncReadExt;
            while stream.read(&mut [0; 1000]).await.is_ok_and(|n| n > 0) {}
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let tls = Some(ServerTls::new(rustls::RootCertStore::empty(), None).unwrap());
    let edge = with(reach(config(&[server.address]), Reach { tls, http2: false }), |config| {
        config.limits.connect_time = FOR_EVER;
        config.pools.values_mut().next().unwrap().health.timeout = Duration::from_millis(1);
    });
    until("the first check has ended", || ended.load(Ordering::SeqCst) == 1);
    let made = |n: usize| server.connections.load(Ordering::SeqCst) == 1 + n;
    leave(&edge, "/", made, |n| ended.load(Ordering::SeqCst) == 1 + n && edge.stats().in_flight == 0);
    assert_eq!(server_stats(&edge, "s0").failures.connect, 0, "it has failed nobody");
}

#[test]
fn a_try_that_waits_for_another_server_is_given_up() {
    let (slow, ended) = holding();
    let (other, _) = holding();
    let edge = with(config(&[slow.address, other.address]), |config| {
        let balancing = &mut config.pools.values_mut().next().unwrap().balancing;
        balancing.hedge = Some(FOR_EVER);
        // All go to the first.
        config.pools.values_mut().next().unwrap().servers[1].is_backup = true;
    });
    let is_over = |n: usize| ended.load(Ordering::SeqCst) == n && edge.stats().in_flight == 0;
    leave(&edge, "/hold", |n| slow.asked("GET /hold") == n, is_over);
    // One that has only ended its side still reads.
    let mut client = Client::new(&edge);
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.response(false).unwrap().body, "ok");
    assert_eq!((other.heads().len(), pool(&edge).hedges), (0, 0));
    assert_eq!(slow.asked("GET /pipelined"), 0);
    until("its place is free", || server_stats(&edge, "s0").in_flight == 0);
}
