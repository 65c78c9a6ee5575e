//! A client's connection as bytes: its socket, which counts what it takes.
//!
//! TLS keeps bytes of its own between an answer and the socket, so only the socket can tell whether a reader still
//! reads. It decides nothing: who writes looks at [`Io::taken`] and at a clock.

use std::ffi::c_int;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use rustix::ioctl::{Getter, Opcode, ioctl};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client's byte stream, plain or within TLS.
pub trait Io: AsyncRead + AsyncWrite + Unpin {
    /// One stream of HTTP/2, which says itself where bodies end; not a connection of HTTP/1.
    const IS_HTTP2: bool = false;

    /// Bytes that the socket took so far, those of TLS included: it grows as long as the client reads.
    fn taken(&self) -> u64;

    /// Bytes of those that the client's side has not acknowledged; `None` if the kernel does not say.
    fn held(&self) -> Option<u64>;

    /// The next close is a reset: the client must not take what it got for whole.
    fn reset(&self);

    /// What follows the body that is written, if its length was not said. HTTP/1 drops it (RFC 9110 section 6.5.1).
    fn put_trailers(&mut self, _: http::HeaderMap) {}

    /// Does the client want no answer any more? If not, the task is woken when that is so. HTTP/1 cannot say it: a client
    /// that closes its side may still read.
    fn poll_gone(&mut self, _: &mut Context<'_>) -> bool {
        false
    }

    /// Ends when the client wants no answer any more, as far as it can say so before there is one.
    fn left(&mut self, _: Leaving) -> impl Future<Output = ()> {
        poll_fn(|cx| if self.poll_gone(cx) { Poll::Ready(()) } else { Poll::Pending })
    }
}

/// What counts as having left where a client cannot say so. HTTP/2 can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Its connection was reset. One that has only ended its side may still read.
    Reset,
    /// It has ended its side: too little to wait for long.
    End,
}

/// What `work` comes to; `None`: the client left before.
pub async fn unless_left<S: Io, F: Future>(io: &mut S, by: Leaving, work: F) -> Option<F::Output> {
    let (mut work, mut left) = (pin!(work), pin!(io.left(by)));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => left.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// As on x86, Arm and RISC-V.
const SIOCOUTQ: Opcode = 0x5411;

/// The socket of a client.
pub struct Wire {
    stream: TcpStream,
    taken: u64,
    /// Read before, and to be read again; seldom anything.
    unread: Vec<u8>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, taken: 0, unread: Vec::new() }
    }

    /// Puts back what was read and is somebody else's.
    pub fn unread(&mut self, bytes: Vec<u8>) {
        self.unread = bytes;
    }

    fn count(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let count = ready!(polled)?;
        self.taken += count as u64;
        Poll::Ready(Ok(count))
    }
}

impl Io for Wire {
    fn taken(&self) -> u64 {
        self.taken
    }

    fn held(&self) -> Option<u64> {
        // SAFETY: SIOCOUTQ writes one int, tcp(7).
        let held = unsafe { ioctl(&self.stream, Getter::<SIOCOUTQ, c_int>::new()) };
        held.ok().and_then(|bytes| u64::try_from(bytes).ok())
    }

    fn reset(&self) {
        // Best effort: without it the close is an ordinary one.
        let _ = self.stream.set_zero_linger();
    }

    async fn left(&mut self, by: Leaving) {
        // Not READABLE: the next request may lie there unread. PRIORITY is what `tokio` has for the other side's end.
        let events = match by {
            Leaving::Reset => Interest::ERROR,
            Leaving::End => Interest::ERROR | Interest::PRIORITY,
        };
        // It fails only where nothing is ever ready again.
        let _ = self.stream.ready(events).await;
    }
}

/// Boxed: it is large, and each future that it moves through would keep a place for it.
impl Io for Box<TlsStream<Wire>> {
    fn taken(&self) -> u64 {
        self.get_ref().0.taken()
    }

    fn held(&self) -> Option<u64> {
        self.get_ref().0.held()
    }

    fn reset(&self) {
        self.get_ref().0.reset();
    }

    async fn left(&mut self, by: Leaving) {
        self.get_mut().0.left(by).await;
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let count = self.unread.len().min(space.remaining());
            space.put_slice(&self.unread[..count]);
            self.unread.drain(..count);
            if self.unread.is_empty() {
                self.unread = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, space)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
