//! Listens, bounds what listens to us, and stops in order. It knows nothing of pages; `routes` answers.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{Board, routes};

/// Connections open at once. One more is answered 503, closed and counted (`tiebeam_console_refused_total`).
pub const CONNECTIONS_MAX: usize = 128;
/// From a connection's start, or the end of its last answer, to the last byte of the next request's head.
pub const HEADER_TIME: Duration = Duration::from_secs(10);
/// A connection's whole life: who reads slowly holds a place for this long at most.
const CONNECTION_TIME: Duration = Duration::from_secs(300);
/// How long an answer that is under way may take to end when its connection is to be closed.
const CLOSE_TIME: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "console.listen = {address}: another process listens there; stop it or give [console] another port"
    )]
    InUse { address: SocketAddr },
    #[error(
        "console.listen = {address}: no such address on this machine; use one of its own, or \"127.0.0.1:{}\"",
        address.port()
    )]
    NotOurs { address: SocketAddr },
    #[error("console.listen = {address}: cannot listen: {source}")]
    Other { address: SocketAddr, source: std::io::Error },
}

/// The running console. Dropping it leaves it running; [`Console::shutdown`] ends it.
#[derive(Debug)]
pub struct Console {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// The listener, once more, for a process after this one.
    socket: std::net::TcpListener,
}

impl Console {
    /// Listens before it returns. Must be called within a tokio runtime.
    pub async fn start(listen: SocketAddr, board: Board) -> Result<Self, StartError> {
        Self::start_on(None, listen, board).await
    }

    /// As [`Console::start`], on a socket of a process before this one that listens already, if it is at that address.
    pub async fn start_on(
        inherited: Option<std::net::TcpListener>,
        listen: SocketAddr,
        board: Board,
    ) -> Result<Self, StartError> {
        let inherited = inherited.filter(|socket| socket.local_addr().is_ok_and(|at| at == listen));
        Self::bounded(inherited, listen, board, Limits::default()).await
    }

    /// The socket that it listens on, for a process that goes on with it.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn listening(&self) -> std::io::Result<std::net::TcpListener> {
        self.socket.try_clone()
    }

    /// Everything that the console answers, for a caller that listens itself.
    pub fn router(board: Board) -> Router {
        routes::router(board, Arc::default(), false)
    }

    /// Where it listens; the port that was chosen where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener, lets answers that are under way end, and returns when all is closed.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        drop(self.socket);
        // Its only error is a panic in the task, which has closed the listener too.
        let _ = self.task.await;
    }

    async fn bounded(
        inherited: Option<std::net::TcpListener>,
        listen: SocketAddr,
        board: Board,
        limits: Limits,
    ) -> Result<Self, StartError> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => StartError::InUse { address: listen },
            std::io::ErrorKind::AddrNotAvailable => StartError::NotOurs { address: listen },
            _ => StartError::Other { address: listen, source },
        };
        let listener = match inherited {
            Some(socket) => TcpListener::from_std(socket).map_err(failed)?,
            None => TcpListener::bind(listen).await.map_err(failed)?,
        };
        let socket = listener.as_fd().try_clone_to_owned().map_err(failed)?.into();
        let address = listener.local_addr().map_err(failed)?;
        let refused = Arc::new(AtomicU64::new(0));
        let router = routes::router(board, refused.clone(), address.ip().is_loopback());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(listener, router, refused, limits, stopped));
        Ok(Self { address, stop, task, socket })
    }
}

#[derive(Clone, Copy)]
struct Limits {
    connections: usize,
    header_time: Duration,
    connection_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, header_time: HEADER_TIME, connection_time: CONNECTION_TIME }
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    refused: Arc<AtomicU64>,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|s| *s) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, or a client that is gone already: the next one may go well.
                tracing::warn!(%error, "the console could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                let serving = serve(stream, router.clone(), limits, stopped.clone());
                tokio::spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(_) => {
                refused.fetch_add(1, Ordering::Relaxed);
                refuse(stream);
            }
        }
    }
    drop(listener);
    // All places free: all connections are closed. Each closes itself within CLOSE_TIME.
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = timeout(2 * CLOSE_TIME, places.acquire_many(all)).await;
}

/// Says 503 if it can be said at once; the connection is closed either way.
fn refuse(stream: TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    // Non-blocking still, so this never waits for the client.
    let _ = stream.into_std().and_then(|mut stream| stream.write(ANSWER));
}

async fn serve(stream: TcpStream, router: Router, limits: Limits, mut stopped: watch::Receiver<bool>) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_headers(64)
        .max_buf_size(16 * 1024);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        // An error is the client's: a broken head, a slow one, a connection cut. It has been answered if it could be.
        _ = connection.as_mut() => return,
        _ = tokio::time::sleep(limits.connection_time) => {}
        _ = stopped.wait_for(|s| *s) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(CLOSE_TIME, connection).await;
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
