//! Links from one file of the repository to another must lead somewhere.

use super::{Finding, numbered};

/// `exists` is asked with a path from the root of the repository.
pub fn check(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    if !path.ends_with(".md") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (line, target) in links(text) {
        let file = target.split(['#', '?']).next().unwrap_or_default().replace("%20", " ");
        let elsewhere = target.contains("://") || target.starts_with("mailto:") || file.is_empty();
        if elsewhere {
            continue;
        }
        let found = resolve(path, &file).is_some_and(|from_root| exists(&from_root));
        if !found {
            let what = format!("the link leads nowhere: {target}");
            findings.push(Finding::new(path, line, what, "the path of a file, from this file's folder"));
        }
    }
    findings
}

/// The targets of `[text](target)` and `[name]: target`, outside of code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut fence = None;
    for (number, line) in numbered(text) {
        let start = line.trim_start();
        let marker = ["```", "~~~"].into_iter().find(|marker| start.starts_with(marker));
        match (fence, marker) {
            (None, Some(opened)) => fence = Some(opened),
            (Some(opened), Some(closed)) if opened == closed => fence = None,
            (None, None) => links.extend(of_line(line).into_iter().map(|target| (number, target))),
            _ => {}
        }
    }
    links
}

fn of_line(line: &str) -> Vec<String> {
    // Every second part stands between backticks: code, where a link is only shown.
    let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
    let mut targets = Vec::new();
    let mut rest = prose.as_str();
    while let Some((_, after)) = rest.split_once("](") {
        let Some(end) = after.find(')') else { break };
        targets.extend(after[..end].split_whitespace().next().map(str::to_owned));
        rest = &after[end..];
    }
    let definition = prose.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    targets.extend(definition.and_then(|(_, target)| target.split_whitespace().next()).map(str::to_owned));
    targets.into_iter().map(|target| target.trim_matches(['<', '>']).to_owned()).collect()
}

/// A target as a path from the root; nothing when it leaves the repository.
fn resolve(path: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        parts.clear();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(text: &str) -> Vec<String> {
        let known = ["docs/a.md", "README.md", "docs", "docs/with space.md"];
        check("docs/b.md", text, |path| known.contains(&path))
            .iter()
            .map(|f| format!("{} {}", f.line, f.what))
            .collect()
    }

    #[test]
    fn links_lead_somewhere() {
        let fine = "[a](a.md) [r](../README.md#top) [s](#here) [w](https://x.example/y.md) [m](mailto:a@b)\n\
            [d](./) [q](with%20space.md \"title\") [root](/README.md)\n`[code](gone.md)`\n```\n[code](gone.md)\n```\n[n]: a.md\n";
        assert_eq!(dead(fine), Vec::<String>::new());
        assert_eq!(dead("x\n[a](gone.md) and [b](../gone.md#x)\n").len(), 2);
        assert_eq!(dead("[n]: gone.md\n"), ["1 the link leads nowhere: gone.md"]);
        assert_eq!(dead("[out](../../etc)\n").len(), 1);
        assert_eq!(dead("```\n```\n[after](gone.md)\n").len(), 1);
    }

    #[test]
    fn only_markdown_has_links() {
        assert!(check("a.rs", "[a](gone)", |_| false).is_empty());
    }
}
