//! `tiebeam demo`: its arguments, and what it prints at the end.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use tiebeam_topology::Durability;

use super::WrongUse;
use crate::demo::{Fault, Options};

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

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    tiebeam_postgres::find_binaries(None).map_err(|e| WrongUse(e.to_string()))?;
    let headless = arguments.headless || !std::io::stdout().is_terminal();
    let ended = crate::demo::run(Options {
        seconds: arguments.seconds.or(headless.then_some(30)),
        drills: arguments.drills,
        keep: arguments.keep,
        headless,
        durability: arguments.durability,
    })?;
    let Some(receipt) = ended.receipt else {
        return ended.failed.map_or(Ok(ExitCode::SUCCESS), Err);
    };
    // Whatever ended the run: what it measured is said.
    if arguments.json {
        super::say(serde_json::to_string(&receipt)?);
    } else {
        super::say(receipt.words());
    }
    if let Some(failed) = &ended.failed {
        super::complain(super::whole(failed));
    }
    let well = receipt.well() && ended.failed.is_none();
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
