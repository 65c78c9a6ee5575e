//! Answers what is asked at the node's unix socket, and SIGHUP. Only root and the daemon's own user are heard: the kernel
//! says who asks. It decides nothing: `reload` does.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::Signal;
use tokio::task::JoinHandle;

use super::reload::Reload;
use crate::admin::{Ask, LINE_BYTES, socket};

/// How long the line of a question may take.
const ASK_TIME: Duration = Duration::from_secs(5);

pub struct Part {
    socket: Option<(PathBuf, JoinHandle<()>)>,
    signals: JoinHandle<()>,
}

impl Part {
    /// Without a socket, if there cannot be one, SIGHUP alone is heard.
    pub fn start(data: &Path, hangup: Signal, reload: Arc<Reload>) -> Self {
        let path = socket(data);
        let socket = match listen(&path) {
            Ok(listener) => Some((path, tokio::spawn(accept(listener, reload.clone())))),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "no `tiebeam apply` on this node: its socket cannot be made; SIGHUP does the same");
                None
            }
        };
        Self { socket, signals: tokio::spawn(hear(hangup, reload)) }
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

async fn hear(mut hangup: Signal, reload: Arc<Reload>) {
    while hangup.recv().await.is_some() {
        reload.on_signal().await;
    }
}

/// One question at a time: they are rare, and a file is taken whole before another is looked at.
async fn accept(listener: UnixListener, reload: Arc<Reload>) {
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
        } else if let Err(error) = answer(asked, &reload).await {
            tracing::debug!(%error, "a question at the admin socket was not answered");
        }
    }
}

fn is_allowed(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn answer(mut stream: UnixStream, reload: &Reload) -> anyhow::Result<()> {
    let mut line = String::new();
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read.take(LINE_BYTES));
    tokio::time::timeout(ASK_TIME, read.read_line(&mut line)).await??;
    let outcome = match serde_json::from_str(&line)? {
        Ask::Plan { file } => reload.plan(&file).await,
        Ask::Apply { file } => reload.apply(&file).await,
    };
    let mut text = serde_json::to_string(&outcome)?;
    text.push('\n');
    tokio::time::timeout(ASK_TIME, write.write_all(text.as_bytes())).await??;
    Ok(())
}
