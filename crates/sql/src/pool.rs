//! The connections of one worker to one PostgreSQL, of one epoch: bounded, first come first served.
//!
//! Never shared between threads, never used after its epoch: `worker` makes a new pool then and closes the old one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tiebeam_topology::Epoch;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::Target;
use crate::server::{Process, Proof, Server, ServerError};
use crate::stats::{Count, Counters, ServerCounters};

/// A connection that no session used for so long is closed.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(60);
/// Longest wait for a connection of the primary's full pool. A read waits less for a replica's: others can answer it.
pub(crate) const POOL_WAIT_MAX: Duration = Duration::from_secs(60);
/// A server that has just let us in answers a question in this time.
const ASK_TIME: Duration = Duration::from_secs(2);
/// After a failed connect, reads are not tried at that replica for so long.
const DOWN_TIME: Duration = Duration::from_secs(1);

/// Names and values of parameters, as servers report them.
pub(crate) type Reported = Rc<[(String, String)]>;

/// What connections must have in common to be interchangeable: the user, the database and all startup parameters.
pub(crate) struct Key {
    pub id: u64,
    pub database: String,
    /// As sent to servers, `user` and `database` included.
    pub params: Vec<(String, String)>,
    /// How connections of this user are opened: from the last login.
    pub proof: RefCell<Proof>,
    /// What servers report at login; known from the first connection on.
    pub reported: RefCell<Option<Reported>>,
    /// The default of its transactions, by the role, the database or a parameter, is what a standby refuses.
    pub serializable: Cell<bool>,
}

pub(crate) struct Pool {
    pub target: Target,
    pub epoch: Epoch,
    /// The view says that this is a replica.
    pub replica: bool,
    limit: usize,
    /// Connections that stand or are being opened.
    open: Cell<usize>,
    closed: Cell<bool>,
    /// Tells those who open a connection that nobody wants it any more.
    closing: Notify,
    idle: RefCell<Vec<Conn>>,
    waiters: RefCell<VecDeque<Waiter>>,
    down_since: Cell<Option<Instant>>,
    pub counters: Arc<ServerCounters>,
}

struct Waiter {
    key: u64,
    grant: oneshot::Sender<Grant>,
}

enum Grant {
    Conn(Conn),
    /// The right to open one.
    Slot(Slot),
}

/// What a CancelRequest for a session needs, while the session uses the connection.
pub(crate) struct ConnInfo {
    pub pool: Rc<Pool>,
    pub key: Rc<Key>,
    pub process: Process,
    /// A cancel was sent: it may hit late, so the connection serves no other session.
    pub cancelled: Cell<bool>,
}

/// A connection that a session uses. Dropped, it is closed; [`Conn::release`] keeps it.
pub(crate) struct Conn {
    pub server: Box<Server>,
    pub info: Rc<ConnInfo>,
    slot: Slot,
    idle_since: Instant,
}

/// The right to one connection of the pool; dropped, the first in the queue gets it.
struct Slot(Rc<Pool>);

#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    #[error("{0}")]
    Server(#[from] ServerError),
    #[error("it is a standby now, not the primary")]
    Standby,
    #[error("it is not a standby any more")]
    NotStandby,
    #[error("no connection became free in {} ms", .0.as_millis())]
    Full(Duration),
    #[error("sessions of this user are SERIALIZABLE unless they say otherwise, which a replica refuses")]
    Serializable,
    #[error("the cluster changed")]
    Closed,
}

impl Pool {
    pub fn new(
        target: Target,
        epoch: Epoch,
        replica: bool,
        limit: usize,
        counters: Arc<ServerCounters>,
    ) -> Rc<Self> {
        Rc::new(Self {
            target,
            epoch,
            replica,
            limit,
            open: Cell::new(0),
            closed: Cell::new(false),
            closing: Notify::new(),
            idle: RefCell::default(),
            waiters: RefCell::default(),
            down_since: Cell::new(None),
            counters,
        })
    }

    /// A connection with this key: an idle one, a new one, or the next that becomes free, if one does `within` this time.
    pub async fn get(
        self: &Rc<Self>,
        key: &Rc<Key>,
        counters: &Counters,
        within: Duration,
    ) -> Result<Conn, GetError> {
        if let Some(conn) = self.idle(key.id) {
            return Ok(conn);
        }
        let slot = match self.slot() {
            Some(slot) => slot,
            None => match self.wait(key, counters, within).await? {
                Grant::Conn(conn) => return Ok(conn),
                Grant::Slot(slot) => slot,
            },
        };
        let conn = tokio::select! {
            biased;
            () = self.ended() => return Err(GetError::Closed),
            conn = self.open(key, slot) => conn?,
        };
        Ok(conn)
    }

    /// Returns when the pool is closed.
    async fn ended(&self) {
        let closing = self.closing.notified();
        if !self.closed.get() {
            closing.await;
        }
    }

    /// An idle connection that is still alive, most recently used first.
    pub fn idle(&self, key: u64) -> Option<Conn> {
        loop {
            let mut idle = self.idle.borrow_mut();
            let at = idle.iter().rposition(|conn| conn.info.key.id == key)?;
            let mut conn = idle.remove(at);
            drop(idle);
            self.counters.idle.sub(1);
            self.counters.active.add(1);
            if conn.server.stream.is_quiet() {
                return Some(conn);
            }
        }
    }

    fn slot(self: &Rc<Self>) -> Option<Slot> {
        if self.closed.get() || !self.waiters.borrow().is_empty() {
            return None;
        }
        if self.open.get() >= self.limit {
            // An idle connection of someone else makes room.
            let mut idle = self.idle.borrow_mut();
            if idle.is_empty() {
                return None;
            }
            let mut oldest = idle.remove(0);
            drop(idle);
            self.counters.idle.sub(1);
            self.counters.active.add(1);
            oldest.server.part();
        }
        self.open.set(self.open.get() + 1);
        self.counters.active.add(1);
        Some(Slot(self.clone()))
    }

    async fn wait(&self, key: &Key, counters: &Counters, within: Duration) -> Result<Grant, GetError> {
        if self.closed.get() {
            return Err(GetError::Closed);
        }
        counters.count(Count::PoolWaits);
        let (grant, granted) = oneshot::channel();
        self.queue(Waiter { key: key.id, grant });
        match timeout(within, granted).await {
            Ok(Ok(grant)) => Ok(grant),
            Ok(Err(_)) => Err(GetError::Closed),
            Err(_) => {
                counters.count(Count::PoolTimeouts);
                Err(GetError::Full(within))
            }
        }
    }

    fn queue(&self, waiter: Waiter) {
        let mut waiters = self.waiters.borrow_mut();
        // Those who gave up would be found only when a connection becomes free.
        waiters.retain(|waiter| !waiter.grant.is_closed());
        waiters.push_back(waiter);
    }

    async fn open(self: &Rc<Self>, key: &Rc<Key>, slot: Slot) -> Result<Conn, GetError> {
        let proof = key.proof.borrow().clone();
        let mut server = match Server::connect(&self.target, &proof, &key.params).await {
            Ok(server) => server,
            Err(error) => {
                self.counters.errors.add(1);
                self.down_since.set(Some(Instant::now()));
                return Err(error.into());
            }
        };
        self.down_since.set(None);
        match (self.replica, server.was_standby()) {
            (false, true) => return Err(GetError::Standby),
            (true, false) => return Err(GetError::NotStandby),
            (true, true) if key.serializable.get() || is_serializable(&mut server).await? => {
                key.serializable.set(true);
                server.part();
                return Err(GetError::Serializable);
            }
            _ => {}
        }
        if key.reported.borrow().is_none() {
            key.reported.replace(Some(server.parameters.clone().into()));
        }
        let info = ConnInfo {
            pool: self.clone(),
            key: key.clone(),
            process: server.process.clone(),
            cancelled: Cell::new(false),
        };
        Ok(Conn { server: Box::new(server), info: Rc::new(info), slot, idle_since: Instant::now() })
    }

    /// A connect failed a moment ago.
    pub fn is_down(&self, now: Instant) -> bool {
        self.down_since.get().is_some_and(|since| now.saturating_duration_since(since) < DOWN_TIME)
    }

    /// Closes what no session used lately.
    pub fn sweep(&self, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        let (keep, old) = std::mem::take(&mut *idle)
            .into_iter()
            .partition(|conn| now.saturating_duration_since(conn.idle_since) < IDLE_MAX);
        *idle = keep;
        drop(idle);
        self.part_all(old);
    }

    /// Ends the pool: idle connections are closed, those in use are closed when they are released, who waits is sent
    /// away with [`GetError::Closed`].
    pub fn close(&self) {
        self.closed.set(true);
        self.closing.notify_waiters();
        self.waiters.borrow_mut().clear();
        let all = std::mem::take(&mut *self.idle.borrow_mut());
        self.part_all(all);
    }

    fn part_all(&self, conns: Vec<Conn>) {
        for mut conn in conns {
            self.counters.idle.sub(1);
            self.counters.active.add(1);
            conn.server.part();
        }
    }
}

/// What no server reports by itself: a standby would refuse the first statement of each transaction.
async fn is_serializable(server: &mut Server) -> Result<bool, ServerError> {
    let asked = timeout(ASK_TIME, server.ask("SHOW default_transaction_isolation", &[])).await;
    let rows = asked.map_err(|_| ServerError::Timeout(ASK_TIME))??;
    Ok(matches!(rows.as_slice(), [row] if matches!(row.as_slice(), [Some(level)] if level == "serializable")))
}

impl Conn {
    pub fn pool(&self) -> &Rc<Pool> {
        &self.info.pool
    }

    /// Gives the connection back, in no transaction and with nothing under way, for whoever is next.
    pub fn release(mut self, now: Instant) {
        let pool = self.slot.0.clone();
        if pool.closed.get() || self.info.cancelled.get() {
            self.server.part();
            return;
        }
        self.idle_since = now;
        loop {
            let Some(waiter) = pool.waiters.borrow_mut().pop_front() else { break };
            if waiter.key == self.info.key.id {
                match waiter.grant.send(Grant::Conn(self)) {
                    Ok(()) => return,
                    Err(Grant::Conn(conn)) => self = conn,
                    Err(Grant::Slot(_)) => return,
                }
            } else if !waiter.grant.is_closed() {
                self.server.part();
                // Whoever does not take it drops it, and the next in the queue gets it.
                let _ = waiter.grant.send(Grant::Slot(self.slot));
                return;
            }
        }
        pool.counters.active.sub(1);
        pool.counters.idle.add(1);
        pool.idle.borrow_mut().push(self);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let pool = &self.0;
        loop {
            let Some(waiter) = pool.waiters.borrow_mut().pop_front() else { break };
            if waiter.grant.is_closed() {
                continue;
            }
            // If it is refused after all, this runs again for the slot that comes back.
            let _ = waiter.grant.send(Grant::Slot(Slot(pool.clone())));
            return;
        }
        pool.open.set(pool.open.get() - 1);
        pool.counters.active.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Rc<Pool> {
        let target = Target {
            node: "a".parse().unwrap(),
            address: ([127, 0, 0, 1], 1).into(),
            identity: String::new(),
        };
        Pool::new(target, Epoch(1), true, 1, Arc::default())
    }

    #[test]
    fn who_gave_up_does_not_stay_in_the_queue() {
        let pool = pool();
        let waiter = || {
            let (grant, granted) = oneshot::channel();
            pool.queue(Waiter { key: 1, grant });
            granted
        };
        let patient = waiter();
        for _ in 0..100 {
            drop(waiter());
        }
        assert!(pool.waiters.borrow().len() <= 2);
        drop(patient);
    }

    #[tokio::test]
    async fn a_wait_ends_at_its_bound_and_with_its_pool() {
        let (pool, counters) = (pool(), Counters::default());
        let key = Key {
            id: 1,
            database: String::new(),
            params: Vec::new(),
            proof: RefCell::new(Proof::Password(None)),
            reported: RefCell::default(),
            serializable: Cell::new(false),
        };
        let _slot = pool.slot().unwrap();
        assert!(pool.slot().is_none(), "its only connection is in use");
        let within = Duration::from_millis(5);
        assert!(matches!(pool.wait(&key, &counters, within).await, Err(GetError::Full(w)) if w == within));
        let long = pool.wait(&key, &counters, POOL_WAIT_MAX);
        let (ended, ()) = tokio::join!(long, async { pool.close() });
        assert!(matches!(ended, Err(GetError::Closed)));
    }
}
