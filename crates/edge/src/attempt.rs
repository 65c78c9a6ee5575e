//! One attempt at one server: the request up, the answer down, both in one task.
//!
//! It says how it ended and decides nothing about another attempt: [`crate::forward`] does.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::answer::{Answered, End};
use crate::buffer::{BUFFER_BYTES, Buffer, LONG_BUFFER_BYTES};
use crate::clock::{Stall, Timer};
use crate::codec::{
    BodyDecoder, BodyLength, Fault, Progress, ResponseExtras, Version, add_line, write_response,
};
use crate::connection::{Connection, Request};
use crate::counters::Reason;
use crate::exchange::{Pump, PumpError};
use crate::h2::websocket;
use crate::pace::{Floor, Pace};
use crate::servers::Server;
use crate::tunnel::{Carried, Tunnel};
use crate::upstream::Upstream;
use crate::wire::Io;

/// Interim answers to one request that are passed on.
const INTERIM_ANSWERS: u32 = 16;

/// Why an attempt brought no answer.
pub enum Lost {
    /// The server closed or reset before a byte of its answer.
    Closed,
    Bad(Fault),
    Silent,
    /// The client's body is malformed or too long.
    Client(Fault),
    ClientSlow(Reason),
    /// Nobody is there to be told: the client left or reads nothing, or the edge ends.
    Unanswered(Reason),
}

/// One attempt: both pumps and what they work on.
pub struct Attempt<'c, S> {
    connection: &'c mut Connection<S>,
    request: &'c Request,
    up: &'c mut Pump,
    /// The request is wholly sent; or the server takes no more of it.
    is_up_done: bool,
    is_up_broken: bool,
    server: Upstream,
    buffer: Buffer,
    down: Pump,
    interim: u32,
    has_taken_interim: bool,
    /// The client that waited for it was told 100.
    is_continued: bool,
    /// Bytes of the answer until its head was whole.
    pub received: u64,
    /// Bytes of the answer's heads.
    head_bytes: u64,
    pub first_byte: Option<Instant>,
    /// A field that binds the client to this server.
    pub set_cookie: Option<String>,
    /// From the head of the final answer on.
    begun: Begun,
}

/// What the head of the final answer said.
#[derive(Clone, Copy, Default)]
pub struct Begun {
    pub status: u16,
    /// Not an answer that ends but a tunnel: see [`Attempt::until_closed`].
    pub is_switch: bool,
    server_persists: bool,
    client_persists: bool,
}

impl<'c, S: Io> Attempt<'c, S> {
    pub fn new(
        connection: &'c mut Connection<S>,
        request: &'c Request,
        up: &'c mut Pump,
        server: Upstream,
    ) -> Self {
        // A stream of HTTP/2 brings no more than a frame at once, and a client has many.
        if !S::IS_HTTP2 && matches!(request.body, BodyLength::Length(n) if n > 2 * BUFFER_BYTES as u64) {
            connection.buffer.grow(LONG_BUFFER_BYTES);
        }
        let down = Pump::new(Vec::new(), BodyDecoder::UntilClose, false, u64::MAX);
        Self {
            connection,
            request,
            up,
            is_up_done: false,
            is_up_broken: false,
            server,
            buffer: Buffer::default(),
            down,
            interim: 0,
            has_taken_interim: false,
            is_continued: false,
            received: 0,
            head_bytes: 0,
            first_byte: None,
            set_cookie: None,
            begun: Begun::default(),
        }
    }

    /// The beginning of the answer was read by somebody else.
    pub fn has_heard(&mut self, ahead: Buffer) {
        if !ahead.is_empty() {
            self.received = ahead.data().len() as u64;
            self.first_byte = Some(Instant::now());
            self.connection.worker.buffers.reclaim(&mut self.buffer);
            self.buffer = ahead;
        }
    }

    /// Sends the request, passes interim answers on, and returns when the head of the final answer is parsed and
    /// written into the pump.
    pub async fn until_begun(&mut self) -> Result<Begun, Lost> {
        let limits = &self.request.view.limits;
        let mut judged = 0;
        let has_floor = self.request.body != BodyLength::None && self.request.body_rate() > 0;
        let pace_clock = has_floor.then(|| self.connection.worker.clock.timer());
        let mut pace = Pace::default();
        let mut stall = Stall::begin(&self.connection.timer, self.moved(), self.request.response_time());
        poll_fn(|cx| {
            let polled = self.poll_head(cx, &mut judged);
            if polled.is_ready() {
                return polled;
            }
            if self.connection.io.poll_gone(cx) {
                return Poll::Ready(Err(Lost::Unanswered(Reason::ClientGone)));
            }
            if let Some(clock) = &pace_clock
                && self.is_too_slow(cx, &mut pace, clock)
            {
                return Poll::Ready(Err(Lost::ClientSlow(Reason::BodyRate)));
            }
            let is_reader_awaited = !self.down.out.is_out();
            let within = if is_reader_awaited { limits.idle_time } else { self.request.response_time() };
            if !stall.poll(cx, &self.connection.timer, self.moved(), within, || self.held()) {
                return Poll::Pending;
            }
            Poll::Ready(Err(if self.connection.worker.clock.is_over() {
                Lost::Unanswered(Reason::DrainTime)
            } else if is_reader_awaited {
                Lost::Unanswered(Reason::ReaderTime)
            } else if self.is_body_awaited() {
                Lost::ClientSlow(Reason::BodyTime)
            } else {
                self.server.leave();
                Lost::Silent
            }))
        })
        .await?;
        Ok(self.begun)
    }

    /// Is the client the only one that is waited for?
    fn is_body_awaited(&self) -> bool {
        !self.is_up_done && !self.is_up_broken && self.up.out.is_idle()
    }

    /// Asked whenever there is nothing to do but wait. A server that has begun to answer has chosen to wait itself.
    fn is_too_slow(&self, cx: &Context<'_>, pace: &mut Pace, timer: &Timer) -> bool {
        let limits = &self.request.view.limits;
        let waits_for_100 = self.request.expects_continue && !self.is_continued && self.up.bytes == 0;
        let is_awaited = self.is_body_awaited() && !waits_for_100;
        pace.note(timer.now(), is_awaited);
        let floor = Floor { grace: limits.body_grace, rate: self.request.body_rate() };
        let left = pace.left(self.up.bytes, floor);
        if is_awaited {
            timer.arm(left);
            // Not the answer: it only has the task woken.
            let _ = timer.poll_expired(cx);
        }
        is_awaited && left.is_zero()
    }

    /// Does half of an interim answer stand before whatever would follow? Then nothing that follows is understood.
    pub fn is_torn(&self) -> bool {
        self.down.out.is_torn()
    }

    /// Did the server say that it has not looked at the request?
    pub fn is_unprocessed(&self) -> bool {
        self.server.is_unprocessed()
    }

    /// Bytes that got anywhere, on either side. The client's are those that its socket took: what TLS holds back has
    /// not moved.
    fn moved(&self) -> u64 {
        self.up.out.written + self.up.bytes + self.received + self.down.bytes + self.connection.io.taken()
    }

    /// What the kernel holds for the client, if it is the client that is waited for.
    fn held(&self) -> Option<u64> {
        if self.down.out.is_out() { None } else { self.connection.io.held() }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        if self.is_up_done || self.is_up_broken {
            return Ok(());
        }
        let Connection { worker, io, buffer, .. } = &mut *self.connection;
        match self.up.poll(cx, &worker.buffers, io, buffer, &mut self.server) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.is_up_done = true;
                self.server.end_request();
            }
            // It may have answered before it stopped reading.
            Poll::Ready(Err(PumpError::Write)) => self.is_up_broken = true,
            Poll::Ready(Err(PumpError::Read)) => return Err(Lost::Unanswered(Reason::ClientGone)),
            Poll::Ready(Err(PumpError::Fault(fault))) => return Err(Lost::Client(fault)),
        }
        Ok(())
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, judged: &mut usize) -> Poll<Result<(), Lost>> {
        if let Err(lost) = self.poll_up(cx) {
            return Poll::Ready(Err(lost));
        }
        loop {
            if !self.down.out.is_out() {
                let io = &mut self.connection.io;
                match self.down.out.poll_send(cx, &mut self.buffer, io) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => {
                        return Poll::Ready(Err(Lost::Unanswered(Reason::ClientGone)));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.request.view.head_limits.is_worth_a_look(self.buffer.data(), *judged) {
                *judged = self.buffer.data().len();
                match self.parse() {
                    Err(fault) => return Poll::Ready(Err(Lost::Bad(fault))),
                    Ok(true) => return Poll::Ready(Ok(())),
                    Ok(false) if std::mem::take(&mut self.has_taken_interim) => {
                        *judged = 0;
                        continue;
                    }
                    Ok(false) => {}
                }
            }
            let buffers = &self.connection.worker.buffers;
            buffers.lend(&mut self.buffer);
            if self.buffer.data().len() == self.buffer.capacity() {
                self.buffer.grow(self.request.view.head_limits.bytes.max(2 * BUFFER_BYTES));
            }
            match buffers.poll_read(cx, &mut self.buffer, &mut self.server) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.received += count as u64;
                    self.first_byte.get_or_insert_with(Instant::now);
                }
                Poll::Ready(_) => {
                    return Poll::Ready(Err(if let Some(fault) = self.server.fault() {
                        Lost::Client(fault)
                    } else if self.received == 0 {
                        Lost::Closed
                    } else {
                        Lost::Bad(Fault::BodyCut)
                    }));
                }
            }
        }
    }

    /// Whether the head of the final answer is whole: then [`Attempt::begun`] says what it said.
    fn parse(&mut self) -> Result<bool, Fault> {
        let worker = self.connection.worker.clone();
        let mut head = worker.response.borrow_mut();
        let data = self.buffer.data();
        let Progress::Done { len } =
            head.parse(data, &self.request.view.head_limits, self.request.asked())?
        else {
            return Ok(false);
        };
        // Nobody switches in the middle of a message.
        if head.is_switch() && !self.is_up_done {
            return Err(Fault::Switched);
        }
        // There, any 2xx says that the tunnel is open (RFC 8441 section 4, RFC 9110 section 9.3.6).
        if S::IS_HTTP2 && self.request.offers_websocket && matches!(head.status, 200..=299) {
            return Err(Fault::NotSwitched);
        }
        if S::IS_HTTP2 && head.is_switch() && !websocket::is_accepted(self.up.out.kept(), &head, data) {
            return Err(Fault::WebSocketKey);
        }
        let version = self.request.version;
        let is_modern = version != Version::Http10;
        let framing = match head.body {
            BodyLength::Chunked | BodyLength::UntilClose if version == Version::Http11 => BodyLength::Chunked,
            // A stream of HTTP/2 ends by itself, a connection of HTTP/1.0 by being closed.
            BodyLength::Chunked => BodyLength::UntilClose,
            other => other,
        };
        let client_persists = self.request.persists
            && self.is_up_done
            && framing != BodyLength::UntilClose
            && !worker.draining.get();
        let is_interim = head.is_interim();
        // Before it is written: the client is told 502, and what waits to be written would stand before that.
        if is_interim && self.interim == INTERIM_ANSWERS {
            return Err(Fault::TooManyInterim);
        }
        if !is_interim || is_modern {
            if self.down.out.lead_mut().capacity() == 0 {
                *self.down.out.lead_mut() = worker.buffers.text();
            }
            worker.with_date(|date| {
                let extras = ResponseExtras {
                    request_id: self.request.id.as_str(),
                    date,
                    hsts: self.request.hsts,
                    via: self.request.view.via,
                    framing,
                    say_keep_alive: client_persists && !is_modern,
                    say_close: !client_persists,
                };
                let lead = self.down.out.lead_mut();
                let start = lead.len();
                write_response(lead, &head, data, &extras);
                let edits = self.request.rules().map(|rules| &rules.response);
                if let Some(edits) = edits.filter(|edits| !is_interim && !edits.is_empty()) {
                    edits.apply(lead, start);
                }
                // What the rules say of cookies is about those of servers.
                if let Some(field) = self.set_cookie.as_deref().filter(|_| !is_interim) {
                    add_line(lead, field);
                }
            });
        }
        let (status, is_switch) = (head.status, head.is_switch());
        self.is_continued |= status == 100;
        let (server_persists, body) = (head.persists, head.body);
        drop(head);
        self.buffer.consume(len);
        self.head_bytes += len as u64;
        if is_interim {
            self.interim += 1;
            self.has_taken_interim = true;
            return Ok(false);
        }
        if matches!(body, BodyLength::Length(n) if n > 2 * BUFFER_BYTES as u64) {
            self.buffer.grow(LONG_BUFFER_BYTES);
        }
        let is_chunked = framing == BodyLength::Chunked;
        if let Err(PumpError::Fault(fault)) =
            self.down.begin(BodyDecoder::new(body), is_chunked, &mut self.buffer)
        {
            return Err(fault);
        }
        self.begun = Begun { status, is_switch, server_persists, client_persists };
        Ok(true)
    }

    /// Passes the answer on to its end; nothing is tried again from here on.
    pub async fn until_ended(mut self, server: &Server, trip: &mut Answered<'_>) {
        let limits = &self.request.view.limits;
        let mut stall = Stall::begin(&self.connection.timer, self.moved(), self.request.response_time());
        let ended = poll_fn(|cx| {
            // A client that breaks its body now has its connection closed after the answer.
            if self.poll_up(cx).is_err() {
                self.is_up_broken = true;
            }
            let Connection { worker, io, .. } = &mut *self.connection;
            match self.down.poll(cx, &worker.buffers, &mut self.server, &mut self.buffer, io) {
                Poll::Ready(Ok(())) => {
                    if let Some(trailers) = self.server.take_trailers() {
                        io.put_trailers(trailers);
                    }
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(PumpError::Write)) => return Poll::Ready(Err(Reason::ClientGone)),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Reason::AnswerCut)),
                Poll::Pending if io.poll_gone(cx) => return Poll::Ready(Err(Reason::ClientGone)),
                Poll::Pending => {}
            }
            let (within, reason) = match self.down.out.is_out() {
                true => (self.request.response_time(), Reason::AnswerCut),
                false => (limits.idle_time, Reason::ReaderTime),
            };
            if !stall.poll(cx, &self.connection.timer, self.moved(), within, || self.held()) {
                return Poll::Pending;
            }
            if self.connection.worker.clock.is_over() {
                return Poll::Ready(Err(Reason::DrainTime));
            }
            if reason == Reason::AnswerCut {
                self.server.leave();
            }
            Poll::Ready(Err(reason))
        })
        .await;
        let worker = self.connection.worker.clone();
        (trip.status, trip.bytes) = (self.begun.status, self.down.bytes);
        trip.end = match ended {
            Ok(()) if self.begun.client_persists => End::Keep,
            Ok(()) => End::Close,
            Err(reason) => {
                worker.counters.reason(reason);
                if reason == Reason::AnswerCut {
                    server.counters(worker.index).bad_responses.add(1);
                }
                trip.why = Some(reason.label());
                End::Reset
            }
        };
        let route = server.proxy_protocol.map(|_| self.connection.client.route_of(self.request.client));
        let counters = server.counters(worker.index);
        counters.sent.add(self.up.out.written);
        counters.received.add(self.head_bytes + self.down.bytes);
        let is_clean =
            ended.is_ok() && self.begun.server_persists && self.is_up_done && self.buffer.is_empty();
        if let Some(stream) = self.give_back().filter(|_| is_clean) {
            worker.idle.put(server, stream, worker.clock.now(), route);
        }
    }

    /// Tells the client that the server goes on in the WebSocket protocol, and carries what both say in it.
    pub async fn until_closed(self, trip: &mut Answered<'_>) {
        self.count();
        let Self { connection, request, server, buffer, down, begun, .. } = self;
        let limits = &request.view.limits;
        let sent = connection.send(down.out.into_lead()).await;
        let opened_after = request.started.elapsed();
        let Connection { worker, io, buffer: begun_by_client, timer, .. } = connection;
        let (why, from_client, to_client) = match sent {
            Err(reason) => (Some(reason), 0, 0),
            Ok(head) => {
                worker.buffers.reclaim_text(head);
                let tunnel = Tunnel::new(worker, timer, io, std::mem::take(begun_by_client), server, buffer);
                let carried = tunnel.carry(limits.tunnel_idle_time, limits.idle_time).await;
                carried.0.inspect(|why| worker.counters.reason(*why));
                carried
            }
        };
        (trip.status, trip.bytes) = (begun.status, to_client);
        trip.tunnel = Some(Carried { opened_after, from_client });
        trip.why = why.map(Reason::label);
        trip.end = if why.is_none() { End::Close } else { End::Reset };
    }

    fn count(&self) {
        let counters = &self.connection.worker.counters;
        counters.to_servers.add(self.up.out.written);
        counters.from_clients.add(self.up.bytes);
        counters.from_servers.add(self.head_bytes + self.down.bytes);
        counters.to_clients.add(self.down.out.written);
    }

    /// Counts, and returns what was lent.
    pub fn give_back(mut self) -> Option<Upstream> {
        self.count();
        let worker = &self.connection.worker;
        worker.buffers.reclaim(&mut self.buffer);
        worker.buffers.reclaim_text(self.down.out.into_lead());
        Some(self.server)
    }
}
