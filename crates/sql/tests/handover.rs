//! A router goes on with the sockets of another one: nobody who comes meanwhile is refused.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tiebeam_sql::{Router, ServerLogin, Settings, View};
use tiebeam_topology::Reads;
use tokio::sync::watch;

const LONG: Duration = Duration::from_secs(20);

fn settings(listen: SocketAddr, workers: usize) -> Settings {
    Settings {
        node: "a".parse().unwrap(),
        listen,
        workers,
        hold: Duration::from_secs(2),
        hold_queue: 4,
        fresh_wait: Duration::from_millis(10),
        pool_size: 3,
        clients: 50,
        reads: Reads::Primary,
        login: ServerLogin::PassThrough { user: "tiebeam".into(), password: None },
    }
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Asks for TLS, which a router does not speak with clients: an answer shows that it accepted.
fn is_answered(stream: &mut TcpStream) -> bool {
    let mut answer = [0];
    stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).unwrap();
    stream.read_exact(&mut answer).is_ok() && answer == *b"N"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_router_goes_on_with_the_sockets() {
    for (before, after) in [(3, 1), (1, 2)] {
        let (_view, seen) = watch::channel(Arc::new(View::default()));
        let old = Router::start(settings("127.0.0.1:0".parse().unwrap(), before), seen.clone()).unwrap();
        let at = old.address();
        let mut open = connect(at);
        assert!(is_answered(&mut open));
        let passed = old.listening().unwrap();
        old.stop_accepting();
        let mut waiting: Vec<_> = (0..8).map(|_| connect(at)).collect();
        let new = Router::start_on(passed, settings(at, after), seen).unwrap();
        assert!(waiting.iter_mut().all(is_answered), "{before} {after}");
        assert!(is_answered(&mut open), "a session of the old one goes on");
        assert!(old.listening().unwrap().is_empty());
        old.drain(Duration::from_millis(100)).await;
        assert!((0..8).all(|_| is_answered(&mut connect(at))), "{before} {after}");
        new.drain(Duration::from_millis(100)).await;
        assert!(TcpStream::connect(at).is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_accepts_no_more_leaves_its_port_free() {
    let (_view, seen) = watch::channel(Arc::new(View::default()));
    let old = Router::start(settings("127.0.0.1:0".parse().unwrap(), 2), seen.clone()).unwrap();
    let at = old.address();
    let mut open = connect(at);
    assert!(is_answered(&mut open));
    drop(old.listening().unwrap());
    old.stop_accepting();
    let end = Instant::now() + LONG;
    let next = loop {
        match Router::start(settings(at, 2), seen.clone()) {
            Ok(next) => break next,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(is_answered(&mut connect(at)));
    assert!(is_answered(&mut open), "a session of the old one goes on");
    for router in [old, next] {
        router.drain(Duration::from_millis(100)).await;
    }
}
