//! PostgreSQL's lexical structure (documentation, "Lexical Structure"): a text cut into tokens where the server cuts it.
//!
//! It never allocates, never looks a name up and never guesses: what PostgreSQL 14 to 18 do not all read in the same way
//! it reports ([`Lexer::is_unclear`]). A NUL is its caller's to refuse. `scan` and `shape` call it.

/// A token, borrowing the statement's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// An unquoted name or keyword, as written. PostgreSQL folds its ASCII letters to lower case.
    Word(&'a str),
    /// A `"quoted"` name, without its quotes. It holds no doubled quote.
    Quoted(&'a str),
    /// A name whose text is not its spelling: `U&"…"`, or `"…"` with a doubled quote inside.
    Opaque,
    /// A string constant of any kind, a number or a parameter.
    Value,
    /// An operator of PostgreSQL's operator characters, the whole symbol.
    Operator(&'a str),
    /// `::`
    Cast,
    /// One of `( ) [ ] , ; . :`, and `=` for `:=`; `..` comes as two.
    Punctuation(u8),
}

/// Every supported PostgreSQL refuses the whole text: something is unterminated, or no token at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// How a backslash in a plain `'…'` is read, which the session's `standard_conforming_strings` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backslash {
    /// As any character: the setting is on, PostgreSQL's default.
    Plain,
    /// As an escape: the setting is off.
    Escape,
}

/// Cuts one text. Cloning is cheap and is how the caller looks ahead.
#[derive(Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    backslash: Backslash,
    /// A string was met whose end depends on [`Backslash`].
    ambiguous: bool,
    unclear: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, backslash: Backslash) -> Self {
        Self { text, at: 0, backslash, ambiguous: false, unclear: false }
    }

    /// Whether some string so far ends elsewhere under the other [`Backslash`].
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// Whether versions of PostgreSQL read some token so far differently, such as `1_000`, or it was too rare to be
    /// worth a rule.
    pub(super) fn is_unclear(&self) -> bool {
        self.unclear
    }

    /// The first byte of the next token, which stays the next.
    pub(super) fn peek(&mut self) -> Result<Option<u8>, Broken> {
        self.skip_blank()?;
        Ok(self.byte(0))
    }

    /// The next token; `None` at the end of the text.
    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, Broken> {
        self.skip_blank()?;
        let start = self.at;
        let Some(first) = self.byte(0) else { return Ok(None) };
        let token = match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => self.word(start)?,
            b'\'' => self.plain_string()?,
            b'"' => self.quoted_name()?,
            b'0'..=b'9' => self.number(),
            b'.' if self.byte(1).is_some_and(|b| b.is_ascii_digit()) => self.number(),
            b'$' => self.dollar(start)?,
            b':' if self.byte(1) == Some(b':') => {
                self.at += 2;
                Token::Cast
            }
            b':' if self.byte(1) == Some(b'=') => {
                self.at += 2;
                Token::Punctuation(b'=')
            }
            b'(' | b')' | b'[' | b']' | b',' | b';' | b'.' | b':' => {
                self.at += 1;
                Token::Punctuation(first)
            }
            _ if is_operator(first) => self.operator(start),
            // NUL, control characters, `\`, `{`, `}`.
            _ => return Err(Broken),
        };
        Ok(Some(token))
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.bytes().get(self.at + ahead).copied()
    }

    /// The text from `start` to here. Both lie beside ASCII characters or at the text's ends; a caller's slip gives
    /// an empty name, which no catalog knows.
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or("")
    }

    fn skip_blank(&mut self) -> Result<(), Broken> {
        loop {
            match (self.byte(0), self.byte(1)) {
                // The vertical tab is a space from PostgreSQL 16 on, and an error before.
                (Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c), _) => self.at += 1,
                (Some(b'-'), Some(b'-')) => {
                    while self.byte(0).is_some_and(|b| b != b'\n' && b != b'\r') {
                        self.at += 1;
                    }
                }
                (Some(b'/'), Some(b'*')) => self.block_comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// `/* … */`, which nests.
    fn block_comment(&mut self) -> Result<(), Broken> {
        let mut depth = 0usize;
        loop {
            match (self.byte(0), self.byte(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(Broken),
            }
        }
    }

    /// A name, a keyword, or a string or name with a prefix: `E'…'`, `B'…'`, `X'…'`, `N'…'`, `U&'…'`, `U&"…"`.
    fn word(&mut self, start: usize) -> Result<Token<'a>, Broken> {
        match (self.byte(0).map(|b| b.to_ascii_lowercase()), self.byte(1), self.byte(2)) {
            (Some(b'e'), Some(b'\''), _) => {
                self.at += 1;
                return self.escape_string();
            }
            (Some(b'b' | b'x'), Some(b'\''), _) => {
                self.at += 1;
                self.at = self.string_end(Backslash::Plain).ok_or(Broken)?;
                return Ok(Token::Value);
            }
            (Some(b'n'), Some(b'\''), _) => {
                self.at += 1;
                return self.plain_string();
            }
            // With `standard_conforming_strings` off PostgreSQL refuses `U&'…'`, so it has one reading.
            (Some(b'u'), Some(b'&'), Some(b'\'')) => {
                self.at += 2;
                self.at = self.string_end(Backslash::Plain).ok_or(Broken)?;
                return Ok(Token::Value);
            }
            (Some(b'u'), Some(b'&'), Some(b'"')) => {
                self.at += 2;
                return self.quoted_name().map(|_| Token::Opaque);
            }
            _ => {}
        }
        while self.byte(0).is_some_and(is_name_part) {
            self.at += 1;
        }
        Ok(Token::Word(self.since(start)))
    }

    fn quoted_name(&mut self) -> Result<Token<'a>, Broken> {
        self.at += 1;
        let start = self.at;
        let mut doubled = false;
        loop {
            match (self.byte(0), self.byte(1)) {
                (Some(b'"'), Some(b'"')) => {
                    doubled = true;
                    self.at += 2;
                }
                (Some(b'"'), _) => break,
                (None, _) => return Err(Broken),
                _ => self.at += 1,
            }
        }
        let name = self.since(start);
        self.at += 1;
        match name {
            // PostgreSQL: "zero-length delimited identifier".
            "" => Err(Broken),
            _ if doubled => Ok(Token::Opaque),
            _ => Ok(Token::Quoted(name)),
        }
    }

    /// A `'…'` read under the session's setting, noting whether the setting matters.
    fn plain_string(&mut self) -> Result<Token<'a>, Broken> {
        let (plain, escape) = (self.string_end(Backslash::Plain), self.string_end(Backslash::Escape));
        self.ambiguous |= plain != escape;
        let end = if self.backslash == Backslash::Plain { plain } else { escape };
        self.at = end.ok_or(Broken)?;
        Ok(Token::Value)
    }

    /// An `E'…'`. A string that continues it on a later line keeps its escapes; that is unclear, as is all that looks
    /// like it.
    fn escape_string(&mut self) -> Result<Token<'a>, Broken> {
        self.at = self.string_end(Backslash::Escape).ok_or(Broken)?;
        let mut ahead = self.clone();
        ahead.skip_blank()?;
        self.unclear |= ahead.byte(0) == Some(b'\'');
        Ok(Token::Value)
    }

    /// Where the string whose opening quote is here ends: the index after its closing quote.
    fn string_end(&self, backslash: Backslash) -> Option<usize> {
        let bytes = self.bytes();
        let mut at = self.at + 1;
        loop {
            match bytes.get(at)? {
                b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
                b'\'' => return Some(at + 1),
                b'\\' if backslash == Backslash::Escape => at += 2,
                _ => at += 1,
            }
        }
    }

    /// `12`, `1.5`, `.5e-3`. A letter, digit or underscore straight after it is read differently by version.
    fn number(&mut self) -> Token<'a> {
        self.digits();
        // `1..2` is two integers and two dots.
        if self.byte(0) == Some(b'.') && self.byte(1) != Some(b'.') {
            self.at += 1;
            self.digits();
        }
        if matches!(self.byte(0), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.byte(1), Some(b'+' | b'-')));
            if self.byte(1 + sign).is_some_and(|b| b.is_ascii_digit()) {
                self.at += 1 + sign;
                self.digits();
            }
        }
        self.value()
    }

    /// A number or parameter that ends here, with whatever is glued to it.
    fn value(&mut self) -> Token<'a> {
        while self.byte(0).is_some_and(is_name_part) {
            self.unclear = true;
            self.at += 1;
        }
        Token::Value
    }

    fn digits(&mut self) {
        while self.byte(0).is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// `$1`, or `$tag$ … $tag$`.
    fn dollar(&mut self, start: usize) -> Result<Token<'a>, Broken> {
        self.at += 1;
        if self.byte(0).is_some_and(|b| b.is_ascii_digit()) {
            self.digits();
            return Ok(self.value());
        }
        while self.byte(0).is_some_and(|b| b != b'$' && is_name_part(b)) {
            self.at += 1;
        }
        if self.byte(0) != Some(b'$') {
            return Err(Broken);
        }
        self.at += 1;
        let delimiter = self.since(start);
        let body = self.text.get(self.at..).unwrap_or("");
        let length = body.find(delimiter).ok_or(Broken)?;
        self.at += length + delimiter.len();
        Ok(Token::Value)
    }

    /// The longest run of operator characters, short of a comment, and short of a trailing `+` or `-` unless it holds
    /// one of the characters that make such a name lawful (documentation, "Operators").
    fn operator(&mut self, start: usize) -> Token<'a> {
        let bytes = self.bytes();
        let mut end = start;
        while let Some(&byte) = bytes.get(end) {
            let comment = matches!((byte, bytes.get(end + 1)), (b'-', Some(b'-')) | (b'/', Some(b'*')));
            if !is_operator(byte) || (comment && end > start) {
                break;
            }
            end += 1;
        }
        let lawful = |end: usize| bytes[start..end - 1].iter().any(|b| b"~!@#^&|`?%".contains(b));
        while end - start > 1 && matches!(bytes[end - 1], b'+' | b'-') && !lawful(end) {
            end -= 1;
        }
        self.at = end;
        Token::Operator(self.since(start))
    }
}

fn is_operator(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

fn is_name_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<Token<'_>>, Broken> {
        let mut lexer = Lexer::new(text, Backslash::Plain);
        std::iter::from_fn(|| lexer.next().transpose()).collect()
    }

    fn values(text: &str, count: usize) {
        assert_eq!(tokens(text), Ok(vec![Token::Value; count]), "{text}");
    }

    #[test]
    fn strings_end_where_postgresql_ends_them() {
        for one in
            ["'a'", "''", "'a''b'", "E'a\\'b'", "e'\\\\'", "U&'d\\0061'", "B'01'", "x'1F'", "N'a'", "$$a'b$$"]
        {
            values(one, 1);
        }
        for one in [
            "$t$ $$ $x$ $t$",
            "$_1$;$_1$",
            "$ä$'$ä$",
            "'/*'",
            "'--'",
            "'\n'",
            "1",
            "1.5",
            ".5",
            "1.",
            "1e5",
            "$12",
        ] {
            values(one, 1);
        }
        values("'a' 'b'", 2);
        for broken in
            ["'a", "'a''", "E'\\'", "\"a", "\"\"", "$$a", "$a$ $b$", "$a", "/* /* */", "a\0b", "\\", "{"]
        {
            assert_eq!(tokens(broken), Err(Broken), "{broken:?}");
        }
        for unclear in ["1_000", "0x1F", "12a", "$1a", "1e", "E'a'\n'b'"] {
            let mut lexer = Lexer::new(unclear, Backslash::Plain);
            while lexer.next().unwrap().is_some() {}
            assert!(lexer.is_unclear(), "{unclear:?}");
        }
    }

    #[test]
    fn a_backslash_matters_only_where_the_end_moves() {
        for (text, ambiguous) in
            [("'a\\b'", false), ("'a\\'", true), ("'\\\\'", false), ("'a\\''b'", true), ("'a'", false)]
        {
            let mut lexer = Lexer::new(text, Backslash::Plain);
            while let Ok(Some(_)) = lexer.next() {}
            assert_eq!(lexer.is_ambiguous(), ambiguous, "{text}");
        }
    }

    #[test]
    fn names_operators_and_comments() {
        use Token::*;
        assert_eq!(
            tokens("a$1 é \"B c\" U&\"x\" \"q\"\"r\""),
            Ok(vec![Word("a$1"), Word("é"), Quoted("B c"), Opaque, Opaque])
        );
        assert_eq!(tokens("a--x\rb/*/* */'*/c"), Ok(vec![Word("a"), Word("b"), Word("c")]));
        assert_eq!(tokens("/*/ x */a"), Ok(vec![Word("a")]));
        let operators = |text| {
            let all = tokens(text).unwrap();
            all.into_iter()
                .filter_map(|t| if let Operator(o) = t { Some(o) } else { None })
                .collect::<Vec<_>>()
        };
        for (text, want) in [
            ("1*-2", vec!["*", "-"]),
            ("1@-2", vec!["@-"]),
            ("a<>-+b", vec!["<>", "-", "+"]),
            ("a->>b", vec!["->>"]),
            ("a+--x\n1", vec!["+"]),
            ("a*/*x*/1", vec!["*"]),
            ("a||'b'", vec!["||"]),
            ("a::int=1", vec!["="]),
        ] {
            assert_eq!(operators(text), want, "{text}");
        }
        assert_eq!(tokens("a::b"), Ok(vec![Word("a"), Cast, Word("b")]));
    }
}
