//! Bodies on their way: one [`Pump`] each direction, with a bounded buffer and back-pressure, both in one task.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::buffer::{Buffer, Buffers};
use crate::codec::{BodyDecoder, Fault, LAST_CHUNK, write_chunk_line};

/// Data up to this size is copied behind its head, so that one plain write sends both.
const COPIED_BYTES: usize = 4096;

/// Moves a body from one side to the other: takes its framing off, frames it anew.
pub struct Pump {
    pub out: Outgoing,
    pub decoder: BodyDecoder,
    /// Frame what goes out in chunks.
    chunked: bool,
    /// More data than this is [`Fault::BodyTooLong`].
    most_bytes: u64,
    /// Data that went through.
    pub bytes: u64,
}

/// Why a pump stopped.
#[derive(Debug)]
pub enum PumpError {
    /// Reading from the sender failed.
    Read,
    /// The sender broke the protocol.
    Fault(Fault),
    /// Writing to the receiver failed.
    Write,
}

impl Pump {
    pub fn new(lead: Vec<u8>, decoder: BodyDecoder, chunked: bool, most_bytes: u64) -> Self {
        Self { out: Outgoing::new(lead), decoder, chunked, most_bytes, bytes: 0 }
    }

    /// The body that follows the head in `out` is known now. What of it is in `buffer` is taken at once: if that is
    /// malformed, the head need not go out either.
    pub fn begin(
        &mut self,
        decoder: BodyDecoder,
        chunked: bool,
        buffer: &mut Buffer,
    ) -> Result<(), PumpError> {
        (self.decoder, self.chunked) = (decoder, chunked);
        if self.decoder.is_done() || buffer.is_empty() { Ok(()) } else { self.stage(buffer) }
    }

    /// Goes on as far as both sides let it. Ready when the receiver has been given everything.
    pub fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        source: &mut R,
        buffer: &mut Buffer,
        sink: &mut W,
    ) -> Poll<Result<(), PumpError>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if self.out.has_room_for_data() && !self.decoder.is_done() && !buffer.is_empty() {
                self.stage(buffer)?;
            }
            ready!(self.out.poll_send(cx, buffer, sink)).map_err(|_| PumpError::Write)?;
            if self.decoder.is_done() {
                return Poll::Ready(Ok(()));
            }
            if !buffer.is_empty() {
                continue;
            }
            let count = ready!(buffers.poll_read(cx, buffer, source)).map_err(|_| PumpError::Read)?;
            if count == 0 {
                self.decoder.finish().map_err(PumpError::Fault)?;
                if self.chunked {
                    self.out.tail = LAST_CHUNK;
                }
            }
        }
    }

    fn stage(&mut self, buffer: &mut Buffer) -> Result<(), PumpError> {
        let decoded = self.decoder.decode(buffer.data_mut()).map_err(PumpError::Fault)?;
        self.bytes += decoded.data as u64;
        if self.bytes > self.most_bytes {
            return Err(PumpError::Fault(Fault::BodyTooLong));
        }
        let is_end = self.decoder.is_done();
        if self.chunked && decoded.data > 0 {
            write_chunk_line(&mut self.out.lead, decoded.data);
        }
        self.out.tail = match (self.chunked, decoded.data > 0, is_end) {
            (true, true, true) => b"\r\n0\r\n\r\n",
            (true, true, false) => b"\r\n",
            (true, false, true) => LAST_CHUNK,
            _ => b"",
        };
        if decoded.data <= COPIED_BYTES {
            self.out.lead.extend_from_slice(&buffer.data()[..decoded.data]);
            self.out.lead.extend_from_slice(std::mem::take(&mut self.out.tail));
            buffer.consume(decoded.consumed);
        } else {
            (self.out.direct, self.out.held) = (decoded.data, decoded.consumed);
        }
        Ok(())
    }
}

/// What waits to be written: `lead`, then `direct` bytes at the start of the source's buffer, then `tail`.
pub struct Outgoing {
    lead: Vec<u8>,
    /// The part of `lead` that stays after it was sent: the head, for the log and for another attempt.
    keep: usize,
    direct: usize,
    /// Bytes of the source's buffer that are free once `direct` is sent.
    held: usize,
    tail: &'static [u8],
    /// Of the three together.
    sent: usize,
    /// Bytes accepted by the receiver's socket, or by TLS before it, in all.
    pub written: u64,
    is_flushed: bool,
}

impl Outgoing {
    pub fn new(lead: Vec<u8>) -> Self {
        let keep = lead.len();
        Self { lead, keep, direct: 0, held: 0, tail: b"", sent: 0, written: 0, is_flushed: true }
    }

    pub fn kept(&self) -> &[u8] {
        &self.lead[..self.keep]
    }

    pub fn into_lead(self) -> Vec<u8> {
        self.lead
    }

    /// More to send before what was there: an interim answer, or the head of the final one.
    pub fn lead_mut(&mut self) -> &mut Vec<u8> {
        &mut self.lead
    }

    pub fn is_idle(&self) -> bool {
        self.sent == self.lead.len() + self.direct + self.tail.len()
    }

    /// Did all of it reach the receiver's socket? If not, it is the receiver that is waited for.
    pub fn is_out(&self) -> bool {
        self.is_idle() && self.is_flushed
    }

    /// Is a part of what waits gone already, so that nothing but its rest may follow?
    pub fn is_torn(&self) -> bool {
        self.sent > 0 && !self.is_idle()
    }

    /// All of it was written by somebody else.
    pub fn was_sent(&mut self) {
        self.written += (self.lead.len() - self.sent) as u64;
        (self.sent, self.is_flushed) = (self.lead.len(), true);
    }

    /// For another attempt with another server: everything again. Only right if no body was sent, or nothing at all.
    pub fn rewind(&mut self) {
        self.sent = 0;
        self.written = 0;
    }

    fn has_room_for_data(&self) -> bool {
        self.direct == 0 && self.tail.is_empty() && (self.is_idle() || self.sent == 0)
    }

    /// Ready when all is sent and flushed.
    pub fn poll_send<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        sink: &mut W,
    ) -> Poll<io::Result<()>> {
        while !self.is_idle() {
            let count = if self.direct == 0 && self.tail.is_empty() {
                ready!(Pin::new(&mut *sink).poll_write(cx, &self.lead[self.sent..]))?
            } else {
                let mut skip = self.sent;
                let parts: [&[u8]; 3] = [&self.lead, &buffer.data()[..self.direct], self.tail];
                let slices = parts.map(|part| {
                    let skipped = skip.min(part.len());
                    skip -= skipped;
                    IoSlice::new(&part[skipped..])
                });
                ready!(Pin::new(&mut *sink).poll_write_vectored(cx, &slices))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            (self.sent, self.written, self.is_flushed) =
                (self.sent + count, self.written + count as u64, false);
        }
        if self.direct > 0 || !self.tail.is_empty() || self.lead.len() > self.keep {
            buffer.consume(self.held);
            (self.direct, self.held, self.tail) = (0, 0, b"");
            self.lead.truncate(self.keep);
            self.sent = self.lead.len();
        }
        if !self.is_flushed {
            ready!(Pin::new(sink).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes `room` bytes and no flush until it is told so, as TLS before a full socket.
    #[derive(Default)]
    struct Sink {
        room: usize,
        flushes: bool,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.flushes { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_is_out_and_what_is_torn() {
        let (mut out, mut buffer, mut sink) = (Outgoing::new(Vec::new()), Buffer::default(), Sink::default());
        let mut cx = Context::from_waker(Waker::noop());
        // Bytes to say, room for them, whether it flushes, and then: is it out, is it torn?
        for (said, room, flushes, is_out, is_torn) in [
            ("", 0, false, true, false),
            ("abc", 0, false, false, false),
            ("", 1, false, false, true),
            ("", 2, false, false, false),
            ("", 0, true, true, false),
            // Something went out before; nothing of this did.
            ("def", 0, true, false, false),
            ("", 9, true, true, false),
        ] {
            out.lead_mut().extend_from_slice(said.as_bytes());
            (sink.room, sink.flushes) = (room, flushes);
            let polled = out.poll_send(&mut cx, &mut buffer, &mut sink);
            assert_eq!(
                (polled.is_ready(), out.is_out(), out.is_torn()),
                (is_out, is_out, is_torn),
                "{said} {room}"
            );
        }
        assert_eq!(out.written, 6);
    }
}
