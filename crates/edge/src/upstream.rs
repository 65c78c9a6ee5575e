//! Connections to servers: opened in bounded time, kept while they may be used again, never shared between workers.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::clock::{Elapsed, Timer};
use crate::proxy_protocol::{self, Announced, Route};
use crate::servers::Server;
use crate::worker::is_exhaustion;

/// Idle connections that one worker keeps to one server. More are closed.
const IDLE_CONNECTIONS: usize = 256;
/// Shorter than the idle time of common servers (5 s and more), so that they seldom close first.
const IDLE_TIME: Duration = Duration::from_secs(4);
/// A request that must not be sent twice goes only on a connection that was used this recently.
const FRESH_TIME: Duration = Duration::from_secs(1);

/// Of one worker, by [`Server::number`].
#[derive(Default)]
pub struct IdleServers {
    by_number: RefCell<Vec<Vec<Idle>>>,
}

struct Idle {
    stream: TcpStream,
    since: Instant,
    /// [`Server::falls`] when it was last used.
    falls: u32,
    /// What it was announced as: it is nobody else's.
    route: Option<Route>,
}

impl IdleServers {
    /// The connection used last that the server has not closed and said nothing on.
    /// Announced as `route`, if the server is told so.
    pub fn take(
        &self,
        server: &Server,
        now: Instant,
        may_repeat: bool,
        route: Option<Route>,
    ) -> Option<TcpStream> {
        let mut by_number = self.by_number.borrow_mut();
        let idle = by_number.get_mut(server.number)?;
        let most = if may_repeat { IDLE_TIME } else { FRESH_TIME };
        // The last one is the youngest: if that is too old, the others are; the sweep closes them.
        let is_young = |idle: &Idle| now.saturating_duration_since(idle.since) <= most;
        let next = |all: &mut Vec<Idle>| match route {
            None => all.pop_if(|idle| is_young(idle)),
            Some(_) => {
                let at = all.iter().rposition(|idle| idle.route == route && is_young(idle))?;
                Some(all.remove(at))
            }
        };
        while let Some(Idle { stream, falls, .. }) = next(idle) {
            if falls != server.falls() {
                continue;
            }
            // Costs no system call while epoll has reported nothing.
            if matches!(stream.try_read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock) {
                return Some(stream);
            }
        }
        None
    }

    pub fn put(&self, server: &Server, stream: TcpStream, since: Instant, route: Option<Route>) {
        let mut by_number = self.by_number.borrow_mut();
        if by_number.len() <= server.number {
            by_number.resize_with(server.number + 1, Vec::new);
        }
        let idle = &mut by_number[server.number];
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(Idle { stream, since, falls: server.falls(), route });
        }
    }

    /// Closes what was idle too long.
    pub fn sweep(&self, now: Instant) {
        for idle in self.by_number.borrow_mut().iter_mut() {
            let old = idle.partition_point(|idle| now.saturating_duration_since(idle.since) > IDLE_TIME);
            idle.drain(..old);
            if idle.is_empty() {
                idle.shrink_to_fit();
            }
        }
    }
}

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Nobody listens there.
    Refused,
    /// Unreachable, or no answer in time.
    Failed,
    /// This process has no descriptor or port left: not the server's fault.
    NoResources,
}

/// Opens a connection, and announces it as `route` if the server is told so.
pub async fn connect(
    server: &Server,
    route: Option<Route>,
    timer: &Timer,
    within: Duration,
) -> Result<TcpStream, ConnectError> {
    let connecting = async {
        let mut stream = TcpStream::connect(server.address).await?;
        // Fails only on a connection that is gone already, which the first write will tell.
        let _ = stream.set_nodelay(true);
        if let (Some(version), Some(route)) = (server.proxy_protocol, route) {
            let mut header = Vec::new();
            proxy_protocol::write(&mut header, version, &Announced::Client(route));
            stream.write_all(&header).await?;
        }
        Ok::<_, io::Error>(stream)
    };
    match timer.within(within, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(ConnectError::Refused),
        Ok(Err(error)) if is_exhaustion(&error) => Err(ConnectError::NoResources),
        Ok(Err(_)) | Err(Elapsed) => Err(ConnectError::Failed),
    }
}
