//! Texts that may not stand in the repository: unfinished code, tests that hope, words with a better one, hosts.

use super::{Finding, code, is_test, names_the_rules, numbered};

/// In the code of any Rust file.
const CODE: &[(&str, &str)] = &[
    ("todo!(", "write it, or leave it out and say so in the documentation"),
    ("unimplemented!(", "write it, or make the type unable to reach it"),
    ("dbg!(", "tracing::debug!, or nothing"),
    ("#[ignore", "a test that always runs, or none"),
];

/// Only in tests; a helper in `tests/common/mod.rs` or the like may poll a process that tells nobody when it is ready.
const TEST_CODE: &[(&str, &str)] = &[(
    "thread::sleep",
    "wait for the event itself, with a deadline; a helper in tests/common/mod.rs may poll",
)];

/// As whole words, in any text and any case; a plural counts too.
const WORDS: &[(&str, &str)] = &[
    ("master", "primary"),
    ("slave", "replica"),
    ("whitelist", "allow list"),
    ("blacklist", "ban, deny list"),
    ("circuit", "serving, draining, ejected or probing, said of a server"),
];

/// Parts of the names of hosts that a build of this repository must not depend on by name.
const HOSTS: &[&str] =
    &["artifactory", "jfrog", "index.crates.io", "static.crates.io", "proxy.golang.org", "npmjs.org"];

pub fn check(path: &str, text: &str) -> Vec<Finding> {
    if names_the_rules(path) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let rust = path.ends_with(".rs");
    let mut test = is_test(path) && !(path.contains("/tests/") && path.ends_with("/mod.rs"));
    let mut after_test_attribute = false;
    for (number, line) in numbered(text) {
        test |= rust && after_test_attribute && code(line).trim_end().ends_with('{');
        after_test_attribute = line.trim_start().starts_with("#[cfg(test)]");
        if rust {
            let bans = CODE.iter().chain(TEST_CODE.iter().filter(|_| test));
            for (banned, instead) in bans.filter(|(banned, _)| code(line).contains(banned)) {
                findings.push(Finding::new(path, number, format!("`{banned}`"), *instead));
            }
        }
        let lower = line.to_ascii_lowercase();
        for (word, instead) in WORDS.iter().filter(|(word, _)| has_word(&lower, word)) {
            findings.push(Finding::new(path, number, format!("the word \"{word}\""), *instead));
        }
        for host in HOSTS.iter().filter(|host| lower.contains(*host)) {
            let what = format!("the name of a registry's host, \"{host}\"");
            findings.push(Finding::new(
                path,
                number,
                what,
                "the package's name alone: cargo knows where it is",
            ));
        }
    }
    findings
}

/// Whether a word, or its plural, stands between anything but letters: `is_master` has it, `postmaster` has not.
fn has_word(lower: &str, word: &str) -> bool {
    let letter = |c: char| c.is_alphabetic();
    lower.match_indices(word).any(|(at, _)| {
        let after = &lower[at + word.len()..];
        let after = after.strip_prefix('s').unwrap_or(after);
        !lower[..at].ends_with(letter) && !after.starts_with(letter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str, text: &str) -> Vec<String> {
        check(path, text).iter().map(|f| format!("{} {}", f.line, f.what)).collect()
    }

    #[test]
    fn unfinished_code_is_found() {
        let text = "fn a() {\n    todo!()\n}\n// todo!() here is only talk\n#[ignore = \"slow\"]\nfn b() { dbg!(1); unimplemented!() }\n";
        assert_eq!(said("a/b.rs", text), ["2 `todo!(`", "5 `#[ignore`", "6 `unimplemented!(`", "6 `dbg!(`"]);
        assert!(said("a/b.md", text).is_empty());
    }

    #[test]
    fn tests_do_not_hope() {
        let sleep = "std::thread::sleep(second);\n";
        assert!(said("a/b.rs", sleep).is_empty());
        assert!(said("a/tests/common/mod.rs", sleep).is_empty());
        assert_eq!(said("a/tests.rs", sleep).len(), 1);
        assert_eq!(
            said("a/b.rs", &format!("{sleep}#[cfg(test)]\nmod tests {{\n{sleep}}}\n")),
            ["4 `thread::sleep`"]
        );
        assert!(said("a/b.rs", &format!("#[cfg(test)]\nmod tests;\n{sleep}")).is_empty());
    }

    #[test]
    fn words_of_the_house() {
        for wrong in
            ["the Master", "let is_master = 1", "slaves", "a whitelist.", "Circuit open", "BLACKLIST_MAX"]
        {
            assert_eq!(said("a.md", wrong).len(), 1, "{wrong}");
        }
        for right in ["postmaster.pid", "mastery", "enslaved", "circuitous", "remastered"] {
            assert!(said("a.md", right).is_empty(), "{right}");
        }
    }

    #[test]
    fn hosts_of_registries() {
        assert_eq!(said("Cargo.lock", "x\nsource = \"sparse+https://INDEX.crates.io/\"\n").len(), 1);
        assert!(
            said("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"")
                .is_empty()
        );
        assert!(said("xtask/src/rules/words.rs", "index.crates.io").is_empty());
    }
}
