//! The corpus: statements of `*.sql` in this folder with the class of each, in the database of `schema.sql`.
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by ending.

use std::sync::OnceLock;

use tiebeam_sql::classify::{Class, Volatility};

/// Statements that only read, and are [`Class::Read`].
pub fn reads() -> Vec<String> {
    lines(include_str!("read.sql"))
}

/// Statements that only read, but that are [`Class::Write`], as the classifier cannot be certain.
pub fn missed() -> Vec<String> {
    lines(include_str!("missed.sql"))
}

/// Statements that write nothing, but that belong to the primary by the rules: [`Class::Write`].
pub fn primary() -> Vec<String> {
    lines(include_str!("primary.sql"))
}

/// All, each with its class.
pub fn all() -> Vec<(String, Class)> {
    let mut all: Vec<_> = reads().into_iter().map(|text| (text, Class::Read)).collect();
    all.extend(missed().into_iter().map(|text| (text, Class::Write)));
    all.extend(primary().into_iter().map(|text| (text, Class::Write)));
    all.extend(lines(include_str!("write.sql")).into_iter().map(|text| (text, Class::Write)));
    for line in lines(include_str!("pin.sql")) {
        let (what, text) = line.split_once(" | ").unwrap();
        all.push((text.to_owned(), Class::Pin(what.to_owned().leak())));
    }
    for line in lines(include_str!("other.sql")) {
        let (what, text) = line.split_once(" | ").unwrap();
        let class = match what {
            "begin" => Class::Begin { read_only: None },
            "begin read only" => Class::Begin { read_only: Some(true) },
            "begin read write" => Class::Begin { read_only: Some(false) },
            "end" => Class::End,
            "reset" => Class::Reset,
            "empty" => Class::Empty,
            other => panic!("no class {other:?}"),
        };
        all.push((text.to_owned(), class));
    }
    all
}

fn lines(file: &str) -> Vec<String> {
    let lines = file.lines().filter(|line| !line.is_empty() && !line.starts_with("# "));
    lines.map(|line| line.replace('⏎', "\n")).collect()
}

/// What [`Volatility::QUERY`] says of a database made by `schema.sql`, as far as the corpus needs it.
pub fn rows() -> Vec<(&'static str, &'static str, bool)> {
    let builtin =
        include_str!("../../src/classify/builtin.txt").lines().filter(|line| !line.starts_with('#'));
    let mut rows: Vec<_> =
        builtin.filter_map(|line| line.split_once(' ')).map(|(kind, name)| (kind, name, false)).collect();
    rows.push(("function", "price_of", false));
    rows.extend(
        ["nextval", "touch", "audit", "stepped", "stepped_sum", "mixed", "random", "gen_random_uuid"]
            .map(|name| ("function", name, true)),
    );
    rows.push(("attribute", "audit", true));
    rows.push(("operator", "+!+", true));
    rows.extend(
        "ticket tickets_twice by_operator checked_int _checked_int with_domain guarded far parts parts_there box_of \
         pg_locks pg_stat_activity pg_stat_replication pg_settings"
            .split_whitespace()
            .map(|name| ("name", name, true)),
    );
    rows
}

/// [`rows`] as the classifier takes them.
pub fn catalog() -> &'static Volatility {
    static CATALOG: OnceLock<Volatility> = OnceLock::new();
    CATALOG.get_or_init(|| Volatility::from_rows(rows()))
}
