//! One request to one server and its answer back; another server only when nothing can have happened twice.
//!
//! A connection that cannot be made is tried with the next server. A server that closes before a byte of its answer
//! is only given up for another one if the method is safe and there is no body, or if not a byte had left. After the
//! first byte of an answer nothing is tried again.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::answer::{self, Answered, End};
use crate::buffer::{BUFFER_BYTES, Buffer, LONG_BUFFER_BYTES};
use crate::codec::{
    BodyDecoder, BodyLength, Fault, Method, Progress, ResponseExtras, Version, write_response,
};
use crate::connection::{Connection, Io, Request};
use crate::counters::{Reason, ServerCounters};
use crate::exchange::{Pump, PumpError};
use crate::servers::{Pool, Server};
use crate::upstream::{self, ConnectError};

/// Interim answers to one request that are passed on.
const INTERIM_ANSWERS: u32 = 16;
/// Attempts after one that failed on an open connection. Failed connections are bounded by the pool's size.
const REPEATS: u32 = 2;

/// Why an attempt brought no answer.
enum Lost {
    /// The server closed or reset before a byte of its answer.
    Closed,
    Bad(Fault),
    Silent,
    /// The client's body is malformed or too long.
    Client(Fault),
    ClientSlow,
    /// The client left, or reads nothing.
    ClientGone,
}

/// One attempt: both pumps and what they work on.
struct Attempt<'c, S> {
    connection: &'c mut Connection<S>,
    request: &'c Request,
    up: &'c mut Pump,
    /// The request is wholly sent; or the server takes no more of it.
    is_up_done: bool,
    is_up_broken: bool,
    server: TcpStream,
    buffer: Buffer,
    down: Pump,
    interim: u32,
    has_taken_interim: bool,
    received: u64,
    /// Bytes of the answer's heads.
    head_bytes: u64,
    first_byte: Option<Instant>,
}

/// What the head of the final answer said.
#[derive(Clone, Copy)]
struct Begun {
    status: u16,
    server_persists: bool,
    client_persists: bool,
}

/// Forwards to the server whose turn it is, and answers the client in any case.
pub async fn forward<'p, S: Io>(
    connection: &mut Connection<S>,
    request: &mut Request,
    pool: &'p Pool,
) -> Answered<'p> {
    let worker = connection.worker.clone();
    let view = request.view.clone();
    let limits = &view.limits;
    let head = std::mem::take(&mut request.head);
    let mut up = Pump::new(
        head,
        BodyDecoder::new(request.body),
        request.body == BodyLength::Chunked,
        limits.body_bytes,
    );
    let repeatable = request.method.is_safe() && request.body == BodyLength::None;
    let mut trip = Answered::own(0, None, End::Close);
    let (mut repeats, mut turn, mut again) = (0, None::<&Server>, None::<&Server>);
    let (status, reason) = loop {
        let picked = again.take().or_else(|| {
            let server = pool.pick()?;
            server.counters(worker.index).picks.add(1);
            Some(&**server)
        });
        let Some(server) = picked else {
            break (503, if trip.tries == 0 { Reason::NoServer } else { Reason::NoConnection });
        };
        trip.tries += 1;
        trip.server = Some(server);
        let counters = server.counters(worker.index);
        if turn.is_some() {
            worker.counters.retries.add(1);
        } else {
            turn = Some(server);
        }
        let asked = Instant::now();
        let idle = if repeats == 0 { worker.idle.take(server, asked, repeatable) } else { None };
        let is_reused = idle.is_some();
        let stream = match idle {
            Some(stream) => Ok(stream),
            None => {
                counters.connects.add(1);
                upstream::connect(server, &connection.timer, limits.connect_time).await
            }
        };
        trip.connect += asked.elapsed();
        let stream = match stream {
            Ok(stream) => stream,
            Err(ConnectError::NoResources) => break (503, Reason::NoResources),
            Err(error) => {
                counters.connect_failures.add(1);
                match error {
                    ConnectError::Refused => server.on_refused(),
                    _ => server.on_result(false, &pool.policy()),
                }
                if trip.tries as usize > pool.servers.len() + REPEATS as usize {
                    break (503, Reason::NoConnection);
                }
                continue;
            }
        };
        let in_flight = InFlight::new(counters);
        let mut attempt = Attempt::new(connection, request, &mut up, stream);
        let asked = Instant::now();
        let lost = match attempt.until_begun().await {
            Ok(begun) => {
                trip.first_byte = attempt.first_byte.map_or(Duration::ZERO, |at| at - asked);
                counters.requests.add(1);
                if turn.is_some_and(|turn| turn.number != server.number) {
                    pool.out_of_turn.fetch_add(1, Ordering::Relaxed);
                }
                attempt.until_ended(begun, server, &mut trip).await;
                drop(in_flight);
                request.head = up.out.into_lead();
                return trip;
            }
            Err(lost) => lost,
        };
        let answer_began = attempt.received > 0;
        // Half of an interim answer is out: nothing that follows could be understood.
        let is_torn = attempt.down.out.written > 0 && !attempt.down.out.is_idle();
        let lost = if is_torn { Lost::ClientGone } else { lost };
        attempt.give_back();
        drop(in_flight);
        match lost {
            Lost::Closed => {
                // A connection that was idle may close at any moment: that says nothing about the server.
                if !is_reused {
                    counters.bad_responses.add(1);
                }
                let unsent = up.out.written == 0;
                if (repeatable || unsent) && !answer_began && repeats < REPEATS {
                    repeats += 1;
                    up.out.rewind();
                    again = is_reused.then_some(server);
                    continue;
                }
                break (502, Reason::ServerClosed);
            }
            Lost::Bad(fault) => {
                counters.bad_responses.add(1);
                worker.counters.fault(fault);
                trip.why = Some(fault.label());
                break (502, Reason::BadResponse);
            }
            Lost::Silent => {
                counters.timeouts.add(1);
                break (504, Reason::ResponseTime);
            }
            Lost::Client(Fault::BodyCut) | Lost::ClientGone => {
                worker.counters.reason(Reason::ClientGone);
                request.head = up.out.into_lead();
                return Answered {
                    status: 400,
                    why: Some(Reason::ClientGone.label()),
                    end: End::Reset,
                    ..trip
                };
            }
            Lost::Client(fault) => {
                worker.counters.fault(fault);
                request.head = restore(up);
                let words = fault.to_string();
                let own =
                    answer::reply(connection, request, fault.status(), &words, Some(fault.label()), "").await;
                return Answered { end: no_keep(own.end), ..merge(own, trip) };
            }
            Lost::ClientSlow => break (408, Reason::BodyTime),
        }
    };
    request.head = restore(up);
    let own = answer::fail(connection, request, status, reason).await;
    merge(own, trip)
}

/// The request's own head again, without what was framed behind it.
fn restore(up: Pump) -> Vec<u8> {
    let kept = up.out.kept().len();
    let mut head = up.out.into_lead();
    head.truncate(kept);
    head
}

fn merge<'p>(own: Answered<'p>, trip: Answered<'p>) -> Answered<'p> {
    Answered { status: own.status, bytes: own.bytes, end: own.end, why: trip.why.or(own.why), ..trip }
}

fn no_keep(end: End) -> End {
    if end == End::Keep { End::Close } else { end }
}

impl<'c, S: Io> Attempt<'c, S> {
    fn new(
        connection: &'c mut Connection<S>,
        request: &'c Request,
        up: &'c mut Pump,
        server: TcpStream,
    ) -> Self {
        let mut buffer = Buffer::default();
        connection.worker.buffers.lend(&mut buffer);
        if matches!(request.body, BodyLength::Length(n) if n > 2 * BUFFER_BYTES as u64) {
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
            buffer,
            down,
            interim: 0,
            has_taken_interim: false,
            received: 0,
            head_bytes: 0,
            first_byte: None,
        }
    }

    /// Sends the request, passes interim answers on, and returns when the head of the final answer is parsed and
    /// written into the pump.
    async fn until_begun(&mut self) -> Result<Begun, Lost> {
        let response_time = self.request.view.limits.response_time;
        self.connection.timer.arm(response_time);
        *self.down.out.lead_mut() = self.connection.worker.buffers.text();
        let mut judged = 0;
        poll_fn(|cx| {
            let before = self.progress();
            let polled = self.poll_head(cx, &mut judged);
            if polled.is_ready() {
                return polled;
            }
            if self.progress() != before {
                self.connection.timer.arm(response_time);
            }
            if self.connection.timer.poll_expired(cx) {
                let is_client_awaited = !self.is_up_done && !self.is_up_broken && self.up.out.is_idle();
                return Poll::Ready(Err(match (self.down.out.is_idle(), is_client_awaited) {
                    (false, _) => Lost::ClientGone,
                    (true, true) => Lost::ClientSlow,
                    (true, false) => Lost::Silent,
                }));
            }
            Poll::Pending
        })
        .await
    }

    fn progress(&self) -> u64 {
        self.up.out.written + self.up.bytes + self.received + self.down.out.written + self.down.bytes
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        if self.is_up_done || self.is_up_broken {
            return Ok(());
        }
        let Connection { io, buffer, .. } = &mut *self.connection;
        match self.up.poll(cx, io, buffer, &mut self.server) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.is_up_done = true,
            // It may have answered before it stopped reading.
            Poll::Ready(Err(PumpError::Write)) => self.is_up_broken = true,
            Poll::Ready(Err(PumpError::Read)) => return Err(Lost::ClientGone),
            Poll::Ready(Err(PumpError::Fault(fault))) => return Err(Lost::Client(fault)),
        }
        Ok(())
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, judged: &mut usize) -> Poll<Result<Begun, Lost>> {
        if let Err(lost) = self.poll_up(cx) {
            return Poll::Ready(Err(lost));
        }
        loop {
            if !self.down.out.is_idle() {
                let io = &mut self.connection.io;
                match self.down.out.poll_send(cx, &mut self.buffer, io) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Lost::ClientGone)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.request.view.head_limits.is_worth_a_look(self.buffer.data(), *judged) {
                *judged = self.buffer.data().len();
                match self.parse() {
                    Err(fault) => return Poll::Ready(Err(Lost::Bad(fault))),
                    Ok(Some(begun)) => return Poll::Ready(Ok(begun)),
                    Ok(None) if self.interim > INTERIM_ANSWERS => {
                        return Poll::Ready(Err(Lost::Bad(Fault::TooManyInterim)));
                    }
                    Ok(None) if std::mem::take(&mut self.has_taken_interim) => {
                        *judged = 0;
                        continue;
                    }
                    Ok(None) => {}
                }
            }
            if self.buffer.data().len() == self.buffer.capacity() {
                self.buffer.grow(self.request.view.head_limits.bytes.max(2 * BUFFER_BYTES));
            }
            match self.buffer.poll_read(cx, &mut self.server) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.received += count as u64;
                    self.first_byte.get_or_insert_with(Instant::now);
                }
                Poll::Ready(_) => {
                    return Poll::Ready(Err(if self.received == 0 {
                        Lost::Closed
                    } else {
                        Lost::Bad(Fault::BodyCut)
                    }));
                }
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Begun>, Fault> {
        let worker = self.connection.worker.clone();
        let mut head = worker.response.borrow_mut();
        let data = self.buffer.data();
        let to_head = self.request.method == Method::Head;
        let Progress::Done { len } = head.parse(data, &self.request.view.head_limits, to_head)? else {
            return Ok(None);
        };
        let is_modern = self.request.version == Version::Http11;
        let framing = match head.body {
            BodyLength::Chunked | BodyLength::UntilClose if is_modern => BodyLength::Chunked,
            BodyLength::Chunked => BodyLength::UntilClose,
            other => other,
        };
        let client_persists = self.request.persists
            && self.is_up_done
            && framing != BodyLength::UntilClose
            && !worker.draining.get();
        let is_interim = head.is_interim();
        if !is_interim || is_modern {
            worker.with_date(|date| {
                let extras = ResponseExtras {
                    request_id: self.request.id.as_str(),
                    date,
                    hsts: self.request.hsts,
                    framing,
                    say_keep_alive: client_persists && !is_modern,
                    say_close: !client_persists,
                };
                write_response(self.down.out.lead_mut(), &head, data, &extras);
            });
        }
        let (status, server_persists, body) = (head.status, head.persists, head.body);
        drop(head);
        self.buffer.consume(len);
        self.head_bytes += len as u64;
        if is_interim {
            self.interim += 1;
            self.has_taken_interim = true;
            return Ok(None);
        }
        self.down.begin(BodyDecoder::new(body), framing == BodyLength::Chunked);
        if matches!(body, BodyLength::Length(n) if n > 2 * BUFFER_BYTES as u64) {
            self.buffer.grow(LONG_BUFFER_BYTES);
        }
        Ok(Some(Begun { status, server_persists, client_persists }))
    }

    /// Passes the answer on to its end; nothing is tried again from here on.
    async fn until_ended(mut self, begun: Begun, server: &Server, trip: &mut Answered<'_>) {
        let limits = self.request.view.clone();
        let (response_time, idle_time) = (limits.limits.response_time, limits.limits.idle_time);
        let ended = poll_fn(|cx| {
            let before = self.progress();
            // A client that breaks its body now has its connection closed after the answer.
            if self.poll_up(cx).is_err() {
                self.is_up_broken = true;
            }
            let Connection { io, .. } = &mut *self.connection;
            match self.down.poll(cx, &mut self.server, &mut self.buffer, io) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(PumpError::Write)) => return Poll::Ready(Err(Reason::ClientGone)),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Reason::AnswerCut)),
                Poll::Pending => {}
            }
            let is_reader_awaited = !self.down.out.is_idle();
            if self.progress() != before {
                self.connection.timer.arm(if is_reader_awaited { idle_time } else { response_time });
            }
            if self.connection.timer.poll_expired(cx) {
                return Poll::Ready(Err(if is_reader_awaited {
                    Reason::ReaderTime
                } else {
                    Reason::AnswerCut
                }));
            }
            Poll::Pending
        })
        .await;
        let worker = self.connection.worker.clone();
        (trip.status, trip.bytes) = (begun.status, self.down.bytes);
        trip.end = match ended {
            Ok(()) if begun.client_persists => End::Keep,
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
        let is_clean = ended.is_ok() && begun.server_persists && self.is_up_done && self.buffer.is_empty();
        if let Some(stream) = self.give_back().filter(|_| is_clean) {
            worker.idle.put(server, stream, Instant::now());
        }
    }

    /// Counts, and returns what was lent.
    fn give_back(mut self) -> Option<TcpStream> {
        let worker = &self.connection.worker;
        worker.counters.to_servers.add(self.up.out.written);
        worker.counters.from_clients.add(self.up.bytes);
        worker.counters.from_servers.add(self.head_bytes + self.down.bytes);
        worker.counters.to_clients.add(self.down.out.written);
        worker.buffers.reclaim(&mut self.buffer);
        worker.buffers.reclaim_text(self.down.out.into_lead());
        Some(self.server)
    }
}

/// Counts a request as being answered by a server while it lives.
struct InFlight<'s>(&'s ServerCounters);

impl<'s> InFlight<'s> {
    fn new(counters: &'s ServerCounters) -> Self {
        counters.in_flight.add(1);
        Self(counters)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.sub(1);
    }
}
