//! `cargo xtask tidy`: the rules of the house that the compiler does not know. `make lint` and CI call it.
//!
//! Reads the files of the repository and changes none. What is a rule stands in `rules`, as functions of text; here
//! is only the walk over the files.

mod rules;
mod walk;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use rules::Finding;

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments != ["tidy"] {
        writeln!(std::io::stderr(), "usage: cargo xtask tidy   checks the rules of the house in every file")?;
        return Ok(ExitCode::from(2));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a folder above it")?;
    let files = walk::files(root)?;
    let findings = tidy(root, &files);
    let mut out = std::io::stdout().lock();
    for finding in &findings {
        writeln!(out, "{finding}")?;
    }
    if findings.is_empty() {
        writeln!(out, "tidy: {} files, nothing to say", files.len())?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "tidy: {} finding(s) in {} files", findings.len(), files.len())?;
    Ok(ExitCode::FAILURE)
}

/// All findings, in the order of the files and their lines.
fn tidy(root: &Path, files: &[walk::File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        let (path, text) = (file.path.as_str(), file.text.as_str());
        findings.extend(rules::arrows::check(path, text));
        findings.extend(rules::clock::check(path, text));
        findings.extend(rules::shape::check(path, text));
        findings.extend(rules::words::check(path, text));
        findings.extend(rules::links::check(path, text, |target| root.join(target).exists()));
    }
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    findings
}
