//! In a plan and in `balance`, time, chance and the world are parameters: there, none of their sources is reachable.

use super::{Finding, code, has_path, names_the_rules, numbered};

/// What is banned, and what takes its place.
const BANS: &[(&str, &str)] = &[
    ("Moment::now", "take `now: Moment` as a parameter"),
    ("Instant::now", "take `now: Moment` as a parameter"),
    ("SystemTime::now", "take the time as a parameter"),
    ("Timestamp::now", "take the time as a parameter"),
    (".elapsed(", "take `now: Moment` as a parameter, and `since` of it"),
    ("rand::", "take the random number as a parameter"),
    ("std::env", "take the value as a parameter"),
    ("std::fs", "let observe.rs read, and act.rs write"),
    ("std::net::TcpStream", "let observe.rs ask, and act.rs connect"),
    ("std::net::TcpListener", "let observe.rs ask, and act.rs connect"),
    ("std::net::UdpSocket", "let observe.rs ask, and act.rs connect"),
    ("std::process", "let act.rs start and stop processes"),
    ("tokio::", "a plan is a plain function: let its caller wait"),
    ("thread::sleep", "return when to look again"),
];

/// Their order differs from run to run, and with it the plan.
const UNORDERED: &[(&str, &str)] = &[("HashMap", "BTreeMap"), ("HashSet", "BTreeSet")];

pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let plan = path.ends_with("/plan.rs") || (path.contains("/plan/") && path.ends_with(".rs"));
    let pure = plan || (path.starts_with("crates/balance/src/") && path.ends_with(".rs"));
    if !pure || names_the_rules(path) {
        return Vec::new();
    }
    let lines = numbered(text).map(|(number, line)| (number, code(line).to_owned()));
    let mut findings = Vec::new();
    for (number, line) in lines.chain(imports(text)) {
        let unordered = UNORDERED.iter().filter(|_| plan);
        for (banned, instead) in BANS.iter().chain(unordered).filter(|(banned, _)| reaches(&line, banned)) {
            let what = format!("`{banned}` where all is decided from values");
            let finding = Finding::new(path, number, what, *instead);
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings
}

/// A method is called on something, so what stands before its dot does not matter.
fn reaches(line: &str, banned: &str) -> bool {
    if banned.starts_with('.') { line.contains(banned) } else { has_path(line, banned) }
}

/// Every `use` written out: `use std::{fs, net::{IpAddr, TcpStream}};` is `std::fs`, `std::net::IpAddr` and
/// `std::net::TcpStream`, each with the line of its last word.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<Vec<String>> = None;
    let mut word = String::new();
    for (number, line) in numbered(text) {
        let mut rest = code(line);
        if open.is_none() {
            let start = rest.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            let Some(path) = start.strip_prefix("use ") else { continue };
            (open, rest) = (Some(Vec::new()), path);
        }
        for c in rest.chars() {
            let Some(outer) = &mut open else { break };
            match c {
                '{' => outer.push(std::mem::take(&mut word).trim().to_owned()),
                ',' | '}' | ';' => {
                    let name = word.split(" as ").next().unwrap_or_default().trim().to_owned();
                    word.clear();
                    if !name.is_empty() {
                        found.push((number, outer.concat() + &name));
                    }
                    match c {
                        '}' => _ = outer.pop(),
                        ';' => open = None,
                        _ => {}
                    }
                }
                c => word.push(c),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_and_balance_reach_no_clock_chance_or_world() {
        let lines = [
            "let t = Instant::now();",
            "if begun.elapsed() > wait {",
            "use std::fs;",
            "use std::{fs, fmt};",
            "pub use std::{fmt, env as e};",
            "use std::net::TcpStream;",
            "use std::net::{IpAddr, UdpSocket};",
            "use std::{fmt, net::{IpAddr, TcpListener}};",
            "let n: u8 = rand::random();",
            "tokio::spawn(x);",
        ];
        for line in lines {
            let text = format!("//! Header.\n{line}\n");
            for path in
                ["crates/apps/src/plan.rs", "crates/apps/src/plan/roll.rs", "crates/balance/src/health.rs"]
            {
                let findings = check(path, &text);
                assert_eq!(findings.len(), 1, "{path} {line}");
                assert_eq!(findings[0].line, 2);
            }
            assert!(check("crates/apps/src/act.rs", &text).is_empty());
        }
    }

    #[test]
    fn words_that_only_look_alike_are_fine() {
        for line in [
            "// never Instant::now()",
            "operand::x()",
            "std::future::ready(())",
            "let my_tokio = 1;",
            "let elapsed = now.since(begun);",
            "use std::{fmt, net::{IpAddr, SocketAddr}};",
            "use other::{fs, env};",
        ] {
            assert!(check("crates/apps/src/plan.rs", line).is_empty(), "{line}");
        }
    }

    #[test]
    fn imports_are_written_out_over_lines() {
        let text = "use std::{\n    fmt, // fs\n    net::{\n        IpAddr,\n        TcpStream as S,\n    },\n    env,\n};\nlet x = 1;\nuse a::b;\n";
        let found: Vec<String> =
            imports(text).into_iter().map(|(line, path)| format!("{line} {path}")).collect();
        assert_eq!(
            found,
            ["2 std::fmt", "4 std::net::IpAddr", "5 std::net::TcpStream", "7 std::env", "10 a::b"]
        );
        let told = check("crates/apps/src/plan.rs", text);
        assert_eq!(told.iter().map(|f| f.line).collect::<Vec<_>>(), [5, 7]);
    }

    #[test]
    fn plans_keep_order() {
        let findings = check("crates/apps/src/plan.rs", "use std::collections::HashMap;\n");
        assert_eq!(findings[0].instead, "BTreeMap");
        assert!(check("crates/balance/src/lib.rs", "use std::collections::HashMap;\n").is_empty());
    }
}
