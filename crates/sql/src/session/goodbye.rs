//! A client that says goodbye and closes at once: what it sent before is still done, as PostgreSQL does it, for a bounded
//! time.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::Session;
use crate::pool::Conn;
use crate::stats::Count;
use crate::wire::{front, head};

/// What a client sent before its goodbye has so long to be done.
const GOODBYE_TIME: Duration = Duration::from_secs(5);

/// The time that a session has after its client's goodbye.
pub(super) type Parting = Pin<Box<Sleep>>;

impl Session {
    /// The client's goodbye was read: nothing follows it. True if it is the first word of it.
    pub(super) fn part(&mut self) -> bool {
        let first = self.parting.is_none();
        if first {
            self.parting = Some(Box::pin(sleep(GOODBYE_TIME)));
        }
        first
    }

    /// The client closed its connection, or it broke. True: what is there of its messages ends with a goodbye, so there
    /// is still something to do.
    pub(super) fn is_parting(&mut self) -> bool {
        let skipped = self.dropping + self.streaming + self.sent;
        if self.parting.is_none() && says_goodbye(&self.input, skipped) {
            self.part();
        }
        self.parting.is_some()
    }

    /// The time since the client's goodbye is over. Else the task is woken when it is.
    pub(super) fn has_parted(&mut self, cx: &mut Context<'_>) -> bool {
        let over = self.parting.as_mut().is_some_and(|parting| parting.as_mut().poll(cx).is_ready());
        if over {
            self.worker.counters.count(Count::GoodbyesCut);
        }
        over
    }

    /// All that was sent before the client's goodbye has left, and each statement of it is answered. PostgreSQL does no
    /// more of them once it finds that nobody takes its answers.
    pub(super) fn may_part(&self, conn: &Conn) -> bool {
        !conn.server.is_sending() && !self.exchange.is_working()
    }
}

/// Whether a goodbye is among these messages, the first of which begins after `skipped` bytes.
fn says_goodbye(input: &[u8], skipped: usize) -> bool {
    let mut rest = input.get(skipped..).unwrap_or_default();
    while let Ok(Some(head)) = head(rest) {
        if head.tag == front::TERMINATE {
            return true;
        }
        rest = rest.get(head.len..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goodbye_is_a_message_of_its_own() {
        let (sync, bye) = (&b"S\0\0\0\x04"[..], &b"X\0\0\0\x04"[..]);
        let cases = [
            (bye.to_vec(), 0, true),
            ([sync, sync, bye].concat(), 0, true),
            ([sync, bye].concat(), 5, true),
            ([&b"xxX"[..], bye].concat(), 3, true),
            ([sync, sync].concat(), 0, false),
            // In the text of a query, cut, or behind what is not whole.
            (b"Q\0\0\0\x0aX\0\0\0\x04\0".to_vec(), 0, false),
            (bye[..4].to_vec(), 0, false),
            ([&b"Q\0\0\0\x20"[..], bye].concat(), 0, false),
            (bye.to_vec(), 9, false),
        ];
        for (input, skipped, says) in cases {
            assert_eq!(says_goodbye(&input, skipped), says, "{input:?} after {skipped}");
        }
    }
}
