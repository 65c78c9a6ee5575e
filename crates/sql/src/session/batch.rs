//! Reads a client's messages into operations: what each is about, and what all of them together may do. Sans I/O.
//!
//! The session's names of prepared statements are brought up to date here; nothing is sent from here.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::deallocate::Deallocate;
use crate::classify::{Class, Volatility};
use crate::prepared::{NAMED_BYTES_MAX, NAMES_MAX, Names, Statement, Statements, class_of};
use crate::wire::error::{SqlError, state};
use crate::wire::front::{self, About};
use crate::wire::{HEAD_BYTES, WireError};

/// One message of a client, looked into.
pub(crate) struct Op {
    pub kind: Kind,
    /// Where the whole message is in the client's buffer.
    pub range: Range<usize>,
}

pub(crate) enum Kind {
    Query(Class),
    /// A DEALLOCATE alone; the session's names are without it already.
    Deallocate(Deallocate),
    /// `again`: the session has this name already, which PostgreSQL refuses.
    Parse {
        name: Bytes,
        statement: Rc<Statement>,
        again: bool,
    },
    Bind(Of),
    DescribeStatement(Of),
    /// `closed`: what the session called so until now.
    CloseStatement {
        name: Bytes,
        closed: Option<Rc<Statement>>,
    },
    DescribePortal,
    ClosePortal,
    Execute,
    Sync,
    Flush,
    FunctionCall,
}

impl Kind {
    /// The session's names are as if this had not been read.
    pub fn undo(&self, names: &mut Names) {
        match self {
            Self::Parse { name, statement, again: false } => names.undo(name, statement.id),
            Self::CloseStatement { name, closed: Some(statement) } => names.define(name, statement.clone()),
            _ => {}
        }
    }
}

/// Which statement a message is about.
pub(crate) enum Of {
    Unnamed(Rc<Statement>),
    Named(Rc<Statement>),
    /// The session has none of that name.
    Unknown,
}

/// What a batch may do, all its statements together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// Something is not certain to only read.
    pub uncertain: bool,
    /// Something that is not certain to only read might have an effect: not a BEGIN, not an end.
    pub writes: bool,
    pub begins: bool,
    pub ends: bool,
    /// Something that is not understood might end a transaction on its way, such as `COMMIT AND CHAIN`.
    pub may_end: bool,
    pub resets: bool,
    pub pins: Option<&'static str>,
}

impl Traits {
    pub fn add(&mut self, class: Class) {
        match class {
            Class::Read | Class::Empty => {}
            Class::Write => self.uncertain(),
            Class::Begin { read_only } => {
                self.begins = true;
                self.uncertain |= read_only != Some(true);
            }
            Class::End => {
                self.ends = true;
                self.uncertain = true;
            }
            Class::Pin(what) => {
                self.uncertain();
                self.pins = Some(what);
            }
            Class::Reset => {
                self.uncertain = true;
                self.resets = true;
            }
        }
    }

    pub fn uncertain(&mut self) {
        self.uncertain = true;
        self.writes = true;
    }

    pub fn and(&mut self, other: Traits) {
        self.uncertain |= other.uncertain;
        self.writes |= other.writes;
        self.begins |= other.begins;
        self.ends |= other.ends;
        self.may_end |= other.may_end;
        self.resets |= other.resets;
        self.pins = self.pins.or(other.pins);
    }
}

/// All messages up to a Query, a Sync or a Flush.
#[derive(Default)]
pub(crate) struct Batch {
    pub ops: Vec<Op>,
    pub traits: Traits,
    /// Bytes of the client's buffer that it takes.
    pub len: usize,
    /// It ends with a Query, a function call or a Sync: nothing that follows belongs to it.
    pub complete: bool,
    /// How many of `ops` went to the server, or were skipped.
    fed: usize,
    /// Bytes of it that are not in the client's buffer any more.
    pub gone: usize,
}

impl Batch {
    pub fn clear(&mut self) {
        self.ops.clear();
        self.traits = Traits::default();
        self.len = 0;
        self.complete = false;
        self.start_again();
    }

    /// Nothing of it was sent.
    pub fn start_again(&mut self) {
        (self.fed, self.gone) = (0, 0);
    }

    pub fn is_fed(&self) -> bool {
        self.fed == self.ops.len()
    }

    /// The next message to be sent, and where it is in the client's buffer. There must be one.
    pub fn take(&mut self) -> (&Kind, Range<usize>) {
        let op = &self.ops[self.fed];
        self.fed += 1;
        (&op.kind, op.range.start - self.gone..op.range.end - self.gone)
    }

    /// Passes over all up to the next Sync, as the server does after an error. False if that is the next one.
    pub fn skip(&mut self, names: &mut Names) -> bool {
        let rest = &self.ops[self.fed..];
        let n = rest.iter().position(|op| matches!(op.kind, Kind::Sync)).unwrap_or(rest.len());
        rest[..n].iter().rev().for_each(|op| op.kind.undo(names));
        self.fed += n;
        n > 0
    }

    /// What was not sent yet will not be: the names are as if it had not been read.
    pub fn undo(&mut self, names: &mut Names) {
        self.ops[self.fed..].iter().rev().for_each(|op| op.kind.undo(names));
        self.fed = self.ops.len();
    }

    /// Bytes at the front of the client's buffer that were sent or skipped.
    pub fn fed_bytes(&self) -> usize {
        self.fed.checked_sub(1).map_or(0, |last| self.ops[last].range.end - self.gone)
    }

    /// Nothing in it needs a server.
    pub fn is_only_sync(&self) -> bool {
        matches!(&*self.ops, [Op { kind: Kind::Sync, .. }])
    }

    /// Adds a message that lies at `range` of the client's buffer. True if the batch ends with it.
    pub fn add(&mut self, kind: Kind, range: Range<usize>, class: Option<Class>) -> bool {
        if let Some(class) = class {
            self.traits.add(class);
        }
        self.len = range.end;
        let ends = match kind {
            Kind::Query(_) | Kind::Deallocate(_) | Kind::Sync => true,
            Kind::FunctionCall => {
                self.traits.uncertain();
                true
            }
            _ => false,
        };
        self.complete = ends;
        let flush = matches!(kind, Kind::Flush);
        self.ops.push(Op { kind, range });
        ends || flush
    }
}

/// What reading a message needs of its session.
pub(crate) struct Reader<'a> {
    pub names: &'a mut Names,
    pub statements: &'a Statements,
    pub catalog: &'a Arc<Volatility>,
    /// The client's encoding is UTF-8.
    pub utf8: bool,
    /// Set if a message that was read might end a transaction on its way.
    pub may_end: bool,
}

/// Whether a text that is no plain end of a transaction might still end one: it has several statements, or starts as
/// COMMIT, END or PREPARE TRANSACTION do, or with a comment. Rather too often: the price is a more careful error.
fn may_end(sql: &[u8]) -> bool {
    let sql = sql.trim_ascii();
    let sql = sql.strip_suffix(b";").unwrap_or(sql);
    sql.first().is_some_and(|first| b"cepCEP/-(".contains(first)) || sql.contains(&b';')
}

/// The client cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error(
        "the session has as many prepared statements as it may: {NAMES_MAX}, or {NAMED_BYTES_MAX} bytes of text"
    )]
    Names,
}

impl ReadError {
    pub fn to_sql(&self) -> SqlError {
        match self {
            Self::Wire(error) => SqlError::fatal(state::PROTOCOL_VIOLATION, error.to_string()),
            Self::Names => SqlError::fatal("54000", self.to_string())
                .hint("Close statements that are not used any more: does the client prepare each text anew?"),
        }
    }
}

impl Reader<'_> {
    /// Reads one whole message; also the class of the statement that it names, if it names one.
    pub fn read(&mut self, message: &[u8]) -> Result<(Kind, Option<Class>), ReadError> {
        let (tag, body) = (message[0], &message[HEAD_BYTES..]);
        Ok(match tag {
            front::QUERY => {
                let query = front::query(body)?;
                let class = class_of(query, self.utf8, self.catalog);
                // PostgreSQL gives the unnamed statement up at each simple query.
                self.names.unnamed = None;
                if class == Class::Pin("DEALLOCATE")
                    && let Some(gone) = Deallocate::read(query, self.names)
                {
                    return Ok((Kind::Deallocate(gone), None));
                }
                self.may_end |= class == Class::Write && may_end(query);
                (Kind::Query(class), Some(class))
            }
            front::PARSE => self.parse(body)?,
            front::BIND => {
                let (_, name, _) = front::bind(body).ok_or(WireError::Form('B'))?;
                let (of, class) = self.of(name);
                (Kind::Bind(of), class)
            }
            front::DESCRIBE => match front::about(tag, body)? {
                About::Portal => (Kind::DescribePortal, None),
                About::Statement(name) => {
                    let (of, class) = self.of(name);
                    (Kind::DescribeStatement(of), class)
                }
            },
            front::CLOSE => match front::about(tag, body)? {
                About::Portal => (Kind::ClosePortal, None),
                About::Statement(name) => {
                    let closed = self.names.remove(name);
                    (Kind::CloseStatement { name: Bytes::copy_from_slice(name), closed }, None)
                }
            },
            front::EXECUTE => (Kind::Execute, None),
            front::SYNC => (Kind::Sync, None),
            front::FLUSH => (Kind::Flush, None),
            front::FUNCTION_CALL => (Kind::FunctionCall, Some(Class::Write)),
            other => return Err(WireError::Tag(other as char).into()),
        })
    }

    fn parse(&mut self, body: &[u8]) -> Result<(Kind, Option<Class>), ReadError> {
        let parse = front::parse(body)?;
        let known = self.names.get(parse.name);
        if let Some(statement) = known.filter(|_| !parse.name.is_empty()) {
            let statement = statement.clone();
            let class = statement.class(self.catalog);
            let name = Bytes::copy_from_slice(parse.name);
            return Ok((Kind::Parse { name, statement, again: true }, Some(class)));
        }
        let statement = match known {
            // The same text again, as clients do that prepare for each use.
            Some(statement) if *statement.tail == *parse.tail => statement.clone(),
            _ if parse.name.is_empty() => self.statements.own(parse.tail, self.utf8, self.catalog),
            _ if self.names.is_full(parse.name.len() + parse.tail.len()) => return Err(ReadError::Names),
            _ => self.statements.shared(parse.tail, self.utf8, self.catalog),
        };
        self.names.define(parse.name, statement.clone());
        let class = statement.class(self.catalog);
        Ok((Kind::Parse { name: Bytes::copy_from_slice(parse.name), statement, again: false }, Some(class)))
    }

    /// A statement that the session does not know is refused by any server, unless it is pinned to one that has it.
    pub fn of(&mut self, name: &[u8]) -> (Of, Option<Class>) {
        match self.names.get(name) {
            None => (Of::Unknown, None),
            Some(statement) => {
                let class = statement.class(self.catalog);
                self.may_end |= class == Class::Write && may_end(statement.query());
                let of = if name.is_empty() { Of::Unnamed } else { Of::Named };
                (of(statement.clone()), Some(class))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_might_end_a_transaction() {
        for sql in [
            "COMMIT AND CHAIN",
            " end and chain;",
            "PREPARE TRANSACTION 'x'",
            "insert into t values (1); commit",
        ] {
            assert!(may_end(sql.as_bytes()), "{sql}");
        }
        for sql in ["", ";", "INSERT INTO t VALUES (1)", "UPDATE t SET a = 1;", "SELECT 1"] {
            assert!(!may_end(sql.as_bytes()), "{sql}");
        }
    }

    #[test]
    fn a_batch_is_certain_only_if_all_of_it_is() {
        let of = |classes: &[Class]| {
            let mut traits = Traits::default();
            classes.iter().for_each(|&class| traits.add(class));
            traits
        };
        assert_eq!(of(&[Class::Read, Class::Empty]), Traits::default());
        let read_only = of(&[Class::Begin { read_only: Some(true) }, Class::Read]);
        assert!(!read_only.uncertain && read_only.begins && !read_only.writes);
        assert!(of(&[Class::Begin { read_only: None }]).uncertain);
        assert!(of(&[Class::Read, Class::Write]).writes);
        let end = of(&[Class::End]);
        assert!(end.uncertain && end.ends && !end.writes);
        assert_eq!(of(&[Class::Pin("SET"), Class::Read]).pins, Some("SET"));
        assert!(of(&[Class::Reset]).resets);
    }
}
