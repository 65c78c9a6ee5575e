//! The way out of one stream: bytes in, DATA frames out, as far as the window of the other side allows.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;

/// What of a body is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Its length was said in the head.
    Bytes(u64),
    /// Until [`Outlet::finish`].
    Open,
    Nothing,
}

pub struct Outlet {
    stream: SendStream<Bytes>,
    left: Left,
}

impl Outlet {
    /// With [`Left::Nothing`] the head must have ended the stream.
    pub fn new(stream: SendStream<Bytes>, left: Left) -> Self {
        Self { stream, left }
    }

    pub fn is_whole(&self) -> bool {
        self.left == Left::Nothing
    }

    /// Ready with how much of `bytes` was taken.
    ///
    /// # Errors
    /// `InvalidData` for more than the head said, or the stream's own end.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.stream.reserve_capacity(bytes.len());
        let mut room = self.stream.capacity();
        while room == 0 {
            room = match ready!(self.stream.poll_capacity(cx)) {
                Some(room) => room.map_err(gone)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let count = room.min(bytes.len());
        match &mut self.left {
            Left::Bytes(left) => {
                *left = left.checked_sub(count as u64).ok_or(io::ErrorKind::InvalidData)?;
                if *left == 0 {
                    self.left = Left::Nothing;
                }
            }
            Left::Open => {}
            Left::Nothing => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
        }
        self.stream.send_data(Bytes::copy_from_slice(&bytes[..count]), self.is_whole()).map_err(gone)?;
        Poll::Ready(Ok(count))
    }

    /// Ends a body whose length nobody said, with `trailers` if there are any.
    pub fn finish(&mut self, trailers: Option<http::HeaderMap>) {
        if self.left == Left::Open {
            // Both fail only on a stream that is gone.
            let _ = match trailers {
                Some(trailers) => self.stream.send_trailers(trailers),
                None => self.stream.send_data(Bytes::new(), true),
            };
            self.left = Left::Nothing;
        }
    }

    /// Has the other side taken the stream back? If not, the task is woken when it does.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> bool {
        !self.is_whole() && self.stream.poll_reset(cx).is_ready()
    }
}

pub fn gone(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
