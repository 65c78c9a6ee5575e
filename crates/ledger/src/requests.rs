//! Numbers this node's requests, so that the cluster does each once however often it is sent (`state/once.rs`).

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tiebeam_topology::NodeName;

use crate::state::RequestId;

#[derive(Debug)]
pub(crate) struct Requests {
    node: NodeName,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    session: u64,
    next: u64,
    waited_for: BTreeSet<u64>,
}

/// A request that is waited for, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    requests: &'a Requests,
    number: u64,
}

impl Requests {
    /// `session` should be above that of every earlier opening; [`Requests::outgrow`] corrects it if it is not.
    pub fn new(node: NodeName, session: u64) -> Self {
        Self { node, book: Mutex::new(Book { session, next: 1, waited_for: BTreeSet::new() }) }
    }

    pub fn begin(&self) -> Ticket<'_> {
        let mut book = self.book();
        let number = book.next;
        book.next += 1;
        book.waited_for.insert(number);
        Ticket { requests: self, number }
    }

    /// Raises the session above `current`, which the cluster has seen from this node.
    pub fn outgrow(&self, current: u64) {
        let mut book = self.book();
        book.session = book.session.max(current.saturating_add(1));
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    pub fn id(&self) -> RequestId {
        let book = self.requests.book();
        RequestId {
            node: self.requests.node.clone(),
            session: book.session,
            number: self.number,
            settled: book.waited_for.first().copied().unwrap_or(self.number),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.requests.book().waited_for.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_not_settled() {
        let requests = Requests::new("a".parse().unwrap(), 10);
        let (first, second) = (requests.begin(), requests.begin());
        assert_eq!((first.id().number, second.id().number, second.id().settled), (1, 2, 1));
        drop(first);
        assert_eq!(second.id().settled, 2);
        requests.outgrow(4);
        assert_eq!(second.id().session, 10);
        requests.outgrow(10);
        assert_eq!((second.id().session, second.id().number), (11, 2));
    }
}
