//! HTTP/2 without TLS, toward clients that begin with it (RFC 9113 section 3.3), and HTTP/1 toward all others.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::Buffer;
use crate::client::Client;
use crate::connection;
use crate::counters::Reason;
use crate::wire::Io;
use crate::worker::Worker;

/// What a client of HTTP/2 says first; no request of HTTP/1 begins so.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads as far as it takes to tell, then serves the connection to its end.
pub async fn serve<S: Io + 'static>(worker: Rc<Worker>, mut io: S, client: Client) {
    let mut buffer = Buffer::default();
    let timer = worker.clock.timer();
    let idle_time = worker.view().limits.idle_time;
    let is_whole =
        timer.within(idle_time, poll_fn(|cx| poll_preface(cx, &worker, &mut io, &mut buffer))).await;
    drop(timer);
    match is_whole {
        Ok(Ok(true)) => {
            let io = Begun { read: buffer.into_bytes(), at: 0, io };
            super::serve(worker, io, client).await;
        }
        Ok(Ok(false)) => connection::serve(worker, io, client, buffer).await,
        Ok(Err(_)) => worker.buffers.reclaim(&mut buffer),
        Err(_) => {
            worker.buffers.reclaim(&mut buffer);
            worker.counters.reason(Reason::IdleTime);
        }
    }
}

/// Does it begin with the preface? Ready as soon as that is certain.
fn poll_preface<S: Io>(
    cx: &mut Context<'_>,
    worker: &Worker,
    io: &mut S,
    buffer: &mut Buffer,
) -> Poll<io::Result<bool>> {
    loop {
        let data = buffer.data();
        let common = data.len().min(PREFACE.len());
        if data[..common] != PREFACE[..common] {
            return Poll::Ready(Ok(false));
        }
        if common == PREFACE.len() {
            return Poll::Ready(Ok(true));
        }
        match worker.buffers.poll_read(cx, buffer, io) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            // HTTP/1 knows how to end it.
            Poll::Pending if worker.lets_idle_go.get() => return Poll::Ready(Ok(false)),
            Poll::Pending => {
                worker.buffers.park(buffer);
                return Poll::Pending;
            }
        }
    }
}

/// A connection of which the beginning was read already.
struct Begun<S> {
    read: Vec<u8>,
    at: usize,
    io: S,
}

impl<S: Io> Io for Begun<S> {
    fn taken(&self) -> u64 {
        self.io.taken()
    }

    fn held(&self) -> Option<u64> {
        self.io.held()
    }

    fn reset(&self) {
        self.io.reset();
    }
}

impl<S: Io> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, space);
        }
        let count = (self.read.len() - self.at).min(space.remaining());
        space.put_slice(&self.read[self.at..self.at + count]);
        self.at += count;
        if self.at == self.read.len() {
            self.read = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Io> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
