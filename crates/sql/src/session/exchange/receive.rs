//! The half of the conversation that comes from the server: each message is matched with the answer it belongs to. Sans
//! I/O.

use bytes::{Buf, BytesMut};

use super::expect::{Expect, undo};
use super::{Exchange, Received};
use crate::prepared::{Kept, Names};
use crate::session::aborted;
use crate::wire::error::{SqlError, state};
use crate::wire::{HEAD_BYTES, Head, WireError, back, build, head};

/// Longest message that must be read whole, bytes.
const WHOLE_BYTES_MAX: usize = 1024 * 1024;
/// Longest notice that is looked at, bytes: a server that crashes says so in a short one.
const NOTICE_BYTES_MAX: usize = 4096;

/// Why a replica refuses what the primary would do: a write, a conflict with the replay, what it has not (55000: the
/// recovery has not come so far; 0A000: unlogged tables, serializable transactions).
const ELSEWHERE: [&str; 4] =
    [state::READ_ONLY_TRANSACTION, state::SERIALIZATION_FAILURE, "55000", state::FEATURE_NOT_SUPPORTED];
/// The routine of PostgreSQL that commits although its wait for a replica was cancelled, and says so in a warning only.
const UNREPLICATED: &[u8] = b"RSyncRepWaitForLSN";
/// The routine of PostgreSQL that refuses a prepared statement whose result is of another type by now.
const REVALIDATE: &[u8] = b"RRevalidateCachedQuery";

enum Show {
    Yes,
    No,
    Elsewhere(SqlError),
}

impl Exchange {
    /// Takes what a server sent: what the client may see goes to `out`. `fresh`: the client has seen nothing of the
    /// batch yet, so that it can be sent elsewhere.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
        kept: &mut Kept,
        names: &mut Names,
        fresh: bool,
    ) -> Result<Received, WireError> {
        let (mut run, mut at) = (0, 0);
        loop {
            if self.passing > 0 {
                let n = self.passing.min(input.len() - at);
                self.passing -= n;
                if self.dropping {
                    out.extend_from_slice(&input[run..at]);
                    run = at + n;
                }
                at += n;
                if self.passing > 0 {
                    break;
                }
                self.dropping = false;
            }
            if matches!(self.queue.front(), Some(Expect::Here { .. } | Expect::Deallocate(_))) {
                out.extend_from_slice(&input[run..at]);
                run = at;
                self.give_here(out);
            }
            let Some(head) = head(&input[at..])? else { break };
            let there = (input.len() - at).min(head.len);
            if is_whole(head) && there < head.len {
                if head.len > WHOLE_BYTES_MAX {
                    return Err(WireError::Length(head.len as i64));
                }
                break;
            }
            if head.tag == back::NOTICE
                && there == head.len
                && let body = &input[at + HEAD_BYTES..at + there]
                && let unreplicated = is_of(body, UNREPLICATED)
                && (unreplicated || self.is_farewell(body))
            {
                out.extend_from_slice(&input[run..at]);
                at += there;
                run = at;
                if unreplicated {
                    self.deny(out);
                }
                continue;
            }
            let show = self.take(head.tag, &input[at + HEAD_BYTES..at + there], kept, names, fresh)?;
            // An error in the middle of an answer is its end: nothing may follow but ReadyForQuery.
            let show = if self.denied && head.tag != back::READY { Show::No } else { show };
            match show {
                Show::Yes => {
                    at += there;
                    self.passing = head.len - there;
                    self.denied &= head.tag != back::READY;
                }
                Show::No => {
                    out.extend_from_slice(&input[run..at]);
                    at += there;
                    run = at;
                    self.passing = head.len - there;
                    self.dropping = self.passing > 0;
                }
                Show::Elsewhere(error) => return Ok(Received::Elsewhere(error)),
            }
        }
        out.extend_from_slice(&input[run..at]);
        if at == input.len() {
            input.clear();
        } else {
            input.advance(at);
        }
        Ok(Received::Fine)
    }

    /// A commit is on the primary alone, because its wait for a replica was cancelled (PostgreSQL documentation,
    /// "Synchronous Replication"). The server calls that a success with a warning; a failover may lose it, so the client is
    /// told that nobody knows.
    fn deny(&mut self, out: &mut BytesMut) {
        if std::mem::replace(&mut self.denied, true) {
            // One answer has one end.
            return;
        }
        self.unreplicated += 1;
        SqlError::error(
            state::RESOLUTION_UNKNOWN,
            "the commit was cancelled while it waited for a replica: it is on the primary, and may be lost with it",
        )
        .hint("Read back what it would have changed before you do it again.")
        .write(out);
    }

    /// A server that is stopped at once says goodbye in a notice; it is told to the client as an error, if at all.
    fn is_farewell(&mut self, body: &[u8]) -> bool {
        let notice = SqlError::read(body);
        let leaves = notice.is_unavailable();
        if leaves {
            self.farewell = Some(notice);
        }
        leaves
    }

    /// Gives the answers that no server needs to give, if it is their turn and the client is not in a message.
    pub fn give_here(&mut self, out: &mut BytesMut) {
        while self.passing == 0 {
            match self.queue.front() {
                // After the error that ended the answers up to ReadyForQuery, it comes without a word.
                Some(Expect::Here { .. }) if self.denied => {}
                Some(Expect::Here { answer, .. }) => out.extend_from_slice(answer),
                Some(Expect::Deallocate(_)) if self.status == b'E' => {
                    aborted::refuse(out);
                    build::ready(out, self.status);
                }
                Some(Expect::Deallocate(tag)) => {
                    build::complete(out, tag);
                    build::ready(out, self.status);
                }
                _ => return,
            }
            self.pop();
        }
    }

    fn take(
        &mut self,
        tag: u8,
        body: &[u8],
        kept: &mut Kept,
        names: &mut Names,
        fresh: bool,
    ) -> Result<Show, WireError> {
        let unexpected = Err(WireError::Tag(tag as char));
        match tag {
            back::READY => {
                let status = *body.first().ok_or(WireError::Form('Z'))?;
                match self.queue.front() {
                    Some(Expect::Query | Expect::Sync) => self.pop(),
                    _ => return unexpected,
                }
                self.status = status;
                self.ready = true;
                self.copying = false;
            }
            back::ERROR => {
                let error = SqlError::read(body);
                self.stale |= error.code == state::FEATURE_NOT_SUPPORTED && is_of(body, REVALIDATE);
                return Ok(self.error(error, kept, names, fresh));
            }
            back::PARSE_COMPLETE => match self.queue.front() {
                Some(Expect::Parse { name, .. }) => {
                    let show = if name.is_some() { Show::Yes } else { Show::No };
                    self.pop();
                    return Ok(show);
                }
                _ => return unexpected,
            },
            back::CLOSE_COMPLETE => match self.queue.front() {
                Some(Expect::Close { .. }) => self.pop(),
                Some(Expect::CloseOwn(_)) => {
                    self.pop();
                    return Ok(Show::No);
                }
                _ => return unexpected,
            },
            back::BIND_COMPLETE => match self.queue.front() {
                Some(Expect::Bind) => self.pop(),
                _ => return unexpected,
            },
            back::ROW_DESCRIPTION | back::NO_DATA if self.queue.front() == Some(&Expect::Describe) => {
                self.pop()
            }
            back::COMPLETE if [&b"DEALLOCATE ALL\0"[..], b"DISCARD ALL\0"].contains(&body) => {
                self.discarded |= body.starts_with(b"DISCARD");
                *kept = Kept::default();
                names.clear();
                if self.queue.front() == Some(&Expect::Execute) {
                    self.pop();
                }
            }
            back::COMPLETE | back::EMPTY_QUERY | back::SUSPENDED
                if self.queue.front() == Some(&Expect::Execute) =>
            {
                self.pop();
            }
            back::COPY_IN => self.copy_in(),
            // Only a replication connection gets it.
            back::COPY_BOTH => return unexpected,
            _ => {}
        }
        Ok(Show::Yes)
    }

    fn pop(&mut self) {
        self.queue.pop_front();
        while self.queue.front() == Some(&Expect::CopyEnd) {
            self.queue.pop_front();
        }
    }

    /// The server takes CopyData from now on. It ignores each Sync that was sent before the data's end.
    fn copy_in(&mut self) {
        self.copying = true;
        let mut at = 1;
        let before = self.queue.len();
        while at < self.queue.len() {
            match self.queue[at] {
                Expect::Sync => {
                    self.queue.remove(at);
                    self.open = true;
                }
                Expect::CopyEnd => {
                    self.queue.remove(at);
                    self.copying = false;
                    break;
                }
                _ => at += 1,
            }
        }
        if self.denied && self.copying {
            // The client has its error and will send no data; it waits for an answer to each Sync.
            self.starving = Some(before - self.queue.len());
        }
    }

    fn error(&mut self, error: SqlError, kept: &mut Kept, names: &mut Names, fresh: bool) -> Show {
        if error.fatal {
            // The connection ends; how that is told depends on what was under way.
            self.farewell = Some(error);
            return Show::No;
        }
        if fresh && ELSEWHERE.contains(&&*error.code) {
            return Show::Elsewhere(error);
        }
        self.copying = false;
        if matches!(self.queue.front(), Some(Expect::Query | Expect::Sync) | None) {
            return Show::Yes;
        }
        let sync = self.queue.iter().position(|expect| *expect == Expect::Sync);
        let skipped = sync.unwrap_or(self.queue.len());
        self.queue.drain(..skipped).rev().for_each(|expect| undo(expect, kept, names));
        self.skipping = sync.is_none();
        // A Query among what is skipped does not end it.
        self.open |= self.skipping;
        Show::Yes
    }
}

/// Messages that are only understood whole; they are small. The others are passed on as they come.
fn is_whole(head: Head) -> bool {
    match head.tag {
        back::NOTICE => head.len <= NOTICE_BYTES_MAX,
        back::DATA_ROW | back::ROW_DESCRIPTION | back::NOTIFICATION | b'd' | b'V' | b't' => false,
        _ => true,
    }
}

/// Whether an error has this field, whole.
fn is_of(body: &[u8], field: &[u8]) -> bool {
    body.split(|&b| b == 0).any(|one| one == field)
}
