//! What the database's catalog says about names: which functions and operators never write, and which relations, types
//! and attributes might call one that does.
//!
//! It opens no connection: a router runs [`Volatility::QUERY`] on its control connection and gives the rows to
//! [`Volatility::from_rows`], then shares the value behind its snapshot.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::words::{NOT_FOR_REPLICAS, SESSION_FUNCTIONS, WORDS, Word};

/// What is known of names in one database. Schemas do not matter: one volatile overload of a name, in any schema, makes
/// the name uncertain, so no `search_path` can trick it.
#[derive(Clone, Debug)]
pub struct Volatility {
    names: Table<Facts>,
    /// The symbol, and whether some operator of that symbol may write.
    operators: Table<bool>,
    loaded: bool,
    everything: Option<Box<str>>,
}

type Table<T> = HashMap<Box<str>, T, BuildHasherDefault<Fnv>>;

/// FNV-1a, quick for short names. Only the database's own names are ever keys, so nobody else can make them collide.
#[derive(Clone, Copy, Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// All that one look-up of a name gives.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) word: Word,
    /// Some function has this name.
    pub(super) function: bool,
    /// Some function of this name may write.
    pub(super) unsafe_function: bool,
    /// `row.name` may call such a function.
    pub(super) unsafe_attribute: bool,
    /// A relation or type of this name may call such a function, or is stored elsewhere.
    pub(super) unsafe_name: bool,
    /// What a call leaves behind in the session.
    pub(super) session: Option<&'static str>,
}

impl Volatility {
    /// Gives rows `(kind, name, unsafe)`, the three columns of [`Volatility::from_rows`], in PostgreSQL 14 to 18. Any user
    /// may run it, with nothing but `pg_catalog` in the `search_path`: else the owner of the database could give it
    /// other functions and operators to call. It takes some 50 ms plus 1 ms for each view that was created: run it when [`Volatility::FINGERPRINT`]
    /// has changed. Kinds (documentation, "Function Volatility Categories"):
    ///
    /// - `function`: unsafe if an overload is volatile, is an aggregate with a volatile part, or has a default argument
    ///   that calls an unsafe function;
    /// - `attribute`: an unsafe function that `row.name` can call;
    /// - `operator`: unsafe if its function is;
    /// - `name`: a foreign table (or a parent of one), an unlogged table, which replicas do not have, a sequence,
    ///   which they have up to 32 values ahead, a view or a row-level policy that uses something unsafe, a domain
    ///   whose check does, a type whose input or output function is unsafe, all that is made of these, the target of
    ///   an unsafe cast, and the views of `pg_catalog`, which tell about one server;
    /// - `everything`: something that is called without being named is unsafe: an implicit cast, or a comparison.
    pub const QUERY: &str = include_str!("catalog.sql");

    /// Gives one row with one text, which changes when the answer of [`Volatility::QUERY`] may have. Some 10 ms; with the
    /// same `search_path`.
    pub const FINGERPRINT: &str = include_str!("fingerprint.sql");

    /// Before the catalog was loaded: PostgreSQL's own functions and operators, and no relation at all. A volatile
    /// overload that a user gave one of PostgreSQL's own names is not seen until then.
    pub fn builtin() -> Self {
        let rows = include_str!("builtin.txt").lines().filter(|line| !line.starts_with('#'));
        let rows = rows.filter_map(|line| line.split_once(' ')).map(|(kind, name)| (kind, name, false));
        Self { loaded: false, ..Self::from_rows(rows) }
    }

    /// Of a database whose catalog cannot be read: no statement is certain.
    pub fn unknown() -> Self {
        Self::from_rows([("unknown", "the catalog cannot be read", true)])
    }

    /// The answer of [`Volatility::QUERY`]. Rows of a kind that this version does not know make everything uncertain.
    pub fn from_rows<K: AsRef<str>, N: AsRef<str>>(rows: impl IntoIterator<Item = (K, N, bool)>) -> Self {
        let mut new =
            Self { names: Table::default(), operators: Table::default(), loaded: true, everything: None };
        for (word, names) in WORDS {
            new.each(names, |facts| facts.word = *word);
        }
        for (session, names) in SESSION_FUNCTIONS {
            new.each(names, |facts| facts.session = Some(session));
        }
        for (kind, name, is_unsafe) in rows {
            new.add(kind.as_ref(), name.as_ref(), is_unsafe);
        }
        new.each(NOT_FOR_REPLICAS, |facts| facts.unsafe_function = true);
        new
    }

    /// Why no statement is certain in this database, if so: the function, operator or type that is called unnamed.
    pub fn uncertain(&self) -> Option<&str> {
        self.everything.as_deref()
    }

    fn each(&mut self, names: &str, mut change: impl FnMut(&mut Facts)) {
        for name in names.split_whitespace() {
            change(self.names.entry(name.into()).or_default());
        }
    }

    fn add(&mut self, kind: &str, name: &str, is_unsafe: bool) {
        if kind == "operator" {
            *self.operators.entry(name.into()).or_default() |= is_unsafe;
            return;
        }
        let facts = self.names.entry(name.into()).or_default();
        match kind {
            "function" => {
                facts.function = true;
                facts.unsafe_function |= is_unsafe;
            }
            "attribute" => facts.unsafe_attribute |= is_unsafe,
            "name" => facts.unsafe_name |= is_unsafe,
            _ => self.everything = Some(format!("{kind}: {name}").into()),
        }
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// `None`: nothing has this name, neither grammar nor catalog (columns and harmless relations are not listed).
    pub(super) fn name(&self, folded: &str) -> Option<Facts> {
        self.names.get(folded).copied()
    }

    /// Whether every operator of this symbol is certain. PostgreSQL reads `!=` as `<>`.
    pub(super) fn operator_is_safe(&self, symbol: &str) -> bool {
        let symbol = if symbol == "!=" { "<>" } else { symbol };
        self.operators.get(symbol) == Some(&false)
    }
}
