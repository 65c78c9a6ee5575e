//! From the text of `tiebeam.toml` to a [`Cluster`], or to everything that is wrong with it.
//!
//! `keys` lists every key of the file; `reader` and `sections` read them one by one; `check` and `listeners` hold the
//! rules across sections; `build` makes the checked value. Nothing here opens a file or a socket.

mod build;
mod check;
mod check_database;
mod check_pool;
mod check_site;
mod keys;
mod kind;
mod listeners;
mod notes;
mod reader;
mod sections;
mod sections_site;
mod settings;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_notes;
#[cfg(test)]
mod tests_right;
#[cfg(test)]
mod tests_schema;
#[cfg(test)]
mod tests_site;

pub(crate) use keys::FILE;
pub(crate) use reader::{Need, Section};

use toml::de::DeTable;

use crate::problem::Findings;
use crate::{Cluster, Problems};

/// A larger text is refused unread: nobody wrote it by hand.
pub const FILE_MAX_BYTES: usize = 1 << 20;
/// Dots on one line, outside of which no hand-written key goes: each may be one more table within a table.
const LINE_DOTS_MAX: usize = 1000;

impl Cluster {
    /// Reads and checks a whole file. `source_name` is only shown; `text` is at most [`FILE_MAX_BYTES`] long.
    ///
    /// # Errors
    /// All problems of the file at once, in its order; of a text that is not TOML only those of its syntax.
    pub fn parse(source_name: &str, text: &str) -> Result<Cluster, Problems> {
        if let Some(problem) = too_much(text) {
            let findings = Findings::new("");
            findings.add_whole(problem, "write by hand what this cluster is: names, addresses, roles");
            return Err(findings.into_problems(source_name));
        }
        let findings = Findings::new(text);
        let (document, syntax_errors) = DeTable::parse_recoverable(text);
        let mut broken = false;
        for error in &syntax_errors {
            let span = error.span().unwrap_or(0..0);
            if error.message() == "duplicate key" {
                let name = text.get(span.clone()).unwrap_or_default();
                findings.add(
                    span,
                    format!("`{}` is written twice", crate::problem::quoted(name)),
                    "keep one of them: a name has one value in its section, and each section is written once",
                );
            } else if !broken {
                broken = true;
                findings.add(span, format!("this is not TOML: {}", error.message()), TOML_HELP);
            }
        }
        // What a parser guesses after broken syntax would be reported as mistakes that nobody made.
        if broken {
            return Err(findings.into_problems(source_name));
        }
        let file = sections::read(document.get_ref(), &findings);
        check::rules(&file, &findings);
        if findings.count() > 0 {
            return Err(findings.into_problems(source_name));
        }
        build::cluster(file, &findings).ok_or_else(|| findings.into_problems(source_name))
    }
}

const TOML_HELP: &str =
    "a section is `[name]` or `[kind.name]`; a key is `name = value`; text stands in \"quotes\"";

fn too_much(text: &str) -> Option<String> {
    if text.len() > FILE_MAX_BYTES {
        return Some(format!("the file has {} bytes; at most {FILE_MAX_BYTES} are read", text.len()));
    }
    let deep = text.lines().any(|line| line.bytes().filter(|b| *b == b'.').count() > LINE_DOTS_MAX);
    deep.then(|| format!("a line has more than {LINE_DOTS_MAX} dots"))
}
