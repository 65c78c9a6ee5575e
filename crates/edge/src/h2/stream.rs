//! One stream of HTTP/2 as the rest of the edge sees a client: bytes of an HTTP/1.1 response in, frames out.
//!
//! What is written begins with a head, which becomes a HEADERS frame; interim ones may stand before it. The body follows
//! as it is: the stream itself says where it ends. What is read is the body of the request, without framing.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::translate;
use crate::codec::{Asked, BodyLength, Fault, HeadLimits, Progress};
use crate::wire::Io;
use crate::worker::Worker;

/// A response has at most this many fields of the edge's own, above those that a server may send.
const OWN_FIELDS: usize = 16;

pub struct Stream {
    worker: Rc<Worker>,
    asked: Asked,
    request_body: RecvStream,
    /// Of the request's body: what was received and not read yet.
    unread: Bytes,
    answer: SendResponse<Bytes>,
    /// From the final head on.
    body: Option<SendStream<Bytes>>,
    left: Left,
    /// Bytes that the stream's window took, heads included.
    taken: u64,
    is_reset: Cell<bool>,
}

/// What of the answer is still to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Head,
    Bytes(u64),
    UntilShutdown,
    Nothing,
}

impl Stream {
    pub fn new(
        worker: Rc<Worker>,
        request_body: RecvStream,
        answer: SendResponse<Bytes>,
        asked: Asked,
    ) -> Self {
        Self {
            worker,
            asked,
            request_body,
            unread: Bytes::new(),
            answer,
            body: None,
            left: Left::Head,
            taken: 0,
            is_reset: Cell::new(false),
        }
    }

    /// Ends the answer: as a whole one, or so that nobody takes it for one.
    pub fn end(mut self) {
        self.finish();
        if self.left != Left::Nothing || self.is_reset.get() {
            self.answer.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    /// Ends a body whose length nobody said, unless it was cut.
    fn finish(&mut self) {
        if let (Some(body), Left::UntilShutdown, false) = (&mut self.body, self.left, self.is_reset.get()) {
            // Fails only on a stream that is gone.
            let _ = body.send_data(Bytes::new(), true);
            self.left = Left::Nothing;
        }
    }

    fn write_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut head = self.worker.response.borrow_mut();
        let fields = self.worker.view().head_limits.fields + OWN_FIELDS;
        let limits = HeadLimits { bytes: usize::MAX, fields, line_bytes: usize::MAX };
        let len = match head.parse(bytes, &limits, self.asked).map_err(not_a_response)? {
            Progress::Done { len } => len,
            // Heads are always written whole.
            Progress::More => return Err(io::ErrorKind::InvalidData.into()),
        };
        let response = translate::read_response(&head, &bytes[..len]).map_err(not_a_response)?;
        if head.is_interim() {
            self.answer.send_informational(response).map_err(gone)?;
        } else {
            self.left = match head.body {
                BodyLength::None if head.is_switch() => Left::UntilShutdown,
                BodyLength::None => Left::Nothing,
                BodyLength::Length(bytes) => Left::Bytes(bytes),
                BodyLength::UntilClose | BodyLength::Chunked => Left::UntilShutdown,
            };
            self.body = Some(self.answer.send_response(response, self.left == Left::Nothing).map_err(gone)?);
        }
        Ok(len)
    }

    fn poll_write_body(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (Some(body), true) = (&mut self.body, !bytes.is_empty()) else { return Poll::Ready(Ok(0)) };
        body.reserve_capacity(bytes.len());
        let mut room = body.capacity();
        while room == 0 {
            room = match ready!(body.poll_capacity(cx)) {
                Some(room) => room.map_err(gone)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let count = room.min(bytes.len());
        if let Left::Bytes(left) = &mut self.left {
            *left = left.checked_sub(count as u64).ok_or(io::ErrorKind::InvalidData)?;
            if *left == 0 {
                self.left = Left::Nothing;
            }
        }
        let is_last = self.left == Left::Nothing;
        body.send_data(Bytes::copy_from_slice(&bytes[..count]), is_last).map_err(gone)?;
        Poll::Ready(Ok(count))
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

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.body {
            None => self.answer.poll_reset(cx).is_ready(),
            Some(body) => self.left != Left::Nothing && body.poll_reset(cx).is_ready(),
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
        let count = match self.left {
            Left::Head => self.write_head(bytes)?,
            // A refusal has words even for HEAD.
            Left::Nothing if self.asked == Asked::Head => bytes.len(),
            Left::Nothing => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            _ => ready!(self.poll_write_body(cx, bytes))?,
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

fn gone(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

fn not_a_response(fault: Fault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}
