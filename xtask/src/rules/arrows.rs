//! Which room may use which (the table of ARCHITECTURE.md), and that each room takes the workspace's lints.

use toml::Table;

use super::{Finding, numbered};

/// A room and those that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("console", &["incident", "topology", "watch"]),
    ("incident", &["topology"]),
    ("watch", &["topology"]),
    ("edge", &["balance", "topology"]),
    ("sql", &["balance", "topology"]),
    ("postgres", &["ledger", "topology"]),
    ("apps", &["ledger", "topology"]),
    ("network", &["ledger", "topology"]),
    ("certs", &["ledger", "topology"]),
    ("shield", &["ledger", "topology"]),
    ("ledger", &["topology"]),
    ("balance", &[]),
    ("topology", &[]),
];

/// The room that wires all others together, and the one that only tests them.
const BINARY: &str = "tiebeam";
const LAB: &str = "lab";

pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let room = path.strip_prefix("crates/").and_then(|rest| rest.strip_suffix("/Cargo.toml"));
    let Some(room) = room.filter(|room| !room.contains('/')) else { return Vec::new() };
    let manifest: Table = match toml::from_str(text) {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::new(path, 1, format!("not a manifest: {error}"), "valid TOML")],
    };
    let mut findings = name(path, text, room, &manifest);
    if manifest.get("lints").and_then(|lints| lints.get("workspace")?.as_bool()) != Some(true) {
        findings.push(Finding::new(
            path,
            1,
            "the lints of the workspace do not hold here",
            "[lints] workspace = true",
        ));
    }
    for (section, used) in dependencies(&manifest) {
        let development = section == "dev-dependencies";
        if !allowed(room, &used, development) {
            let package = if used == BINARY { BINARY.to_owned() } else { format!("tiebeam-{used}") };
            let line = line_of_dependency(text, &package);
            findings.push(Finding::new(path, line, format!("`{room}` may not use `{used}`"), advice(room)));
        }
    }
    findings
}

/// A room's package has the name of its folder, so that its arrows can be read from manifests.
fn name(path: &str, text: &str, room: &str, manifest: &Table) -> Vec<Finding> {
    let expected = if room == BINARY { BINARY.to_owned() } else { format!("tiebeam-{room}") };
    let found = manifest.get("package").and_then(|package| package.get("name")?.as_str());
    let mut findings = Vec::new();
    if found != Some(&expected) {
        let line = line_of(text, "name");
        findings.push(Finding::new(
            path,
            line,
            "the package is not called as its folder",
            format!("name = \"{expected}\""),
        ));
    }
    if room != BINARY && room != LAB && !ARROWS.iter().any(|(known, _)| *known == room) {
        findings.push(Finding::new(
            path,
            1,
            format!("there is no room `{room}`"),
            "one of the table, or a new row there",
        ));
    }
    findings
}

/// The rooms that a manifest names, each with the kind of section: also those for single targets.
fn dependencies(manifest: &Table) -> Vec<(String, String)> {
    const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets =
        manifest.get("target").and_then(|targets| targets.as_table()).into_iter().flat_map(Table::values);
    let tables = std::iter::once(manifest).chain(targets.filter_map(|target| target.as_table()));
    let mut found = Vec::new();
    for table in tables {
        for section in SECTIONS {
            for (key, value) in
                table.get(section).and_then(|section| section.as_table()).into_iter().flatten()
            {
                let package = value.get("package").and_then(|package| package.as_str()).unwrap_or(key);
                if package == BINARY {
                    found.push((section.to_owned(), BINARY.to_owned()));
                } else if let Some(room) = package.strip_prefix("tiebeam-") {
                    found.push((section.to_owned(), room.to_owned()));
                }
            }
        }
    }
    found
}

fn allowed(room: &str, used: &str, development: bool) -> bool {
    match room {
        LAB => true,
        _ if used == LAB => development,
        BINARY => true,
        _ => ARROWS.iter().any(|(from, to)| *from == room && to.contains(&used)),
    }
}

fn advice(room: &str) -> String {
    let to = ARROWS.iter().find(|(from, _)| *from == room).map_or(&[][..], |(_, to)| *to);
    match to {
        [] => "nothing of the workspace: let `tiebeam` pass in what it needs as plain values".to_owned(),
        some => format!("{}; `tiebeam` wires rooms together with snapshots and channels", some.join(", ")),
    }
}

fn line_of_dependency(text: &str, package: &str) -> usize {
    let names = |line: &str| {
        let key =
            line.trim_start().strip_prefix(package).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
        key || line.contains(&format!("package = \"{package}\""))
    };
    numbered(text).find(|(_, line)| names(line)).map_or(1, |(number, _)| number)
}

fn line_of(text: &str, word: &str) -> usize {
    numbered(text).find(|(_, line)| line.contains(word)).map_or(1, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}")
    }

    fn said(room: &str, rest: &str) -> Vec<String> {
        let name = if room == BINARY { room.to_owned() } else { format!("tiebeam-{room}") };
        let findings = check(&format!("crates/{room}/Cargo.toml"), &manifest(&name, rest));
        findings.iter().map(|f| format!("{} {}", f.line, f.what)).collect()
    }

    #[test]
    fn arrows_point_down_only() {
        let none: Vec<String> = Vec::new();
        assert_eq!(said("edge", "[dependencies]\ntiebeam-balance.workspace = true\ntokio = \"1\"\n"), none);
        assert_eq!(said("tiebeam", "[dependencies]\ntiebeam-edge.workspace = true\n"), none);
        assert_eq!(said("lab", "[dependencies]\ntiebeam = \"1\"\ntiebeam-edge = \"1\"\n"), none);
        assert_eq!(said("edge", "[dev-dependencies]\ntiebeam-lab = \"1\"\n"), none);
        let wrong = [
            ("edge", "[dependencies]\ntiebeam-ledger.workspace = true\n", "6 `edge` may not use `ledger`"),
            ("edge", "[dependencies]\ntiebeam-lab.workspace = true\n", "6 `edge` may not use `lab`"),
            ("tiebeam", "[dependencies]\ntiebeam-lab.workspace = true\n", "6 `tiebeam` may not use `lab`"),
            ("ledger", "[dev-dependencies]\ntiebeam-edge = \"1\"\n", "6 `ledger` may not use `edge`"),
            ("topology", "[build-dependencies]\ntiebeam = \"1\"\n", "6 `topology` may not use `tiebeam`"),
            (
                "sql",
                "[target.'cfg(unix)'.dependencies]\ntiebeam-postgres = \"1\"\n",
                "6 `sql` may not use `postgres`",
            ),
            (
                "sql",
                "[dependencies]\np = { package = \"tiebeam-postgres\" }\n",
                "6 `sql` may not use `postgres`",
            ),
        ];
        for (room, rest, expected) in wrong {
            assert_eq!(said(room, rest), [expected]);
        }
    }

    #[test]
    fn a_room_is_named_linted_and_known() {
        let findings = check("crates/attic/Cargo.toml", "[package]\nname = \"attic\"\n");
        let said: Vec<&str> = findings.iter().map(|f| f.what.as_str()).collect();
        assert_eq!(
            said,
            [
                "the package is not called as its folder",
                "there is no room `attic`",
                "the lints of the workspace do not hold here"
            ]
        );
        assert!(check("Cargo.toml", "[workspace]").is_empty());
    }
}
