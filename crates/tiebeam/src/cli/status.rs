//! `tiebeam status`: how the cluster is, on one screen. Exit 0 when nothing is wrong, 1 when something is.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;

use tiebeam_watch::{Level, Paint, edge_status, status};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    cluster: super::ask::Cluster,
    /// The edges with their sites, pools and servers
    #[arg(long)]
    edge: bool,
    /// The whole view as JSON; with --edge what each edge counts
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let view = arguments.cluster.view()?;
    let paint = if std::io::stdout().is_terminal() { Paint::Colour } else { Paint::Plain };
    if arguments.edge && arguments.json {
        let edges: BTreeMap<_, _> = view.edges_alive().collect();
        super::say(serde_json::to_string(&edges)?);
    } else if arguments.json {
        super::say(serde_json::to_string(&view)?);
    } else if arguments.edge {
        super::say(edge_status(&view, paint).trim_end());
    } else {
        super::say(status(&view, paint).trim_end());
    }
    Ok(if view.verdict.level == Level::Info { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
