//! The old process, as the new one sees it: what it passes on, and when the node is this one's.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use anyhow::{Context, bail, ensure};
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use serde_json::Value;

use super::link::{FromNew, FromOld, Link, PACKET_BYTES};
use super::sockets::Sockets;
use super::{PROTOCOL, READY_TIME, VARIABLE};
use crate::cli::WrongUse;

/// The end of it means that the node is this process's alone.
#[derive(Debug)]
pub struct Predecessor {
    link: Link,
    pub version: String,
    pub pid: u32,
    /// The soft limit of file descriptors before a process of this node raised it; `None`: there was none.
    pub descriptors: Option<u64>,
    /// Where its ledger listens until the node is this process's.
    pub ledger: Option<SocketAddr>,
    /// What this node cannot change by a handover, as JSON.
    pub settled: Value,
}

/// Whether this process is to take over, and from whom, with its sockets.
///
/// # Errors
/// [`WrongUse`] if there is nobody to take over from, or nobody who is understood.
pub async fn predecessor() -> anyhow::Result<Option<(Predecessor, Sockets)>> {
    let Some(protocol) = std::env::var_os(VARIABLE) else { return Ok(None) };
    if protocol != PROTOCOL {
        let why = format!(
            "the running process hands over by version {} of the protocol, and this one knows {PROTOCOL}: restart the node instead",
            protocol.display()
        );
        return Err(WrongUse(why).into());
    }
    let link = link().map_err(|error| {
        WrongUse(format!("{VARIABLE} is for processes that a running daemon starts itself: {error}"))
    })?;
    let heard = tokio::time::timeout(READY_TIME, hello(link)).await;
    Ok(Some(heard.context("the running process does not say who it is")??))
}

/// Takes stdin, and puts /dev/null there.
fn link() -> io::Result<Link> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    if socket_type(&socket)? != SocketType::SEQPACKET {
        return Err(io::Error::other("stdin is no link to one"));
    }
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Link::new(socket)
}

async fn hello(link: Link) -> anyhow::Result<(Predecessor, Sockets)> {
    let (said, _) = link.receive().await?.context("the running process has ended")?;
    let FromOld::Hello { version, pid, descriptors, ledger, settled, sockets: count } = said else {
        bail!("the running process does not say who it is");
    };
    let mut sockets = Sockets::default();
    for _ in 0..count {
        let (said, passed) = link.receive().await?.context("the running process has ended")?;
        let FromOld::Socket(room) = said else { bail!("the running process passes too few sockets") };
        for socket in passed {
            let socket = TcpListener::from(socket);
            socket.local_addr().context("a socket that was passed has no address")?;
            sockets.add(room, socket);
        }
    }
    ensure!(sockets.iter().count() == count, "the running process passes too few sockets");
    Ok((Predecessor { link, version, pid, descriptors, ledger, settled }, sockets))
}

impl Predecessor {
    /// Says that all has gone well which needs nothing of the old one's.
    pub async fn ready(&self) -> io::Result<()> {
        self.link.send(&FromNew::Ready { version: env!("CARGO_PKG_VERSION").into() }, None).await
    }

    /// Says why this process ends instead. Nobody may be there to hear it.
    pub async fn refuse(&self, why: &str) {
        // In JSON a character takes six bytes at most.
        let why = why.chars().take(PACKET_BYTES / 8).collect();
        let _ = self.link.send(&FromNew::Refused { why }, None).await;
    }

    /// Waits until the node is this process's.
    ///
    /// # Errors
    /// It never will be.
    pub async fn given(&self) -> anyhow::Result<()> {
        let heard = self.link.receive::<FromOld>().await?;
        let (said, _) = heard.context("the process before this one has ended, or goes on by itself")?;
        ensure!(said == FromOld::Yours, "the process before this one said something else: {said:?}");
        Ok(())
    }

    /// Waits until nobody is at the other end any more.
    pub async fn gone(&self) {
        while let Ok(Some(_)) = self.link.receive::<FromOld>().await {}
    }

    /// Says that this process serves.
    pub async fn serving(&self, notes: Vec<String>) -> io::Result<()> {
        self.link.send(&FromNew::Serving { notes }, None).await
    }
}
