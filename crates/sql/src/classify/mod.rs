//! What a statement may do, decided from its text: whether a replica may run it, and whether it ties its session to one
//! server connection.
//!
//! It never opens a connection, never allocates, and never guesses: a statement is [`Class::Read`] only if each of its
//! tokens is certain, by PostgreSQL's lexical rules (`lexer`), by its place in the statement (`scan`, `shape`) and by what
//! the catalog says of its name ([`Volatility`]). The session of `tiebeam-sql` calls it for each Query and Parse message.
//!
//! What it relies on, and what it cannot see:
//! - The text is in UTF-8. Of a session with another `client_encoding` only pure ASCII may be asked about.
//! - Functions are trusted to be what they were declared. PostgreSQL runs no writing statement in a `STABLE` or
//!   `IMMUTABLE` one ("is not allowed in a non-volatile function"), but lets it call volatile functions, and code in C may do
//!   anything. The support functions of index methods are trusted whatever they declare.
//! - What became volatile since the catalog was read is not known. A replica refuses every write (SQLSTATE 25006), so such
//!   a mistake is an error that the router can repeat on the primary, never a lost write.
//! - State that a function, a `DO` block or a `CALL` leaves in its session (a temporary table, a `SET`) does not pin it:
//!   their bodies are not read. `nextval` and an `INSERT` do not pin either, so `currval` and `lastval` are reliable only in
//!   the transaction that did these, or in a session that is pinned already.
//! - With `standard_conforming_strings` off a text may read differently: both readings are judged, and a text in which
//!   they differ never reads.

mod lexer;
mod scan;
mod shape;
mod volatility;
mod words;

pub use volatility::Volatility;

use lexer::{Backslash, Broken, Lexer};
use shape::Shape;

/// Longest text that is ever [`Class::Read`], bytes. Longer ones are read only for what pins the session.
pub const READ_MAX_BYTES: usize = 64 * 1024;

/// What a text of one or more statements may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Certainly only reads: a replica that is fresh may run it.
    Read,
    /// Anything else for the primary, also what PostgreSQL will refuse.
    Write,
    /// Begins a transaction. `read_only` is what the text says, if anything: `Some(true)` may go to a replica; a `SERIALIZABLE`
    /// one, which a hot standby refuses, is `None`.
    Begin { read_only: Option<bool> },
    /// Ends a transaction for good: not `AND CHAIN`, `TO SAVEPOINT` or `PREPARED`.
    End,
    /// For the primary, and the session must stay on that server connection from now on: the name of what it leaves there.
    Pin(&'static str),
    /// `DISCARD ALL`: the session's connection is as new.
    Reset,
    /// Nothing but spaces, comments and semicolons.
    Empty,
}

/// Classifies a whole text as it comes in one Query or Parse message. Of several statements the most conservative:
/// a pin, else the only one, else a read if all are, else a write (thus `BEGIN; …; COMMIT` in one text).
pub fn classify(sql: &str, catalog: &Volatility) -> Class {
    let (class, ambiguous) = read(sql, Backslash::Plain, catalog);
    let class = if ambiguous {
        match (class, read(sql, Backslash::Escape, catalog).0) {
            (Class::Pin(what), _) | (_, Class::Pin(what)) => Class::Pin(what),
            _ => Class::Write,
        }
    } else {
        class
    };
    match class {
        Class::Read if sql.len() > READ_MAX_BYTES => Class::Write,
        class => class,
    }
}

/// One reading of the text, and whether another is possible.
fn read(sql: &str, backslash: Backslash, catalog: &Volatility) -> (Class, bool) {
    let mut lexer = Lexer::new(sql, backslash);
    // A NUL ends the text of a message, so none can come; what would follow it is not judged.
    let class = if sql.as_bytes().contains(&0) { Err(Broken) } else { statements(&mut lexer, catalog) };
    // PostgreSQL refuses the whole text, so it has no effect wherever it goes.
    (class.unwrap_or(Class::Write), lexer.is_ambiguous())
}

fn statements(lexer: &mut Lexer<'_>, catalog: &Volatility) -> Result<Class, Broken> {
    let mut all = Class::Empty;
    loop {
        let start = lexer.clone();
        let seen = scan::statement(lexer, catalog)?;
        if seen.any {
            let one = match (shape::shape(start)?, seen.pin) {
                (Shape::Session(what), _) | (_, Some(what)) => Class::Pin(what),
                (Shape::Query, None) if seen.certain => Class::Read,
                (Shape::Show, None) => Class::Read,
                (Shape::Begin { read_only }, None) => Class::Begin { read_only },
                (Shape::End, None) => Class::End,
                (Shape::DiscardAll, None) => Class::Reset,
                (Shape::Query | Shape::Other, None) => Class::Write,
            };
            all = both(all, one);
        }
        if !seen.more {
            return Ok(all);
        }
    }
}

/// The most conservative of two statements in one text.
fn both(first: Class, second: Class) -> Class {
    match (first, second) {
        (Class::Empty, one) => one,
        (Class::Pin(what), _) | (_, Class::Pin(what)) => Class::Pin(what),
        (Class::Read, Class::Read) => Class::Read,
        // PostgreSQL refuses `DISCARD ALL` beside others, but not in every place.
        (Class::Reset, _) | (_, Class::Reset) => Class::Pin("DISCARD"),
        _ => Class::Write,
    }
}

#[cfg(test)]
mod tests;
