//! A connection from its acceptance to its first byte of HTTP: how many its address may have, who it says it is, TLS.
//!
//! The worker's listeners call it; what it makes of a connection is served by `connection` and `h2`.

use std::net::SocketAddr;
use std::rc::Rc;

use tiebeam_topology::Http2;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::buffer::Buffer;
use crate::client::{Client, Scheme};
use crate::connection;
use crate::counters::Reason;
use crate::h2::{self, prior};
use crate::proxy_protocol::{self, Announced, Route};
use crate::tls::{self, Failure};
use crate::wire::{Io, Wire};
use crate::worker::{Open, Worker};

/// What is read at once of a header of the PROXY protocol, bytes: most are shorter, and what is behind it is kept.
const HEADER_PIECE_BYTES: usize = 256;

/// Serves a connection that came to `local`, on a task of its own.
pub fn welcome(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, local: SocketAddr, scheme: Scheme) {
    let proxies = &worker.view().proxies;
    let mut open = Open::new(worker.clone());
    let is_proxy = proxies.trusts(peer.ip().to_canonical());
    if proxies.protocol && !is_proxy {
        return refuse(worker, &stream, Reason::ProxyUntrusted);
    }
    // A proxy has many clients, of which each is counted when it is known.
    if !is_proxy && !open.count(peer.ip()) {
        return refuse(worker, &stream, Reason::ConnectionsPerAddress);
    }
    // Fails only on a connection that is gone already, which the first read will tell.
    let _ = stream.set_nodelay(true);
    // That of a listener of all addresses is none; a connection has one.
    let local = if local.ip().is_unspecified() { stream.local_addr().unwrap_or(local) } else { local };
    let route = Route { from: peer, to: local };
    let stream = Wire::new(stream);
    // Two tasks of their own, because an idle one holds the size of the larger.
    match (scheme, proxies.protocol) {
        (Scheme::Http, false) => {
            let client = Client::plain(route);
            drop(tokio::task::spawn_local(plain(stream, client, open)));
        }
        (Scheme::Https, false) => drop(tokio::task::spawn_local(secure(stream, route, open))),
        (scheme, true) => drop(tokio::task::spawn_local(async move {
            let Some((stream, route)) = Box::pin(announced(stream, route, &mut open)).await else { return };
            match scheme {
                Scheme::Http => Box::pin(plain(stream, Client::plain(route), open)).await,
                Scheme::Https => Box::pin(secure(stream, route, open)).await,
            }
        })),
    }
}

/// A reset costs the least, and leaves nothing behind.
fn refuse(worker: &Worker, stream: &TcpStream, reason: Reason) {
    let _ = stream.set_zero_linger();
    worker.counters.reason(reason);
}

async fn plain(stream: Wire, client: Client, open: Open) {
    let worker = open.worker.clone();
    match worker.view().http2 {
        Http2::PriorKnowledge => Box::pin(prior::serve(worker, stream, client)).await,
        _ => connection::serve(worker, stream, client, Buffer::default()).await,
    }
    drop(open);
}

async fn secure(stream: Wire, route: Route, open: Open) {
    let worker = open.worker.clone();
    let timer = worker.clock.timer();
    let header_time = worker.view().limits.header_time;
    let accept = tls::accept(stream, || worker.shared.snapshot.load_full());
    let handshake = Box::pin(timer.within(header_time, accept)).await.unwrap_or(Err(Failure::HeaderTime));
    drop(timer);
    match handshake {
        Ok((stream, policy)) => {
            let session = stream.get_ref().1;
            let client = Client::secure(route, session, policy);
            if session.alpn_protocol() == Some(tls::HTTP2) {
                Box::pin(h2::serve(worker, stream, client)).await;
            } else {
                connection::serve(worker, stream, client, Buffer::default()).await;
            }
        }
        Err(failure) => worker.counters.tls_failures[failure as usize].add(1),
    }
    drop(open);
}

/// Reads the header of the PROXY protocol; `None`: the connection is refused, and that is counted.
async fn announced(mut stream: Wire, route: Route, open: &mut Open) -> Option<(Wire, Route)> {
    let worker = open.worker.clone();
    let timer = worker.clock.timer();
    let header_time = worker.view().limits.header_time;
    let header = timer.within(header_time, read_header(&mut stream)).await;
    let refused = match header {
        Ok(Some(Announced::Nothing)) => return Some((stream, route)),
        Ok(Some(Announced::Client(said))) => {
            let address = said.from.ip().to_canonical();
            if worker.view().proxies.trusts(address) || open.count(address) {
                return Some((stream, said));
            }
            Reason::ConnectionsPerAddress
        }
        Ok(None) => Reason::ProxyHeader,
        Err(_) if worker.clock.is_over() => Reason::DrainTime,
        Err(_) => Reason::HeaderTime,
    };
    stream.reset();
    worker.counters.reason(refused);
    None
}

/// `None`: there is none, or it is malformed. What was read behind it is read again as the connection's own.
async fn read_header(stream: &mut Wire) -> Option<Announced> {
    let mut bytes = Vec::with_capacity(HEADER_PIECE_BYTES);
    loop {
        match proxy_protocol::parse(&bytes) {
            Ok(Some((announced, len))) => {
                stream.unread(bytes.split_off(len));
                return Some(announced);
            }
            Ok(None) => {}
            Err(proxy_protocol::Malformed) => return None,
        }
        bytes.reserve(HEADER_PIECE_BYTES);
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the future that a call would give.
    fn future_bytes<A, F>(_: impl Fn(Wire, A, Open) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_waits_with_an_idle_connection_is_small() {
        let (plain, secure) = (future_bytes(plain), future_bytes(secure));
        assert!(plain <= 1280 && secure <= 1280, "{plain} bytes, and {secure} beside those of TLS");
    }
}
