//! The classifier against its corpus and against PostgreSQL's own parser, on the corpus and on what chance makes of it:
//! whatever is called a read must be one in the parse tree.
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by ending.

#[allow(dead_code)]
mod corpus;
#[path = "corpus/oracle.rs"]
mod oracle;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{RngSeed, TestCaseResult, TestRunner};
use tiebeam_sql::classify::{Class, classify};

#[test]
fn each_statement_of_the_corpus_has_its_class() {
    let wrong: Vec<_> = corpus::all()
        .into_iter()
        .map(|(text, want)| (classify(&text, corpus::catalog()), want, text))
        .filter(|(got, want, _)| got != want)
        .collect();
    assert!(wrong.is_empty(), "(got, want, statement): {wrong:#?}");
}

#[test]
fn the_parser_agrees_with_each_read_of_the_corpus() {
    for (text, class) in corpus::all() {
        match class {
            Class::Read => assert_eq!(oracle::reads(&text), Ok(true), "{text}"),
            _ if corpus::missed().contains(&text) || corpus::primary().contains(&text) => {}
            // A pin may read; it is kept for what it leaves in the session.
            Class::Pin(_) => {}
            _ => assert_ne!(oracle::reads(&text), Ok(true), "{text} reads: into missed.sql"),
        }
    }
}

/// The classifier is of use only if it recognises nearly every plain read.
#[test]
fn at_least_95_of_100_reads_are_recognised() {
    let (reads, missed) = (corpus::reads(), corpus::missed());
    let recognised =
        reads.iter().chain(&missed).filter(|t| classify(t, corpus::catalog()) == Class::Read).count();
    let all = reads.len() + missed.len();
    println!("{recognised} of {all} reads of the corpus are recognised");
    assert!(recognised * 100 >= all * 95, "{recognised} of {all}");
}

#[derive(Clone, Debug)]
enum Change {
    /// Puts a piece at a place.
    Insert(&'static str, Index),
    /// Takes bytes away.
    Cut(Index, Index),
    /// Puts a part of another statement at a place.
    Splice(Index, Index, Index, Index),
    /// Changes the case of every letter of a stretch.
    Case(Index, Index),
    /// Puts a comment or a line break for a space.
    Space(&'static str, Index),
    Append(Index),
}

const PIECES: &[&str] = &[
    "'",
    "\"",
    "\\",
    "/*",
    "*/",
    "--",
    "\n",
    "\r",
    ";",
    "$$",
    "$a$",
    "(",
    ")",
    "E'",
    "U&'",
    "U&\"",
    "N'",
    "B'",
    ".",
    ",",
    "::",
    " AS ",
    " FOR ",
    " SHARE ",
    " INTO x ",
    "nextval('numbers')",
    "nextval",
    " audit",
    "audit(",
    ".audit",
    "ticket",
    "+!+",
    "+",
    "-",
    "*",
    "=",
    "0",
    "1e",
    "$1",
    "é",
    "\"a\"",
    "'\\'",
    "''",
    " WITH ",
    "DELETE FROM orders",
    "checked_int",
    " SELECT ",
    "treat(",
    "public.",
    "\u{b}",
    "::box_of",
    " AS x(",
    "), nextval(a) AS (",
    "over",
    " by",
    "values",
    "in",
    "E'\\''",
    "[",
    "]",
];

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        4 => (select(PIECES), index()).prop_map(|(piece, at)| Change::Insert(piece, at)),
        2 => (index(), index()).prop_map(|(a, b)| Change::Cut(a, b)),
        3 => (index(), index(), index(), index()).prop_map(|(a, b, c, d)| Change::Splice(a, b, c, d)),
        1 => (index(), index()).prop_map(|(a, b)| Change::Case(a, b)),
        3 => (select(&["/* c */", "--c\n", "\n", "/**/", "/* /* ' */ */", "\t"][..]), index()).prop_map(|(s, a)| Change::Space(s, a)),
        1 => index().prop_map(Change::Append),
    ]
}

fn apply(text: &mut String, change: &Change, others: &[(String, Class)]) {
    let place = |text: &str, index: &Index| {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        places[index.index(places.len())]
    };
    let stretch = |text: &str, a: &Index, b: &Index| {
        let start = place(text, a);
        start..start + place(&text[start..], b).min(place(&text[start..], a))
    };
    match change {
        Change::Insert(piece, at) => text.insert_str(place(text, at), piece),
        Change::Cut(a, b) => text.replace_range(stretch(text, a, b), ""),
        Change::Splice(other, a, b, at) => {
            let other = &others[other.index(others.len())].0;
            text.insert_str(place(text, at), &other[stretch(other, a, b)]);
        }
        Change::Case(a, b) => {
            let range = stretch(text, a, b);
            let swapped: String = text[range.clone()]
                .chars()
                .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
                .collect();
            text.replace_range(range, &swapped);
        }
        Change::Space(instead, at) => {
            let spaces: Vec<usize> = text.match_indices(' ').map(|(at, _)| at).collect();
            if !spaces.is_empty() {
                let space = spaces[at.index(spaces.len())];
                text.replace_range(space..=space, instead);
            }
        }
        Change::Append(other) => {
            text.push(';');
            text.push_str(&others[other.index(others.len())].0);
        }
    }
}

/// Names the seed that replays a run.
const SEED: &str = "SQL_SEED";

/// Many cases of chance, all from one seed. A failure says which, and the one command that replays it.
fn by_chance<S: Strategy>(name: &str, strategy: S, test: impl Fn(S::Value) -> TestCaseResult) {
    let given = std::env::var(SEED).ok().map(|text| text.parse().expect("a seed is a number"));
    let seed: u64 = given.unwrap_or_else(rand::random);
    let config = ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..ProptestConfig::default()
    };
    if let Err(failure) = TestRunner::new(config).run(&strategy, test) {
        panic!(
            "{failure}\nseed {seed}; replay: {SEED}={seed} cargo nextest run -p tiebeam-sql --test classify {name}"
        );
    }
}

#[test]
fn the_parser_agrees_with_each_read_that_chance_makes() {
    let name = "the_parser_agrees_with_each_read_that_chance_makes";
    let strategy = (any::<Index>(), prop::collection::vec(change(), 1..5));
    by_chance(name, strategy, |(start, changes)| {
        let all = all_once();
        let mut text = all[start.index(all.len())].0.clone();
        for change in &changes {
            apply(&mut text, change, all);
        }
        if classify(&text, corpus::catalog()) == Class::Read {
            // What the parser refuses, every server refuses.
            prop_assert_ne!(oracle::reads(&text), Ok(false), "{}", text);
        }
        Ok(())
    });
}

#[test]
fn any_text_has_a_class() {
    by_chance("any_text_has_a_class", "\\PC*", |text| {
        classify(&text, corpus::catalog());
        Ok(())
    });
}

fn all_once() -> &'static [(String, Class)] {
    static ALL: std::sync::OnceLock<Vec<(String, Class)>> = std::sync::OnceLock::new();
    ALL.get_or_init(corpus::all)
}
