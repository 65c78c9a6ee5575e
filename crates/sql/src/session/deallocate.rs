//! DEALLOCATE in a simple query: the statements it names are the session's, which servers know under other names, so it is
//! done here and ties the session to no connection. Sans I/O.

use bytes::{Bytes, BytesMut};

use crate::prepared::Names;
use crate::wire::build;
use crate::wire::error::SqlError;

/// SQLSTATE `invalid_sql_statement_name`.
const NO_SUCH_STATEMENT: &str = "26000";

/// What was deallocated.
#[derive(Debug)]
pub(crate) enum Deallocate {
    All,
    One,
    /// The session has no such name; the connection of a pinned one may, by PREPARE.
    Unknown(Bytes),
}

impl Deallocate {
    /// Reads `DEALLOCATE [PREPARE] name | ALL` and takes the names away. `None`: in another form, with a comment or an
    /// escape.
    pub fn read(query: &[u8], names: &mut Names) -> Option<Self> {
        let text = std::str::from_utf8(query).ok()?.trim().trim_end_matches(';').trim_end();
        let mut words = text.split_ascii_whitespace();
        if !words.next()?.eq_ignore_ascii_case("deallocate") {
            return None;
        }
        let (first, second) = (words.next()?, words.next());
        let name = match second {
            None => first,
            Some(second) if first.eq_ignore_ascii_case("prepare") => second,
            Some(_) => return None,
        };
        if words.next().is_some() {
            return None;
        }
        if name.eq_ignore_ascii_case("all") {
            names.clear();
            return Some(Self::All);
        }
        let name = folded(name)?;
        Some(match names.remove(name.as_bytes()) {
            Some(_) => Self::One,
            None => Self::Unknown(Bytes::from(name)),
        })
    }

    /// No server is needed for it.
    pub fn is_ours(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }

    pub fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Its whole CommandComplete.
    pub fn complete(&self) -> &'static [u8] {
        if self.is_all() { b"C\0\0\0\x13DEALLOCATE ALL\0" } else { b"C\0\0\0\x0fDEALLOCATE\0" }
    }

    /// Of its CommandComplete.
    pub fn tag(&self) -> &'static str {
        if self.is_all() { "DEALLOCATE ALL" } else { "DEALLOCATE" }
    }

    /// The whole answer to a session that has no connection.
    pub fn answer(&self, out: &mut BytesMut) {
        match self {
            Self::All | Self::One => build::complete(out, self.tag()),
            Self::Unknown(name) => {
                let text = format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(name));
                SqlError::error(NO_SUCH_STATEMENT, text).write(out);
            }
        }
        build::ready(out, b'I');
    }
}

/// A name as PostgreSQL reads it.
fn folded(name: &str) -> Option<String> {
    if let Some(quoted) = name.strip_prefix('"') {
        let inner = quoted.strip_suffix('"').filter(|inner| !inner.is_empty() && !inner.contains('"'))?;
        return Some(inner.to_owned());
    }
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let goes_on = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$');
    (starts && goes_on).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::classify::Volatility;
    use crate::prepared::Statements;

    #[test]
    fn names_are_read_as_postgresql_reads_them() {
        let (statements, catalog) = (Statements::default(), Arc::new(Volatility::builtin()));
        let mut names = Names::default();
        for name in ["a1", "B", "c d"] {
            names.define(name.as_bytes(), statements.shared(b"select 1\0\0\0", true, &catalog));
        }
        let mut read = |sql: &str| Deallocate::read(sql.as_bytes(), &mut names);
        assert!(matches!(read("DEALLOCATE A1;"), Some(Deallocate::One)));
        assert!(matches!(read("deallocate a1"), Some(Deallocate::Unknown(name)) if name == "a1"));
        assert!(matches!(read("DEALLOCATE B"), Some(Deallocate::Unknown(_))));
        assert!(matches!(read(" Deallocate\nprepare \"B\" "), Some(Deallocate::One)));
        for other in ["DEALLOCATE /* a */ x", "DEALLOCATE \"c d\"", "DEALLOCATE a b c", "DEALLOCATE U&\"x\""]
        {
            assert!(read(other).is_none(), "{other}");
        }
        assert!(matches!(read("DEALLOCATE PREPARE ALL"), Some(Deallocate::All)));
        assert!(names.get(b"c d").is_none());
    }
}
