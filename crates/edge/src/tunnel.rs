//! What follows a 101: bytes both ways until both sides have ended, one of them breaks, or nothing moves.
//!
//! Each direction has one buffer and reads nothing new before its receiver took what was read; a tunnel in which nobody
//! speaks holds none. It looks at no byte of what it carries. [`crate::forward`] opens it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::buffer::{Buffer, Buffers};
use crate::clock::{Stall, Timer};
use crate::counters::{Counters, Reason};
use crate::upstream::Upstream;
use crate::wire::Io;
use crate::worker::Worker;

/// What became of a tunnel, besides what every answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// From the request's whole head until the client was told 101.
    pub opened_after: Duration,
    pub from_client: u64,
}

/// Both ends of a tunnel. What was read behind either head is the first to be passed on.
pub struct Tunnel<'t, S> {
    worker: &'t Worker,
    timer: &'t Timer,
    client: &'t mut S,
    server: Upstream,
    /// From the client to the server.
    up: Flow,
    down: Flow,
}

impl<'t, S: Io> Tunnel<'t, S> {
    pub fn new(
        worker: &'t Worker,
        timer: &'t Timer,
        client: &'t mut S,
        from_client: Buffer,
        server: Upstream,
        from_server: Buffer,
    ) -> Self {
        Self { worker, timer, client, server, up: Flow::new(from_client), down: Flow::new(from_server) }
    }

    /// Carries until it ends. `None`: both sides had said all they had to say; else the server's end is reset here, and
    /// the client's is the caller's to reset. `idle_time` is how long nothing may move, `last_time` the same once one
    /// side has ended.
    pub async fn carry(mut self, idle_time: Duration, last_time: Duration) -> (Option<Reason>, u64, u64) {
        let counters = &self.worker.counters;
        let open = Open::new(counters);
        let mut stall = Stall::begin(self.timer, self.moved(), idle_time);
        let why = poll_fn(|cx| {
            if let Some(why) = self.advance(cx) {
                return Poll::Ready(why);
            }
            let is_whole = self.up.is_open() && self.down.is_open();
            let within = if is_whole { idle_time } else { last_time.min(idle_time) };
            if !stall.poll(cx, self.timer, self.moved(), within, || self.held()) {
                return Poll::Pending;
            }
            let is_over = self.worker.clock.is_over();
            Poll::Ready(Some(if is_over { Reason::DrainTime } else { Reason::TunnelIdleTime }))
        })
        .await;
        drop(open);
        if why.is_some() {
            self.server.reset();
        }
        self.worker.buffers.reclaim(&mut self.up.buffer);
        self.worker.buffers.reclaim(&mut self.down.buffer);
        (why, self.up.bytes, self.down.bytes)
    }

    /// Goes on as far as both sides let it. `Some`: it is over, and why if that was not both sides' wish.
    fn advance(&mut self, cx: &mut Context<'_>) -> Option<Option<Reason>> {
        let Self { worker, client, server, up, down, .. } = self;
        let (sent, received) = (up.bytes, down.bytes);
        let upward = up.poll(cx, &worker.buffers, *client, server);
        let downward = down.poll(cx, &worker.buffers, server, *client);
        let (counters, sent, received) = (&worker.counters, up.bytes - sent, down.bytes - received);
        counters.from_clients.add(sent);
        counters.to_servers.add(sent);
        counters.from_servers.add(received);
        counters.to_clients.add(received);
        match (upward, downward) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Some(None),
            // The client has all that the server had for it: what it says into the void cuts nothing short.
            (Poll::Ready(Err(_)), Poll::Ready(Ok(()))) => Some(None),
            (Poll::Ready(Err(Broken::Sender)), _) | (_, Poll::Ready(Err(Broken::Receiver))) => {
                Some(Some(Reason::ClientGone))
            }
            (Poll::Ready(Err(Broken::Receiver)), _) | (_, Poll::Ready(Err(Broken::Sender))) => {
                Some(Some(Reason::ServerGone))
            }
            _ => None,
        }
    }

    /// Bytes that got anywhere. The client's are those that its socket took: what TLS holds back has not moved.
    fn moved(&self) -> u64 {
        self.up.bytes + self.down.bytes + self.client.taken()
    }

    /// What the kernel holds for the client, if it is the client that is waited for.
    fn held(&self) -> Option<u64> {
        if self.down.is_out() { None } else { self.client.held() }
    }
}

/// One direction.
struct Flow {
    buffer: Buffer,
    /// What its receiver was given.
    bytes: u64,
    is_flushed: bool,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Open,
    /// The sender has ended; its receiver hears of it once it has everything.
    Ending,
    Ended,
}

enum Broken {
    Sender,
    Receiver,
}

impl Flow {
    fn new(buffer: Buffer) -> Self {
        Self { buffer, bytes: 0, is_flushed: true, step: Step::Open }
    }

    fn is_open(&self) -> bool {
        self.step == Step::Open
    }

    fn is_out(&self) -> bool {
        self.buffer.is_empty() && self.is_flushed
    }

    /// Ready when the sender has ended and the receiver was told so.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        sender: &mut R,
        receiver: &mut W,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if self.step == Step::Ended {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_out(cx, receiver)).map_err(|_| Broken::Receiver)?;
            if self.step == Step::Ending {
                ready!(Pin::new(&mut *receiver).poll_shutdown(cx)).map_err(|_| Broken::Receiver)?;
                self.step = Step::Ended;
                continue;
            }
            buffers.lend(&mut self.buffer);
            match self.buffer.poll_read(cx, sender) {
                Poll::Pending => {
                    buffers.reclaim(&mut self.buffer);
                    return Poll::Pending;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Sender)),
                Poll::Ready(Ok(0)) => {
                    buffers.reclaim(&mut self.buffer);
                    self.step = Step::Ending;
                }
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// Ready when the receiver's socket has all that was read.
    fn poll_out<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        receiver: &mut W,
    ) -> Poll<io::Result<()>> {
        while !self.buffer.is_empty() {
            let count = ready!(Pin::new(&mut *receiver).poll_write(cx, self.buffer.data()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.consume(count);
            (self.bytes, self.is_flushed) = (self.bytes + count as u64, false);
        }
        if !self.is_flushed {
            ready!(Pin::new(receiver).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// Counts a tunnel as open while it lives.
struct Open<'w>(&'w Counters);

impl<'w> Open<'w> {
    fn new(counters: &'w Counters) -> Self {
        counters.tunnels_opened.add(1);
        counters.tunnels.add(1);
        Self(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.tunnels.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::buffer::BUFFER_BYTES;

    /// One direction between two pipes that hold 100 bytes each: what is said, and where it is heard.
    struct Pipes {
        flow: Flow,
        buffers: Buffers,
        speaker: Option<DuplexStream>,
        sender: DuplexStream,
        receiver: DuplexStream,
        hearer: DuplexStream,
    }

    impl Pipes {
        fn new() -> Self {
            let ((speaker, sender), (receiver, hearer)) = (duplex(100), duplex(100));
            let flow = Flow::new(Buffer::default());
            Self { flow, buffers: Buffers::default(), speaker: Some(speaker), sender, receiver, hearer }
        }

        fn poll(&mut self) -> Poll<Result<(), Broken>> {
            let Self { flow, buffers, sender, receiver, .. } = self;
            flow.poll(&mut Context::from_waker(Waker::noop()), buffers, sender, receiver)
        }

        async fn say(&mut self, bytes: usize) {
            self.speaker.as_mut().unwrap().write_all(&vec![b'x'; bytes]).await.unwrap();
        }

        async fn hear(&mut self, bytes: usize) {
            self.hearer.read_exact(&mut vec![0; bytes]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_direction_reads_on_when_its_receiver_has_all_and_holds_nothing_while_idle() {
        let mut pipes = Pipes::new();
        assert!(pipes.poll().is_pending());
        assert_eq!(pipes.flow.buffer.capacity(), 0);
        pipes.say(60).await;
        assert!(pipes.poll().is_pending());
        assert_eq!((pipes.flow.bytes, pipes.flow.buffer.capacity(), pipes.flow.is_out()), (60, 0, true));
        // 40 of these fit behind the 60; the others stay, and what is said next is left where it is.
        pipes.say(100).await;
        assert!(pipes.poll().is_pending());
        assert_eq!((pipes.flow.bytes, pipes.flow.buffer.data().len()), (100, 60));
        assert_eq!(pipes.flow.buffer.capacity(), BUFFER_BYTES);
        pipes.say(100).await;
        assert!(pipes.poll().is_pending());
        assert_eq!(pipes.flow.buffer.data().len(), 60);
        // The end is told behind everything that was said before it.
        pipes.speaker = None;
        pipes.hear(100).await;
        assert!(pipes.poll().is_pending() && pipes.flow.is_open());
        pipes.hear(100).await;
        assert!(matches!(pipes.poll(), Poll::Ready(Ok(()))));
        pipes.hear(60).await;
        assert_eq!((pipes.hearer.read(&mut [0]).await.unwrap(), pipes.flow.bytes), (0, 260));
        assert_eq!(pipes.flow.buffer.capacity(), 0);
    }

    #[tokio::test]
    async fn who_broke_is_told_apart() {
        let mut pipes = Pipes::new();
        pipes.say(1).await;
        drop(std::mem::replace(&mut pipes.hearer, duplex(1).0));
        assert!(matches!(pipes.poll(), Poll::Ready(Err(Broken::Receiver))));
    }
}
