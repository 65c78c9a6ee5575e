//! The rules, each a function from a file's path and text to what is wrong with it. None of them opens a file.
//!
//! The texts that are forbidden elsewhere have to stand here: [`names_the_rules`] exempts this folder.

pub mod arrows;
pub mod clock;
pub mod links;
pub mod shape;
pub mod words;

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub path: String,
    /// From 1.
    pub line: usize,
    pub what: String,
    pub instead: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), instead: instead.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; instead: {}", self.path, self.line, self.what, self.instead)
    }
}

/// Whether a file is one of those that spell out what is forbidden.
fn names_the_rules(path: &str) -> bool {
    path.starts_with("xtask/src/rules/")
}

/// Lines with their numbers from 1.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// A line of Rust without its comment. A `//` inside a string cuts the line short, which at worst hides its end.
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// Whether a path is one of tests alone.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

/// Whether `word` stands in `line` on its own: no letter, digit or underscore before it, none after it.
fn has_path(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let open_end = word.ends_with(|c: char| !inside(c));
        !line[..at].ends_with(inside) && (open_end || !line[at + word.len()..].starts_with(inside))
    })
}
