//! What of a node no handover can change: whose its folder is, and what a PostgreSQL that goes on was started with.
//!
//! The old process compares files as it reads them; the new one compares what it reads with what the old one tells, which a
//! version that the old one cannot read needs. Pure; `rest` and `takeover` call it.

use serde_json::{Value, json};
use tiebeam_topology::{Cluster, NodeName, Role};

/// As JSON, for a process of another version to compare with its own.
pub fn of(cluster: &Cluster, name: &NodeName) -> Value {
    let node = cluster.nodes.get(name);
    if !node.is_some_and(|node| node.roles.contains(&Role::Database)) {
        return json!({ "cluster.name": cluster.name });
    }
    let node_key = format!("node.{name}");
    json!({ "cluster.name": cluster.name, "database": cluster.database, node_key: node })
}

/// Why a process that read `new` cannot take over from one that runs `old`, if it cannot.
pub fn blocked(old: &Cluster, new: &Cluster, name: &NodeName) -> Option<String> {
    let settled = of(old, name);
    let is_settled = |key: &str| {
        let under = |head: &String| {
            key.strip_prefix(head.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        settled.as_object().is_some_and(|settled| settled.keys().any(under))
    };
    old.difference(new).into_iter().find(|change| is_settled(&change.key)).map(|change| words(&change.key))
}

/// The same by what either process said of itself; `same` if both are of one version. Otherwise a key that only one of
/// them knows says nothing.
pub fn differs(old: &Value, new: &Value, same: bool) -> Option<String> {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return None };
    let differ = |key: &&String| new.get(*key).is_some_and(|new| !is_equal(&old[*key], new, same));
    old.keys().find(differ).map(|key| words(key))
}

fn is_equal(old: &Value, new: &Value, same: bool) -> bool {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) if !same => {
            a.iter().all(|(key, value)| b.get(key).is_none_or(|new| is_equal(value, new, same)))
        }
        _ => old == new,
    }
}

fn words(key: &str) -> String {
    format!("{key} is another one, which only a start can take: restart the node for that")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[node.a]\naddress = \"127.0.0.1\"\nroles = [\"database\"]\n\
        [node.a2]\naddress = \"127.0.0.2\"\nroles = [\"database\"]\n[node.b]\naddress = \"127.0.0.3\"\n[database]\n";

    fn parsed(text: &str) -> Cluster {
        Cluster::parse("t", text).unwrap()
    }

    #[test]
    fn what_postgresql_was_started_with_stays() {
        let old = parsed(FILE);
        for (from, to, of_a, of_b) in [
            ("127.0.0.1", "127.0.0.9", Some("node.a"), None),
            // Another node whose name begins as this one's.
            ("127.0.0.2", "127.0.0.9", None, None),
            ("[database]\n", "[database]\nlease = \"4s\"\n", Some("database"), None),
            ("[node.a]", "[cluster]\nname = \"other\"\n[node.a]", Some("cluster.name"), Some("cluster.name")),
        ] {
            let new = parsed(&FILE.replacen(from, to, 1));
            for (name, expected) in [("a", of_a), ("b", of_b)] {
                let name: NodeName = name.parse().unwrap();
                let said = blocked(&old, &new, &name);
                assert_eq!(said.is_some(), expected.is_some(), "{to} {name} {said:?}");
                let told = differs(&of(&old, &name), &of(&new, &name), true);
                assert_eq!(told.is_some(), expected.is_some(), "{to} {name} {told:?}");
                let begins = |said: &String| expected.is_some_and(|key| said.starts_with(key));
                assert!(said.iter().chain(&told).all(begins), "{said:?} {told:?}");
            }
        }
    }

    #[test]
    fn a_key_that_only_one_version_knows_says_nothing() {
        let old = json!({ "cluster.name": "x", "database": { "managed": { "port": 1, "gone": true } } });
        let new =
            json!({ "cluster.name": "x", "database": { "managed": { "port": 1, "new": 5 } }, "more": 1 });
        assert_eq!(differs(&old, &new, false), None);
        assert!(differs(&old, &new, true).is_some());
        let other = json!({ "cluster.name": "x", "database": { "managed": { "port": 2 } } });
        assert!(differs(&old, &other, false).is_some_and(|why| why.starts_with("database is another one")));
        // Of a process that tells nothing.
        assert_eq!(differs(&Value::Null, &new, true), None);
    }
}
