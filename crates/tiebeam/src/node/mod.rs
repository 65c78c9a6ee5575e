//! One node: starts the rooms that the file gives it, wires them with snapshots and channels, and ends them in order.
//!
//! The arrows: the ledger says who is who; `board` publishes what this node is doing and reads what all do; `edge`,
//! `apps`, `database` and `router` each carry one room's part of that to the room. `upgrade` lets another process take
//! over, and `takeover` is what that process does otherwise than at a usual start.

mod admin;
mod apps;
mod board;
mod certificates;
mod counts;
mod database;
mod edge;
mod edge_counts;
mod edge_secret;
mod ending;
mod failure;
mod figures;
mod foreign;
mod identity;
mod memory;
mod pages;
mod rates;
mod reach;
mod reload;
mod report;
mod rest;
mod router;
mod settled;
mod takeover;
mod tickets;
mod upgrade;
mod upgrades;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tiebeam_console::Console;
use tiebeam_ledger::{Embedded, OpenError, Peer, Settings};
use tiebeam_topology::{Cluster, Database, NodeName, Role};
use tiebeam_watch::Level;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::WrongUse;
use crate::handover::new::Predecessor;
use crate::handover::program::Program;
use crate::handover::sockets::{Room, Sockets};
use crate::{handover, notify};
use board::Board;
use ending::{Deadline, STOP_TIME};
use identity::Identities;
use upgrade::Upgraded;
use upgrades::Upgrades;

/// How long running requests, and after them the apps, may take to end.
const DRAIN_TIME: Duration = Duration::from_secs(3);
/// How long sessions of the router may take to end: their apps have ended already.
const SESSIONS_TIME: Duration = Duration::from_secs(1);
/// How long each of the last parts may take: the report, the console, the ledger.
const LAST_TIME: Duration = Duration::from_millis(700);
/// What is kept of the node's time for those after the edge, the apps, the router and PostgreSQL.
const AFTER_EDGE: Duration = Duration::from_millis(5000);
const AFTER_APPS: Duration = Duration::from_millis(3500);
const AFTER_ROUTER: Duration = Duration::from_millis(3000);
const AFTER_DATABASE: Duration = Duration::from_millis(1000);

pub struct Options {
    pub cluster: Cluster,
    /// The folder of the configuration file: where apps run and relative paths start.
    pub folder: PathBuf,
    /// The configuration file itself: read again when it is to be changed.
    pub file: PathBuf,
    pub name: NodeName,
    pub data: PathBuf,
    /// See `tiebeam_postgres::Settings::linger`.
    pub linger: Option<Duration>,
    /// The soft limit of file descriptors before this process raised its own, for apps; `None`: there was none.
    pub descriptors: Option<u64>,
    /// How this process was started.
    pub program: Program,
}

/// What every part of the wiring needs.
pub struct Here {
    pub cluster: Arc<Cluster>,
    pub name: NodeName,
    pub options: Options,
    pub identities: Identities,
    pub ledger: Arc<Embedded>,
}

/// Runs until SIGTERM or SIGINT, until something fails that a restart must mend, or until another process has taken over.
/// With `before` it takes over itself, on the `sockets` of that process.
pub async fn run(
    options: Options,
    sockets: Sockets,
    before: Option<Arc<Predecessor>>,
) -> anyhow::Result<ExitCode> {
    let mut told = told_to_end()?;
    let signals = admin::Signals {
        reload: signal(SignalKind::hangup())?,
        upgrade: signal(SignalKind::user_defined2())?,
    };
    let cluster = Arc::new(options.cluster.clone());
    let name = options.name.clone();
    std::fs::create_dir_all(&options.data).map_err(|e| failure::data_folder(&options.data, &e))?;
    let identities = Identities::load(&cluster, &name, &options.data)?;
    let served = served(&cluster, &name, &identities)?;
    let settings = ledger_settings(&cluster, &name, &options, &identities).map_err(failure::ledger)?;
    if let Some(before) = &before {
        takeover::is_fit(&options, &settings, before)?;
        before.ready().await.context("the running process does not listen any more")?;
        tokio::select! {
            given = before.given() => given?,
            _ = told.wait_for(Option::is_some) => return Ok(ExitCode::SUCCESS),
        }
    }
    let ledger = takeover::ledger(before.is_some(), || Embedded::open(settings.clone())).await?;
    let here = Arc::new(Here { cluster, name, options, identities, ledger });
    let board = Board::new(here.clone());
    let (upgrades, mut asked) = Upgrades::new(&here.name);
    let start = Start { served, sockets, takes_over: before.is_some() };
    let mut parts = Box::new(Parts::start(&here, &board, start).await?);
    let reload = parts.reload(&here, &board);
    let desk = admin::Desk { reload: reload.clone(), upgrades };
    parts.admin = Some(admin::Part::start(&here.options.data, signals, desk));
    let mut serves = true;
    if let Some(before) = &before {
        let taken = tokio::select! {
            notes = parts.take_over(&here, &board, before) => Some(notes?),
            _ = told.wait_for(Option::is_some) => None,
        };
        serves = taken.is_some();
        if let Some(notes) = taken {
            // Deaf or dead, it matters no more: this process serves.
            let _ = before.serving(notes).await;
            let (new, old) = (std::process::id(), before.pid);
            let version = &before.version;
            let text = format!(
                "process {new} has taken over from process {old} (version {version}) on {}",
                here.name
            );
            board.tell(Level::Info, text);
        }
    }
    if serves {
        board.tell(Level::Info, format!("{} is up", here.name));
        notify::ready();
    }
    let told_later = told.clone();
    let mut ledger_status = here.ledger.status_changes();
    let code = loop {
        tokio::select! {
            _ = told.wait_for(Option::is_some) => break ExitCode::SUCCESS,
            failed = ledger_status.wait_for(|s| s.failed.is_some()) => {
                let why = failed.ok().and_then(|s| s.failed.clone()).unwrap_or_else(|| "it was closed".into());
                tracing::error!(why, "the ledger of this node has stopped; the node ends, so that nothing is decided on old knowledge");
                break ExitCode::from(1);
            }
            Some(request) = asked.recv() => {
                match upgrade::run(&here, &board, &reload, parts, request, told_later.clone()).await {
                    Upgraded::Stays(same) => parts = same,
                    Upgraded::Stops(same) => {
                        parts = same;
                        break ExitCode::SUCCESS;
                    }
                    Upgraded::Over(code) => return Ok(code),
                }
            }
        }
    };
    notify::stopping();
    let told = told.borrow().unwrap_or_else(Instant::now);
    parts.stop(&here, board, Deadline::of(told)).await;
    Ok(code)
}

/// What an edge on this node serves, if there is one; nothing is bound for it.
fn served(
    cluster: &Arc<Cluster>,
    name: &NodeName,
    identities: &Identities,
) -> anyhow::Result<Option<edge::Served>> {
    if !cluster.nodes.get(name).is_some_and(|node| node.roles.contains(&Role::Edge)) {
        return Ok(None);
    }
    edge::Served::load(cluster.clone(), identities.site.as_ref()).map(Some)
}

/// When SIGTERM or SIGINT first came. The time to end counts from there, even if the node is still starting then.
fn told_to_end() -> anyhow::Result<watch::Receiver<Option<Instant>>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (tell, told) = watch::channel(None);
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tell.send_replace(Some(Instant::now()));
        // Held, so that nobody takes the end of this task for another signal.
        tell.closed().await;
    });
    Ok(told)
}

fn ledger_settings(
    cluster: &Cluster,
    name: &NodeName,
    options: &Options,
    identities: &Identities,
) -> Result<Settings, OpenError> {
    let address = |n: &NodeName| {
        let address = cluster.ledger_address(n);
        address.ok_or_else(|| OpenError::Settings(format!("node {n} is not in the file")))
    };
    let mut peers = std::collections::BTreeMap::new();
    for n in cluster.nodes.keys() {
        let peer = Peer {
            address: address(n)?,
            identity: cluster.identity(n),
            voter: cluster.ledger.voters.contains(n),
        };
        peers.insert(n.clone(), peer);
    }
    Ok(Settings::new(
        cluster.name.clone(),
        name.clone(),
        address(name)?,
        peers,
        options.data.join("ledger"),
        identities.node.server_config(),
        identities.node.client_config(),
    ))
}

/// The rooms of this node that run.
struct Parts {
    /// `None`: nobody is heard yet.
    admin: Option<admin::Part>,
    console: Option<Console>,
    database: Option<database::Part>,
    router: Option<router::Part>,
    apps: Option<apps::Part>,
    edge: Option<edge::Part>,
    report: report::Part,
}

/// How the rooms start.
struct Start {
    served: Option<edge::Served>,
    /// Of the process before this one.
    sockets: Sockets,
    /// That process still serves: this one's edge waits for [`Parts::take_over`].
    takes_over: bool,
}

impl Parts {
    async fn start(here: &Arc<Here>, board: &Arc<Board>, start: Start) -> anyhow::Result<Self> {
        let Start { served, mut sockets, takes_over } = start;
        let node = here.cluster.nodes.get(&here.name).context("this node is in the file")?;
        let has = |role| node.roles.contains(&role);
        let database =
            if has(Role::Database) { Some(database::Part::start(here, board).await?) } else { None };
        let state = match (&database, &here.cluster.database) {
            (Some(part), _) => Some(part.state()),
            (None, Some(Database::Managed(_))) => {
                Some(tiebeam_postgres::follow(here.name.clone(), here.ledger.clone()))
            }
            (None, _) => None,
        };
        let router = router::Part::start(here, state.clone(), sockets.take(Room::Router))?;
        let replacing = takes_over.then_some(handover::SERVERS_TIME);
        let apps = if has(Role::App) { Some(apps::Part::start(here, board, replacing)) } else { None };
        let edge = match served {
            Some(served) => Some(edge::Part::prepare(here, served, sockets.take(Room::Edge)).await?),
            None => None,
        };
        if let Some(edge) = edge.as_ref().filter(|_| !takes_over) {
            edge.open(board).await?;
        }
        let report = report::Part::start(
            here,
            board,
            report::Sources {
                edge: edge.as_ref().map(|e| e.handle()),
                router: router.as_ref().map(|r| r.handle()),
                apps: apps.as_ref().map(|a| a.instances()),
                database: state,
            },
        );
        let inherited = sockets.take(Room::Console).pop();
        let console = match here.cluster.console_address(&here.name) {
            Some(at) => Some(
                Console::start_on(inherited, at, board.source())
                    .await
                    .map_err(|e| WrongUse(e.to_string()))?,
            ),
            None => None,
        };
        Ok(Self { admin: None, console, database, router, apps, edge, report })
    }

    fn reload(&self, here: &Arc<Here>, board: &Arc<Board>) -> Arc<reload::Reload> {
        reload::Reload::new(here, board, self.edge.as_ref().map(|e| e.changer()))
    }

    /// From the outside in: no new requests, then no apps, then no sessions, then the database, then the ledger. All of
    /// it within the deadline: who comes late gets less, and nobody is waited for beyond it.
    async fn stop(self, here: &Here, board: Arc<Board>, deadline: Deadline) {
        board.tell(Level::Info, format!("{} ends in order", here.name));
        if let Some(admin) = self.admin {
            admin.stop();
        }
        if let Some(edge) = self.edge {
            deadline.end("the edge", (DRAIN_TIME, AFTER_EDGE), |time| edge.stop(time)).await;
        }
        if let Some(apps) = self.apps {
            deadline.end("the apps", (DRAIN_TIME, AFTER_APPS), |time| apps.stop(time)).await;
        }
        if let Some(router) = self.router {
            deadline.end("the router", (SESSIONS_TIME, AFTER_ROUTER), |time| router.stop(time)).await;
        }
        if let Some(database) = self.database {
            // Its guard has a deadline of its own, and stops PostgreSQL by it if this one is over first.
            deadline.end("PostgreSQL", (STOP_TIME, AFTER_DATABASE), |_| database.stop()).await;
        }
        let last = (LAST_TIME, LAST_TIME / 2);
        let console = self.console;
        tokio::join!(
            deadline.end("the report", last, |time| self.report.stop(time)),
            deadline.end("the console", last, |_| async {
                if let Some(console) = console {
                    console.shutdown().await;
                }
            }),
        );
        deadline.end("the ledger", (LAST_TIME, Duration::ZERO), |_| here.ledger.shutdown()).await;
    }
}
