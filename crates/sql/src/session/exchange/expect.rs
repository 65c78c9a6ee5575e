//! The answers that a session waits for, and what is undone when one will not come. Sans I/O.

use std::rc::Rc;

use bytes::Bytes;

use crate::prepared::{Kept, Names, Statement};

/// An answer that is to come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Of a Query or a function call: ends with ReadyForQuery.
    Query,
    Sync,
    /// `id`: the statement that the connection has if it succeeds; `name`: what the session calls it. Without a name the
    /// Parse is the router's own and its answer is hidden.
    Parse {
        id: Option<u64>,
        name: Option<Bytes>,
    },
    Bind,
    Describe,
    Execute,
    Close {
        undo: Option<Undo>,
    },
    /// The router's own, of this statement; hidden.
    CloseOwn(u64),
    /// Given here, in its turn.
    Here {
        answer: &'static [u8],
        undo: Option<Undo>,
    },
    /// Of a DEALLOCATE that no server needs to do: its tag. Given here, in its turn, with ReadyForQuery.
    Deallocate(&'static str),
    /// Not an answer: the client's end of a COPY, sent before the server asked for the data.
    CopyEnd,
}

/// What became of a name of the session's, should it not become so after all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    Prepared(Bytes, u64),
    Closed(Bytes, Rc<Statement>),
}

/// A message that the server will not do. Of several the last is undone first.
pub(super) fn undo(expect: Expect, kept: &mut Kept, names: &mut Names) {
    match expect {
        Expect::Parse { id: Some(id), name } => {
            kept.forget(id);
            if let Some(name) = name {
                names.undo(&name, id);
            }
        }
        Expect::CloseOwn(id) => kept.keep(id),
        Expect::Here { undo: Some(undo), .. } | Expect::Close { undo: Some(undo) } => match undo {
            Undo::Prepared(name, id) => names.undo(&name, id),
            Undo::Closed(name, statement) => names.define(&name, statement),
        },
        _ => {}
    }
}
