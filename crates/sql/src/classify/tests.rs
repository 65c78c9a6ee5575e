//! The classifier, rule by rule.

use super::{Class, READ_MAX_BYTES, Volatility, classify};

fn catalog() -> Volatility {
    let mut rows: Vec<(&str, &str, bool)> = include_str!("builtin.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(kind, name)| (kind, name, false))
        .collect();
    rows.extend([
        ("function", "nextval", true),
        ("function", "random", true),
        ("function", "price", false),
        ("function", "lower", true),
        ("function", "over", false),
        ("function", "by", true),
        ("function", "select", true),
        ("function", "audit", true),
        ("attribute", "audit", true),
        ("operator", "<=!", true),
        ("operator", "+", false),
        ("name", "ticket", true),
    ]);
    Volatility::from_rows(rows)
}

fn all(class: Class, texts: &[&str]) {
    let catalog = catalog();
    for text in texts {
        assert_eq!(classify(text, &catalog), class, "{text}");
    }
}

#[test]
fn names_are_judged_by_the_catalog() {
    all(
        Class::Read,
        &[
            "select price(1) from t",
            "select \"price\"(1)",
            "select pg_catalog.upper('a')",
            "select audit from t",
        ],
    );
    all(
        Class::Write,
        &[
            "select unheard(1)",
            "select lower('a')",
            "select \"Price\"(1)",
            "select audit (1)",
            "select t.audit from t",
        ],
    );
    all(
        Class::Write,
        &[
            "select * from ticket",
            "select 'a'::ticket",
            "select * from \"ticket\"",
            "select 1 <=! 2",
            "select 1 operator(public.<=!) 2",
        ],
    );
    all(
        Class::Write,
        &["select by(1)", "select public.select(1)", "select treat('s' as nextval)", "select 1 ~~~~ 2"],
    );
    all(
        Class::Read,
        &[
            "select t.price from t",
            "select TICKETS from t",
            "select 1 as by",
            "select 'ticket'",
            "select 1 != 2",
        ],
    );
}

#[test]
fn everything_uncertain_is_told() {
    let catalog = Volatility::from_rows([("everything", "=", true)]);
    assert_eq!(catalog.uncertain(), Some("everything: ="));
    assert_eq!(classify("select 1", &catalog), Class::Write);
    assert_eq!(classify("show all", &catalog), Class::Read);
    assert_eq!(classify("set x = 1", &catalog), Class::Pin("SET"));
}

#[test]
fn before_the_catalog_is_loaded_no_relation_is_known() {
    let catalog = Volatility::builtin();
    for text in [
        "select 1",
        "select version()",
        "select pg_catalog.now() as t",
        "select upper('a') || 'b' as x, $1::int",
        "show all",
    ] {
        assert_eq!(classify(text, &catalog), Class::Read, "{text}");
    }
    for text in [
        "select * from t",
        "table t",
        "select 1::money2",
        "select cast(1 as domain_of_mine)",
        "select public.upper('a')",
        "select mine(1)",
        "select 1 x.y",
    ] {
        assert_eq!(classify(text, &catalog), Class::Write, "{text}");
    }
}

#[test]
fn a_long_text_never_reads() {
    let text = |length: usize| format!("select '{}'", "x".repeat(length - 9));
    let catalog = catalog();
    assert_eq!(classify(&text(READ_MAX_BYTES), &catalog), Class::Read);
    assert_eq!(classify(&text(READ_MAX_BYTES + 1), &catalog), Class::Write);
    let pin = format!("{}; set x = 1", text(READ_MAX_BYTES + 1));
    assert_eq!(classify(&pin, &catalog), Class::Pin("SET"));
}

#[test]
fn both_readings_of_a_backslash_count() {
    all(Class::Read, &["select 'a\\b'", "select E'a\\'b'", "select '\\\\'"]);
    all(Class::Write, &["select 'a\\'", "select 'a\\' from t --'", "select 'a\\'; delete from t; --'"]);
    all(Class::Pin("SET"), &["select 'a\\'; set x = 1; --'", "select 'a\\''; set x = 1; --'"]);
}

#[test]
fn names_that_postgresql_would_change_are_not_read() {
    all(Class::Read, &["select é from t", "select \"É\" from t"]);
    all(
        Class::Write,
        &["select É from t", "select U&\"x\"", "select \"a\"\"b\"", "select 1_000", "select a\0b"],
    );
    let long = format!("select {} from t", "x".repeat(64));
    all(Class::Write, &[&long]);
}
