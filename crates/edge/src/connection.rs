//! One client connection: requests in their order, each answered before the next is looked at.
//!
//! One task serves a connection from its first byte to its last. While it is idle it holds no buffer.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::access_log::Line;
use crate::answer::{self, Answered, End};
use crate::buffer::{BUFFER_BYTES, Buffer};
use crate::client::{Client, Scheme};
use crate::clock::{Stall, Timer};
use crate::codec::{
    BodyLength, Fault, Forwarding, Method, Progress, RequestSpans, Version, write_request, write_trace,
};
use crate::counters::{Answering, Reason};
use crate::exchange::Outgoing;
use crate::forward::forward;
use crate::routing::{self, Destination, Place};
use crate::snapshot::To;
use crate::wire::Io;
use crate::worker::{RequestId, View, Worker};
use crate::{codec, files};

/// How long and how much is read from a client that has been told to go, so that it sees why.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;
/// How long the end of TLS may wait for a full socket.
const FAREWELL_TIME: Duration = Duration::from_millis(100);

pub struct Connection<S> {
    pub worker: Rc<Worker>,
    pub io: S,
    pub buffer: Buffer,
    pub timer: Timer,
    pub client: Client,
}

/// A request that passed the parser: what is needed of it after its bytes are gone.
pub struct Request {
    pub method: Method,
    pub version: Version,
    pub body: BodyLength,
    pub persists: bool,
    /// The client waits for a 100 before it sends its body.
    pub expects_continue: bool,
    /// A server may answer 101.
    pub offers_websocket: bool,
    /// For whom it was made, and how that came to the first proxy that is trusted.
    pub client: IpAddr,
    pub scheme: Scheme,
    pub id: RequestId,
    /// The request as a server is sent it, if no rule says otherwise.
    pub head: Vec<u8>,
    /// Instead of `head`, by the rules of its route.
    pub to_server: Option<Vec<u8>>,
    pub spans: RequestSpans,
    pub view: Rc<View>,
    pub to: Destination,
    pub place: Place,
    pub hsts: bool,
    pub started: Instant,
}

enum Next {
    Request(Box<Request>),
    Refused(Fault),
    TooSlow,
    Gone,
    /// The edge ends before the head was whole.
    Cut,
}

/// Serves a connection until either side ends it. `buffer` holds what was read of it before.
pub async fn serve<S: Io>(worker: Rc<Worker>, io: S, client: Client, buffer: Buffer) {
    let timer = worker.clock.timer();
    let mut connection = Connection { worker, io, buffer, timer, client };
    let end = loop {
        let next = connection.next().await;
        // Boxed, so that an idle connection is small: the future of a request is many times the size.
        let end = match next {
            Next::Request(request) => in_place(|| connection.answer(request)).await,
            Next::Refused(fault) => {
                in_place(|| connection.refuse(fault.status(), fault.label(), Some(fault))).await
            }
            Next::TooSlow => in_place(|| connection.refuse(408, Reason::HeaderTime.label(), None)).await,
            Next::Gone => {
                // Nothing was left unread: a plain close, with TLS's farewell if the socket takes it.
                let Connection { io, timer, .. } = &mut connection;
                let _ = timer.within(FAREWELL_TIME, io.shutdown()).await;
                return;
            }
            Next::Cut => End::Reset,
        };
        if end != End::Keep {
            break end;
        }
    };
    connection.end(end).await;
}

/// As `Box::pin`, but nothing is moved: what a future has room for would be copied whole, although it holds little yet.
fn in_place<F>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let place = Box::new_uninit();
    Box::into_pin(Box::write(place, make()))
}

impl<S: Io> Connection<S> {
    /// Waits for a request. The head is judged only when it has another whole line.
    async fn next(&mut self) -> Next {
        let limits = self.worker.view();
        let (idle_time, header_time) = (limits.limits.idle_time, limits.limits.header_time);
        let head_limits = limits.head_limits;
        drop(limits);
        let mut judged = 0;
        let mut is_begun = !self.buffer.is_empty();
        self.timer.arm(if is_begun { header_time } else { idle_time });
        poll_fn(|cx| {
            loop {
                if head_limits.is_worth_a_look(self.buffer.data(), judged) {
                    judged = self.buffer.data().len();
                    match self.parse() {
                        Ok(Some(request)) => return Poll::Ready(Next::Request(request)),
                        Ok(None) => {}
                        Err(fault) => return Poll::Ready(Next::Refused(fault)),
                    }
                }
                self.worker.buffers.lend(&mut self.buffer);
                // A full buffer would read as the end of the stream. What is beyond the bound of a head was refused above.
                if self.buffer.data().len() == self.buffer.capacity() {
                    self.buffer.grow(head_limits.bytes.max(2 * BUFFER_BYTES));
                }
                match self.buffer.poll_read(cx, &mut self.io) {
                    Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => return Poll::Ready(Next::Gone),
                    Poll::Ready(Ok(_)) => {
                        if !is_begun {
                            is_begun = true;
                            self.timer.arm(header_time);
                        }
                    }
                    Poll::Pending => match (self.timer.poll_expired(cx), is_begun) {
                        (false, true) => {
                            self.worker.buffers.park(&mut self.buffer);
                            return Poll::Pending;
                        }
                        (true, true) if self.worker.clock.is_over() => {
                            self.worker.counters.reason(Reason::DrainTime);
                            return Poll::Ready(Next::Cut);
                        }
                        (true, true) => return Poll::Ready(Next::TooSlow),
                        (is_expired, false) => {
                            self.worker.buffers.reclaim(&mut self.buffer);
                            if self.worker.lets_idle_go.get() {
                                return Poll::Ready(Next::Gone);
                            }
                            if is_expired {
                                self.worker.counters.reason(Reason::IdleTime);
                                return Poll::Ready(Next::Gone);
                            }
                            return Poll::Pending;
                        }
                    },
                }
            }
        })
        .await
    }

    /// One look at the buffer: a whole head becomes a request, its bytes are consumed.
    fn parse(&mut self) -> Result<Option<Box<Request>>, Fault> {
        let Some((request, len)) = self.read_head(self.buffer.data())? else { return Ok(None) };
        self.buffer.consume(len);
        if self.buffer.is_empty() {
            self.worker.buffers.reclaim(&mut self.buffer);
        }
        Ok(Some(request))
    }

    /// The request whose head `data` begins with, and the length of that; `None`: it is not whole.
    pub fn read_head(&self, data: &[u8]) -> Result<Option<(Box<Request>, usize)>, Fault> {
        let view = self.worker.view();
        let mut head = self.worker.request.borrow_mut();
        let Progress::Done { len } = head.parse(data, &view.head_limits)? else { return Ok(None) };
        if S::IS_HTTP2 {
            head.version = Version::Http2;
        }
        let origin = self.client.origin(&head, data, &view.proxies)?;
        let id = self.worker.request_id();
        let mut text = self.worker.buffers.text();
        let from = Forwarding {
            chain: &origin.chain,
            scheme: origin.scheme.as_str(),
            host: origin.host,
            certificate: self.client.certificate(),
            form: view.proxies.forwarded,
            request_id: id.as_str(),
            via: view.via,
            traces: view.traces,
        };
        let spans = write_request(&mut text, &head, data, &from);
        let host = codec::host_without_port(spans.host.of(&text));
        let has_https = self.worker.shared.https_port().is_some();
        let routed =
            routing::route(&view, &self.client, origin.scheme, has_https, host, spans.path.of(&text));
        let rules = routed.place.rules(&view);
        let most_bytes = routed.place.body_bytes(&view);
        let to = match routed.to {
            _ if matches!(head.body, BodyLength::Length(n) if n > most_bytes) => Destination::BodyTooLong,
            Destination::Route(_) if head.max_forwards == Some(0) => {
                let mut seen = Vec::new();
                write_trace(&mut seen, &head, data);
                Destination::LastHop(seen)
            }
            to => to,
        };
        let place = Box::new_uninit();
        let request = Request {
            method: head.method,
            version: head.version,
            body: head.body,
            persists: head.persists && !self.worker.draining.get(),
            expects_continue: head.expects_continue,
            offers_websocket: head.offers_websocket,
            client: origin.client,
            scheme: origin.scheme,
            id,
            to_server: rules.and_then(|rules| rules.rewritten(&text, spans.path.range())),
            head: text,
            spans,
            to,
            place: routed.place,
            hsts: routed.hsts,
            view,
            started: Instant::now(),
        };
        self.worker.counters.from_clients.add(len as u64);
        Ok(Some((Box::write(place, request), len)))
    }

    /// Answers it in any case, and says what becomes of the connection.
    pub async fn answer(&mut self, mut request: Box<Request>) -> End {
        let worker = self.worker.clone();
        worker.counters.requests.add(1);
        let in_flight = Answering::new(&worker.counters);
        let view = request.view.clone();
        let answered = match &request.to {
            Destination::Route(To::Pool(index)) => {
                let pool = &view.pools[*index];
                forward(self, &mut request, pool).await
            }
            Destination::Route(To::Files(directory)) => {
                files::answer(self, &request, directory.clone()).await
            }
            Destination::Route(To::Redirect(status)) => {
                answer::redirect_by_rule(self, &request, *status).await
            }
            Destination::Maintenance => answer::maintenance(self, &request).await,
            Destination::Route(To::Nowhere) => answer::fail(self, &request, 503, Reason::NoServer).await,
            Destination::Redirect => answer::redirect(self, &request).await,
            Destination::Misdirected => answer::fail(self, &request, 421, Reason::Misdirected).await,
            Destination::NoRoute => answer::fail(self, &request, 404, Reason::NoRoute).await,
            Destination::LastHop(seen) => answer::last_hop(self, &request, seen).await,
            Destination::BodyTooLong => {
                let fault = Fault::BodyTooLong;
                worker.counters.fault(fault);
                let (words, label) = (fault.to_string(), Some(fault.label()));
                answer::reply(self, &request, fault.status(), &words, label, "").await
            }
        };
        drop(in_flight);
        let took = request.started.elapsed();
        worker.counters.told(answered.status);
        let until_known = answered.tunnel.map_or(took, |tunnel| tunnel.opened_after);
        worker.counters.took(until_known);
        let is_cut = answered.end == End::Reset;
        if is_cut {
            worker.counters.cut.add(1);
        }
        let tally = request.place.tally(&view).of(worker.index);
        tally.ended(answered.status, is_cut, answered.bytes, until_known);
        if worker.log.is_kept(&view) {
            worker.log.write(&view, &worker.counters, &self.line(&request, &answered, took));
        }
        worker.buffers.reclaim_text(std::mem::take(&mut request.head));
        answered.end
    }

    fn line<'a>(&'a self, request: &'a Request, answered: &'a Answered<'_>, took: Duration) -> Line<'a> {
        Line {
            id: request.id.as_str(),
            client: request.client,
            scheme: request.scheme.as_str(),
            trace: request.spans.trace.of(&request.head),
            method: request.spans.method.of(&request.head),
            host: request.spans.host.of(&request.head),
            path: request.spans.path.of(&request.head),
            place: request.place.names(&request.view),
            version: Some(request.version),
            status: answered.status,
            bytes: answered.bytes,
            received: answered.tunnel.map(|tunnel| tunnel.from_client),
            server: answered.server.map(|s| s.id.as_str()),
            tries: answered.tries,
            tried: &answered.tried,
            total: took,
            connect: answered.connect,
            first_byte: answered.first_byte,
            why: answered.why,
        }
    }

    /// Answers what is no request; nothing after it is read as one.
    pub async fn refuse(&mut self, status: u16, why: &'static str, fault: Option<Fault>) -> End {
        let worker = self.worker.clone();
        match fault {
            Some(fault) => worker.counters.fault(fault),
            None => worker.counters.reason(Reason::HeaderTime),
        }
        let id = worker.request_id();
        let words = fault.map_or_else(|| answer::words(status).to_owned(), |f| f.to_string());
        let text = answer::page(&worker, status, &words, id.as_str());
        let end = match self.send(text).await {
            Ok(_) => End::Close,
            Err(_) => End::Reset,
        };
        worker.counters.told(status);
        let line = Line {
            status,
            why: Some(why),
            ..Line::refused(id.as_str(), self.client.address, self.client.scheme.as_str())
        };
        worker.log.write(&worker.view(), &worker.counters, &line);
        end
    }

    /// Writes all of it out, as far as the client's socket, and gives the memory back. A client that does not read is
    /// given `idle_time`. Why it failed has been counted.
    pub async fn send(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, Reason> {
        let idle_time = self.worker.view().limits.idle_time;
        let (mut out, mut nothing) = (Outgoing::new(bytes), Buffer::default());
        let Self { worker, io, timer, .. } = self;
        let mut stall = Stall::begin(timer, io.taken(), idle_time);
        let result = poll_fn(|cx| match out.poll_send(cx, &mut nothing, io) {
            Poll::Ready(result) => Poll::Ready(result.map_err(|_| Reason::ClientGone)),
            Poll::Pending if stall.poll(cx, timer, io.taken(), idle_time, || io.held()) => {
                Poll::Ready(Err(if worker.clock.is_over() { Reason::DrainTime } else { Reason::ReaderTime }))
            }
            Poll::Pending => Poll::Pending,
        })
        .await;
        worker.counters.to_clients.add(out.written);
        match result {
            Ok(()) => Ok(out.into_lead()),
            Err(reason) => {
                worker.counters.reason(reason);
                Err(reason)
            }
        }
    }

    async fn end(mut self, end: End) {
        if end == End::Reset {
            self.io.reset();
            self.worker.buffers.reclaim(&mut self.buffer);
            return;
        }
        linger(&self.worker, &mut self.io, &self.timer, self.buffer).await;
    }
}

/// Closes a connection whose client may still be sending: closing with unread bytes would reset it, and could take back
/// what was said last.
pub async fn linger<S: Io>(worker: &Worker, io: &mut S, timer: &Timer, mut buffer: Buffer) {
    worker.buffers.lend(&mut buffer);
    let _ = timer
        .within(LINGER_TIME, async {
            io.shutdown().await?;
            let mut left = LINGER_BYTES;
            loop {
                let unread = buffer.data().len();
                buffer.consume(unread);
                let count = poll_fn(|cx| buffer.poll_read(cx, io)).await?;
                if count == 0 || count > left {
                    return Ok::<(), io::Error>(());
                }
                left -= count;
            }
        })
        .await;
    worker.buffers.reclaim(&mut buffer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    /// Of the future that a call would give.
    fn future_bytes<F>(_: impl Fn(Rc<Worker>, Wire, Client, Buffer) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        let bytes = future_bytes(serve::<Wire>);
        assert!(bytes <= 1024, "{bytes} bytes wait with each idle connection");
    }
}
