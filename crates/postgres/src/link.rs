//! The agent's hold on its guard: starts one if there is none, connects again when it must, tells a dead guard from
//! one that does not answer.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tiebeam_topology::Moment;
use tokio::sync::mpsc;

use crate::agent::Context;
use crate::error::Error;
use crate::event::Event;
use crate::guard::client::{GuardClient, Push};
use crate::guard::wire::{GuardState, Reply, Request};
use crate::instance::{Paths, leftover};
use crate::observe::Memory;
use crate::settings::Settings;

/// Variables of the environment that mean the daemon alone, and neither its guard nor PostgreSQL, which may know them, too.
const OF_THE_DAEMON: [&str; 2] = ["NOTIFY_SOCKET", "TIEBEAM_HANDOVER"];
/// A new guard is there this soon, or it failed.
const GUARD_START: Duration = Duration::from_secs(5);

/// A PostgreSQL that lived this long was started well; its next start need not wait.
const LIVED_WELL: Duration = Duration::from_secs(10);

/// The longest wait between two starts.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The connection to the guard, and what is known of it.
pub struct GuardLink {
    paths: Paths,
    command: Vec<OsString>,
    arguments: Vec<OsString>,
    client: Option<GuardClient>,
    pushes: mpsc::Sender<Push>,
    last: Option<GuardState>,
    started_at: Option<Moment>,
}

impl GuardLink {
    pub fn new(settings: &Settings, paths: &Paths, pushes: mpsc::Sender<Push>) -> Self {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        option("--socket", paths.guard_socket.clone().into());
        option("--lock", paths.guard_lock.clone().into());
        option("--log", paths.guard_log.clone().into());
        if let Some(owner) = settings.owner {
            option("--uid", owner.uid.to_string().into());
            option("--gid", owner.gid.to_string().into());
        }
        if let Some(linger) = settings.linger {
            option("--linger-ms", linger.as_millis().to_string().into());
        }
        option("--", settings.bin_dir.join("postgres").into());
        option("-D", paths.main.clone().into());
        let mut config = OsString::from("config_file=");
        config.push(paths.conf.join("postgresql.conf"));
        option("-c", config);
        Self {
            paths: paths.clone(),
            command: settings.guard_command.clone(),
            arguments,
            client: None,
            pushes,
            last: None,
            started_at: None,
        }
    }

    pub fn pid(&self) -> Option<u32> {
        self.last.map(|g| g.guard_pid)
    }

    /// `None` when no guard runs, and nothing that it left behind. A guard that does not answer is taken to be as it
    /// was: it may still hold a running PostgreSQL.
    pub async fn state(&mut self) -> Option<GuardState> {
        if self.client.is_none() {
            match GuardClient::connect(&self.paths.guard_socket, self.pushes.clone()).await {
                Ok(client) => self.client = Some(client),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                    return self.without_guard();
                }
                Err(_) => return self.last,
            }
        }
        match self.client.as_mut()?.state().await {
            Ok(state) => self.last = Some(state),
            Err(error) => {
                tracing::warn!(%error, "the guard did not answer");
                self.client = None;
            }
        }
        self.last
    }

    /// The guard is dead. Until what it left is dead as well, it counts as running.
    fn without_guard(&mut self) -> Option<GuardState> {
        if let Some(pid) = leftover::kill(&self.paths.main) {
            let gone = GuardState { guard_pid: pid, pid: None, deadline_ms: None, last: None };
            let last = self.last.unwrap_or(gone);
            return Some(GuardState { pid: last.pid.or(Some(pid)), ..last });
        }
        self.last = None;
        None
    }

    /// The guard's answer; it is started if none runs.
    async fn ask(&mut self, request: Request) -> Result<Reply, Error> {
        if self.state().await.is_none() {
            self.start_guard().await?;
        }
        let failed = |why: String| Error::Guard { why, log: self.paths.guard_log.clone() };
        let Some(client) = &mut self.client else { return Err(failed("it does not answer".into())) };
        let answer = client.ask(request).await;
        if answer.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::Other) {
            self.client = None;
        }
        answer.map_err(|e| failed(e.to_string()))
    }

    async fn start_guard(&mut self) -> Result<(), Error> {
        let log = self.paths.guard_log.clone();
        let failed = |why: String| Error::Guard { why, log: log.clone() };
        let (program, leading) =
            self.command.split_first().ok_or_else(|| failed("no command is set".into()))?;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log);
        let file = file.map_err(Error::file("open", &log))?;
        let mut command = tokio::process::Command::new(program);
        command.args(leading).args(&self.arguments).current_dir("/").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(file);
        for name in OF_THE_DAEMON {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(|e| failed(format!("{}: {e}", program.display())))?;
        let start = Moment::now();
        loop {
            if let Ok(client) = GuardClient::connect(&self.paths.guard_socket, self.pushes.clone()).await {
                self.client = Some(client);
                break;
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(failed(format!("it ended at once ({status})")));
            }
            if Moment::now().since(start) > GUARD_START {
                return Err(failed("it does not listen".into()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Waits for it, whenever that is, so that it leaves no zombie behind.
        tokio::spawn(async move { child.wait().await });
        self.state().await;
        Ok(())
    }

    /// PostgreSQL has ended: how long its next start waits. `asked`: it was told to.
    pub fn note_exit(&mut self, memory: &mut Memory, asked: bool) {
        if asked {
            return;
        }
        let now = Moment::now();
        let quick = self.started_at.is_some_and(|at| now.since(at) < LIVED_WELL);
        memory.quick_ends = if quick { memory.quick_ends + 1 } else { 0 };
        memory.copied &= quick;
        if memory.quick_ends > 1 {
            let wait = Duration::from_millis(250) * 2u32.pow((memory.quick_ends - 2).min(6));
            memory.start_not_before = now + wait.min(BACKOFF_MAX);
        }
    }

    /// Ends a guard that has nothing to guard any more.
    pub async fn quit(&mut self) {
        if let Some(client) = &mut self.client {
            let _ = client.ask(Request::Quit).await;
        }
        self.client = None;
    }
}

impl Context {
    pub async fn ask_guard(&mut self, request: Request) -> Result<(), Error> {
        self.guard.ask(request).await.map(|_| ())
    }

    /// Starts PostgreSQL; its folders and files are in order.
    pub async fn begin_start(&mut self) -> Result<(), Error> {
        self.guard.ask(Request::Start).await?;
        self.guard.started_at = Some(Moment::now());
        self.stop_reason = None;
        self.promoting = None;
        let pid = self.guard.state().await.and_then(|g| g.pid).unwrap_or_default();
        self.tell(Event::Started { node: self.settings.node.clone(), pid, adopted: false });
        Ok(())
    }
}
