//! The agent's side of the guard: starts it if there is none, asks, and hears what it pushes.
//!
//! A connection belongs to one task; the agent has two, so that setting a deadline never waits for anything else.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

use super::wire::{Exit, GuardState, Reply, Request, parse_reply};

/// How long the guard, which does nothing else, may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// What the guard tells without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    Running(u32),
    Exited(Exit),
    DeadlinePassed,
    /// The connection is gone, so probably the guard is, and with it the command.
    Gone,
}

/// One connection to a guard.
#[derive(Debug)]
pub struct GuardClient {
    write: OwnedWriteHalf,
    answers: mpsc::Receiver<Reply>,
}

impl GuardClient {
    /// Connects to a running guard. What it pushes goes to `pushes`, unless the receiver is full, which only makes
    /// the agent look at its next tick.
    pub async fn connect(socket: &Path, pushes: mpsc::Sender<Push>) -> io::Result<Self> {
        let (read, write) = UnixStream::connect(socket).await?.into_split();
        let (send, answers) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let push = match parse_reply(&line) {
                    Some(Reply::Running(pid)) => Push::Running(pid),
                    Some(Reply::Exited(exit)) => Push::Exited(exit),
                    Some(Reply::DeadlinePassed) => Push::DeadlinePassed,
                    Some(answer) => {
                        if send.send(answer).await.is_err() {
                            return;
                        }
                        continue;
                    }
                    None => continue,
                };
                let _ = pushes.try_send(push);
            }
            let _ = pushes.try_send(Push::Gone);
        });
        Ok(Self { write, answers })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the guard refuses ([`io::ErrorKind::Other`], in its words), or does not answer; then drop the client, its
    /// answers are out of step.
    pub async fn ask(&mut self, request: Request) -> io::Result<Reply> {
        self.write.write_all(format!("{request}\n").as_bytes()).await?;
        match tokio::time::timeout(ANSWER_TIME, self.answers.recv()).await {
            Ok(Some(Reply::Error(why))) => Err(io::Error::other(why)),
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(io::ErrorKind::ConnectionReset.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    pub async fn state(&mut self) -> io::Result<GuardState> {
        match self.ask(Request::State).await? {
            Reply::State(state) => Ok(state),
            other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{other:?}"))),
        }
    }
}
