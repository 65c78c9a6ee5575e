//! `tiebeam node`: runs this server's part of the cluster until it is told to end.

use std::io::IsTerminal;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tiebeam_ledger::{Embedded, OpenError};
use tiebeam_topology::{Cluster, NodeName};
use tracing_subscriber::EnvFilter;

use super::WrongUse;
use super::ports::Held;
use crate::handover;
use crate::handover::new::Predecessor;
use crate::handover::program::Program;
use crate::handover::sockets::Sockets;

/// Threads of the control side; the data plane has its own.
const CONTROL_THREADS: usize = 2;

#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration file
    #[arg(long, default_value = "tiebeam.toml")]
    config: PathBuf,
    /// Which node of the file this is; without it, the one whose address is this machine's
    #[arg(long)]
    name: Option<NodeName>,
    /// Where this node keeps everything
    #[arg(long, default_value = "/var/lib/tiebeam")]
    data: PathBuf,
    /// Stop a PostgreSQL whose agent has been away for this long; without it a replica goes on
    #[arg(long, hide = true, value_parser = seconds)]
    linger: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').and_then(|n| n.parse().ok());
    number.map(Duration::from_secs).ok_or_else(|| "seconds, such as 8s".into())
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    log();
    let program = Program::of_this_process();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(CONTROL_THREADS).enable_all().build()?;
    let code = runtime.block_on(begin(arguments, program));
    // What a room left behind in a blocking call must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

/// As a new daemon, or as the one that takes over from another.
async fn begin(arguments: Arguments, program: Program) -> anyhow::Result<ExitCode> {
    let Some((before, sockets)) = handover::new::predecessor().await? else {
        return serve(arguments, program, Sockets::default(), None).await;
    };
    tracing::info!(pid = before.pid, version = before.version, "taking over from the running process");
    let before = Arc::new(before);
    let code = serve(arguments, program, sockets, Some(before.clone())).await;
    if let Err(error) = &code {
        before.refuse(&super::whole(error)).await;
    }
    code
}

async fn serve(
    arguments: Arguments,
    program: Program,
    mut sockets: Sockets,
    before: Option<Arc<Predecessor>>,
) -> anyhow::Result<ExitCode> {
    let raised = raise_descriptors();
    // What the process before this one had raised says nothing of what apps expect.
    let descriptors = before.as_ref().map_or(raised, |before| before.descriptors);
    let cluster = super::load(&arguments.config)?;
    for note in &cluster.notes {
        tracing::warn!("{}:{}: {}", arguments.config.display(), note.line, note.text);
    }
    let config = std::path::absolute(&arguments.config)?;
    let data = std::path::absolute(&arguments.data)?;
    let name = which(&cluster, arguments.name, &arguments.config)?;
    if before.is_none() {
        nobody_runs(&data)?;
    }
    let held = Held { sockets: Some(&sockets), ledger: before.as_ref().and_then(|before| before.ledger) };
    super::ports::free(&cluster, &name, &data, &held)?;
    if before.is_some() {
        super::ports::hold(&cluster, &name, &mut sockets)?;
    }
    let options = crate::node::Options {
        name,
        cluster,
        folder: config.parent().unwrap_or(Path::new("/")).to_owned(),
        file: config,
        data,
        linger: arguments.linger,
        descriptors,
        program,
    };
    crate::node::run(options, sockets, before).await
}

/// Whether the node's folder is this process's to open.
///
/// # Errors
/// Another process has it: where that ends or is ended, another start comes up. Its ports would seem to be somebody else's.
fn nobody_runs(data: &Path) -> anyhow::Result<()> {
    let path = data.join("ledger");
    if Embedded::is_held(&path) {
        return Err(OpenError::Locked { path }.into());
    }
    Ok(())
}

/// Log lines on stderr, for people or a journal. TIEBEAM_LOG sets what is said, such as `debug` or `info,openraft=info`.
fn log() {
    // Raft's own voice is for those who ask for it: what matters of it the ledger says in its status.
    let usual = || EnvFilter::new("info,openraft=off");
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("TIEBEAM_LOG").unwrap_or_else(|_| usual()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Takes all the file descriptors that this process may have: an edge needs two for each request under way, and the usual
/// soft limit of 1024 is for programs that use select(2). Answers with that limit: the apps may be such programs.
fn raise_descriptors() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let shown = |n: Option<u64>| n.map_or("unlimited".to_owned(), |n| n.to_string());
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => tracing::info!(
            from = shown(limit.current),
            to = shown(limit.maximum),
            "file descriptors: the soft limit is raised to the hard one"
        ),
        Err(error) => {
            tracing::warn!(%error, at = shown(limit.current), "file descriptors: the soft limit stays")
        }
    }
    limit.current
}

/// The node that is meant: by name, or the only one whose address this machine has.
fn which(cluster: &Cluster, name: Option<NodeName>, file: &Path) -> anyhow::Result<NodeName> {
    let names = || cluster.nodes.keys().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(name) = name {
        return if cluster.nodes.contains_key(&name) {
            Ok(name)
        } else {
            Err(WrongUse(format!("{} has no node {name}; it has {}", file.display(), names())).into())
        };
    }
    let mine: Vec<&NodeName> = cluster
        .nodes
        .iter()
        .filter(|(_, n)| TcpListener::bind((n.address, 0)).is_ok())
        .map(|(n, _)| n)
        .collect();
    match mine.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(WrongUse(format!(
            "this machine has none of the addresses in {}; say which node it is with --name ({})",
            file.display(),
            names()
        ))
        .into()),
        several => Err(WrongUse(format!(
            "this machine has the addresses of several nodes; say which one to run with --name ({})",
            several.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ")
        ))
        .into()),
    }
}
