//! Reads a client's next batch while its session has no server connection, and answers what needs no server.

use std::task::Poll;

use bytes::Buf;

use super::batch::{Kind, Op, ReadError, Reader};
use super::pump::{LOOK_BYTES_MAX, NAMES_BYTES_MAX};
use super::{Next, Session, UNREAD_BYTES_MAX, aborted};
use crate::classify::Class;
use crate::stream::{poll_drain, poll_fill};
use crate::wire::{HEAD_BYTES, build, front, head};
use crate::worker::Signal;

impl Session {
    /// Reads until a batch is whole, or too large.
    pub(super) async fn next_batch(&mut self) -> Next {
        std::future::poll_fn(|cx| {
            loop {
                if self.has_parted(cx) {
                    return Poll::Ready(Next::Gone);
                }
                if !self.output.is_empty()
                    && let Poll::Ready(Err(_)) = poll_drain(&mut self.client, cx, &mut self.output)
                {
                    if !self.is_parting() {
                        return Poll::Ready(Next::Gone);
                    }
                    self.output.clear();
                }
                if self.handle.has(Signal::Drain) && !self.aborted {
                    return Poll::Ready(Next::Drained);
                }
                match self.read_batch() {
                    Ok(Some(next)) => return Poll::Ready(next),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Next::Unreadable(error)),
                }
                if self.output.len() > UNREAD_BYTES_MAX {
                    self.handle.listen(cx.waker());
                    return Poll::Pending;
                }
                if self.input.capacity() == 0 {
                    self.input = self.worker.buffer();
                }
                match poll_fill(&mut self.client, cx, &mut self.input) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::Gone),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => {
                        self.handle.listen(cx.waker());
                        self.lend_buffers();
                        return Poll::Pending;
                    }
                }
            }
        })
        .await
    }

    /// A session that waits for its client holds no buffers.
    fn lend_buffers(&mut self) {
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.is_empty() && buffer.capacity() > 0 {
                self.worker.give_back(std::mem::take(buffer));
            }
        }
    }

    /// Reads what of a batch is there.
    fn read_batch(&mut self) -> Result<Option<Next>, ReadError> {
        loop {
            if self.dropping > 0 {
                let n = self.dropping.min(self.input.len());
                self.input.advance(n);
                self.dropping -= n;
                if self.dropping > 0 {
                    return Ok(None);
                }
            }
            let at = self.batch.len;
            let Some(head) = head(&self.input[at..])? else { return Ok(None) };
            let there = self.input.len() - at;
            let copy = matches!(head.tag, front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL);
            let skipped = self.skipping && head.tag != front::SYNC && head.tag != front::TERMINATE;
            if (copy || skipped) && at == 0 {
                // Data after an error ended its COPY, or what goes with the error: PostgreSQL drops them too.
                self.dropping = head.len;
                continue;
            }
            if copy {
                // Sent along with the COPY it belongs to: no batch that a replica could do.
                self.batch.complete = false;
                return Ok(Some(Next::Batch));
            }
            if head.tag == front::TERMINATE {
                return Ok(Some(Next::Gone));
            }
            if there < head.len {
                let looked_at = there > NAMES_BYTES_MAX + HEAD_BYTES;
                if at + head.len > LOOK_BYTES_MAX && looked_at {
                    return Ok(self.too_large(head.len));
                }
                return Ok(None);
            }
            let snapshot = self.worker.snapshot();
            let mut reader = Reader {
                names: &mut self.names,
                statements: &self.worker.statements,
                catalog: snapshot.catalog(&self.key.database),
                utf8: self.utf8,
                may_end: false,
            };
            let (kind, class) = reader.read(&self.input[at..at + head.len])?;
            self.batch.traits.may_end |= reader.may_end;
            self.skipping = false;
            if self.batch.add(kind, at..at + head.len, class) || self.batch.len > LOOK_BYTES_MAX {
                return Ok(Some(Next::Batch));
            }
        }
    }

    /// A batch that cannot be looked at whole: what was read of it goes to the primary, the rest follows.
    fn too_large(&mut self, len: usize) -> Option<Next> {
        if self.aborted && self.batch.len == 0 {
            aborted::refuse(&mut self.output);
            match self.input[0] {
                front::QUERY | front::FUNCTION_CALL => build::ready(&mut self.output, b'E'),
                _ => self.skipping = true,
            }
            self.dropping = len;
            return None;
        }
        self.batch.complete = false;
        Some(Next::Batch)
    }

    /// Answers a batch that needs no server.
    pub(super) fn answer_here(&mut self) -> bool {
        if let Some(error) = self.untold.take() {
            // Were this a COMMIT, "ROLLBACK" alone would be taken for success by clients that were told no error.
            error.write(&mut self.output);
            self.batch.undo(&mut self.names);
            self.aborted = !self.batch.traits.ends;
            match self.batch.complete {
                true => build::ready(&mut self.output, aborted::status(self.aborted)),
                false => self.skipping = true,
            }
            return true;
        }
        if self.aborted {
            let snapshot = self.worker.snapshot();
            let catalog = snapshot.catalog(&self.key.database);
            let after = aborted::answer(&self.batch, catalog, &mut self.names, &mut self.output);
            self.aborted = after.aborted;
            self.skipping = after.skipping;
            return true;
        }
        if self.batch.is_only_sync() {
            build::ready(&mut self.output, b'I');
            return true;
        }
        if let [Op { kind: Kind::Deallocate(gone), .. }] = &*self.batch.ops {
            gone.answer(&mut self.output);
            return true;
        }
        if let [Op { kind: Kind::Query(Class::Reset), .. }] = &*self.batch.ops {
            // A session that is not pinned has nothing but its statements.
            self.names.clear();
            build::complete(&mut self.output, "DISCARD ALL");
            build::ready(&mut self.output, b'I');
            return true;
        }
        false
    }
}
