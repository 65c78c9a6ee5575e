//! Moves bytes between a client and the server connection that its session uses, until nothing is under way.
//!
//! Never takes more than a bounded number of bytes into memory, whatever the size of a message: who is slow makes the
//! other wait.

use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Buf;

use super::Session;
use super::batch::{Kind, Of, ReadError, Reader, Traits};
use super::exchange::{Expect, Received};
use crate::classify::Class;
use crate::fresh::Floor;
use crate::pool::Conn;
use crate::stats::Count;
use crate::stream::{poll_drain, poll_fill};
use crate::wire::error::{SqlError, state};
use crate::wire::{HEAD_BYTES, Head, WireError, build, cstr, front, head};
use crate::worker::Signal;

/// Longest message or batch that is looked at whole, bytes.
pub(super) const LOOK_BYTES_MAX: usize = 1024 * 1024;
/// Larger data messages are sent on as they come.
const STREAM_BYTES_MIN: usize = 64 * 1024;
/// With so many bytes waiting for one side, the other is not read.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// What a client may send ahead of its turn, bytes.
const READ_AHEAD: usize = 64 * 1024;
/// Longest names at the start of a Bind that is sent on as it comes, bytes.
pub(super) const NAMES_BYTES_MAX: usize = 16 * 1024;

/// Why the pump stopped.
pub(super) enum End {
    /// Nothing is under way, in no transaction, not pinned: the connection is free.
    Done,
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
    /// Sends the batch that was read, and whatever belongs to it already.
    pub(super) fn send_batch(&mut self, conn: &mut Conn) -> Result<(), End> {
        let server = &mut *conn.server;
        for op in &self.batch.ops {
            let message = &self.input[op.range.clone()];
            self.exchange.send(&op.kind, message, &mut server.kept, &mut server.output);
        }
        self.flight.and(self.batch.traits);
        self.after_reset(conn, self.batch.traits);
        self.sent = self.batch.len;
        self.exchange.give_here(&mut self.output);
        // What may be sent again is kept until the client has seen something.
        if self.flight.uncertain || !self.batch.complete {
            self.forget_sent();
        }
        if !self.batch.complete {
            self.feed(conn)?;
        }
        Ok(())
    }

    pub(super) async fn pump(&mut self, conn: &mut Conn) -> End {
        std::future::poll_fn(|cx| self.poll_pump(conn, cx)).await
    }

    fn poll_pump(&mut self, conn: &mut Conn, cx: &mut Context<'_>) -> Poll<End> {
        self.handle.listen(cx.waker());
        if self.handle.take(Signal::View) && self.is_stranded(conn) {
            return Poll::Ready(End::Broken("another server became primary".into()));
        }
        loop {
            let mut moved = false;
            let server = &mut *conn.server;
            if !server.output.is_empty()
                && let Poll::Ready(Err(_)) = poll_drain(&mut server.stream, cx, &mut server.output)
            {
                // The server's last words may still be there to be read; reading also tells that it broke.
                server.output.clear();
            }
            if self.output.len() < OUTPUT_BYTES_MAX {
                match poll_fill(&mut server.stream, cx, &mut server.input) {
                    Poll::Ready(Ok(n)) if n > 0 => {
                        moved = true;
                        if let Some(end) = self.receive(conn) {
                            return Poll::Ready(end);
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
                    return Poll::Ready(End::Gone);
                }
                // The server was not asked in this round, and now it may be.
                moved |= was_full && self.output.len() < OUTPUT_BYTES_MAX;
            }
            if self.exchange.is_idle() && self.streaming == 0 {
                self.forget_sent();
                if !self.pinned {
                    return Poll::Ready(End::Done);
                }
                if self.handle.has(Signal::Drain) {
                    return Poll::Ready(End::Drained);
                }
            }
            let ahead = READ_AHEAD.max(self.wanted) + self.sent;
            if self.input.len() < ahead && conn.server.output.len() < OUTPUT_BYTES_MAX {
                match poll_fill(&mut self.client, cx, &mut self.input) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(End::Gone),
                    Poll::Ready(Ok(_)) => moved = true,
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
        // The primary's word is final.
        let fresh = self.sent > 0 && conn.pool().replica;
        let server = &mut *conn.server;
        let exchange = &mut self.exchange;
        match exchange.receive(&mut server.input, &mut self.output, &mut server.kept, &mut self.names, fresh)
        {
            Ok(Received::Fine) => {}
            Ok(Received::Elsewhere(error)) => return Some(End::Elsewhere(error)),
            Err(error) => return Some(End::Broken(format!("the server broke the protocol: {error}"))),
        }
        if std::mem::take(&mut exchange.stale) {
            self.worker.statements.forget();
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
    fn is_stranded(&self, conn: &Conn) -> bool {
        let view = &self.worker.snapshot().view;
        let pool = conn.pool();
        !pool.replica && view.epoch > pool.epoch && view.primary.as_ref().is_some_and(|p| *p != pool.target)
    }

    /// Drops the batch from the input: it cannot be sent again.
    pub(super) fn forget_sent(&mut self) {
        if self.sent > 0 {
            self.input.advance(self.sent);
            self.sent = 0;
        }
    }

    /// Whether the next message of the client may go to this connection now.
    fn may_feed(&self, conn: &Conn) -> bool {
        let in_transaction = self.exchange.status != b'I' && self.exchange.is_answered();
        // At the primary everything may follow; at a replica only what belongs to the batch or the transaction.
        self.pinned || self.exchange.open || in_transaction || !conn.pool().replica
    }

    /// Sends on what the client sent and the connection may have. True if anything was.
    fn feed(&mut self, conn: &mut Conn) -> Result<bool, End> {
        let mut fed = false;
        loop {
            if self.streaming > 0 {
                let n = self.streaming.min(self.input.len());
                if n == 0 || conn.server.output.len() >= OUTPUT_BYTES_MAX {
                    return Ok(fed);
                }
                conn.server.output.extend_from_slice(&self.input[..n]);
                self.input.advance(n);
                self.streaming -= n;
                fed = true;
                continue;
            }
            let pending = &self.input[self.sent..];
            let full = conn.server.output.len() >= OUTPUT_BYTES_MAX || self.exchange.is_full();
            if pending.is_empty() || full || !self.may_feed(conn) {
                return Ok(fed);
            }
            let Some(head) = head(pending)? else { return Ok(fed) };
            if head.tag == front::TERMINATE {
                return Err(End::Gone);
            }
            let data = matches!(head.tag, front::BIND | front::COPY_DATA | front::COPY_FAIL);
            if pending.len() < head.len {
                let most = if data { STREAM_BYTES_MIN } else { LOOK_BYTES_MAX };
                if head.len <= most {
                    self.wanted = head.len;
                    return Ok(fed);
                }
                if !self.stream(conn, head)? {
                    return Ok(fed);
                }
                fed = true;
                continue;
            }
            self.wanted = 0;
            self.feed_one(conn, head)?;
            fed = true;
        }
    }

    /// Sends on one whole message.
    fn feed_one(&mut self, conn: &mut Conn, head: Head) -> Result<(), End> {
        self.forget_sent();
        let message = self.input.split_to(head.len);
        let server = &mut *conn.server;
        match head.tag {
            front::COPY_DATA => server.output.extend_from_slice(&message),
            front::COPY_DONE | front::COPY_FAIL => {
                self.exchange.send_copy_end();
                server.output.extend_from_slice(&message);
            }
            _ => {
                let snapshot = self.worker.snapshot();
                let mut reader = Reader {
                    names: &mut self.names,
                    statements: &self.worker.statements,
                    catalog: snapshot.catalog(&self.key.database),
                    utf8: self.utf8,
                    may_end: false,
                };
                let (mut kind, class) = reader.read(&message)?;
                let mut traits = Traits { may_end: reader.may_end, ..Traits::default() };
                if let Some(class) = class {
                    traits.add(class);
                }
                if self.exchange.is_skipping()
                    && let Kind::Parse { name, statement, again: false } = &kind
                {
                    self.names.undo(name, statement.id);
                }
                if self.pinned && matches!(&kind, Kind::Deallocate(gone) if gone.is_all()) {
                    // This connection may have some that SQL prepared.
                    kind = Kind::Query(Class::Pin("DEALLOCATE"));
                }
                if let Err(end) = self.note(conn, traits) {
                    self.exchange.withhold(head.tag);
                    return Err(end);
                }
                let server = &mut *conn.server;
                self.exchange.send(&kind, &message, &mut server.kept, &mut server.output);
                self.after_reset(conn, traits);
                self.exchange.give_here(&mut self.output);
            }
        }
        Ok(())
    }

    /// Takes note of what is about to be sent.
    fn note(&mut self, conn: &Conn, traits: Traits) -> Result<(), End> {
        if let Some(what) = traits.pins
            && !self.pinned
        {
            if conn.pool().replica {
                let text = format!(
                    "a transaction that began as READ ONLY runs on a replica, where {what} would be lost"
                );
                return Err(End::Refuse(
                    SqlError::error(state::FEATURE_NOT_SUPPORTED, text)
                        .hint("Begin the transaction without READ ONLY; then it runs on the primary."),
                ));
            }
            self.pin(what);
        }
        self.flight.and(traits);
        Ok(())
    }

    /// After DISCARD ALL the connection has no statement, and neither has the session.
    fn after_reset(&mut self, conn: &mut Conn, traits: Traits) {
        if traits.resets && self.exchange.status == b'I' {
            conn.server.kept = Default::default();
            self.names.clear();
            self.pinned = false;
            // Whatever became of it, the connection serves nobody else.
            conn.info.cancelled.set(true);
        }
    }

    /// Sends on the start of a message that is too large to be held; the rest follows as it comes. False: too little of
    /// it is here yet.
    fn stream(&mut self, conn: &mut Conn, head: Head) -> Result<bool, End> {
        let body = &self.input[self.sent + HEAD_BYTES..];
        let mut reader = Reader {
            names: &mut self.names,
            statements: &self.worker.statements,
            catalog: &self.worker.snapshot().catalog(&self.key.database).clone(),
            utf8: self.utf8,
            may_end: false,
        };
        let mut traits = Traits::default();
        let kept = &mut conn.server.kept;
        let mut start = bytes::BytesMut::new();
        let mut taken = 0;
        let expect = match head.tag {
            front::BIND => {
                let Some((portal, name, names_len)) = front::bind(body) else {
                    if body.len() > NAMES_BYTES_MAX {
                        return Err(WireError::Form('B').into());
                    }
                    self.wanted = NAMES_BYTES_MAX + HEAD_BYTES;
                    return Ok(false);
                };
                let (of, class) = reader.of(name);
                if let Some(class) = class {
                    traits.add(class);
                }
                let rename = match &of {
                    Of::Unknown => None,
                    of => self.exchange.provide(of, kept, &mut conn.server.output),
                };
                taken = HEAD_BYTES + names_len;
                let name = rename.map_or(name, str::as_bytes);
                build::bind_head(&mut start, portal, name, head.len - taken);
                Some(Expect::Bind)
            }
            front::QUERY | front::PARSE => {
                self.worker.counters.count(Count::Oversized);
                traits.uncertain();
                // It was not looked at, so it may leave anything behind.
                traits.pins = Some("a statement too large to be looked at");
                kept.unnamed = None;
                if head.tag == front::QUERY {
                    Some(Expect::Query)
                } else {
                    let (name, _) = cstr(body).ok_or(WireError::Form('P'))?;
                    // From now on only this connection has it, under the client's own name.
                    self.names.remove(name);
                    Some(Expect::Parse { id: None, name: Some(bytes::Bytes::new()) })
                }
            }
            front::FUNCTION_CALL => {
                traits.uncertain();
                Some(Expect::Query)
            }
            front::COPY_DATA => None,
            front::COPY_FAIL => {
                self.exchange.send_copy_end();
                None
            }
            other => return Err(WireError::Form(other as char).into()),
        };
        if let Err(end) = self.note(conn, traits) {
            self.exchange.withhold(head.tag);
            // None of it was taken from the input.
            self.streaming = head.len;
            return Err(end);
        }
        if let Some(expect) = expect {
            self.exchange.send_streamed(expect);
        }
        self.forget_sent();
        conn.server.output.extend_from_slice(&start);
        self.input.advance(taken);
        self.streaming = head.len - taken;
        self.wanted = 0;
        Ok(true)
    }
}
