//! The metrics: a golden, read back by a strict reader of OpenMetrics.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::fixtures;

fn text(view: View) -> String {
    let bounds = [("head", 2), ("connections", 0)];
    let extra = vec![
        Extra::counter("console_refused", "Connections refused", 3),
        Extra::counters("edge_refused", "Requests refused", "why", bounds),
        Extra {
            name: "server_response",
            help: "Until the first byte",
            kind: Kind::Seconds,
            samples: vec![(
                vec![("pool", "web".into()), ("server", "a/web.1".into())],
                Sample::Times { bounds_ms: &[1.0, 250.0], counts: vec![3, 2, 1], sum_ms: 1712.5 },
            )],
        },
    ];
    metrics(Arc::new(view), extra)
}

#[test]
fn healthy() {
    insta::assert_snapshot!(text(fixtures::healthy()));
}

#[test]
fn sums_over_all_nodes_count_everything_once() {
    let nodes = ["a", "b", "c"];
    let mut samples = BTreeSet::<String>::new();
    for name in nodes {
        let view = View { this_node: fixtures::node(name), ..fixtures::healthy() };
        for line in text(view).lines().filter(|l| !l.starts_with('#') && !l.starts_with("tiebeam_cluster_")) {
            let (series, _) = line.rsplit_once(' ').unwrap();
            assert!(series.contains(&format!("node=\"{name}\"")), "{series} of {name}");
            assert!(samples.insert(series.to_owned()), "{series} comes from two nodes");
        }
    }
    assert!(samples.contains("tiebeam_edge_requests_total{node=\"b\"}"));
}

#[test]
fn every_view_passes_a_strict_reader() {
    for view in (1..=20).map(fixtures::many).chain([fixtures::healthy(), fixtures::failover()]) {
        let text = text(view);
        strict(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    }
}

#[test]
fn the_strict_reader_is_strict() {
    for wrong in [
        "",
        "# EOF",
        "x 1\n# EOF\n",
        "# TYPE x counter\nx 1\n# EOF\n",
        "# TYPE x gauge\nx 1\nx 2\n# EOF\n",
        "# TYPE x gauge\nx{a=\"1\",a=\"2\"} 1\n# EOF\n",
        "# TYPE x gauge\nx{a=\"1} 1\n# EOF\n",
        "# TYPE x gauge\nx one\n# EOF\n",
        "# TYPE x gauge\n# UNIT x seconds\nx 1\n# EOF\n",
        "# TYPE x gauge\nx 1\n# TYPE x gauge\nx{a=\"1\"} 1\n# EOF\n",
        "# TYPE x gauge\n\nx 1\n# EOF\n",
        "# TYPE x gauge\nx 1\n# EOF\nx 2\n",
    ] {
        assert!(strict(wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(strict("# TYPE x_s gauge\n# UNIT x_s s\nx_s{a=\"\\\"\\n,}\"} 1.5\n# EOF\n"), Ok(()));
}

#[test]
fn a_pools_name_cannot_break_out_of_its_label() {
    let mut view = fixtures::healthy();
    let edge = view.nodes.get_mut(&fixtures::node("a")).unwrap().edge.as_mut().unwrap();
    edge.pools[0].name = "w\"} 1\n# EOF\n\\".into();
    strict(&text(view)).unwrap();
}

/// What OpenMetrics 1.0.0 demands of a text, as far as counters and gauges go: one block a family, its TYPE first,
/// names and units that belong together, label sets once, `# EOF` at the very end.
fn strict(text: &str) -> Result<(), String> {
    let body = text.strip_suffix("# EOF\n").ok_or("does not end in # EOF")?;
    let mut kinds = BTreeMap::<&str, &str>::new();
    let mut seen = BTreeSet::<String>::new();
    let mut family = "";
    for line in body.lines() {
        let fault = |what: &str| Err(format!("{what}: {line:?}"));
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (verb, name, value) = (words.next(), words.next().unwrap_or(""), words.next().unwrap_or(""));
            if name != family && kinds.contains_key(name) {
                return fault("a family comes back");
            }
            family = name;
            match verb {
                Some("TYPE") if kinds.contains_key(name) => return fault("two types"),
                Some("TYPE") => _ = kinds.insert(name, value),
                Some("UNIT") if !name.ends_with(&format!("_{value}")) => {
                    return fault("unit is not in the name");
                }
                Some("UNIT" | "HELP") => {}
                _ => return fault("unknown comment"),
            }
            continue;
        }
        let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').ok_or("no value")?;
        let (name, mut rest) = line.split_at(end);
        match kinds.get(family) {
            Some(&"gauge") if name == family => {}
            Some(&"counter") if name.strip_suffix("_total") == Some(family) => {}
            Some(&"histogram") if is_of_histogram(name, family) => {}
            _ => return fault("a sample outside its family"),
        }
        let mut labels = BTreeMap::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = read_labels(inside, &mut labels).ok_or_else(|| format!("bad labels: {line:?}"))?;
        }
        let value: f64 = match rest.strip_prefix(' ').map(str::parse) {
            Some(Ok(value)) => value,
            _ => return fault("no number"),
        };
        if !value.is_finite() || value < 0.0 {
            return fault("not a number of ours");
        }
        if !seen.insert(format!("{name}{labels:?}")) {
            return fault("twice the same sample");
        }
    }
    Ok(())
}

fn is_of_histogram(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest))
}

fn read_labels<'a>(mut rest: &'a str, labels: &mut BTreeMap<&'a str, String>) -> Option<&'a str> {
    loop {
        let (key, after) = rest.split_once("=\"")?;
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    _ => return None,
                }),
                (i, '"') => break i + 1,
                (_, c) => value.push(c),
            }
        };
        if labels.insert(key, value).is_some() {
            return None;
        }
        rest = &after[end..];
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
        }
        rest = rest.strip_prefix(',')?;
    }
}
