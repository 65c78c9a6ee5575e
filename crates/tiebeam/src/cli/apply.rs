//! `tiebeam plan` and `tiebeam apply`: what another file would change on the node of this machine, and changing it while
//! it runs. Exit 0: done, or it could be; 1: the node cannot take it while it runs; 2: the file is wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use tiebeam_topology::{Change, Takes};

use super::WrongUse;
use crate::admin::{self, Ask, Outcome};

#[derive(clap::Args)]
pub struct Arguments {
    /// The new configuration file
    #[arg(default_value = "tiebeam.toml")]
    file: PathBuf,
    /// The folder of the running node
    #[arg(long, default_value = "/var/lib/tiebeam")]
    data: PathBuf,
    /// What changes as JSON
    #[arg(long)]
    json: bool,
}

pub fn plan(arguments: Arguments) -> anyhow::Result<ExitCode> {
    run(arguments, |file| Ask::Plan { file })
}

pub fn apply(arguments: Arguments) -> anyhow::Result<ExitCode> {
    run(arguments, |file| Ask::Apply { file })
}

fn run(arguments: Arguments, ask: impl Fn(PathBuf) -> Ask) -> anyhow::Result<ExitCode> {
    // What is wrong with it is shown here, with colours and all; the node would say the same.
    super::load(&arguments.file)?;
    let ask = ask(std::path::absolute(&arguments.file)?);
    let outcome: Outcome = admin::ask(&arguments.data, &ask, admin::ANSWER_TIME)?;
    if arguments.json {
        super::say(serde_json::to_string(&outcome)?);
    } else {
        super::say(described(&outcome));
    }
    match outcome.refused {
        Some(why) if outcome.is_wrong => Err(WrongUse(why).into()),
        Some(why) => {
            super::complain(why);
            Ok(ExitCode::from(1))
        }
        None => {
            if !arguments.json {
                super::talk(next(&outcome, &arguments.file));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn described(outcome: &Outcome) -> String {
    let mut lines: Vec<String> = outcome.changes.iter().map(line).collect();
    let renewed = outcome.certificates.iter();
    lines.extend(renewed.map(|host| format!("  at once  the certificate of site {host} is another one")));
    let count = lines.len();
    let head = match (count, outcome.applied) {
        (0, _) => format!("{} serves all of it already", outcome.node),
        (_, true) => format!("{} serves it now, {count} change(s):", outcome.node),
        (_, false) => format!("{}, {count} change(s):", outcome.node),
    };
    lines.insert(0, head);
    lines.join("\n")
}

fn line(change: &Change) -> String {
    let when = match change.takes {
        Takes::AtOnce => "at once",
        Takes::Restart => "restart",
    };
    format!("  {when}  {change}")
}

fn next(outcome: &Outcome, file: &std::path::Path) -> String {
    if outcome.applied {
        "next: the same on every other node, then `tiebeam status`".to_owned()
    } else {
        format!("next: tiebeam apply {}", file.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_made_of_it() {
        let change = |key: &str, takes| Change {
            key: key.into(),
            from: Some("1".into()),
            to: Some("2".into()),
            takes,
        };
        let changes = vec![change("edge.http", Takes::AtOnce), change("ledger.port", Takes::Restart)];
        let outcome = Outcome {
            node: "a".into(),
            changes,
            certificates: vec!["x.example".into()],
            ..Outcome::default()
        };
        assert_eq!(
            described(&outcome),
            "a, 3 change(s):\n  at once  edge.http: 1 -> 2\n  restart  ledger.port: 1 -> 2\n  at once  the certificate of site x.example is another one"
        );
        assert_eq!(
            described(&Outcome { node: "a".into(), ..Outcome::default() }),
            "a serves all of it already"
        );
    }
}
