//! Reads one statement's tokens and says whether each is certain not to write, and what it leaves in the session.
//!
//! It does not know what kind of statement it reads: `shape` does. [`super::classify`] calls both.

use super::lexer::{Broken, Lexer, Token};
use super::volatility::{Facts, Volatility};
use super::words::Word;

/// Longest name, bytes: PostgreSQL cuts longer ones (`NAMEDATALEN` - 1), and then they mean another name.
pub(super) const NAME_MAX_BYTES: usize = 63;

/// What the tokens of one statement say.
#[derive(Debug)]
pub(super) struct Seen {
    /// There was a token before the `;` or the end.
    pub(super) any: bool,
    /// A `;` ended it: another statement may follow.
    pub(super) more: bool,
    /// No token of it can write, lock a row or call what is not certain.
    pub(super) certain: bool,
    /// What it leaves behind in the session.
    pub(super) pin: Option<&'static str>,
}

/// What stands before a token, as far as it changes the token's meaning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The statement begins: no call can.
    Start,
    Comma,
    /// `)`
    Close,
    Dot,
    /// `AS`: then `name (` is an alias with its columns, or a type.
    As,
    /// `::`, or a dot in a type: then `name (` is a type.
    Type,
    /// A name after one of these two.
    TypeName,
    For,
    With,
    Other,
}

/// Reads up to and with the next `;`.
pub(super) fn statement(lexer: &mut Lexer<'_>, catalog: &Volatility) -> Result<Seen, Broken> {
    let mut scan = Scan {
        catalog,
        before: Before::Start,
        seen: Seen { any: false, more: false, certain: catalog.uncertain().is_none(), pin: None },
        call_after_close: false,
        cast: false,
    };
    while let Some(token) = lexer.next()? {
        if token == Token::Punctuation(b';') {
            scan.seen.more = true;
            break;
        }
        scan.seen.any = true;
        scan.before = scan.token(token, lexer)?;
    }
    scan.seen.certain &= !lexer.is_unclear();
    Ok(scan.seen)
}

struct Scan<'c> {
    catalog: &'c Volatility,
    before: Before,
    seen: Seen,
    /// A `DISTINCT` or `OPERATOR(…)` was met: a call may follow a `)`.
    call_after_close: bool,
    /// A `CAST` was met: a name after `AS` may be a type.
    cast: bool,
}

impl Scan<'_> {
    /// Judges a token; gives what it is to the next.
    fn token(&mut self, token: Token<'_>, lexer: &mut Lexer<'_>) -> Result<Before, Broken> {
        match token {
            Token::Word(word) => {
                let mut buffer = [0; NAME_MAX_BYTES];
                match fold(word, &mut buffer) {
                    Some(folded) => return self.name(folded, false, lexer),
                    None => self.unreadable_name(lexer)?,
                }
            }
            Token::Quoted(name) if name.len() <= NAME_MAX_BYTES => return self.name(name, true, lexer),
            Token::Quoted(_) | Token::Opaque => self.unreadable_name(lexer)?,
            Token::Operator(symbol) => {
                // `=>` names an argument.
                self.seen.certain &= symbol == "=>" || self.catalog.operator_is_safe(symbol);
            }
            Token::Cast => return Ok(Before::Type),
            Token::Punctuation(b',') => return Ok(Before::Comma),
            Token::Punctuation(b')') => return Ok(Before::Close),
            Token::Punctuation(b'.') if self.before == Before::TypeName => return Ok(Before::Type),
            Token::Punctuation(b'.') => return Ok(Before::Dot),
            Token::Value | Token::Punctuation(_) => {}
        }
        Ok(Before::Other)
    }

    /// A name whose meaning is not its spelling.
    fn unreadable_name(&mut self, lexer: &mut Lexer<'_>) -> Result<(), Broken> {
        self.seen.certain = false;
        if lexer.peek()? == Some(b'(') {
            self.pin("a function with an escaped name");
        }
        Ok(())
    }

    fn name(&mut self, name: &str, quoted: bool, lexer: &mut Lexer<'_>) -> Result<Before, Broken> {
        let found = self.catalog.name(name);
        let facts = found.unwrap_or_default();
        let plain = quoted || self.before == Before::Dot;
        let word = if plain { Word::Name } else { facts.word };
        let called = lexer.peek()? == Some(b'(');
        self.call_after_close |= matches!(name, "distinct" | "operator");

        self.seen.certain &= !facts.unsafe_name;
        if name.starts_with("pg_temp") && (name.len() == 7 || name.as_bytes()[7] == b'_') {
            self.pin("temporary table");
        }
        if called {
            self.call(name, facts, word, lexer)?;
        } else if self.before == Before::Dot {
            self.seen.certain &= !facts.unsafe_attribute;
        }
        if !self.catalog.is_loaded() {
            self.before_load(found.is_some() && !plain, called);
        }
        self.meaning(word, lexer)
    }

    /// `name (`: a call, unless the place or the word make it something else.
    fn call(&mut self, name: &str, facts: Facts, word: Word, lexer: &Lexer<'_>) -> Result<(), Broken> {
        if let Some(session) = facts.session {
            self.pin(session);
        } else if name.starts_with("dblink") {
            self.pin("dblink");
        }
        let certain = match word {
            _ if matches!(self.before, Before::Start | Before::As | Before::Type | Before::With) => true,
            Word::Name | Word::Known | Word::Modify | Word::Analyze | Word::Recursive | Word::Lock => {
                facts.function && !facts.unsafe_function
                    || self.before == Before::Comma && is_common_table(lexer.clone())?
                    // `FROM (…) name (a, b)`: an alias, as no function has this name.
                    || self.before == Before::Close && !self.call_after_close && !facts.function && names_only(&mut lexer.clone())?
            }
            Word::Either => !facts.unsafe_function && self.catalog.is_loaded(),
            Word::Treat => false,
            Word::Syntax
            | Word::As
            | Word::Cast
            | Word::For
            | Word::From
            | Word::Into
            | Word::Table
            | Word::With => true,
        };
        self.seen.certain &= certain;
        Ok(())
    }

    /// Without a catalog no relation, type or attribute is known, so only names of PostgreSQL's own and labels are.
    fn before_load(&mut self, known: bool, called: bool) {
        let label = self.before == Before::As && !self.cast;
        let schema = self.before == Before::Dot;
        self.seen.certain &= known || (label && !called) || (schema && called);
    }

    fn meaning(&mut self, word: Word, lexer: &Lexer<'_>) -> Result<Before, Broken> {
        match word {
            Word::As => return Ok(Before::As),
            Word::For => return Ok(Before::For),
            Word::With => return Ok(Before::With),
            Word::Recursive if self.before == Before::With => return Ok(Before::With),
            Word::Analyze | Word::Modify | Word::Treat => self.seen.certain = false,
            Word::Lock => self.seen.certain &= self.before != Before::For,
            Word::From | Word::Table => self.seen.certain &= self.catalog.is_loaded(),
            Word::Cast => self.cast = true,
            Word::Into => {
                self.seen.certain = false;
                if is_temporary(lexer.clone())? {
                    self.pin("temporary table");
                }
            }
            Word::Name | Word::Known | Word::Syntax | Word::Either | Word::Recursive => {}
        }
        Ok(if matches!(self.before, Before::As | Before::Type) { Before::TypeName } else { Before::Other })
    }

    fn pin(&mut self, what: &'static str) {
        self.seen.pin.get_or_insert(what);
    }
}

/// ASCII letters in lower case, as PostgreSQL folds an unquoted name. `None` if it is too long, or if a database in
/// a single-byte encoding would fold more than ASCII.
pub(super) fn fold<'b>(word: &str, buffer: &'b mut [u8; NAME_MAX_BYTES]) -> Option<&'b str> {
    let folded = buffer.get_mut(..word.len())?;
    folded.copy_from_slice(word.as_bytes());
    folded.make_ascii_lowercase();
    if !word.is_ascii() && word.chars().any(|c| !c.is_ascii() && c.to_lowercase().next() != Some(c)) {
        return None;
    }
    std::str::from_utf8(folded).ok()
}

/// Whether `TEMP` follows, with `LOCAL` or `GLOBAL` before it or not.
pub(super) fn is_temporary(mut lexer: Lexer<'_>) -> Result<bool, Broken> {
    let mut buffer = [0; NAME_MAX_BYTES];
    while let Some(Token::Word(word)) = lexer.next()? {
        match fold(word, &mut buffer) {
            Some("local" | "global") => {}
            Some("temp" | "temporary") => return Ok(true),
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// Whether `(a, b) AS (SELECT` follows: the head of a common table expression. A call with a column definition list has
/// no `SELECT` there.
fn is_common_table(mut lexer: Lexer<'_>) -> Result<bool, Broken> {
    let mut buffer = [0; NAME_MAX_BYTES];
    if !names_only(&mut lexer)? {
        return Ok(false);
    }
    let mut seen_as = false;
    loop {
        match lexer.next()? {
            Some(Token::Word(word)) => match fold(word, &mut buffer) {
                Some("as") if !seen_as => seen_as = true,
                Some("not" | "materialized") if seen_as => {}
                _ => return Ok(false),
            },
            Some(Token::Punctuation(b'(')) if seen_as => break,
            _ => return Ok(false),
        }
    }
    Ok(
        matches!(lexer.next()?, Some(Token::Word(word)) if matches!(fold(word, &mut buffer), Some("select" | "with" | "table"))),
    )
}

/// Whether `(a, b)` follows, which it reads.
fn names_only(lexer: &mut Lexer<'_>) -> Result<bool, Broken> {
    lexer.next()?;
    loop {
        match lexer.next()? {
            Some(Token::Word(_) | Token::Quoted(_) | Token::Punctuation(b',')) => {}
            Some(Token::Punctuation(b')')) => return Ok(true),
            _ => return Ok(false),
        }
    }
}
