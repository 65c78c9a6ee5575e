//! One stream of HTTP/2 as the rest of the edge sees a client: bytes of an HTTP/1.1 response in, frames out.
//!
//! What is written begins with a head, which becomes a HEADERS frame; interim ones may stand before it. The body follows
//! as it is: the stream itself says where it ends. What is read is the body of the request, without framing.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::outlet::{Left, Outlet, gone};
use super::translate::{self, Said};
use crate::codec::{Asked, BodyLength, Fault};
use crate::wire::Io;

pub struct Stream {
    asked: Asked,
    request_body: RecvStream,
    /// Of the request's body: what was received and not read yet.
    unread: Bytes,
    answer: SendResponse<Bytes>,
    /// From the final head on.
    body: Option<Outlet>,
    /// What follows a body whose length nobody said.
    trailers: Option<HeaderMap>,
    /// Bytes that the stream's window took, heads included.
    taken: u64,
    is_reset: Cell<bool>,
}

impl Stream {
    pub fn new(request_body: RecvStream, answer: SendResponse<Bytes>, asked: Asked) -> Self {
        Self {
            asked,
            request_body,
            unread: Bytes::new(),
            answer,
            body: None,
            trailers: None,
            taken: 0,
            is_reset: Cell::new(false),
        }
    }

    /// Ends the answer: as a whole one, or so that nobody takes it for one.
    pub fn end(mut self) {
        self.finish();
        if !self.body.is_some_and(|body| body.is_whole()) || self.is_reset.get() {
            self.answer.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    fn finish(&mut self) {
        if let (Some(body), false) = (&mut self.body, self.is_reset.get()) {
            body.finish(self.trailers.take());
        }
    }

    fn write_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Said { response, len, body } =
            translate::read_response(bytes, self.asked).map_err(not_a_response)?;
        if response.status().is_informational() {
            self.answer.send_informational(response).map_err(gone)?;
        } else {
            let left = match body {
                BodyLength::None => Left::Nothing,
                BodyLength::Length(bytes) => Left::Bytes(bytes),
                BodyLength::UntilClose | BodyLength::Chunked => Left::Open,
            };
            let stream = self.answer.send_response(response, left == Left::Nothing).map_err(gone)?;
            self.body = Some(Outlet::new(stream, left));
        }
        Ok(len)
    }
}

impl Io for Stream {
    const IS_HTTP2: bool = true;

    fn taken(&self) -> u64 {
        self.taken
    }

    fn held(&self) -> Option<u64> {
        None
    }

    fn reset(&self) {
        self.is_reset.set(true);
    }

    fn put_trailers(&mut self, trailers: HeaderMap) {
        self.trailers = Some(trailers);
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.body {
            None => self.answer.poll_reset(cx).is_ready(),
            Some(body) => body.poll_reset(cx),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.request_body.poll_data(cx)) {
                Some(data) => self.unread = data.map_err(gone)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.unread.len().min(space.remaining());
        space.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        // The client may send as much again.
        self.request_body.flow_control().release_capacity(count).map_err(gone)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let is_to_head = self.asked == Asked::Head;
        let count = match &mut self.body {
            None => self.write_head(bytes)?,
            // A refusal has words even for HEAD.
            Some(_) if is_to_head => bytes.len(),
            Some(body) => ready!(body.poll_write(cx, bytes))?,
        };
        self.taken += count as u64;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

fn not_a_response(fault: Fault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}
