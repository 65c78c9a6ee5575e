//! Moves bytes between a client and the server connection that its session uses, until nothing is under way.
//!
//! Never takes more than a bounded number of bytes into memory, whatever the size of a message: who is slow makes the
//! other wait.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::{Sleep, sleep};

use super::Session;
use super::batch::{ReadError, Traits};
use super::exchange::Received;
use crate::View;
use crate::fresh::Floor;
use crate::pool::{Conn, Pool};
use crate::stats::Count;
use crate::stream::{poll_drain, poll_fill};
use crate::wire::WireError;
use crate::wire::error::SqlError;
use crate::worker::Signal;

/// Longest message or batch that is looked at whole, bytes.
pub(super) const LOOK_BYTES_MAX: usize = 1024 * 1024;
/// Larger data messages are sent on as they come.
pub(super) const STREAM_BYTES_MIN: usize = 64 * 1024;
/// With so many bytes waiting for one side, the other is not read. What one more message adds is at most the text of a
/// statement that its connection does not have yet, [`LOOK_BYTES_MAX`].
pub(super) const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// What a client may send ahead of its turn, bytes.
const READ_AHEAD: usize = 64 * 1024;
/// Longest names at the start of a Bind that is sent on as it comes, bytes.
pub(super) const NAMES_BYTES_MAX: usize = 16 * 1024;

/// Why the pump stopped.
pub(super) enum End {
    /// Nothing is under way, in no transaction, not pinned: the connection is free.
    Done,
    /// The cluster changed before anything was sent.
    Unsent,
    /// Another server must answer; the client has seen nothing.
    Elsewhere(SqlError),
    /// The connection broke, in these words.
    Broken(String),
    /// The client wants what this connection must not do: its transaction ends with this error.
    Refuse(SqlError),
    /// The client said goodbye or went away.
    Gone,
    /// The client cannot be understood.
    Unreadable(ReadError),
    /// The router stops.
    Drained,
}

/// The pool is of a primary of before.
pub(super) fn is_stranded(view: &View, pool: &Pool) -> bool {
    !pool.replica && view.epoch > pool.epoch && view.primary.as_ref().is_some_and(|p| *p != pool.target)
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error)
    }
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        Self::Unreadable(error.into())
    }
}

impl Session {
    pub(super) async fn pump(&mut self, conn: &mut Conn) -> End {
        std::future::poll_fn(|cx| self.poll_pump(conn, cx)).await
    }

    fn poll_pump(&mut self, conn: &mut Conn, cx: &mut Context<'_>) -> Poll<End> {
        self.handle.listen(cx.waker());
        if self.handle.take(Signal::View) {
            if self.is_stranded(conn) {
                return Poll::Ready(End::Broken("another server became primary".into()));
            }
            self.left = self.has_left(conn).then(|| self.patience());
        }
        if let Some(left) = &mut self.left
            && left.as_mut().poll(cx).is_ready()
        {
            if !self.exchange.is_answered() {
                return Poll::Ready(End::Broken("the replica left the cluster and says nothing more".into()));
            }
            self.left = Some(self.patience());
            cx.waker().wake_by_ref();
        }
        loop {
            let mut moved = false;
            if self.has_parted(cx) {
                return Poll::Ready(End::Gone);
            }
            let server = &mut *conn.server;
            if server.is_sending() {
                // After an error its last words may still be there to be read; reading also tells that it broke.
                let _ = server.poll_send(cx);
            }
            if self.output.len() < OUTPUT_BYTES_MAX {
                match poll_fill(&mut server.stream, cx, &mut server.input) {
                    Poll::Ready(Ok(n)) if n > 0 => {
                        moved = true;
                        if self.left.is_some() {
                            self.left = Some(self.patience());
                            cx.waker().wake_by_ref();
                        }
                        if let Some(end) = self.receive(conn) {
                            return Poll::Ready(end);
                        }
                        // Its goodbye came with the beginning of an answer, of which the client has seen nothing yet.
                        if self.repeatable && self.exchange.farewell.is_some() && !self.exchange.is_answered()
                        {
                            self.output.clear();
                            return Poll::Ready(End::Broken("the server said goodbye".into()));
                        }
                    }
                    Poll::Ready(Ok(_)) => return Poll::Ready(End::Broken("the server closed it".into())),
                    Poll::Ready(Err(error)) => return Poll::Ready(End::Broken(error.to_string())),
                    Poll::Pending => {}
                }
            }
            if !self.output.is_empty() {
                self.forget_sent();
                let was_full = self.output.len() >= OUTPUT_BYTES_MAX;
                if let Poll::Ready(Err(_)) = poll_drain(&mut self.client, cx, &mut self.output) {
                    if !self.is_parting() {
                        return Poll::Ready(End::Gone);
                    }
                    self.output.clear();
                    moved = true;
                }
                // The server was not asked in this round, and now it may be.
                moved |= was_full && self.output.len() < OUTPUT_BYTES_MAX;
            }
            if self.exchange.is_idle() && self.streaming == 0 && self.batch.is_fed() {
                self.forget_sent();
                if !self.pinned {
                    return Poll::Ready(End::Done);
                }
                if self.handle.has(Signal::Drain) {
                    return Poll::Ready(End::Drained);
                }
            }
            let ahead = READ_AHEAD.max(self.wanted) + self.sent;
            let wanted = self.input.len() < ahead && conn.server.output.len() < OUTPUT_BYTES_MAX;
            if wanted && self.parting.is_none() {
                match poll_fill(&mut self.client, cx, &mut self.input) {
                    Poll::Ready(Ok(0) | Err(_)) if !self.is_parting() => return Poll::Ready(End::Gone),
                    Poll::Ready(_) => moved = true,
                    Poll::Pending => {}
                }
            }
            match self.feed(conn) {
                Ok(fed) => moved |= fed,
                Err(end) => return Poll::Ready(end),
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// Takes what the server sent.
    fn receive(&mut self, conn: &mut Conn) -> Option<End> {
        let server = &mut *conn.server;
        let exchange = &mut self.exchange;
        match exchange.receive(
            &mut server.input,
            &mut self.output,
            &mut server.kept,
            &mut self.names,
            self.repeatable,
        ) {
            Ok(Received::Fine) => {}
            Ok(Received::Elsewhere(error)) => return Some(End::Elsewhere(error)),
            Err(error) => return Some(End::Broken(format!("the server broke the protocol: {error}"))),
        }
        for _ in 0..std::mem::take(&mut exchange.unreplicated) {
            self.worker.counters.count(Count::UnknownOutcomes);
        }
        if std::mem::take(&mut exchange.stale) {
            self.worker.statements.forget();
        }
        if std::mem::take(&mut exchange.discarded) {
            self.pinned = false;
            // Whatever became of it, the connection serves nobody else.
            conn.info.cancelled.set(true);
        }
        if std::mem::take(&mut exchange.ready) && exchange.status == b'I' {
            if self.flight.writes {
                self.floor = Floor::After(Instant::now(), conn.pool().epoch);
            }
            if exchange.is_answered() {
                self.flight = Traits::default();
            }
        }
        None
    }

    /// The connection is to a primary of before.
    pub(super) fn is_stranded(&self, conn: &Conn) -> bool {
        is_stranded(&self.worker.snapshot().view, conn.pool())
    }

    /// The connection is to a replica that the view does not name any more. It may just have lost its stream for a
    /// moment, and answer; if it hangs, nothing else would tell.
    pub(super) fn has_left(&self, conn: &Conn) -> bool {
        let view = &self.worker.snapshot().view;
        let pool = conn.pool();
        pool.replica && !view.primary.iter().chain(&view.replicas).any(|target| *target == pool.target)
    }

    /// A server that left has as long to say something as a statement has to find a primary.
    pub(super) fn patience(&self) -> Pin<Box<Sleep>> {
        Box::pin(sleep(self.worker.shared.settings.hold))
    }
}
