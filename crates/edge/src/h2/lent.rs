//! A client's byte stream while `h2` has it. What `h2` writes is held until the driver says that it is all there was to
//! say for now: `h2` itself would flush after every DATA frame, which is a record of TLS and a system call for each
//! small answer. Who lent the stream gets it back, to close it as it should be closed.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wire::Io;
use crate::worker::Worker;

/// More than this is written before more is taken, bytes: four records of TLS.
const HELD_BYTES: usize = 64 * 1024;

pub struct Cork<S> {
    pub io: S,
    worker: Rc<Worker>,
    /// Without memory of its own while it is empty.
    out: Vec<u8>,
    /// Of `out`.
    sent: usize,
}

impl<S: Io> Cork<S> {
    pub fn new(worker: Rc<Worker>, io: S) -> Self {
        Self { io, worker, out: Vec::new(), sent: 0 }
    }

    /// Writes what is held as far as the socket takes it. Ready when nothing is held any more.
    pub fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.out.len() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.sent..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.worker.buffers.reclaim_cork(std::mem::take(&mut self.out));
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Has the socket taken all of it?
    pub fn is_out(&self) -> bool {
        self.out.is_empty()
    }

    /// How much of `len` bytes may be taken now.
    fn poll_room(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<io::Result<usize>> {
        if self.out.len() >= HELD_BYTES {
            ready!(self.poll_out(cx))?;
        }
        if self.out.is_empty() {
            self.out = self.worker.buffers.cork();
        }
        Poll::Ready(Ok(len.min(HELD_BYTES - self.out.len())))
    }
}

pub struct Lent<S>(pub Rc<RefCell<Cork<S>>>);

impl<S: Io> AsyncRead for Lent<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_read(cx, space)
    }
}

impl<S: Io> AsyncWrite for Lent<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let cork = &mut *self.0.borrow_mut();
        let count = ready!(cork.poll_room(cx, bytes.len()))?;
        cork.out.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let cork = &mut *self.0.borrow_mut();
        let room = ready!(cork.poll_room(cx, slices.iter().map(|s| s.len()).sum()))?;
        let mut left = room;
        for slice in slices {
            let count = slice.len().min(left);
            cork.out.extend_from_slice(&slice[..count]);
            left -= count;
        }
        Poll::Ready(Ok(room))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The driver flushes, by [`Cork::poll_out`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let cork = &mut *self.0.borrow_mut();
        ready!(cork.poll_out(cx))?;
        Pin::new(&mut cork.io).poll_shutdown(cx)
    }
}
