//! Schema and parser know the same keys, and no text makes the parser panic.

use proptest::prelude::*;
use serde_json::Value;

use super::tests::{EDGE_ONLY, parsed};
use super::*;
use crate::schema;

/// Every path to a key of the schema, with the schema of its value.
fn keys_of(schema: &Value, path: &str, out: &mut Vec<String>) {
    for inner in schema["oneOf"].as_array().into_iter().flatten() {
        keys_of(inner, path, out);
    }
    if let Some(items) = schema.get("items").filter(|items| items["type"] == "object") {
        keys_of(items, &format!("{path}[]"), out);
    }
    for named in schema["patternProperties"].as_object().into_iter().flat_map(|tables| tables.values()) {
        keys_of(named, &format!("{path}.NAME"), out);
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        keys_of(inner, &path, out);
        out.push(path);
    }
}

/// A document with `value` at a path, in the dotted and inline forms that TOML has for it.
fn document(path: &str, value: &str) -> String {
    let path = path.trim_start_matches('.').replace("site.NAME", "site.\"a.example\"").replace("NAME", "a");
    match path.split_once("[].") {
        Some((list, key)) => format!("{list} = [{{ {key} = {value} }}]\n"),
        None => format!("{path} = {value}\n"),
    }
}

/// No key takes a date: one that is read complains, one that is unknown is named so, and silence would be drift.
#[test]
fn schema_and_parser_know_the_same_keys() {
    let mut keys = Vec::new();
    keys_of(&schema(), "", &mut keys);
    assert!(keys.len() > 65, "{keys:?}");
    for key in &keys {
        let said = Cluster::parse("tiebeam.toml", &document(key, "2000-01-01")).unwrap_err();
        assert!(said.items().iter().any(|p| p.message.contains("not a date or time")), "{key}: {said}");
        assert!(said.items().iter().all(|p| !p.message.contains("unknown")), "{key}: {said}");
        let sibling = format!("{}.zzz", key.rsplit_once('.').unwrap().0);
        if !sibling.ends_with("NAME.zzz") || key.matches('.').count() > 2 {
            let said = Cluster::parse("tiebeam.toml", &document(&sibling, "1")).unwrap_err();
            assert!(said.items().iter().any(|p| p.message.contains("unknown")), "{sibling}: {said}");
        }
    }
}

/// The other half of the proof in `Reader::get`, which reads the same defaults.
#[test]
fn every_default_reads() {
    fn defaults(section: &Section, count: &mut usize) {
        for key in section.keys {
            if let Need::Default(text) = key.need() {
                let document = format!("v = {text}");
                let value: toml::Table = toml::from_str(&document).unwrap();
                assert!(value.contains_key("v"), "{}", key.name());
                *count += 1;
            }
        }
    }
    let mut count = 0;
    for section in keys::SECTIONS {
        defaults(section, &mut count);
    }
    assert!(count > 25, "{count}");
    // Reads each default of every section, nested ones too.
    let full = format!(
        "{EDGE_ONLY}[node.b]\naddress = \"127.0.0.2\"\nroles = [\"app\", \"database\"]\n[cluster]\n[edge.limits]\n[site.\"a\"]\nhttps = {{ cert = \"a\", key = \"b\" }}\nroutes = [{{ path = \"/\", pool = \"web\" }}]\n[pool.web]\napp = \"web\"\nhealth = {{}}\nretries = {{}}\nejection = {{}}\n[pool.b]\nservers = [{{ address = \"10.0.0.9:3000\" }}]\n[app.web]\ncommand = [\"x\"]\n[database]\n[sql]\n[ledger]\n[console]\n"
    );
    parsed(&full);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}|[\\x00-\\x7f]{0,200}") {
        check_total(&text)?;
    }

    /// Pieces of right files put together wrongly reach much further than arbitrary text.
    #[test]
    fn no_mixture_of_right_lines_panics(picks in prop::collection::vec(0usize..1000, 0..40)) {
        let example = include_str!("../../../../tiebeam.toml");
        let wrong = include_str!("wrong.txt");
        let lines: Vec<&str> = example.lines().chain(wrong.lines()).collect();
        let text: String = picks.iter().map(|pick| format!("{}\n", lines[pick % lines.len()])).collect();
        check_total(&text)?;
    }

    /// One changed byte of a right file is either still right or said to be wrong somewhere.
    #[test]
    fn no_damaged_example_panics(at in 0usize..4000, with in 0u8..128) {
        let mut bytes = include_bytes!("../../../../tiebeam.toml").to_vec();
        let at = at % bytes.len();
        bytes[at] = with;
        if let Ok(text) = String::from_utf8(bytes) {
            check_total(&text)?;
        }
    }
}

fn check_total(text: &str) -> Result<(), TestCaseError> {
    if let Err(problems) = Cluster::parse("tiebeam.toml", text) {
        prop_assert!(problems.count() > 0);
        prop_assert!(problems.to_string().starts_with("error: "));
        for problem in problems.items() {
            prop_assert!(problem.span.is_none_or(|span| text.get(span.start..span.end).is_some()));
        }
    }
    Ok(())
}
