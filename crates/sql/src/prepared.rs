//! Prepared statements under transaction pooling: a session has names, the connections of the pool have statements.
//!
//! A named statement of a client is kept once a worker, whichever sessions prepare it, and has one name on all server
//! connections, so that a connection that has it serves every session. Plain bookkeeping, no I/O; used by `session`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::Bytes;

use crate::classify::{Class, Volatility, classify};

/// Statements kept on one server connection; the one unused longest makes room.
pub(crate) const PREPARED_MAX: usize = 256;
/// Names that one session may have; a client that leaks them is refused more.
pub(crate) const NAMES_MAX: usize = 10_000;
/// Longest names and texts of one session's statements together, bytes.
pub(crate) const NAMED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Before all names of the router's own on servers.
const PREFIX: &str = "_tiebeam_";

/// A statement as a client prepared it.
pub(crate) struct Statement {
    pub id: u64,
    /// Its name on servers.
    pub name: String,
    /// The query with its zero, and the parameters' types: the end of a Parse message.
    pub tail: Bytes,
    utf8: bool,
    class: Cell<Option<Class>>,
    /// The catalog that `class` was found by.
    seen: RefCell<Arc<Volatility>>,
}

impl Statement {
    /// The text.
    pub fn query(&self) -> &[u8] {
        query_of(&self.tail)
    }

    /// The class by this catalog; looked at again when the catalog has changed.
    pub fn class(&self, catalog: &Arc<Volatility>) -> Class {
        match self.class.get() {
            Some(class) if Arc::ptr_eq(&self.seen.borrow(), catalog) => class,
            _ => {
                let class = class_of(query_of(&self.tail), self.utf8, catalog);
                self.class.set(Some(class));
                self.seen.replace(catalog.clone());
                class
            }
        }
    }
}

/// The class of a query's bytes. `utf8`: that is the client's encoding; in another one only ASCII is certain, and what
/// is not certain of anything pins.
pub(crate) fn class_of(query: &[u8], utf8: bool, catalog: &Volatility) -> Class {
    match std::str::from_utf8(query) {
        Ok(sql) if utf8 || sql.is_ascii() => classify(sql, catalog),
        _ => Class::Pin("text in another encoding than UTF-8"),
    }
}

fn query_of(tail: &[u8]) -> &[u8] {
    let end = tail.iter().position(|&b| b == 0).unwrap_or(tail.len());
    &tail[..end]
}

/// The statements of a worker.
#[derive(Default)]
pub(crate) struct Statements {
    next: Cell<u64>,
    by_tail: RefCell<HashMap<Bytes, Weak<Statement>>>,
    /// The size at which those that no session has any more are dropped.
    sweep_at: Cell<usize>,
}

impl Statements {
    /// A statement that one session alone uses, as its unnamed one.
    pub fn own(&self, tail: &[u8], utf8: bool, catalog: &Arc<Volatility>) -> Rc<Statement> {
        let id = self.next.get();
        self.next.set(id + 1);
        Rc::new(Statement {
            id,
            name: format!("{PREFIX}{id}"),
            tail: Bytes::copy_from_slice(tail),
            utf8,
            class: Cell::new(None),
            seen: RefCell::new(catalog.clone()),
        })
    }

    /// From now on whoever prepares a text gets a new statement for it.
    pub fn forget(&self) {
        self.by_tail.borrow_mut().clear();
    }

    /// The one statement with this text and these types.
    pub fn shared(&self, tail: &[u8], utf8: bool, catalog: &Arc<Volatility>) -> Rc<Statement> {
        if !utf8 && !tail.is_ascii() {
            return self.own(tail, utf8, catalog);
        }
        if let Some(statement) = self.by_tail.borrow().get(tail).and_then(Weak::upgrade) {
            return statement;
        }
        let statement = self.own(tail, true, catalog);
        let mut by_tail = self.by_tail.borrow_mut();
        if by_tail.len() >= self.sweep_at.get() {
            by_tail.retain(|_, statement| statement.strong_count() > 0);
            self.sweep_at.set((by_tail.len() * 2).max(1024));
        }
        by_tail.insert(statement.tail.clone(), Rc::downgrade(&statement));
        statement
    }
}

impl PartialEq for Statement {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Statement {}

impl std::fmt::Debug for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// The statements of one session.
#[derive(Default)]
pub(crate) struct Names {
    named: HashMap<Bytes, Rc<Statement>>,
    /// Of all in `named`: a statement counts in full for each session that has it.
    bytes: usize,
    pub unnamed: Option<Rc<Statement>>,
}

impl Names {
    pub fn get(&self, name: &[u8]) -> Option<&Rc<Statement>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    /// One more, this long with its name, would be too many.
    pub fn is_full(&self, bytes: usize) -> bool {
        self.named.len() >= NAMES_MAX || self.bytes + bytes > NAMED_BYTES_MAX
    }

    pub fn define(&mut self, name: &[u8], statement: Rc<Statement>) {
        if name.is_empty() {
            self.unnamed = Some(statement);
        } else {
            self.remove(name);
            self.bytes += name.len() + statement.tail.len();
            self.named.insert(Bytes::copy_from_slice(name), statement);
        }
    }

    /// Forgets a name, if it still means the statement `id`.
    pub fn undo(&mut self, name: &[u8], id: u64) {
        if self.get(name).is_some_and(|statement| statement.id == id) {
            self.remove(name);
        }
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<Rc<Statement>> {
        if name.is_empty() {
            return self.unnamed.take();
        }
        let statement = self.named.remove(name)?;
        self.bytes -= name.len() + statement.tail.len();
        Some(statement)
    }

    pub fn clear(&mut self) {
        self.named.clear();
        self.bytes = 0;
        self.unnamed = None;
    }
}

/// The prepared statements of one server connection.
#[derive(Default)]
pub(crate) struct Kept {
    /// By id, with the tick of the last use.
    prepared: HashMap<u64, u64>,
    tick: u64,
    /// The statement that is its unnamed one.
    pub unnamed: Option<u64>,
}

impl Kept {
    /// Notes a use of the statement; false if this connection does not have it.
    pub fn touch(&mut self, id: u64) -> bool {
        self.tick += 1;
        match self.prepared.get_mut(&id) {
            Some(tick) => {
                *tick = self.tick;
                true
            }
            None => false,
        }
    }

    /// Notes that the statement will be there; gives one that must be closed to make room.
    pub fn add(&mut self, id: u64) -> Option<u64> {
        let evicted = match self.prepared.len() < PREPARED_MAX {
            true => None,
            false => self.prepared.iter().min_by_key(|(_, tick)| **tick).map(|(&id, _)| id),
        };
        if let Some(old) = evicted {
            self.prepared.remove(&old);
        }
        self.prepared.insert(id, self.tick);
        evicted
    }

    /// Notes that the statement is not there.
    pub fn forget(&mut self, id: u64) {
        self.prepared.remove(&id);
        if self.unnamed == Some(id) {
            self.unnamed = None;
        }
    }

    /// Notes that a statement which should have been closed is still there.
    pub fn keep(&mut self, id: u64) {
        self.prepared.insert(id, 0);
    }
}

/// The name of a statement on servers.
pub(crate) fn server_name(id: u64) -> String {
    format!("{PREFIX}{id}")
}

/// Names that only the router may use on servers.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_unused_longest_makes_room() {
        let mut kept = Kept::default();
        for id in 0..PREPARED_MAX as u64 {
            assert!(!kept.touch(id));
            assert_eq!(kept.add(id), None);
        }
        assert!(kept.touch(0));
        assert!(!kept.touch(9999));
        assert_eq!(kept.add(9999), Some(1));
        assert!(!kept.touch(1));
    }

    #[test]
    fn the_same_text_is_one_statement() {
        let catalog = Arc::new(Volatility::builtin());
        let statements = Statements::default();
        let a = statements.shared(b"select 1\0\0\0", true, &catalog);
        let b = statements.shared(b"select 1\0\0\0", true, &catalog);
        let c = statements.shared(b"select 1\0\0\x01\0\0\0\x17", true, &catalog);
        assert_eq!(a.id, b.id);
        assert_ne!(a.id, c.id);
        assert_eq!(a.class(&catalog), Class::Read);
        let mut names = Names::default();
        names.define(b"x", a.clone());
        names.undo(b"x", c.id);
        assert!(names.get(b"x").is_some());
        names.undo(b"x", a.id);
        assert!(names.get(b"x").is_none());
    }

    #[test]
    fn other_encodings_are_certain_in_ascii_only() {
        let catalog = Volatility::builtin();
        assert_eq!(class_of(b"select 1", false, &catalog), Class::Read);
        assert!(matches!(class_of("select '\u{e4}'".as_bytes(), false, &catalog), Class::Pin(_)));
        assert!(matches!(class_of(b"select '\xe4'", true, &catalog), Class::Pin(_)));
    }

    #[test]
    fn a_session_has_so_many_names_and_so_many_bytes() {
        let catalog = Arc::new(Volatility::builtin());
        let statements = Statements::default();
        let small = statements.shared(b"select 1\0\0\0", true, &catalog);
        let mut names = Names::default();
        let name = |n: usize| format!("{n:05}");
        for n in 0..NAMES_MAX {
            assert!(!names.is_full(0));
            names.define(name(n).as_bytes(), small.clone());
        }
        assert!(names.is_full(0));
        names.remove(name(7).as_bytes());
        assert!(!names.is_full(0));
        names.clear();
        let mut text = vec![b' '; NAMED_BYTES_MAX / 4 - 1];
        text.splice(..9, *b"select 1\0");
        let large = statements.shared(&text, true, &catalog);
        for again in ["a", "b", "c", "d", "a"] {
            names.define(again.as_bytes(), large.clone());
        }
        assert!(names.is_full(1) && !names.is_full(0));
        names.undo(b"d", large.id);
        assert!(!names.is_full(1 + large.tail.len()) && names.is_full(2 + large.tail.len()));
    }
}
