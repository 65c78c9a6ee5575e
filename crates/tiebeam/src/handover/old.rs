//! The new process, as the old one sees it: starts it, passes it the sockets, hears what it says, and ends it if it must.
//!
//! It decides nothing: `node/upgrade.rs` does, by [`super::steps`].

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::link::{FromNew, FromOld, Link};
use super::sockets::Sockets;
use super::steps::Event;
use super::{PROTOCOL, READY_TIME, VARIABLE};

/// Who has closed its link has ended, or is about to.
const END_TIME: Duration = Duration::from_secs(2);

pub struct Successor {
    link: Link,
    /// Until it serves. Then nobody here waits for it: when this process ends, whoever adopts it (the init system) finds it,
    /// or how it ended.
    child: Option<Child>,
    /// Of the child, also once it has ended.
    pub pid: u32,
    /// As it said; empty before that.
    pub version: String,
    /// What is not as it should be, as it said.
    pub notes: Vec<String>,
    /// Why it is gone, once it is.
    why: Option<String>,
    is_gone: bool,
}

impl Successor {
    /// Starts `program` with this process's own `arguments`. Its stderr is this one's.
    ///
    /// # Errors
    /// The program cannot be started.
    pub async fn start(
        program: &Path,
        arguments: &[OsString],
        hello: &FromOld,
        sockets: &Sockets,
    ) -> io::Result<Self> {
        let (link, other) = Link::pair()?;
        let mut command = Command::new(program);
        command.args(arguments).env(VARIABLE, PROTOCOL).stdin(Stdio::from(other));
        let child = command.spawn()?;
        // The other end must be the child's alone: its end is heard by the link's.
        drop(command);
        let pid = child.id().unwrap_or_default();
        let successor = Self {
            link,
            child: Some(child),
            pid,
            version: String::new(),
            notes: Vec::new(),
            why: None,
            is_gone: false,
        };
        // One that has ended, or does not listen, is found by its events.
        let _ = tokio::time::timeout(READY_TIME, successor.pass(hello, sockets)).await;
        Ok(successor)
    }

    async fn pass(&self, hello: &FromOld, sockets: &Sockets) -> io::Result<()> {
        self.link.send(hello, None).await?;
        for (room, socket) in sockets.iter() {
            self.link.send(&FromOld::Socket(room), Some(socket.as_fd())).await?;
        }
        Ok(())
    }

    /// What happens next: it is ready, serves, or is gone; that comes once. May be given up and asked again.
    pub async fn event(&mut self) -> Event {
        if self.is_gone {
            return std::future::pending().await;
        }
        loop {
            match self.link.receive().await {
                Ok(Some((FromNew::Ready { version }, _))) => {
                    self.version = version;
                    return Event::Ready;
                }
                Ok(Some((FromNew::Serving { notes }, _))) => {
                    self.notes = notes;
                    // Dropped it would be waited for.
                    std::mem::forget(self.child.take());
                    return Event::Serves;
                }
                Ok(Some((FromNew::Refused { why }, _))) => self.why = Some(why),
                Ok(None) => break,
                Err(error) => {
                    self.why.get_or_insert_with(|| format!("it cannot be understood: {error}"));
                    break;
                }
            }
        }
        self.is_gone = true;
        if let Some(child) = &mut self.child
            && let Ok(Ok(status)) = tokio::time::timeout(END_TIME, child.wait()).await
        {
            self.why.get_or_insert_with(|| format!("it ended ({status}); its log may say why"));
        }
        Event::Gone
    }

    /// Why it will not be let take over, although it is fit.
    pub fn give_up(&mut self, why: String) {
        self.why = Some(why);
    }

    /// Says that the node is its own. If it is gone, that is its next event.
    pub async fn give(&self) {
        let _ = self.link.send(&FromOld::Yours, None).await;
    }

    /// Tells it to end in order, if it has not ended.
    pub fn tell_to_end(&self) {
        // Its number is its own until it has been waited for.
        let id = self.child.as_ref().and_then(Child::id);
        if let Some(pid) = id.and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Ends it, if it has not ended and does not serve.
    pub async fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails only if it has ended.
            let _ = child.kill().await;
        }
    }

    /// Why it did not do what it should, in words.
    pub fn why(&self, otherwise: &str) -> String {
        self.why.clone().unwrap_or_else(|| otherwise.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn hello() -> FromOld {
        FromOld::Hello {
            version: "1".into(),
            pid: 1,
            descriptors: None,
            ledger: None,
            settled: Value::Null,
            sockets: 0,
        }
    }

    async fn start(script: &str) -> Successor {
        let arguments = ["-c".into(), script.into()];
        Successor::start(Path::new("/bin/sh"), &arguments, &hello(), &Sockets::default()).await.unwrap()
    }

    #[tokio::test]
    async fn a_program_that_is_none_of_ours_is_gone() {
        let mut successor = start("exit 3").await;
        assert_eq!(successor.event().await, Event::Gone);
        assert!(successor.why("").contains("exit status: 3"), "{}", successor.why(""));
        let again = tokio::time::timeout(Duration::from_millis(20), successor.event()).await;
        assert!(again.is_err(), "it is gone once");
    }

    #[tokio::test]
    async fn one_that_says_nothing_can_be_killed() {
        let mut successor = start("exec sleep 600").await;
        successor.kill().await;
        assert_eq!(successor.event().await, Event::Gone);
    }

    #[tokio::test]
    async fn one_that_talks_nonsense_is_told_apart() {
        let mut successor = start("echo nonsense >&0; exec sleep 600").await;
        assert_eq!(successor.event().await, Event::Gone);
        assert!(successor.why("").contains("cannot be understood"), "{}", successor.why(""));
        successor.kill().await;
    }

    #[tokio::test]
    async fn one_that_serves_is_left_to_the_init_system() {
        let mut successor = start("echo '{\"serving\":{\"notes\":[]}}' >&0; exit 7").await;
        assert_eq!(successor.event().await, Event::Serves);
        assert_eq!(successor.event().await, Event::Gone);
        let stat = format!("/proc/{}/stat", successor.pid);
        drop(successor);
        let is_waiting = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        while !is_waiting() {
            assert!(tokio::time::Instant::now() < end, "it waits for whoever asks how it ended");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let none = Successor::start(Path::new("/nonexistent"), &[], &hello(), &Sockets::default()).await;
        assert!(none.is_err());
    }
}
