//! Answers what is asked at the node's unix socket, SIGHUP and SIGUSR2. Only root and the daemon's own user are heard: the kernel
//! says who asks. It decides nothing: `reload` and `upgrade` do.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::Signal;
use tokio::task::JoinHandle;

use super::reload::Reload;
use super::upgrades::Upgrades;
use crate::admin::{Ask, LINE_BYTES, socket};

/// How long the line of a question may take.
const ASK_TIME: Duration = Duration::from_secs(5);

pub struct Part {
    socket: Option<(PathBuf, JoinHandle<()>)>,
    signals: JoinHandle<()>,
}

/// What asks a daemon by name. Unanswered each of them would end it, with everything undrained.
pub struct Signals {
    /// SIGHUP: take the file anew.
    pub reload: Signal,
    /// SIGUSR2: hand over to a new process.
    pub upgrade: Signal,
}

/// Who does what is asked.
#[derive(Clone)]
pub struct Desk {
    pub reload: Arc<Reload>,
    pub upgrades: Upgrades,
}

impl Part {
    /// Without a socket, if there cannot be one, the signals alone are heard.
    pub fn start(data: &Path, signals: Signals, desk: Desk) -> Self {
        let path = socket(data);
        let socket = match listen(&path) {
            Ok(listener) => Some((path, tokio::spawn(accept(listener, desk.clone())))),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "no `tiebeam apply` or `upgrade` on this node: its socket cannot be made; SIGHUP and SIGUSR2 do the same");
                None
            }
        };
        Self { socket, signals: tokio::spawn(hear(signals, desk)) }
    }

    pub fn stop(self) {
        self.signals.abort();
        if let Some((path, task)) = self.socket {
            task.abort();
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The folder is this daemon's alone, by the lock of its ledger: a socket that is there already was left behind.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn hear(mut signals: Signals, desk: Desk) {
    loop {
        tokio::select! {
            Some(()) = signals.reload.recv() => desk.reload.on_signal().await,
            // What becomes of it is in the log.
            Some(()) = signals.upgrade.recv() => drop(desk.upgrades.ask()),
            else => return,
        }
    }
}

/// One question at a time: they are rare, and a file is taken whole before another is looked at.
async fn accept(listener: UnixListener, desk: Desk) {
    loop {
        let asked = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin socket could not accept a connection");
                tokio::time::sleep(ASK_TIME).await;
                continue;
            }
        };
        if !is_allowed(&asked) {
            tracing::warn!("the admin socket was asked by another user, who is not answered");
        } else if let Err(error) = answer(asked, &desk).await {
            tracing::debug!(%error, "a question at the admin socket was not answered");
        }
    }
}

fn is_allowed(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn answer(mut stream: UnixStream, desk: &Desk) -> anyhow::Result<()> {
    let mut line = String::new();
    let mut read = BufReader::new((&mut stream).take(LINE_BYTES));
    tokio::time::timeout(ASK_TIME, read.read_line(&mut line)).await??;
    match serde_json::from_str(&line)? {
        Ask::Plan { file } => say(stream, &desk.reload.plan(&file).await).await,
        Ask::Apply { file } => say(stream, &desk.reload.apply(&file).await).await,
        Ask::Upgrade => {
            let outcome = desk.upgrades.ask();
            // It outlives this part, and must not keep others waiting.
            tokio::spawn(async move {
                let answer = outcome.await;
                if let Err(error) = say(stream, &answer.outcome).await {
                    tracing::debug!(%error, "who asked for the handover does not hear what became of it");
                }
            });
            Ok(())
        }
    }
}

async fn say(mut stream: UnixStream, outcome: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(outcome)?;
    text.push('\n');
    tokio::time::timeout(ASK_TIME, stream.write_all(text.as_bytes())).await??;
    Ok(())
}
