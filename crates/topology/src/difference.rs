//! What changes between two files, key by key, and which of it a running node can take.
//!
//! It compares what was checked, not what was written: a default that is written out is no change. Pure; the node and the
//! verbs `plan` and `apply` call it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Cluster;

/// Characters of a value that are shown.
const SHOWN_CHARS: usize = 72;

/// One key of the file that is another one now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// As in the file: `pool.web.servers`, `edge.limits.connections`.
    pub key: String,
    /// As JSON, cut if it is long; `None`: it was not there.
    pub from: Option<String>,
    /// The same of the new file; `None`: it is gone.
    pub to: Option<String>,
    pub takes: Takes,
}

/// How a change reaches a running node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takes {
    /// While it runs, without a request that fails.
    AtOnce,
    /// Only when it starts.
    Restart,
}

/// What an edge takes while it runs; everything else is read once.
const AT_ONCE: &[&str] = &["sites", "pools", "edge"];
/// But not of it what it was built with.
const ONCE: &[&str] = &["edge.mode", "edge.workers"];

impl Cluster {
    /// What is different in `new`, in the order of the keys; empty if it means the same.
    pub fn difference(&self, new: &Cluster) -> Vec<Change> {
        let mut changes = Vec::new();
        compare("", &value(self), &value(new), &mut changes);
        changes
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{}: {from} -> {to}", self.key),
            (None, Some(to)) => write!(f, "{}: new, {to}", self.key),
            (Some(from), None) => write!(f, "{}: gone, was {from}", self.key),
            (None, None) => f.write_str(&self.key),
        }
    }
}

/// Without the notes, which are about the text.
fn value(cluster: &Cluster) -> Value {
    // Maps of it have names as keys, and its numbers are finite: all of it can be written as JSON.
    let mut value = serde_json::to_value(cluster).unwrap_or_default();
    if let Value::Object(members) = &mut value {
        members.remove("notes");
    }
    value
}

fn compare(path: &str, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    if old == new {
        return;
    }
    let (by_path, new_by_path) = (routes(old), routes(new));
    let (old, new) = (by_path.as_ref().unwrap_or(old), new_by_path.as_ref().unwrap_or(new));
    match (old, new) {
        (Value::Object(a), Value::Object(b))
            if !is_leaf(old) && !is_leaf(new) && is_same_kind(path, a, b) =>
        {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{}", quoted(name)) };
                let of = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or(Value::Null);
                compare(&below, &of(a), &of(b), changes);
            }
        }
        _ => changes.push(Change {
            key: as_written(path),
            from: shown(old),
            to: shown(new),
            takes: takes(path),
        }),
    }
}

/// Of an enum, two objects with other keys are two variants and one change; of a map, they are entries.
fn is_same_kind(path: &str, a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    !path.contains('.') || a.keys().eq(b.keys()) || a.keys().chain(b.keys()).count() > 2
}

/// A list of routes as a map: their order follows from their paths.
fn routes(value: &Value) -> Option<Value> {
    let items = value.as_array().filter(|items| !items.is_empty())?;
    let entries = items.iter().map(|item| Some((item.get("path")?.as_str()?.to_owned(), item.clone())));
    Some(Value::Object(entries.collect::<Option<_>>()?))
}

/// A duration is one value.
fn is_leaf(value: &Value) -> bool {
    value.get("secs").is_some() && value.get("nanos").is_some()
}

fn takes(path: &str) -> Takes {
    let is_under =
        |key: &str| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let is_at_once = AT_ONCE.iter().any(|key| is_under(key)) && !ONCE.iter().any(|key| is_under(key));
    if is_at_once { Takes::AtOnce } else { Takes::Restart }
}

fn quoted(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.chars().all(is_bare) { name.to_owned() } else { format!("\"{name}\"") }
}

/// The words of the file for those of the model.
fn as_written(path: &str) -> String {
    const SECTIONS: &[(&str, &str)] =
        &[("nodes", "node"), ("sites", "site"), ("pools", "pool"), ("apps", "app")];
    let mut key = path.to_owned();
    for (model, file) in SECTIONS {
        if let Some(rest) = path.strip_prefix(model).filter(|rest| rest.is_empty() || rest.starts_with('.')) {
            key = format!("{file}{rest}");
        }
    }
    let key = key.replace(".https.files.", ".https.").replace(".members.", ".").replace(".managed.", ".");
    let key = key.replace(".to.", ".");
    if key == "name" { "cluster.name".to_owned() } else { key }
}

fn shown(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        _ if is_leaf(value) => duration(value),
        _ => readable(value).to_string(),
    };
    let cut = text.char_indices().nth(SHOWN_CHARS).map(|(at, _)| format!("{}...", &text[..at]));
    Some(cut.unwrap_or(text))
}

/// The same with durations as in the file and without what is not set.
fn readable(value: &Value) -> Value {
    match value {
        _ if is_leaf(value) => Value::String(duration(value)),
        Value::Object(members) => {
            let members = members.iter().map(|(name, member)| (name.clone(), readable(member)));
            Value::Object(members.filter(|(_, member)| !is_nothing(member)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(readable).collect()),
        other => other.clone(),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn duration(value: &Value) -> String {
    let of = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or_default();
    let ms = of("secs") * 1000 + of("nanos") / 1_000_000;
    if ms % 1000 == 0 { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"
[node.a]
address = "10.0.0.1"
roles = ["edge"]
[edge]
http = 80
https = 443
[site."shop.example"]
https = "internal"
routes = [{ path = "/", pool = "web" }]
[pool.web]
servers = ["10.0.0.9:3000"]
"#;

    fn changes(old: &str, new: &str) -> Vec<String> {
        let parse = |text: &str| Cluster::parse("t.toml", text).unwrap();
        let changes = parse(old).difference(&parse(new));
        changes
            .iter()
            .map(|c| format!("{c}{}", if c.takes == Takes::Restart { " (restart)" } else { "" }))
            .collect()
    }

    #[test]
    fn each_change_by_its_key() {
        let health = "\nhealth = { path = \"/h\" }";
        for (from, to, said) in [
            ("http = 80", "http = 8080", "edge.http: 80 -> 8080"),
            ("http = 80", "http = 80\nworkers = 3", "edge.workers: new, 3 (restart)"),
            ("http = 80", "http = 80\naccess_log = \"off\"", "edge.access_log: \"json\" -> \"off\""),
            (
                "http = 80",
                "http = 80\naccess_log_sample = \"0.5%\"",
                "edge.access_log_sample: \"100%\" -> \"0.5%\"",
            ),
            (
                "[pool.web]",
                "[edge.limits]\nidle_time = \"1500ms\"\n[pool.web]",
                "edge.limits.idle_time: 60s -> 1500ms",
            ),
            (
                ":3000\"]",
                ":3000\", \"10.0.0.8:3000\"]",
                "pool.web.servers: [\"10.0.0.9:3000\"] -> [\"10.0.0.9:3000\",\"10.0.0.8:3000\"]",
            ),
            (":3000\"]", &format!(":3000\"]{health}"), "pool.web.health.path: new, \"/h\""),
            (
                "https = \"internal\"",
                "https = \"off\"",
                "site.\"shop.example\".https: \"internal\" -> \"off\"",
            ),
            ("10.0.0.1", "10.0.0.2", "node.a.address: \"10.0.0.1\" -> \"10.0.0.2\" (restart)"),
            ("[node.a]", "[cluster]\nname = \"x\"\n[node.a]", "cluster.name: \"tiebeam\" -> \"x\" (restart)"),
            (
                "[pool.web]",
                "[console]\nlisten = \"127.0.0.1:7480\"\n[pool.web]",
                "console: new, {\"at\":\"127.0.0.1:7480\"} (restart)",
            ),
            ("[edge]", "[ledger]\nport = 7401\n[edge]", "ledger.port: 7400 -> 7401 (restart)"),
        ] {
            assert_eq!(changes(BASE, &BASE.replacen(from, to, 1)), [said], "{from}");
        }
    }

    #[test]
    fn what_means_the_same_is_no_change() {
        assert_eq!(changes(BASE, &BASE.replace("[edge]", "[edge]\naccess_log = \"json\"\n# words")), [""; 0]);
    }

    #[test]
    fn what_comes_and_goes_is_one_change_each() {
        let new = BASE.replace("[pool.web]", "[pool.api]").replace("pool = \"web\"", "pool = \"api\"");
        let said = changes(BASE, &new);
        assert_eq!(said.len(), 3, "{said:#?}");
        assert!(said[0].starts_with("pool.api: new, {\"") && said[0].ends_with("..."), "{said:#?}");
        assert!(said[1].starts_with("pool.web: gone, was {"), "{said:#?}");
        assert_eq!(said[2], "site.\"shop.example\".routes.\"/\".pool: \"web\" -> \"api\"");
        let more = BASE.replace("}]", "}, { path = \"/a/\", files = \"public\" }]");
        assert_eq!(
            changes(BASE, &more),
            ["site.\"shop.example\".routes.\"/a/\": new, {\"path\":\"/a/\",\"to\":{\"files\":\"public\"}}"]
        );
    }
}
