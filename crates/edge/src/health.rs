//! Active health checks: one thread for each edge asks every server on its schedule and tells its [`Server`]. It also looks
//! at the clock for those that were ejected for what clients met.
//!
//! It decides nothing: `balance` does. It never touches a request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use tiebeam_topology::HealthCheck;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::codec::{Asked, HeadLimits, Progress, ResponseHead};
use crate::servers::{Pool, Server};
use crate::upstream;

/// A check's answer may have a head of this size, bytes.
const HEAD_BYTES: usize = 8 * 1024;
/// Of `every`, in percent, either way: checks of many edges do not march in step.
const JITTER_PERCENT: u32 = 10;
/// Ejections end this late at most.
const TICK: Duration = Duration::from_millis(100);
/// The while that rates are taken over.
const JUDGE_EVERY: Duration = Duration::from_secs(10);

/// Checks the servers of the pools that were published last, until the sender is dropped.
pub async fn run(mut pools: watch::Receiver<Vec<Arc<Pool>>>) {
    let mut running: HashMap<usize, (HealthCheck, AbortHandle)> = HashMap::new();
    let watched = pools.clone();
    let watching = tokio::task::spawn_local(watch_forever(watched));
    loop {
        let now = pools.borrow_and_update().clone();
        let mut wanted = HashMap::new();
        for pool in &now {
            for server in &pool.servers {
                let same = running.remove(&server.number).and_then(|(check, task)| {
                    if check == pool.health {
                        return Some((check, task));
                    }
                    task.abort();
                    None
                });
                let entry = same.unwrap_or_else(|| {
                    let task = tokio::task::spawn_local(check_forever(server.clone(), pool.clone()));
                    (pool.health.clone(), task.abort_handle())
                });
                wanted.insert(server.number, entry);
            }
        }
        running.into_values().for_each(|(_, task)| task.abort());
        running = wanted;
        if pools.changed().await.is_err() {
            watching.abort();
            return;
        }
    }
}

/// Those who were ejected come back in time, and those who stand out go.
async fn watch_forever(pools: watch::Receiver<Vec<Arc<Pool>>>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut judged = Instant::now();
    loop {
        let now = interval.tick().await.into_std();
        let pools = pools.borrow().clone();
        let is_due = now.saturating_duration_since(judged) >= JUDGE_EVERY;
        for pool in &pools {
            pool.tick(now);
            if is_due {
                pool.judge(now);
            }
        }
        if is_due {
            judged = now;
        }
    }
}

async fn check_forever(server: Arc<Server>, pool: Arc<Pool>) {
    loop {
        let check = &pool.health;
        let falls = server.falls();
        match tokio::time::timeout(check.timeout, is_healthy(&server, &pool)).await {
            // A request has found it gone meanwhile: that is newer.
            Ok(Ok(true)) if server.falls() != falls => {}
            Ok(Ok(ok)) => server.on_result(ok, &pool.policy(), pool.moment(Instant::now())),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                server.on_refused(pool.moment(Instant::now()));
            }
            Ok(Err(error)) if crate::worker::is_exhaustion(&error) => {
                tracing::warn!(%error, "a health check could not be made; the server keeps its state");
            }
            Ok(Err(_)) | Err(_) => server.on_result(false, &pool.policy(), pool.moment(Instant::now())),
        }
        let percent = rand::rng().random_range(100 - JITTER_PERCENT..=100 + JITTER_PERCENT);
        tokio::time::sleep((check.every * percent / 100).max(Duration::from_millis(1))).await;
    }
}

/// 2xx and 3xx are healthy; without a path a connection is enough.
async fn is_healthy(server: &Server, pool: &Pool) -> std::io::Result<bool> {
    let limits = HeadLimits { bytes: HEAD_BYTES, fields: 128, line_bytes: HEAD_BYTES };
    let mut stream = upstream::alone(server, &pool.reach, &limits).await?;
    let Some(path) = &pool.health.path else { return Ok(true) };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: tiebeam-health\r\nConnection: close\r\n\r\n",
        server.address
    );
    stream.write_all(request.as_bytes()).await?;
    let (mut head, mut bytes) = (ResponseHead::default(), Vec::with_capacity(1024));
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(false);
        }
        match head.parse(&bytes, &limits, Asked::Other) {
            Ok(Progress::More) => {}
            Ok(Progress::Done { len }) if head.is_interim() => drop(bytes.drain(..len)),
            Ok(Progress::Done { .. }) => return Ok((200..400).contains(&head.status)),
            Err(_) => return Ok(false),
        }
    }
}
