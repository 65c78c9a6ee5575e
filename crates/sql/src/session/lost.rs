//! What a client is told when its statements could not be done or their fate is not known.
//!
//! Nothing is ever sent again from here: the words are all there is.

use std::time::Instant;

use bytes::Buf;

use super::batch::Traits;
use super::{Session, aborted};
use crate::fresh::Floor;
use crate::pool::Conn;
use crate::stats::Count;
use crate::wire::error::{SqlError, state};
use crate::wire::{build, front, head};

impl Session {
    /// Nothing of the batch was sent: the error is its answer.
    pub(super) fn refuse_batch(&mut self, error: &SqlError) {
        self.batch.undo(&mut self.names);
        error.write(&mut self.output);
        if self.batch.complete {
            build::ready(&mut self.output, b'I');
        } else if self.batch.ops.is_empty() && matches!(self.input.first(), Some(&front::QUERY)) {
            // A query too large to be held: it is dropped as it comes.
            if let Ok(Some(head)) = head(&self.input) {
                self.dropping = head.len;
            }
            build::ready(&mut self.output, b'I');
        } else {
            self.skipping = true;
        }
        self.input.advance(self.batch.len);
    }

    /// The connection broke with something under way, which is never sent again.
    pub(super) fn lost(&mut self, conn: &Conn, cause: String) -> Result<(), Option<SqlError>> {
        let node = &conn.pool().target.node;
        let cause = match self.exchange.farewell.take() {
            Some(said) => format!("{}: {said}", node),
            None => format!("{node}: {cause}"),
        };
        if self.exchange.is_mid_message() {
            // No error can be put into the middle of a row; the end of the connection is the only honest word left.
            return Err(None);
        }
        let in_transaction = self.exchange.status != b'I';
        let may_have_committed = if in_transaction {
            self.flight.ends || self.flight.may_end
        } else {
            self.flight.writes || self.flight.ends
        };
        // What had its error already was counted then.
        let count = |what| match self.exchange.is_told() {
            true => {}
            false => self.worker.counters.count(what),
        };
        let error = if may_have_committed && !self.exchange.is_quiet() {
            count(Count::UnknownOutcomes);
            // Should it have committed after all, the session must see it.
            self.floor = Floor::After(Instant::now(), conn.pool().epoch);
            SqlError::error(
                state::RESOLUTION_UNKNOWN,
                "the connection to the primary broke before it answered: the write may or may not have been committed",
            )
            .hint("Read back what it would have changed before you do it again.")
        } else {
            count(Count::BrokenStatements);
            SqlError::error(
                state::CONNECTION_FAILURE,
                "the connection to the database server broke before it answered",
            )
            .hint(if in_transaction { "The transaction was rolled back." } else { "Nothing was changed by it." })
        }
        .detail(cause);
        if self.pinned {
            // What the session had on that connection is gone with it.
            return Err(Some(SqlError { fatal: true, ..error }));
        }
        let ended = self.flight.ends && in_transaction;
        // BEGIN alone was under way: there is no transaction. With more behind it, that must not run outside of one.
        let begun = self.flight.begins && self.exchange.owed_ready() > 1;
        self.fail(&error, (in_transaction && !ended) || begun);
        Ok(())
    }

    /// Answers all that is under way with an error. `aborted`: the client is in a transaction that is lost.
    pub(super) fn fail(&mut self, error: &SqlError, aborted: bool) {
        self.aborted = aborted;
        self.exchange.answer_all(error, aborted::status(aborted), &mut self.output);
        if self.exchange.open {
            self.skipping = true;
        } else if self.exchange.owed_ready() == 0 {
            // PostgreSQL sends no error that was not asked for; the next request gets it.
            self.untold = Some(error.clone());
        }
        // The rest of a message that was under way has nowhere to go.
        self.dropping = std::mem::take(&mut self.streaming);
        self.flight = Traits::default();
        // What was read of a batch and not sent is in the input, and is read again.
        self.batch.undo(&mut self.names);
        self.exchange.abandon(&mut self.names);
    }
}
