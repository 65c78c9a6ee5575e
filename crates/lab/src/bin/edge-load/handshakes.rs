//! A new TLS 1.3 connection for each request, always with a whole handshake: the dearest that a client may ask for.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, HandshakeKind, Stream};

use crate::report::{self, Failure};
use crate::tls;

/// A connection that is silent for this long counts as failed.
const SILENCE: Duration = Duration::from_secs(5);

/// What one thread did: how long each answer took from before its connection was asked for, and the failures.
struct Done {
    latencies: Vec<Duration>,
    errors: usize,
}

pub fn run(at: SocketAddr, path: &str, connections: usize, time: Duration) -> Result<(), Failure> {
    let config = tls::client_config()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
    // The first one tells whether there is anything to count.
    one(at, &config, request.as_bytes())?;
    let started = Instant::now();
    let all = std::thread::scope(|scope| {
        let work = || again_and_again(at, &config, request.as_bytes(), started + time);
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Result<Vec<Done>, _>>()
    });
    let took = started.elapsed();
    let all = all.map_err(|_| Failure::Answer("a thread panicked".into()))?;
    let errors = all.iter().map(|done| done.errors).sum();
    report::print(all.into_iter().flat_map(|done| done.latencies).collect(), errors, took)
}

fn again_and_again(at: SocketAddr, config: &Arc<ClientConfig>, request: &[u8], until: Instant) -> Done {
    let mut done = Done { latencies: Vec::new(), errors: 0 };
    loop {
        let asked = Instant::now();
        if asked >= until {
            return done;
        }
        match one(at, config, request) {
            Ok(()) => done.latencies.push(asked.elapsed()),
            Err(_) => done.errors += 1,
        }
    }
}

fn one(at: SocketAddr, config: &Arc<ClientConfig>, request: &[u8]) -> Result<(), Failure> {
    let mut socket = TcpStream::connect(at)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let mut connection = ClientConnection::new(config.clone(), tls::server_name()?)?;
    let mut stream = Stream::new(&mut connection, &mut socket);
    stream.write_all(request)?;
    let mut answer = Vec::with_capacity(4096);
    match stream.read_to_end(&mut answer) {
        // Not every balancer says goodbye in TLS before it closes.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
        _ => {}
    }
    if connection.handshake_kind() != Some(HandshakeKind::Full) {
        return Err(Failure::Answer("not a whole handshake".into()));
    }
    match crate::answer::length(&answer)? {
        Some(length) if answer.len() == length => Ok(()),
        _ => Err(Failure::Answer("an answer that is not whole".into())),
    }
}
