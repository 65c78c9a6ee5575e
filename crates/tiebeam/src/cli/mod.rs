//! The verbs. Each file is one of them: its arguments and what it prints; the work is done in the rooms, `node/` and
//! `demo/`.

mod apply;
mod ask;
mod check;
mod demo;
pub mod demo_app;
mod explain;
mod guard;
pub mod init;
mod node;
pub mod ports;
mod schema;
mod status;
mod upgrade;
mod why;

use std::ffi::OsStr;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tiebeam_topology::Cluster;

#[derive(Parser)]
#[command(name = "tiebeam", version, about, max_term_width = 100, arg_required_else_help = true)]
/// A whole web infrastructure without a single point of failure, in one binary and one file.
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the whole infrastructure on this machine, watch it, and kill parts of it
    Demo(demo::Arguments),
    /// Say whether a file is right, and if not, where and why
    Check(check::Arguments),
    /// Run this server's part of the cluster
    Node(node::Arguments),
    /// Make the cluster's own certificate authority and a certificate for each node
    Init(init::Arguments),
    /// What another file would change on the node of this machine, while it runs or not
    Plan(apply::Arguments),
    /// Let the node of this machine take its file anew, without a request that fails
    Apply(apply::Arguments),
    /// Replace the running node of this machine by a new process of its binary, without a connection that is refused
    Upgrade(upgrade::Arguments),
    /// How the cluster is, on one screen
    Status(status::Arguments),
    /// What became of a request, step by step, and why
    Why(why::Arguments),
    /// What a thing is, what this cluster does with it now, and what happens when a node dies
    Explain(explain::Arguments),
    /// Print the JSON Schema of tiebeam.toml
    Schema,
    /// The sample application that the demo runs: a guest book
    #[command(hide = true)]
    DemoApp,
}

/// A failure whose exit code says more than "it failed": the user can mend it by other words or another file.
#[derive(Debug)]
pub struct WrongUse(pub String);

impl fmt::Display for WrongUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUse {}

pub fn main() -> ExitCode {
    // The guard takes its own few words and must not pull in the rest: it is small and never allocates once it runs.
    let mut words = std::env::args_os().skip(1);
    if words.next().as_deref() == Some(OsStr::new("guard")) {
        return guard::run(words);
    }
    let done = match Arguments::parse().verb {
        Verb::Demo(a) => demo::run(a),
        Verb::Check(a) => check::run(a),
        Verb::Node(a) => node::run(a),
        Verb::Init(a) => init::run(a),
        Verb::Plan(a) => apply::plan(a),
        Verb::Apply(a) => apply::apply(a),
        Verb::Upgrade(a) => upgrade::run(a),
        Verb::Status(a) => status::run(a),
        Verb::Why(a) => why::run(a),
        Verb::Explain(a) => explain::run(a),
        Verb::Schema => schema::run(),
        Verb::DemoApp => demo_app::run(),
    };
    done.unwrap_or_else(|error| {
        complain(whole(&error));
        ExitCode::from(if error.downcast_ref::<WrongUse>().is_some() { 2 } else { 1 })
    })
}

/// An error with its causes, each once: many rooms name the cause in their own message already.
pub fn whole(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Talk for people, on stderr.
pub fn complain(text: impl fmt::Display) {
    let mut err = std::io::stderr().lock();
    let red = if err.is_terminal() { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
    // A closed stderr is nobody's fault, and there is no one left to tell.
    let _ = writeln!(err, "{}error:{} {text}", red.0, red.1);
}

/// More talk for people, on stderr.
pub fn talk(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Data for people or machines, on stdout. A closed pipe (`| head`) is not an error.
pub fn say(text: impl fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Reads and checks a configuration file; what is wrong with it is a [`WrongUse`].
pub fn load(path: &Path) -> anyhow::Result<Cluster> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| WrongUse(format!("{} cannot be read: {e}", path.display())))?;
    // The first of the problems begins with the same word as every complaint.
    let wrong = |p: tiebeam_topology::Problems| {
        let text = p.to_string();
        WrongUse(text.strip_prefix("error: ").unwrap_or(&text).to_owned())
    };
    let mut cluster = Cluster::parse(&path.display().to_string(), &text).map_err(wrong)?;
    let path = std::path::absolute(path)?;
    cluster.rooted(path.parent().unwrap_or(Path::new("/")));
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("x cannot be written: {source}")]
    struct Named {
        source: io::Error,
    }

    #[test]
    fn a_cause_is_said_once() {
        let named = || Named { source: io::Error::other("the disk is full") };
        let told = Err::<(), _>(named()).context("the authority").unwrap_err();
        assert_eq!(whole(&told), "the authority: x cannot be written: the disk is full");
        assert_eq!(whole(&anyhow::anyhow!("alone")), "alone");
    }

    #[test]
    fn a_wrong_file_is_an_error_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.toml");
        std::fs::write(&file, "[frobnicate]\n").unwrap();
        let error = load(&file).unwrap_err();
        assert!(error.downcast_ref::<WrongUse>().is_some());
        assert!(whole(&error).starts_with("unknown section `frobnicate`"), "{error}");
    }
}
