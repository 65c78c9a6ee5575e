//! The size and the head of a Rust file.

use super::{Finding, is_test};

/// A file that is longer has two subjects.
const LINES_MAX: usize = 500;
/// Tables and goldens are read one by one, so a file of tests may be longer.
const TEST_LINES_MAX: usize = 700;

pub fn check(path: &str, text: &str) -> Vec<Finding> {
    if !path.ends_with(".rs") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let max = if is_test(path) { TEST_LINES_MAX } else { LINES_MAX };
    let lines = text.lines().count();
    if lines > max {
        findings.push(Finding::new(
            path,
            max + 1,
            format!("{lines} lines are more than {max}"),
            "one file for each subject, with the tests in tests.rs beside it",
        ));
    }
    let head = text.lines().next().unwrap_or_default();
    if head.trim_start_matches("//!").trim().is_empty() || !head.starts_with("//!") {
        findings.push(Finding::new(
            path,
            1,
            "the file does not say what it is for",
            "`//!` on the first line: what it does, what it never does, who calls it",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_a_head_and_an_end() {
        let long = |lines: usize| format!("//! Header.\n{}", "x\n".repeat(lines - 1));
        assert!(check("a/b.rs", &long(LINES_MAX)).is_empty());
        assert_eq!(check("a/b.rs", &long(LINES_MAX + 1))[0].line, LINES_MAX + 1);
        assert!(check("a/tests.rs", &long(TEST_LINES_MAX)).is_empty());
        assert!(check("a/tests/b.rs", &long(TEST_LINES_MAX)).is_empty());
        assert_eq!(check("a/tests.rs", &long(TEST_LINES_MAX + 1)).len(), 1);
        for head in ["", "fn main() {}\n", "//!\n//! Late.\n", "// Not it.\n", "//// Nor this.\n"] {
            assert_eq!(check("a/b.rs", head).len(), 1, "{head:?}");
        }
        assert!(check("a/b.md", "").is_empty());
    }
}
