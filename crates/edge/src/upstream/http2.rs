//! Connections of HTTP/2 to servers: each is shared by the requests of one worker, as many as its server allows.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Exchange;
use super::exchange::Scratch;
use crate::proxy_protocol::Route;
use crate::reach::Trust;
use crate::servers::Server;

/// Requests at once on one connection, however many more its server allows.
const STREAMS: usize = 100;
/// Connections that one worker keeps to one server. More serve a request each: only servers that are told whom a
/// connection is for, or that allow few streams, have so many.
const KEPT_CONNECTIONS: usize = 256;
/// A connection on which nothing was asked for so long is closed.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// What a server may send of one answer, and of all together, before the client has taken it, bytes.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// All may stand still at once, and none of them in the way of another.
const CONNECTION_WINDOW_BYTES: u32 = STREAMS as u32 * STREAM_WINDOW_BYTES;
/// Of one request, what waits for the server's window or socket, bytes.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Fields of an answer together, as HTTP/2 counts them, bytes; the codec's own bound is what a file says.
const HEADER_LIST_BYTES: u32 = 1 << 20;

/// Of one worker, by [`Server::number`].
#[derive(Default)]
pub struct Http2Servers {
    by_number: RefCell<Vec<Vec<Kept>>>,
}

struct Kept {
    shared: Rc<Shared>,
    /// [`Server::falls`] when it was opened.
    falls: u32,
    /// By whose word its server was believed then.
    trust: Option<Trust>,
    /// What it was announced as: it is nobody else's.
    route: Option<Route>,
}

/// One connection.
pub struct Shared {
    sender: SendRequest<Bytes>,
    running: Rc<Cell<usize>>,
    last_use: Cell<Instant>,
    /// Somebody waited in vain for an answer on it.
    is_left: Rc<Cell<bool>>,
}

impl Http2Servers {
    /// A connection with room for another request, opened under the same `trust`. Those under another get no more; what
    /// they carry goes on.
    pub fn find(&self, server: &Server, trust: Option<Trust>, route: Option<Route>) -> Option<Rc<Shared>> {
        let mut by_number = self.by_number.borrow_mut();
        let kept = by_number.get_mut(server.number)?;
        let is_right = |kept: &Kept| kept.falls == server.falls() && kept.trust == trust;
        kept.retain(|kept| is_right(kept) && kept.shared.is_open());
        kept.iter().find(|kept| kept.route == route && kept.shared.has_room()).map(|kept| kept.shared.clone())
    }

    pub fn put(
        &self,
        server: &Server,
        trust: Option<Trust>,
        route: Option<Route>,
        shared: Shared,
    ) -> Rc<Shared> {
        let mut by_number = self.by_number.borrow_mut();
        if by_number.len() <= server.number {
            by_number.resize_with(server.number + 1, Vec::new);
        }
        let shared = Rc::new(shared);
        let kept = &mut by_number[server.number];
        if kept.len() < KEPT_CONNECTIONS {
            kept.push(Kept { shared: shared.clone(), falls: server.falls(), trust, route });
        }
        shared
    }

    /// Closes what was idle too long.
    pub fn sweep(&self, now: Instant) {
        for kept in self.by_number.borrow_mut().iter_mut() {
            kept.retain(|Kept { shared, .. }| {
                let idle = now.saturating_duration_since(shared.last_use.get());
                shared.is_open() && (shared.running.get() > 0 || idle <= IDLE_TIME)
            });
        }
    }
}

impl Shared {
    /// May it be asked for more? Not from the server's GOAWAY on, though what was asked before goes on.
    fn is_open(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !self.is_left.get() && !matches!(self.sender.clone().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    fn has_room(&self) -> bool {
        self.running.get() < self.sender.current_max_send_streams().min(STREAMS)
    }

    /// A stream for one request, which `scratch` is lent to be understood with.
    pub async fn exchange(&self, is_https: bool, scratch: Scratch) -> io::Result<Exchange> {
        let running = Running::new(&self.running, &self.is_left);
        self.last_use.set(Instant::now());
        let sender = self.sender.clone().ready().await.map_err(io::Error::other)?;
        Ok(Exchange::new(sender, is_https, scratch, running))
    }
}

/// Begins to speak HTTP/2 on a connection that was just opened; a task moves its frames from here on.
pub async fn begin<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S) -> io::Result<Shared> {
    let (sender, connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES)
        .handshake::<S, Bytes>(stream)
        .await
        .map_err(io::Error::other)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "HTTP/2 with a server ended");
        }
    });
    Ok(Shared { sender, running: Rc::default(), last_use: Cell::new(Instant::now()), is_left: Rc::default() })
}

/// Counts a request as running on its connection while it lives.
pub struct Running {
    count: Rc<Cell<usize>>,
    is_left: Rc<Cell<bool>>,
}

impl Running {
    fn new(count: &Rc<Cell<usize>>, is_left: &Rc<Cell<bool>>) -> Self {
        count.set(count.get() + 1);
        Self { count: count.clone(), is_left: is_left.clone() }
    }

    /// Nothing more is asked on its connection.
    pub fn leave(&self) {
        self.is_left.set(true);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
    }
}
