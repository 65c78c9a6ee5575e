//! What of a client's messages goes to the server connection of its session, and when: first those of the batch that was
//! read before there was a connection, then the next ones as they come. One path, bounded at each message.
//!
//! Called by `pump`; what the messages mean is in `batch` and `exchange`.

use bytes::Buf;

use super::Session;
use super::batch::{Kind, Of, Reader, Traits};
use super::exchange::Expect;
use super::pump::{End, LOOK_BYTES_MAX, NAMES_BYTES_MAX, OUTPUT_BYTES_MAX, STREAM_BYTES_MIN};
use crate::classify::Class;
use crate::pool::Conn;
use crate::stats::Count;
use crate::wire::error::{SqlError, state};
use crate::wire::{HEAD_BYTES, Head, WireError, build, cstr, front, head};

impl Session {
    /// Drops what was sent from the input: it cannot be sent again.
    pub(super) fn forget_sent(&mut self) {
        self.repeatable = false;
        if self.sent > 0 {
            self.input.advance(self.sent);
            self.batch.gone += self.sent;
            self.sent = 0;
        }
    }

    /// Whether the next message of the client may go to this connection now.
    fn may_feed(&self, conn: &Conn) -> bool {
        let in_transaction = self.exchange.status != b'I' && self.exchange.is_answered();
        if self.flight.resets && !self.exchange.open && !self.exchange.is_answered() {
            // Whether the session still has its statements is known when DISCARD ALL is done.
            return false;
        }
        // At the primary everything may follow; at a replica only what belongs to the batch or the transaction.
        self.pinned || self.exchange.open || in_transaction || !conn.pool().replica
    }

    /// One side has as much waiting for it as it may: nothing more is made for it.
    fn is_full(&self, conn: &Conn) -> bool {
        let most = conn.server.output.len().max(self.output.len());
        most >= OUTPUT_BYTES_MAX || self.exchange.is_full()
    }

    /// Sends on what the client sent and the connection may have. True if anything was.
    pub(super) fn feed(&mut self, conn: &mut Conn) -> Result<bool, End> {
        let mut fed = false;
        loop {
            // In the middle of a message nothing of the router's own has a place.
            if self.streaming == 0 && self.exchange.press(&mut conn.server.output) {
                self.worker.counters.count(Count::PipelinesFull);
                fed = true;
            }
            if self.streaming == 0 {
                fed |= self.exchange.refuse_copy(&mut conn.server.output);
            }
            if !self.batch.is_fed() {
                if self.is_full(conn) {
                    return Ok(fed);
                }
                self.feed_batch(conn);
                fed = true;
                continue;
            }
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
            if pending.is_empty() || self.is_full(conn) || !self.may_feed(conn) {
                return Ok(fed);
            }
            let Some(head) = head(pending)? else { return Ok(fed) };
            if head.tag == front::TERMINATE {
                // What came before it is done, as PostgreSQL does it.
                if self.part() {
                    return Ok(true);
                }
                return if self.may_part(conn) { Err(End::Gone) } else { Ok(fed) };
            }
            if self.exchange.is_skipping() && head.tag != front::SYNC {
                // The server drops it, whatever it is: nothing of it is read, and no answer will come.
                self.forget_sent();
                self.streaming = head.len;
                continue;
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

    /// Sends the next message of the batch that was read.
    fn feed_batch(&mut self, conn: &mut Conn) {
        if self.exchange.is_skipping() && self.batch.skip(&mut self.names) {
            // Up to the Sync the server would drop all: it is not sent.
            self.sent = self.batch.fed_bytes();
            self.forget_sent();
            return;
        }
        let (kind, range) = self.batch.take();
        let server = &mut *conn.server;
        self.exchange.send(kind, &self.input[range.clone()], &mut server.kept, &mut server.output);
        self.sent = range.end;
        self.exchange.give_here(&mut self.output);
        self.count_evicted();
        // What may be sent again is kept until the client has seen something.
        if !self.repeatable {
            self.forget_sent();
        }
    }

    fn count_evicted(&mut self) {
        for _ in 0..std::mem::take(&mut self.exchange.evicted) {
            self.worker.counters.count(Count::PreparedEvicted);
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
                self.exchange.give_here(&mut self.output);
                self.count_evicted();
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
                let name = match (head.tag, cstr(body)) {
                    (front::QUERY, _) => None,
                    (_, Some((name, _))) => Some(name),
                    (_, None) if body.len() > NAMES_BYTES_MAX => return Err(WireError::Form('P').into()),
                    (_, None) => {
                        self.wanted = NAMES_BYTES_MAX + HEAD_BYTES;
                        return Ok(false);
                    }
                };
                self.worker.counters.count(Count::Oversized);
                traits.uncertain();
                // It was not looked at, so it may leave anything behind.
                traits.pins = Some("a statement too large to be looked at");
                kept.unnamed = None;
                Some(match name {
                    None => Expect::Query,
                    Some(name) => {
                        // From now on only this connection has it, under the client's own name.
                        self.names.remove(name);
                        Expect::Parse { id: None, name: Some(bytes::Bytes::new()) }
                    }
                })
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
