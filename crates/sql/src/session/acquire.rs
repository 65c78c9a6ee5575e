//! Gets a server connection for a batch: a fresh replica, or the primary, waiting for one if there is none.
//!
//! Nothing was sent yet while it waits, so everything may wait.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use tiebeam_topology::Reads;
use tokio::time::{sleep, timeout};

use super::Session;
use crate::pool::{Conn, GetError, POOL_WAIT_MAX, Pool};
use crate::route::{Destination, Tried, route};
use crate::server::ServerError;
use crate::stats::{Count, Why};
use crate::stream::poll_fill;
use crate::wire::error::{SqlError, state};
use crate::worker::{Signal, Worker};

/// While there is a primary that does not accept: between two attempts.
const RETRY_EVERY: Duration = Duration::from_millis(25);
/// What a client may send ahead while its session waits, bytes.
const READ_AHEAD: usize = 64 * 1024;

/// Why there is no connection.
pub(super) enum Stop {
    /// The client went away.
    Gone,
    Error(SqlError),
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Self {
        Self::Error(error)
    }
}

impl Session {
    /// A connection for a batch that certainly only reads, or might write. Counts where it went.
    pub(super) async fn acquire(&mut self, read: bool, tried: &mut Tried) -> Result<Conn, Stop> {
        let mut waited_until = None;
        loop {
            let snapshot = self.worker.snapshot();
            let now = Instant::now();
            if read {
                self.floor.settle(snapshot.view.epoch, snapshot.epoch_since, &snapshot.primary);
            }
            let shared = self.worker.shared.clone();
            let may_wait = waited_until.is_none_or(|until| now < until);
            // A SERIALIZABLE transaction cannot run on a standby, a single read included.
            let reads = if self.key.serializable.get() { Reads::Primary } else { shared.settings.reads };
            let circle = &shared.circle;
            match route(read, reads, &snapshot, &self.floor, *tried, circle, may_wait, now) {
                Destination::Primary(why) => return self.primary(why).await,
                Destination::Replica(i) => {
                    if let Some(pool) = self.worker.replica(&snapshot, i)
                        && !pool.is_down(now)
                        && let Some(conn) = self.replica(&pool).await?
                    {
                        pool.counters.reads.add(1);
                        self.worker.counters.reads_replica.add(1);
                        return Ok(conn);
                    }
                    tried.add(i);
                }
                Destination::Wait => {
                    let until = *waited_until.get_or_insert_with(|| {
                        self.worker.counters.count(Count::FreshWaits);
                        now + shared.settings.fresh_wait
                    });
                    let mut samples = shared.samples.clone();
                    samples.mark_unchanged();
                    if !Arc::ptr_eq(&snapshot, &self.worker.snapshot()) {
                        continue;
                    }
                    shared.nudge.send_modify(|n| *n += 1);
                    let next = async move { samples.changed().await.is_ok() };
                    // At the end of the time the loop decides anew, without waiting.
                    let _ = self.waiting(timeout(until - now, next)).await?;
                }
            }
        }
    }

    /// `None`: not there; try another.
    async fn replica(&mut self, pool: &Rc<Pool>) -> Result<Option<Conn>, Stop> {
        if let Some(conn) = pool.idle(self.key.id) {
            return Ok(Some(conn));
        }
        let within = self.worker.shared.settings.fresh_wait;
        match self.get(pool, within).await? {
            Ok(conn) => Ok(Some(conn)),
            // Even "no such database" is not the last word: the replica may not have replayed that it exists.
            Err(error) => {
                tracing::debug!(node = %pool.target.node, %error, "a read goes elsewhere");
                Ok(None)
            }
        }
    }

    async fn primary(&mut self, why: Option<Why>) -> Result<Conn, Stop> {
        let conn = self.primary_conn().await?;
        let counters = &conn.pool().counters;
        match why {
            Some(why) => {
                counters.reads.add(1);
                self.worker.counters.read_at_primary(why);
            }
            None => counters.writes.add(1),
        }
        Ok(conn)
    }

    /// A connection to the primary, held until there is one.
    async fn primary_conn(&mut self) -> Result<Conn, Stop> {
        let mut hold: Option<Hold> = None;
        let mut cause = "the cluster has no primary now".to_owned();
        loop {
            let mut views = self.worker.shared.views.clone();
            views.mark_unchanged();
            let snapshot = self.worker.snapshot();
            let pool = self.worker.primary(&snapshot);
            if let Some(pool) = &pool {
                if let Some(conn) = pool.idle(self.key.id) {
                    return Ok(conn);
                }
                match self.get(pool, POOL_WAIT_MAX).await? {
                    Ok(conn) => return Ok(conn),
                    Err(GetError::Closed) => continue,
                    Err(error @ GetError::Full(_)) => return Err(full(pool, &error).into()),
                    Err(GetError::Server(ServerError::Refused(error))) if is_final(&error) => {
                        return Err(to_client(error).into());
                    }
                    Err(error) => {
                        cause =
                            format!("the primary {} ({}): {error}", pool.target.node, pool.target.address);
                    }
                }
            }
            let hold = match &mut hold {
                Some(hold) => hold,
                none => none.insert(Hold::new(self.worker.clone())?),
            };
            let left = hold.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.worker.counters.count(Count::HoldTimeouts);
                return Err(no_primary(&self.worker, &cause).into());
            }
            let pause = if pool.is_some() { RETRY_EVERY.min(left) } else { left };
            let changed = async move {
                tokio::select! {
                    _ = views.changed() => {}
                    () = sleep(pause) => {}
                }
            };
            self.waiting(changed).await?;
        }
    }

    async fn get(&mut self, pool: &Rc<Pool>, within: Duration) -> Result<Result<Conn, GetError>, Stop> {
        let (pool, key, counters) = (pool.clone(), self.key.clone(), self.worker.counters.clone());
        self.waiting(async move { pool.get(&key, &counters, within).await }).await
    }

    /// Runs `work` unless the client goes away or cancels.
    pub(super) async fn waiting<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            self.handle.listen(cx.waker());
            if self.handle.take(Signal::Cancel) {
                let text = "canceling statement due to user request";
                return Poll::Ready(Err(SqlError::error(state::QUERY_CANCELED, text).into()));
            }
            if self.has_parted(cx) {
                return Poll::Ready(Err(Stop::Gone));
            }
            while self.parting.is_none() && self.input.len() < READ_AHEAD + self.batch.len {
                match poll_fill(&mut self.client, cx, &mut self.input) {
                    Poll::Ready(Ok(0) | Err(_)) if !self.is_parting() => {
                        return Poll::Ready(Err(Stop::Gone));
                    }
                    // Its time begins.
                    Poll::Ready(Ok(0) | Err(_)) => cx.waker().wake_by_ref(),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// A place among those who wait for a primary.
struct Hold {
    worker: Rc<Worker>,
    until: Instant,
}

impl Hold {
    fn new(worker: Rc<Worker>) -> Result<Self, SqlError> {
        let shared = &worker.shared;
        if shared.waiting.fetch_add(1, Ordering::Relaxed) >= shared.settings.hold_queue {
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
            worker.counters.count(Count::QueueRefused);
            let text = format!(
                "no primary now, and {} sessions wait for one already, which is the most",
                shared.settings.hold_queue
            );
            return Err(SqlError::error(state::TOO_MANY_CONNECTIONS, text)
                .hint("Nothing was done; try again. The bound is `hold_queue` in [sql]."));
        }
        worker.counters.count(Count::Holds);
        worker.counters.waiting.add(1);
        let until = Instant::now() + shared.settings.hold;
        Ok(Self { worker, until })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.worker.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        self.worker.counters.waiting.sub(1);
    }
}

/// Waiting would not help: no such database, no right to connect.
fn is_final(error: &SqlError) -> bool {
    !error.is_unavailable() && error.code != state::TOO_MANY_CONNECTIONS
}

/// A server's refusal to open a connection, as the answer to a statement.
fn to_client(error: SqlError) -> SqlError {
    SqlError { fatal: false, ..error }
}

fn full(pool: &Pool, error: &GetError) -> SqlError {
    let text = format!("all connections to {} stayed in use: {error}", pool.target.node);
    SqlError::error(state::TOO_MANY_CONNECTIONS, text)
        .hint("Nothing was done. Long transactions and pinned sessions hold connections; the bound is `pool_size` in [sql].")
}

fn no_primary(worker: &Worker, cause: &str) -> SqlError {
    let text = format!("no primary accepted this in {} ms", worker.shared.settings.hold.as_millis());
    SqlError::error(state::CANNOT_CONNECT_NOW, text)
        .detail(cause)
        .hint("Nothing was done; try again. `tiebeam status` shows who is primary and why there is none.")
}
