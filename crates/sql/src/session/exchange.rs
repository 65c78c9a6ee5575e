//! The conversation of one session with the server connection it uses: which answers are still to come, which of them
//! the client must not see, and when nothing is under way. Sans I/O.
//!
//! PostgreSQL answers strictly in order ("Message Flow", and "Pipelining" for errors: all up to the next Sync is
//! skipped), so one queue tells what every answer belongs to.

mod expect;
mod receive;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

pub(crate) use self::expect::Expect;
use self::expect::{Undo, undo};
use super::batch::{Kind, Of};
use crate::prepared::{Kept, Names, Statement, is_reserved, server_name};
use crate::wire::error::SqlError;
use crate::wire::{HEAD_BYTES, build, front};

/// Answers awaited; a client that pipelines more waits.
pub(crate) const QUEUE_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Exchange {
    queue: VecDeque<Expect>,
    /// Of the last ReadyForQuery: `I`, `T` or `E`.
    pub status: u8,
    /// Messages were sent that a Sync must follow.
    pub open: bool,
    /// The server skips all until Sync.
    skipping: bool,
    /// The server takes CopyData.
    copying: bool,
    /// Bytes of a message that are still to be passed to the client.
    passing: usize,
    /// They are dropped instead.
    dropping: bool,
    /// The client was told that the outcome of its commit is not known: until ReadyForQuery it gets no other word of it.
    denied: bool,
    /// The server waits for data of a COPY that the client was not told of, and ignored so many Syncs.
    starving: Option<usize>,
    /// The server was asked for what it holds back.
    pressed: bool,
    /// What the server said before it closed.
    pub farewell: Option<SqlError>,
    /// A ReadyForQuery came since this was last cleared.
    pub ready: bool,
    /// A prepared statement does not fit its tables any more, or may not: who prepares the same text now must get
    /// another one.
    pub stale: bool,
    /// DISCARD ALL was done since this was last cleared.
    pub discarded: bool,
    /// Commits whose wait for a replica was broken off, since this was last cleared.
    pub unreplicated: usize,
    /// Statements that made room for others on the connection, since this was last cleared.
    pub evicted: usize,
}

/// What came of the bytes of a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Fine,
    /// This server cannot answer it, another can; the client has seen nothing.
    Elsewhere(SqlError),
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            status: b'I',
            open: false,
            skipping: false,
            copying: false,
            passing: 0,
            dropping: false,
            denied: false,
            starving: None,
            pressed: false,
            farewell: None,
            ready: false,
            stale: false,
            discarded: false,
            unreplicated: 0,
            evicted: 0,
        }
    }
}

impl Exchange {
    /// Forgets the connection.
    pub fn reset(&mut self) {
        let mut queue = std::mem::take(&mut self.queue);
        queue.clear();
        *self = Self { queue, ..Self::default() };
    }

    /// Nothing is under way; the connection may still be in a transaction.
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty() && !self.open && self.passing == 0
    }

    /// Another session may use the connection.
    pub fn is_idle(&self) -> bool {
        self.status == b'I' && self.is_quiet()
    }

    pub fn is_full(&self) -> bool {
        self.queue.len() >= QUEUE_MAX
    }

    /// Asks the server for the answers that it holds back until a Sync, once each time the queue is full: else nothing
    /// would ever make room. True if it did.
    pub fn press(&mut self, out: &mut BytesMut) -> bool {
        let press = self.is_full() && !self.pressed;
        if press {
            out.extend_from_slice(build::FLUSH);
        }
        self.pressed = self.is_full();
        press
    }

    /// Ends a COPY that the client will send no data for, and sends again the Syncs that the server ignored in it. True if
    /// there was one.
    pub fn refuse_copy(&mut self, out: &mut BytesMut) -> bool {
        let Some(syncs) = self.starving.take() else { return false };
        self.copying = false;
        build::copy_fail(out, "the commit before it was cancelled while it waited for a replica");
        for _ in 0..syncs {
            self.open = false;
            self.queue.push_back(Expect::Sync);
            out.extend_from_slice(build::SYNC);
        }
        true
    }

    /// Answers all that is under way with `error` and this state. Who had an error already only gets its end.
    pub fn answer_all(&self, error: &SqlError, status: u8, out: &mut BytesMut) {
        let mut told = self.denied;
        for _ in 0..self.owed_ready() {
            if !std::mem::take(&mut told) {
                error.write(out);
            }
            build::ready(out, status);
        }
        if self.open && !told {
            error.write(out);
        }
    }

    /// All that is under way had its error already.
    pub fn is_told(&self) -> bool {
        self.denied && self.owed_ready() + usize::from(self.open) <= 1
    }

    /// The server does something that ends by itself with ReadyForQuery.
    pub fn is_working(&self) -> bool {
        !self.copying && self.owed_ready() > 0
    }

    pub fn is_answered(&self) -> bool {
        self.queue.is_empty()
    }

    /// The client is in the middle of a message: nothing of the router's own can be put there.
    pub fn is_mid_message(&self) -> bool {
        self.passing > 0 && !self.dropping
    }

    /// How many ReadyForQuery the client waits for.
    pub fn owed_ready(&self) -> usize {
        self.queue
            .iter()
            .filter(|e| matches!(e, Expect::Query | Expect::Sync | Expect::Deallocate(_)))
            .count()
    }

    /// The server drops what comes, up to the next Sync.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Notes a message of this tag that is not sent on: it too is owed an answer.
    pub fn withhold(&mut self, tag: u8) {
        match tag {
            front::QUERY | front::FUNCTION_CALL => self.queue.push_back(Expect::Query),
            _ => self.open = true,
        }
    }

    /// Forgets the connection with all that was under way: the names that would have come of it do not exist.
    pub fn abandon(&mut self, names: &mut Names) {
        let mut kept = Kept::default();
        self.queue.drain(..).rev().for_each(|expect| undo(expect, &mut kept, names));
        self.reset();
    }

    /// Sends a client's message on, under the names that the server knows.
    pub fn send(&mut self, kind: &Kind, message: &[u8], kept: &mut Kept, out: &mut BytesMut) {
        if self.skipping && !matches!(kind, Kind::Sync) {
            // The server drops it, and so would it have dropped all that goes with it.
            out.extend_from_slice(message);
            return;
        }
        match kind {
            Kind::Deallocate(gone) if gone.is_ours() && self.open => {
                // What came before it has no Sync: only the server can end that, and only then this is done.
                self.open = false;
                self.queue.push_back(Expect::Here { answer: gone.complete(), undo: None });
                self.queue.push_back(Expect::Sync);
                out.extend_from_slice(build::SYNC);
                return;
            }
            Kind::Deallocate(gone) if gone.is_ours() => {
                self.queue.push_back(Expect::Deallocate(gone.tag()));
                return;
            }
            Kind::Query(_) | Kind::Deallocate(_) | Kind::FunctionCall => {
                kept.unnamed = None;
                // It ends what came before it without a Sync.
                self.open = false;
                self.queue.push_back(Expect::Query);
            }
            Kind::Sync => {
                // While it takes CopyData a server ignores Sync.
                if !self.copying {
                    self.skipping = false;
                    self.open = false;
                    self.queue.push_back(Expect::Sync);
                }
                out.extend_from_slice(message);
                return;
            }
            Kind::Flush => {
                out.extend_from_slice(message);
                return;
            }
            Kind::Parse { name, statement, again } => {
                self.open = true;
                return self.parse(name, statement, *again, message, kept, out);
            }
            Kind::Bind(of) => {
                let rename = self.provide(of, kept, out);
                self.queue.push_back(Expect::Bind);
                self.open = true;
                let body = &message[HEAD_BYTES..];
                if let (Some((portal, given, taken)), true) =
                    (front::bind(body), rename.is_some() || matches!(of, Of::Unknown))
                {
                    let name = rename.map_or_else(|| unknown(given), |name| name.as_bytes().to_vec());
                    build::bind_head(out, portal, &name, body.len() - taken);
                    out.extend_from_slice(&body[taken..]);
                    return;
                }
            }
            Kind::DescribeStatement(of) => {
                let rename = self.provide(of, kept, out);
                self.queue.push_back(Expect::Describe);
                self.open = true;
                let given = &message[HEAD_BYTES + 1..message.len() - 1];
                let name = match (rename, of) {
                    (Some(name), _) => name.as_bytes().to_vec(),
                    (None, Of::Unknown) => unknown(given),
                    (None, _) => given.to_vec(),
                };
                return build::about_statement(out, front::DESCRIBE, &name);
            }
            Kind::CloseStatement { name, closed } => {
                self.open = true;
                let undo = closed.as_ref().map(|statement| Undo::Closed(name.clone(), statement.clone()));
                if !name.is_empty() && undo.is_some() {
                    // Other sessions may use the statement: the connection keeps it.
                    self.queue.push_back(Expect::Here { answer: build::CLOSE_COMPLETE, undo });
                    return;
                }
                if name.is_empty() {
                    kept.unnamed = None;
                }
                // A name that only a pinned connection has is closed there.
                self.queue.push_back(Expect::Close { undo });
                return build::about_statement(out, front::CLOSE, &unknown(name));
            }
            Kind::DescribePortal => self.push_open(Expect::Describe),
            Kind::ClosePortal => self.push_open(Expect::Close { undo: None }),
            Kind::Execute => self.push_open(Expect::Execute),
        }
        out.extend_from_slice(message);
    }

    fn push_open(&mut self, expect: Expect) {
        self.open = true;
        self.queue.push_back(expect);
    }

    fn parse(
        &mut self,
        name: &Bytes,
        statement: &Statement,
        again: bool,
        message: &[u8],
        kept: &mut Kept,
        out: &mut BytesMut,
    ) {
        let id = statement.id;
        if name.is_empty() {
            kept.unnamed = Some(id);
            self.queue.push_back(Expect::Parse { id: Some(id), name: Some(name.clone()) });
            out.extend_from_slice(message);
        } else if again {
            // The server refuses the second one, in its own words but for the name.
            self.prepare(statement, kept, out);
            self.queue.push_back(Expect::Parse { id: None, name: Some(Bytes::new()) });
            build::parse(out, statement.name.as_bytes(), &statement.tail);
        } else if kept.touch(id) {
            let undo = Some(Undo::Prepared(name.clone(), id));
            self.queue.push_back(Expect::Here { answer: build::PARSE_COMPLETE, undo });
        } else {
            self.make_room(id, kept, out);
            self.queue.push_back(Expect::Parse { id: Some(id), name: Some(name.clone()) });
            build::parse(out, statement.name.as_bytes(), &statement.tail);
        }
    }

    /// Makes sure that the server has the statement; gives the name it has there, if that is another.
    pub fn provide<'a>(&mut self, of: &'a Of, kept: &mut Kept, out: &mut BytesMut) -> Option<&'a str> {
        match of {
            Of::Unknown => None,
            Of::Named(statement) => {
                self.prepare(statement, kept, out);
                Some(&statement.name)
            }
            Of::Unnamed(statement) => {
                if kept.unnamed != Some(statement.id) {
                    kept.unnamed = Some(statement.id);
                    self.queue.push_back(Expect::Parse { id: Some(statement.id), name: None });
                    build::parse(out, b"", &statement.tail);
                }
                None
            }
        }
    }

    fn prepare(&mut self, statement: &Statement, kept: &mut Kept, out: &mut BytesMut) {
        if !kept.touch(statement.id) {
            self.make_room(statement.id, kept, out);
            self.queue.push_back(Expect::Parse { id: Some(statement.id), name: None });
            build::parse(out, statement.name.as_bytes(), &statement.tail);
        }
    }

    fn make_room(&mut self, id: u64, kept: &mut Kept, out: &mut BytesMut) {
        if let Some(old) = kept.add(id) {
            self.evicted += 1;
            self.queue.push_back(Expect::CloseOwn(old));
            build::about_statement(out, front::CLOSE, server_name(old).as_bytes());
        }
    }

    /// Notes a message that is sent on as it comes, too large to be held.
    pub fn send_streamed(&mut self, expect: Expect) {
        self.open = expect != Expect::Query;
        self.queue.push_back(expect);
    }

    /// Notes the client's CopyDone or CopyFail.
    pub fn send_copy_end(&mut self) {
        if self.copying {
            self.copying = false;
        } else if !self.queue.is_empty() {
            self.queue.push_back(Expect::CopyEnd);
        }
    }
}

/// The name under which a server is asked for a statement that the session does not have: never one of the router's.
fn unknown(name: &[u8]) -> Vec<u8> {
    let mut name = name.to_vec();
    if is_reserved(&name) {
        name.push(b'?');
    }
    name
}

#[cfg(test)]
mod tests;
