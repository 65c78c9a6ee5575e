//! `tiebeam check FILE`: whether a file is right. Prints what it describes, or all that is wrong with it (exit 2).

use std::path::PathBuf;
use std::process::ExitCode;

use tiebeam_topology::{Cluster, Database, Role};

#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration file
    #[arg(default_value = "tiebeam.toml")]
    file: PathBuf,
    /// Print the checked file as JSON, with every default filled in
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let cluster = super::load(&arguments.file)?;
    if arguments.json {
        super::say(serde_json::to_string_pretty(&cluster)?);
        return Ok(ExitCode::SUCCESS);
    }
    super::say(describe(&cluster));
    for note in &cluster.notes {
        super::say(format_args!("note: {}:{}: {}", arguments.file.display(), note.line, note.text));
    }
    // A cluster of one makes its own certificates when it starts.
    let verb = if cluster.nodes.len() == 1 { "node" } else { "init" };
    super::say(format_args!("next: tiebeam {verb} --config {}", arguments.file.display()));
    Ok(ExitCode::SUCCESS)
}

/// What the file describes, in a few aligned lines.
fn describe(cluster: &Cluster) -> String {
    let names = |role| cluster.with_role(role).map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(" ");
    let mut lines = vec![format!("cluster  {} is right: {} node(s)", cluster.name, cluster.nodes.len())];
    for (title, role) in [("edges", Role::Edge), ("apps", Role::App), ("database", Role::Database)] {
        let nodes = names(role);
        if !nodes.is_empty() {
            lines.push(format!("{title:8} on {nodes}"));
        }
    }
    for host in cluster.sites.keys() {
        lines.push(format!("site     {host}"));
    }
    match &cluster.database {
        Some(Database::Managed(d)) => {
            lines.push(format!(
                "lease    {} s, renewed every {} ms",
                d.lease.as_secs_f32(),
                d.renew.as_millis()
            ));
        }
        Some(Database::Foreign { servers, .. }) => {
            lines.push(format!("router   for {} PostgreSQL server(s) that others run", servers.len()));
        }
        None => {}
    }
    let voters = cluster.ledger.voters.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(" ");
    lines.push(format!("voters   {voters}"));
    lines.join("\n")
}
