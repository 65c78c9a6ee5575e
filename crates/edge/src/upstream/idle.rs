//! Connections to servers of HTTP/1.1, kept while they may be used again, never shared between workers.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::Upstream;
use crate::proxy_protocol::Route;
use crate::reach::Trust;
use crate::servers::Server;

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
    stream: Upstream,
    since: Instant,
    /// [`Server::falls`] when it was last used.
    falls: u32,
    /// What it was announced as: it is nobody else's.
    route: Option<Route>,
}

impl IdleServers {
    /// The connection used last that the server has not closed and said nothing on, and that was opened under the same
    /// `trust`. Announced as `route`, if the server is told so.
    pub fn take(
        &self,
        server: &Server,
        trust: Option<Trust>,
        now: Instant,
        may_repeat: bool,
        route: Option<Route>,
    ) -> Option<Upstream> {
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
        while let Some(Idle { mut stream, falls, .. }) = next(idle) {
            if falls == server.falls() && stream.trust() == trust && stream.is_quiet() {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps it, unless it is a stream: those are for one request each.
    pub fn put(&self, server: &Server, stream: Upstream, since: Instant, route: Option<Route>) {
        if matches!(stream, Upstream::Http2(_)) {
            return;
        }
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
