//! `tiebeam status`: how the cluster is, on one screen. Exit 0 when nothing is wrong, 1 when something is.

use std::io::IsTerminal;
use std::process::ExitCode;

use tiebeam_watch::{Level, Paint, status};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    cluster: super::ask::Cluster,
    /// The whole view as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let view = arguments.cluster.view()?;
    if arguments.json {
        super::say(serde_json::to_string(&view)?);
    } else {
        let paint = if std::io::stdout().is_terminal() { Paint::Colour } else { Paint::Plain };
        super::say(status(&view, paint).trim_end());
    }
    Ok(if view.verdict.level == Level::Info { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
