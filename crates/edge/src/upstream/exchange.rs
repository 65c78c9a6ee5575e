//! One stream to a server, for whoever speaks HTTP/1.1: the bytes of a request in, frames out, and the bytes of a
//! response back.
//!
//! What is written is a head as the edge writes it, then the body without framing. What is read is a head, then the body
//! without framing: its length is in the head, or it ends where the stream does.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::http2::Running;
use crate::codec::{BodyLength, Fault, HeadLimits, Method, Progress, RequestHead};
use crate::h2::outlet::{Left, Outlet, gone};
use crate::h2::translate;

pub struct Exchange {
    sender: SendRequest<Bytes>,
    is_https: bool,
    scratch: Scratch,
    /// From the request's head on.
    request: Option<Outlet>,
    answer: Answer,
    is_to_head: bool,
    /// Read, but not yet given away.
    unread: Bytes,
    trailers: Option<HeaderMap>,
    is_unprocessed: bool,
    /// Why the request could not be said in HTTP/2.
    fault: Option<Fault>,
    running: Running,
}

/// What it takes to understand the head that the edge wrote.
#[derive(Clone)]
pub struct Scratch {
    pub head: Rc<RefCell<RequestHead>>,
    pub limits: HeadLimits,
}

/// How far the answer is.
enum Answer {
    /// Whoever reads has to write first.
    Unasked,
    Awaited(ResponseFuture),
    Body(RecvStream),
    Ended,
}

impl Exchange {
    pub fn new(sender: SendRequest<Bytes>, is_https: bool, scratch: Scratch, running: Running) -> Self {
        Self {
            sender,
            is_https,
            scratch,
            request: None,
            answer: Answer::Unasked,
            is_to_head: false,
            unread: Bytes::new(),
            trailers: None,
            is_unprocessed: false,
            fault: None,
            running,
        }
    }

    pub fn end_request(&mut self) {
        if let Some(request) = &mut self.request {
            request.finish(None);
        }
    }

    /// Did the server say that it has not looked at the request (RFC 9113 section 8.7)?
    pub fn is_unprocessed(&self) -> bool {
        self.is_unprocessed
    }

    /// Why nothing was asked, if the request has no form in HTTP/2. It reads as an end.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Other requests on the connection go on; new ones take another.
    pub fn leave(&self) {
        self.running.leave();
    }

    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    fn write_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut head = self.scratch.head.borrow_mut();
        let mut invalid = |fault| {
            self.fault = Some(fault);
            io::Error::new(io::ErrorKind::InvalidData, fault)
        };
        let Progress::Done { len } = head.parse(bytes, &self.scratch.limits).map_err(&mut invalid)? else {
            // Heads are always written whole.
            return Err(io::ErrorKind::InvalidData.into());
        };
        let request = translate::read_request(&head, &bytes[..len], self.is_https).map_err(invalid)?;
        let left = match head.body {
            BodyLength::None => Left::Nothing,
            BodyLength::Length(bytes) => Left::Bytes(bytes),
            BodyLength::Chunked | BodyLength::UntilClose => Left::Open,
        };
        let sent = self.sender.send_request(request, left == Left::Nothing);
        let (answer, stream) = sent.map_err(|error| note(&mut self.is_unprocessed, error))?;
        self.is_to_head = head.method == Method::Head;
        (self.answer, self.request) = (Answer::Awaited(answer), Some(Outlet::new(stream, left)));
        Ok(len)
    }

    /// Makes `unread` the next piece; empty at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let unprocessed = &mut self.is_unprocessed;
        match &mut self.answer {
            Answer::Unasked => Poll::Pending,
            Answer::Awaited(answer) => {
                if let Poll::Ready(Some(interim)) = answer.poll_informational(cx) {
                    let (parts, ()) = interim.map_err(|e| note(unprocessed, e))?.into_parts();
                    self.unread = translate::write_response(&parts, false);
                    return Poll::Ready(Ok(()));
                }
                let answer = ready!(Pin::new(answer).poll(cx)).map_err(|e| note(unprocessed, e))?;
                let (parts, body) = answer.into_parts();
                self.unread = translate::write_response(&parts, body.is_end_stream() && !self.is_to_head);
                self.answer = Answer::Body(body);
                Poll::Ready(Ok(()))
            }
            Answer::Body(body) => {
                if let Some(data) = ready!(body.poll_data(cx)) {
                    self.unread = data.map_err(|e| note(unprocessed, e))?;
                    // One piece at a time is held here; the window bounds what the server may send meanwhile.
                    body.flow_control().release_capacity(self.unread.len()).map_err(gone)?;
                } else {
                    self.trailers = ready!(body.poll_trailers(cx)).map_err(|e| note(unprocessed, e))?;
                    self.answer = Answer::Ended;
                }
                Poll::Ready(Ok(()))
            }
            Answer::Ended => Poll::Ready(Ok(())),
        }
    }
}

/// Remembers whether an error leaves the request as if it had never been sent: the server refused it, or its GOAWAY names
/// only streams before it. Of those that GOAWAY names, `h2` never says so: they go on, and end otherwise.
fn note(is_unprocessed: &mut bool, error: h2::Error) -> io::Error {
    *is_unprocessed |=
        error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
    gone(error)
}

impl AsyncRead for Exchange {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() && !matches!(self.answer, Answer::Ended) {
            ready!(self.poll_piece(cx))?;
        }
        let count = self.unread.len().min(space.remaining());
        space.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Exchange {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = match &mut self.request {
            None => self.write_head(bytes).inspect_err(|_| self.answer = Answer::Ended)?,
            Some(request) => ready!(request.poll_write(cx, bytes))?,
        };
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end_request();
        Poll::Ready(Ok(()))
    }
}
