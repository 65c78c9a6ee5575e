//! `tiebeam demo`: its arguments, and what it prints at the end.

use std::io::{ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tiebeam_topology::Durability;

use super::WrongUse;
use crate::demo::{Fault, Options};

/// How the file of a demo begins.
const HEADER: &str = "# Written by `tiebeam demo`.";

#[derive(clap::Args)]
pub struct Arguments {
    /// No screen: progress on stderr, for scripts
    #[arg(long)]
    headless: bool,
    /// End after this many seconds of load and all drills; without it a headless run lasts 30
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// A fault to inject: kill-app, kill-edge, kill-primary, kill-node, pause-agent, kill-all or kill-node-behind; may be
    /// given again
    #[arg(long = "drill", value_name = "NAME")]
    drills: Vec<Fault>,
    /// Print the receipt as JSON on stdout
    #[arg(long)]
    json: bool,
    /// Keep the data in this folder, and use what an earlier demo left there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// quorum, strict or async: async may lose writes, and shows that the receipt tells
    #[arg(long, default_value = "quorum", value_parser = durability)]
    durability: Durability,
}

fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "quorum" => Ok(Durability::Quorum),
        "strict" => Ok(Durability::Strict),
        "async" => Ok(Durability::Async),
        _ => Err("there are quorum, strict and async".into()),
    }
}

/// Whether a file is not there or a demo's: it is written anew, and no one else's may be lost by that.
fn own(file: &Path) -> Result<(), WrongUse> {
    match std::fs::read_to_string(file) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        Ok(text) if text.starts_with(HEADER) => Ok(()),
        _ => Err(WrongUse(format!(
            "{} was not written by a demo and is left as it is: give --keep a folder of its own",
            file.display()
        ))),
    }
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    tiebeam_postgres::find_binaries().map_err(|e| WrongUse(e.to_string()))?;
    if let Some(folder) = &arguments.keep {
        own(&folder.join("tiebeam.toml"))?;
    }
    let headless = arguments.headless || !std::io::stdout().is_terminal();
    let receipt = crate::demo::run(Options {
        seconds: arguments.seconds.or(headless.then_some(30)),
        drills: arguments.drills,
        keep: arguments.keep,
        headless,
        durability: arguments.durability,
    })?;
    if arguments.json {
        super::say(serde_json::to_string(&receipt)?);
    } else {
        super::say(receipt.words());
    }
    Ok(if receipt.well() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_of_a_demo_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tiebeam.toml");
        assert!(own(&file).is_ok());
        std::fs::write(&file, format!("{HEADER}\n[cluster]\n")).unwrap();
        assert!(own(&file).is_ok());
        std::fs::write(&file, "[cluster]\nname = \"shop\"\n").unwrap();
        assert!(own(&file).unwrap_err().to_string().contains("was not written by a demo"));
    }
}
