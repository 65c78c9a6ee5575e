//! HTTP/2 toward clients (RFC 9113): frames, streams and their windows are `h2`'s, everything else is as in HTTP/1.1.
//!
//! Each stream is a request of its own, answered on one of the worker's [`lanes`]; what it says comes from [`translate`],
//! and where its answer goes is a [`stream::Stream`]. This file drives the connection: it accepts streams, counts what is
//! done to it, and ends it.

pub mod lanes;
mod lent;
pub mod outlet;
pub mod prior;
mod stream;
pub mod translate;
pub mod websocket;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request};

use self::lanes::Lanes;
use self::lent::{Cork, Lent};
use self::stream::Stream;
use crate::answer::End;
use crate::buffer::Buffer;
use crate::client::Client;
use crate::clock::{Stall, Timer};
use crate::codec::{Asked, Fault};
use crate::connection::{self, Connection};
use crate::counters::Reason as Why;
use crate::wire::Io;
use crate::worker::Worker;

/// What a client may send of one body, and of all together, before the edge has passed it on, bytes.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// Of one answer, what waits for the client's window or socket, bytes.
const SEND_BUFFER_BYTES: usize = 32 * 1024;
/// The client's dynamic table for fields, bytes: the default of RFC 7541.
const HEADER_TABLE_BYTES: u32 = 4096;
/// How long a client that was told to go may take to say that it has heard it.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
/// Streams that a client may reset before they are answered, above half of all: more is an attack (CVE-2023-44487).
const RESETS_MAX: u64 = 100;
/// Streams that a client has taken back while they still run here, for instance while a disk is slow: more, above those
/// that it may have open, is the same attack.
const TAKEN_BACK_MAX: usize = 100;
/// Streams that are reset for what they say, until the whole connection is.
const MALFORMED_MAX: usize = 100;

type Http2<S> = h2::server::Connection<Lent<S>, Bytes>;

/// Serves a connection until either side ends it.
pub async fn serve<S: Io + 'static>(worker: Rc<Worker>, io: S, client: Client) {
    let timer = worker.clock.timer();
    let limits = worker.view();
    let io = Rc::new(RefCell::new(Cork::new(worker.clone(), io)));
    let handshake = Box::pin(builder(&limits).handshake(Lent(io.clone())));
    let (header_time, idle_time) = (limits.limits.header_time, limits.limits.idle_time);
    let most_running = limits.limits.streams + TAKEN_BACK_MAX;
    drop(limits);
    worker.counters.http2_connections.add(1);
    let http2 = match timer.within(header_time, handshake).await {
        Ok(Ok(http2)) => http2,
        Ok(Err(_)) => return worker.counters.http2_errors.add(1),
        Err(_) => return worker.counters.reason(Why::HeaderTime),
    };
    let stall = Stall::begin(&timer, 0, idle_time);
    let (tally, wire) = (Rc::default(), io.clone());
    let mut driver = Driver {
        worker,
        http2,
        wire,
        client,
        timer,
        stall,
        tally,
        most_running,
        is_ending: false,
        has_waited: false,
    };
    Box::pin(driver.run()).await;
    let Driver { worker, http2, wire, timer, .. } = driver;
    drop((http2, wire));
    // Nobody else holds it now.
    if let Some(cork) = Rc::into_inner(io).map(RefCell::into_inner) {
        Box::pin(connection::linger(&worker, &mut { cork.io }, &timer, Buffer::default())).await;
    }
}

fn builder(view: &crate::snapshot::Snapshot) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .header_table_size(HEADER_TABLE_BYTES)
        .max_header_list_size(u32::try_from(view.limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(u32::try_from(view.limits.streams).unwrap_or(u32::MAX))
        .enable_connect_protocol()
        .max_local_error_reset_streams(Some(MALFORMED_MAX));
    builder
}

/// What became of a connection's streams.
#[derive(Default)]
struct Tally {
    running: Cell<usize>,
    resets: Cell<u64>,
}

struct Driver<S: Io> {
    worker: Rc<Worker>,
    http2: Http2<S>,
    wire: Rc<RefCell<Cork<S>>>,
    client: Client,
    timer: Timer,
    /// The time that the connection may stay without a stream, or without the client's reading what streams left.
    stall: Stall,
    tally: Rc<Tally>,
    most_running: usize,
    /// GOAWAY was sent: no new streams.
    is_ending: bool,
    /// See [`Driver::waits_for_more`].
    has_waited: bool,
}

impl<S: Io + 'static> Driver<S> {
    async fn run(&mut self) {
        let mut accepted = 0;
        while let Some((request, answer)) = poll_fn(|cx| self.poll_accept(cx)).await {
            accepted += 1;
            let is_flood = self.tally.resets.get() > RESETS_MAX + accepted / 2;
            if is_flood || self.tally.running.get() >= self.most_running {
                self.worker.counters.reason(Why::ResetFlood);
                self.http2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                continue;
            }
            Lanes::run(&self.worker, self.accept(request, answer));
        }
    }

    fn accept(&self, request: Request<RecvStream>, answer: SendResponse<Bytes>) -> Accepted {
        let (parts, body) = request.into_parts();
        let mut head = self.worker.buffers.text();
        let (has_body, key) = (!body.is_end_stream(), self.worker.random());
        let judged = translate::write_request(&mut head, &parts, has_body, key);
        let asked = match parts.method {
            Method::HEAD => Asked::Head,
            _ if translate::is_websocket(&parts) => Asked::WebSocket,
            _ => Asked::Other,
        };
        let (client, running) = (self.client.clone(), Running::new(&self.tally));
        Accepted { client, head, judged, asked, body, answer, running }
    }

    /// The next stream; `None` when the connection has ended or its time is up.
    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(Request<RecvStream>, SendResponse<Bytes>)>> {
        loop {
            match self.http2.poll_accept(cx) {
                Poll::Ready(Some(Ok(accepted))) => return Poll::Ready(Some(accepted)),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(client = %self.client.address, %error, "HTTP/2 ended");
                    self.worker.counters.http2_errors.add(1);
                    return Poll::Ready(None);
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            if self.waits_for_more(cx) {
                return Poll::Pending;
            }
            if let Poll::Ready(Err(_)) = self.wire.borrow_mut().poll_out(cx) {
                return Poll::Ready(None);
            }
            let is_expired = self.poll_expired(cx);
            if self.worker.clock.is_over() || is_expired && self.is_ending {
                return Poll::Ready(None);
            }
            let is_draining = self.worker.draining.get();
            if self.is_ending || !(is_expired || is_draining) {
                return Poll::Pending;
            }
            if !is_draining {
                self.worker.counters.reason(Why::IdleTime);
            }
            self.is_ending = true;
            self.http2.graceful_shutdown();
        }
    }

    /// While other streams run, what is to be written waits once for what the sockets have meanwhile: answers that come
    /// together leave together.
    fn waits_for_more(&mut self, cx: &mut Context<'_>) -> bool {
        let may_come = self.tally.running.get() > 0 && !self.wire.borrow().is_out();
        self.has_waited = may_come && !self.has_waited;
        if self.has_waited {
            // Wakes this task when the worker has looked at its sockets.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
        self.has_waited
    }

    /// Has nothing happened for too long?
    fn poll_expired(&mut self, cx: &Context<'_>) -> bool {
        let idle_time = self.worker.view().limits.idle_time;
        // Streams that were answered, but whose answers the client has yet to read, are still there.
        let is_unread = self.http2.has_streams() || !self.wire.borrow().is_out();
        let within = if self.is_ending && !is_unread { FAREWELL_TIME.min(idle_time) } else { idle_time };
        if self.tally.running.get() > 0 {
            // Each stream has its own bounds; the connection's begins when the last has ended.
            self.stall = Stall::begin(&self.timer, 0, within);
        }
        let io = &self.wire.borrow().io;
        let moved = if is_unread { io.taken() } else { 0 };
        self.stall.poll(cx, &self.timer, moved, within, || if is_unread { io.held() } else { None })
    }
}

/// Counts a stream as running while it is answered.
struct Running(Rc<Tally>);

impl Running {
    fn new(tally: &Rc<Tally>) -> Self {
        tally.running.set(tally.running.get() + 1);
        Self(tally.clone())
    }

    /// The client took the stream back.
    fn count_reset(&self) {
        self.0.resets.set(self.0.resets.get() + 1);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
    }
}

/// A stream that was opened and is not answered yet.
pub struct Accepted {
    client: Client,
    /// As HTTP/1.1 text.
    head: Vec<u8>,
    /// Why it has no such form.
    judged: Result<(), Fault>,
    asked: Asked,
    body: RecvStream,
    answer: SendResponse<Bytes>,
    running: Running,
}

impl Accepted {
    async fn answer(self, worker: &Rc<Worker>) {
        let Self { client, head, judged, asked, body, answer, running } = self;
        let mut connection = Connection {
            timer: worker.clock.timer(),
            io: Stream::new(body, answer, asked),
            worker: worker.clone(),
            buffer: Buffer::default(),
            client,
        };
        let request = judged.and_then(|()| match connection.read_head(&head)? {
            Some((request, len)) if len == head.len() => Ok(request),
            // Longer than a head may be, or with an end in its midst.
            _ => Err(Fault::HeadTooLong),
        });
        worker.buffers.reclaim_text(head);
        let end = match request {
            Ok(request) => connection.answer(request).await,
            Err(fault) => connection.refuse(fault.status(), fault.label(), Some(fault)).await,
        };
        worker.buffers.reclaim(&mut connection.buffer);
        if end == End::Reset {
            // Not what a server has broken off.
            if connection.io.poll_gone(&mut Context::from_waker(Waker::noop())) {
                running.count_reset();
            }
            connection.io.reset();
        }
        connection.io.end();
    }
}
