//! In a plan and in `balance`, time, chance and the world are parameters: there, none of their sources is reachable.

use super::{Finding, code, has_path, names_the_rules, numbered};

/// What is banned, and what takes its place.
const BANS: &[(&str, &str)] = &[
    ("Moment::now", "take `now: Moment` as a parameter"),
    ("Instant::now", "take `now: Moment` as a parameter"),
    ("SystemTime::now", "take the time as a parameter"),
    ("Timestamp::now", "take the time as a parameter"),
    ("rand::", "take the random number as a parameter"),
    ("std::env", "take the value as a parameter"),
    ("std::fs", "let observe.rs read, and act.rs write"),
    ("std::net::Tcp", "let observe.rs ask, and act.rs connect"),
    ("std::net::Udp", "let observe.rs ask, and act.rs connect"),
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
    let mut findings = Vec::new();
    for (number, line) in numbered(text) {
        let line = code(line);
        let unordered = UNORDERED.iter().filter(|_| plan);
        for (banned, instead) in BANS.iter().chain(unordered).filter(|(banned, _)| has_path(line, banned)) {
            findings.push(Finding::new(
                path,
                number,
                format!("`{banned}` where all is decided from values"),
                *instead,
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_and_balance_reach_no_clock_chance_or_world() {
        let lines =
            ["let t = Instant::now();", "use std::fs;", "let n: u8 = rand::random();", "tokio::spawn(x);"];
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
        for line in ["// never Instant::now()", "operand::x()", "std::future::ready(())", "let my_tokio = 1;"]
        {
            assert!(check("crates/apps/src/plan.rs", line).is_empty(), "{line}");
        }
    }

    #[test]
    fn plans_keep_order() {
        let findings = check("crates/apps/src/plan.rs", "use std::collections::HashMap;\n");
        assert_eq!(findings[0].instead, "BTreeMap");
        assert!(check("crates/balance/src/lib.rs", "use std::collections::HashMap;\n").is_empty());
    }
}
