//! Buffers that a worker lends to connections while they have something to read, so that idle ones hold none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// What one read takes at most on the small path; also the first bound of what waits for a slow reader.
pub const BUFFER_BYTES: usize = 16 * 1024;
/// For long bodies: fewer system calls, and still far below a megabyte a connection.
pub const LONG_BUFFER_BYTES: usize = 64 * 1024;
/// What is kept apart from a buffer of its own while the rest of it is waited for.
const PARKED_BYTES: usize = 2 * 1024;
/// Kept by a worker for whoever reads next: few at once, as waiting takes none.
const KEPT: usize = 256;
/// The same of heads, which requests hold to their end.
const KEPT_TEXTS: usize = 2048;

/// Bytes that were read and not yet used. Without memory of its own until it is lent some.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// The memory with what was read into it.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.bytes;
        bytes.truncate(self.end);
        bytes.drain(..self.start);
        bytes
    }

    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Makes the whole capacity at least `bytes`.
    pub fn grow(&mut self, bytes: usize) {
        if self.bytes.len() < bytes {
            self.bytes.resize(bytes, 0);
        }
    }

    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Reads once, at most to `most` bytes in all. Zero is the end of the stream. A full buffer is an error of the
    /// caller's and reads zero.
    pub fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut R,
    ) -> Poll<io::Result<usize>> {
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let mut space = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(Pin::new(io).poll_read(cx, &mut space))?;
        let count = space.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }
}

/// A worker's free buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    free: RefCell<Vec<Vec<u8>>>,
    texts: RefCell<Vec<Vec<u8>>>,
    /// What one connection of HTTP/2 gathers until it is written, nearly always before the next has its turn.
    cork: RefCell<Vec<u8>>,
}

impl Buffers {
    /// Gives `buffer` memory to read into if it has none, or only what [`Buffers::park`] left it.
    pub fn lend(&self, buffer: &mut Buffer) {
        if buffer.bytes.len() < BUFFER_BYTES {
            let mut bytes = self.free.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES]);
            let end = buffer.data().len();
            bytes[..end].copy_from_slice(buffer.data());
            *buffer = Buffer { bytes, start: 0, end };
        }
    }

    /// Reads once, into memory that is lent while there is something to read: whoever waits holds none. Zero is the end.
    pub fn poll_read<R: AsyncRead + Unpin>(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        io: &mut R,
    ) -> Poll<io::Result<usize>> {
        self.lend(buffer);
        let polled = buffer.poll_read(cx, io);
        if polled.is_pending() && buffer.is_empty() && buffer.capacity() == BUFFER_BYTES {
            self.reclaim(buffer);
        }
        polled
    }

    /// Takes the memory back but for what was read, if that is little: it waits for more, which may never come.
    pub fn park(&self, buffer: &mut Buffer) {
        if buffer.bytes.len() == BUFFER_BYTES && buffer.data().len() <= PARKED_BYTES {
            let bytes = buffer.data().to_vec();
            self.reclaim(buffer);
            *buffer = Buffer { end: bytes.len(), start: 0, bytes };
        }
    }

    /// Takes the memory back; what was in it is gone.
    pub fn reclaim(&self, buffer: &mut Buffer) {
        let bytes = std::mem::take(buffer).bytes;
        let mut free = self.free.borrow_mut();
        if bytes.len() == BUFFER_BYTES && free.len() < KEPT {
            free.push(bytes);
        }
    }

    /// An empty vector to gather what is written at once.
    pub fn cork(&self) -> Vec<u8> {
        self.cork.take()
    }

    pub fn reclaim_cork(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        self.cork.replace(bytes);
    }

    /// An empty vector to write a head into.
    pub fn text(&self) -> Vec<u8> {
        self.texts.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(2048))
    }

    pub fn reclaim_text(&self, mut text: Vec<u8>) {
        text.clear();
        let mut texts = self.texts.borrow_mut();
        if text.capacity() > 0 && text.capacity() <= BUFFER_BYTES && texts.len() < KEPT_TEXTS {
            texts.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parked_is_little_and_comes_back_whole() {
        let buffers = Buffers::default();
        for (bytes, consumed, capacity) in [
            (1, 0, 1),
            (3000, 1000, 2000),
            (PARKED_BYTES, 0, PARKED_BYTES),
            (PARKED_BYTES + 1, 0, BUFFER_BYTES),
        ] {
            let mut buffer = Buffer::default();
            buffers.lend(&mut buffer);
            let said: Vec<u8> = (0..bytes).map(|i| i as u8).collect();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(buffer.poll_read(&mut cx, &mut said.as_slice()).is_ready());
            buffer.consume(consumed);
            buffers.park(&mut buffer);
            assert_eq!((buffer.capacity(), buffer.data()), (capacity, &said[consumed..]));
            buffers.lend(&mut buffer);
            assert_eq!((buffer.capacity(), buffer.data()), (BUFFER_BYTES, &said[consumed..]));
        }
    }
}
