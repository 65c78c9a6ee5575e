//! `tiebeam upgrade`: the node of this machine hands over to a new process of its binary and its file as they are now.
//! Exit 0: the new one serves; 1: it could not be carried out; 2: the new binary or file is refused, and nothing has
//! changed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::WrongUse;
use crate::admin::{self, Ask, Fate, Process, Upgrade};
use crate::handover::{DRAIN_TIME, READY_TIME, SERVING_TIME};

/// All that a node may take, and some more to let go of everything between.
const ANSWER_TIME: Duration = Duration::from_secs(READY_TIME.as_secs() + SERVING_TIME.as_secs() + 30);

#[derive(clap::Args)]
pub struct Arguments {
    /// The folder of the running node
    #[arg(long, default_value = "/var/lib/tiebeam")]
    data: PathBuf,
    /// What became of it as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let upgrade: Upgrade = admin::ask(&arguments.data, &Ask::Upgrade, ANSWER_TIME)?;
    if arguments.json {
        super::say(serde_json::to_string(&upgrade)?);
    }
    match upgrade.fate {
        Fate::Done => {
            if !arguments.json {
                super::say(done(&upgrade));
                super::talk("next: tiebeam status");
            }
            Ok(ExitCode::SUCCESS)
        }
        Fate::Refused => Err(WrongUse(undone(&upgrade)).into()),
        Fate::Busy | Fate::Failed => {
            super::complain(undone(&upgrade));
            Ok(ExitCode::from(1))
        }
    }
}

fn done(upgrade: &Upgrade) -> String {
    let new = upgrade.to.as_ref().map(process).unwrap_or_default();
    let took = upgrade.took_ms as f64 / 1000.0;
    let mut lines = vec![format!(
        "{}: {new} serves now, instead of {}; that took {took:.1} s",
        upgrade.node,
        process(&upgrade.from)
    )];
    lines.push(match upgrade.draining {
        0 => "  the old process has no connection left and ends".to_owned(),
        n => format!(
            "  the old process finishes what runs on {n} connection(s), for at most {} s, and ends",
            DRAIN_TIME.as_secs()
        ),
    });
    lines.extend(upgrade.notes.iter().map(|note| format!("  {note}")));
    lines.join("\n")
}

fn undone(upgrade: &Upgrade) -> String {
    let why = upgrade.why.as_deref().unwrap_or("it did not say why");
    let (node, old) = (&upgrade.node, process(&upgrade.from));
    match upgrade.fate {
        Fate::Failed => format!("{node}: the handover from {old} failed: {why}"),
        _ => format!("{node}: {old} goes on, nothing has changed: {why}"),
    }
}

fn process(process: &Process) -> String {
    match process.version.as_str() {
        "" => format!("process {}", process.pid),
        version => format!("version {version} (process {})", process.pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_it() {
        let from = Process { version: "0.1.0".into(), pid: 7 };
        let to = Some(Process { version: "0.2.0".into(), pid: 9 });
        let mut upgrade = Upgrade {
            node: "a".into(),
            from,
            to,
            took_ms: 1234,
            fate: Fate::Done,
            draining: 2,
            why: None,
            notes: vec!["web.1 is not ready".into()],
        };
        assert_eq!(
            done(&upgrade),
            "a: version 0.2.0 (process 9) serves now, instead of version 0.1.0 (process 7); that took 1.2 s\n  \
             the old process finishes what runs on 2 connection(s), for at most 60 s, and ends\n  web.1 is not ready"
        );
        upgrade = Upgrade { fate: Fate::Refused, why: Some("no such key".into()), ..upgrade };
        assert_eq!(
            undone(&upgrade),
            "a: version 0.1.0 (process 7) goes on, nothing has changed: no such key"
        );
        upgrade.fate = Fate::Failed;
        assert_eq!(undone(&upgrade), "a: the handover from version 0.1.0 (process 7) failed: no such key");
    }
}
