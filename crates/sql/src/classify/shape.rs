//! What kind of statement a text starts with, by its first few words, and what that kind may do.
//!
//! It does not look at the rest: `scan` does. [`super::classify`] calls it for each statement.

use super::lexer::{Broken, Lexer, Token};
use super::scan::{NAME_MAX_BYTES, fold, is_temporary};

/// The kind of one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `SELECT`, `VALUES`, `TABLE`, `WITH`, and `EXPLAIN` of these: reads if all its tokens are certain.
    Query,
    /// `SHOW name`: reads always.
    Show,
    Begin {
        read_only: Option<bool>,
    },
    End,
    DiscardAll,
    Session(&'static str),
    Other,
}

/// Reads from the statement's first token.
pub(super) fn shape(mut lexer: Lexer<'_>) -> Result<Shape, Broken> {
    let mut words = Words(lexer.clone());
    let shape = match words.next()? {
        "select" | "values" | "table" | "with" => Shape::Query,
        "(" => parenthesized(words)?,
        "explain" => {
            lexer.next()?;
            explained(lexer)?
        }
        "show" => show(words)?,
        "begin" => begin(words)?,
        "start" if words.next()? == "transaction" => begin(words)?,
        "commit" | "end" | "rollback" | "abort" => end(words)?,
        "discard" if words.next()? == "all" => Shape::DiscardAll,
        "discard" => Shape::Session("DISCARD"),
        "set" => set(words)?,
        "reset" => Shape::Session("RESET"),
        "prepare" if words.next()? == "transaction" && words.next()? == "0" => Shape::Other,
        "prepare" => Shape::Session("PREPARE"),
        "deallocate" => Shape::Session("DEALLOCATE"),
        "listen" => Shape::Session("LISTEN"),
        "unlisten" => Shape::Session("UNLISTEN"),
        "load" => Shape::Session("LOAD"),
        "declare" => declare(words)?,
        "create" => create(words)?,
        _ => Shape::Other,
    };
    Ok(shape)
}

/// The words that matter here, the most frequent first.
const VOCABULARY: &[&str] = &[
    "select",
    "abort",
    "all",
    "analyse",
    "analyze",
    "and",
    "begin",
    "chain",
    "commit",
    "committed",
    "constraints",
    "create",
    "deallocate",
    "declare",
    "deferrable",
    "discard",
    "end",
    "explain",
    "hold",
    "in_hot_standby",
    "isolation",
    "level",
    "listen",
    "load",
    "local",
    "no",
    "not",
    "only",
    "or",
    "prepare",
    "read",
    "repeatable",
    "reset",
    "rollback",
    "serializable",
    "set",
    "show",
    "start",
    "table",
    "to",
    "transaction",
    "transaction_read_only",
    "uncommitted",
    "unlisten",
    "values",
    "verbose",
    "with",
    "work",
    "write",
];

/// The words of a statement from [`VOCABULARY`]. Another name comes as `?`, a constant as `0`, a symbol as itself or as
/// `!`, the end as an empty text.
struct Words<'a>(Lexer<'a>);

impl Words<'_> {
    fn next(&mut self) -> Result<&'static str, Broken> {
        Ok(match self.0.next()? {
            None | Some(Token::Punctuation(b';')) => "",
            Some(Token::Word(word)) => {
                VOCABULARY.iter().find(|known| known.eq_ignore_ascii_case(word)).copied().unwrap_or("?")
            }
            Some(Token::Quoted(_) | Token::Opaque) => "?",
            Some(Token::Value) => "0",
            Some(Token::Punctuation(b'(')) => "(",
            Some(Token::Punctuation(b',')) => ",",
            Some(Token::Punctuation(b'.')) => ".",
            Some(Token::Operator("=")) => "=",
            Some(_) => "!",
        })
    }
}

fn parenthesized(mut words: Words<'_>) -> Result<Shape, Broken> {
    loop {
        match words.next()? {
            "(" => {}
            "select" | "values" | "table" | "with" => return Ok(Shape::Query),
            _ => return Ok(Shape::Other),
        }
    }
}

/// After `EXPLAIN`. That of a query is one: `ANALYZE` among the options makes the scanner uncertain. That of another
/// statement might carry it out, and so may do to the session what it does.
fn explained(mut lexer: Lexer<'_>) -> Result<Shape, Broken> {
    let mut rest = lexer.clone();
    let mut buffer = [0; NAME_MAX_BYTES];
    let mut depth = 0usize;
    while let Some(token) = lexer.next()? {
        match token {
            // `EXPLAIN (SELECT …)`: a parenthesis that opens a query, not options.
            Token::Punctuation(b'(') if depth == 0 && parenthesized(Words(rest.clone()))? == Shape::Query => {
                return Ok(Shape::Query);
            }
            Token::Punctuation(b'(') => depth += 1,
            Token::Punctuation(b')') => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            Token::Word(word)
                if matches!(fold(word, &mut buffer), Some("analyze" | "analyse" | "verbose")) => {}
            _ => break,
        }
        rest = lexer.clone();
    }
    let mut words = Words(rest);
    Ok(match words.next()? {
        "select" | "values" | "table" | "with" => Shape::Query,
        "create" => create(words)?,
        _ => Shape::Other,
    })
}

/// After `SHOW`. What tells a primary from a replica is asked of the primary: drivers choose their server by it.
fn show(mut words: Words<'_>) -> Result<Shape, Broken> {
    if matches!(words.next()?, "" | "transaction_read_only" | "in_hot_standby") {
        return Ok(Shape::Other);
    }
    loop {
        match words.next()? {
            "" => return Ok(Shape::Show),
            "0" | "!" | "(" | "=" | "," => return Ok(Shape::Other),
            _ => {}
        }
    }
}

/// After `BEGIN` or `START TRANSACTION`. A hot standby refuses `SERIALIZABLE`, so that is never called read only.
fn begin(mut words: Words<'_>) -> Result<Shape, Broken> {
    let (mut read_only, mut serializable) = (None, false);
    let mut first = true;
    loop {
        match words.next()? {
            "" => break,
            "work" | "transaction" if first => {}
            "," | "deferrable" => {}
            "not" if words.next()? == "deferrable" => {}
            "read" => match words.next()? {
                "only" => read_only = Some(read_only.unwrap_or(true)),
                "write" => read_only = Some(false),
                _ => return Ok(Shape::Other),
            },
            "isolation" if words.next()? == "level" => match words.next()? {
                "serializable" => serializable = true,
                "repeatable" | "read" if matches!(words.next()?, "read" | "committed" | "uncommitted") => {}
                _ => return Ok(Shape::Other),
            },
            _ => return Ok(Shape::Other),
        }
        first = false;
    }
    Ok(Shape::Begin { read_only: read_only.filter(|only| !(*only && serializable)) })
}

/// After `COMMIT`, `END`, `ROLLBACK` or `ABORT`. `AND CHAIN` begins anew, `TO SAVEPOINT` goes on, `PREPARED` is of another.
fn end(mut words: Words<'_>) -> Result<Shape, Broken> {
    let mut word = words.next()?;
    if matches!(word, "work" | "transaction") {
        word = words.next()?;
    }
    Ok(match word {
        "" => Shape::End,
        "and" if words.next()? == "no" && words.next()? == "chain" && words.next()?.is_empty() => Shape::End,
        _ => Shape::Other,
    })
}

/// After `SET`. `LOCAL`, `TRANSACTION` and `CONSTRAINTS` end with the transaction, unless they are a parameter's name.
fn set(mut words: Words<'_>) -> Result<Shape, Broken> {
    let ends = matches!(words.next()?, "local" | "transaction" | "constraints");
    let is_name = matches!(words.next()?, "." | "=" | "to");
    Ok(if ends && !is_name { Shape::Other } else { Shape::Session("SET") })
}

/// After `DECLARE`: a cursor `WITH HOLD` outlives its transaction.
fn declare(mut words: Words<'_>) -> Result<Shape, Broken> {
    let mut with = false;
    loop {
        match words.next()? {
            "" => return Ok(Shape::Other),
            "hold" if with => return Ok(Shape::Session("WITH HOLD cursor")),
            word => with = word == "with",
        }
    }
}

/// After `CREATE`.
fn create(mut words: Words<'_>) -> Result<Shape, Broken> {
    let mut ahead = words.0.clone();
    if words.next()? == "or" {
        words.next()?;
        ahead = words.0;
    }
    Ok(if is_temporary(ahead)? { Shape::Session("temporary table") } else { Shape::Other })
}
