//! Servers and pools as workers see them, through the snapshot.
//!
//! A [`Server`] lives on from one configuration to the next, keyed by identity; a [`Pool`] is what one configuration makes
//! of them. One atomic load says whether a server serves; locks are only taken when a check ends, a request fails or is
//! repeated.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tiebeam_balance::health::{Change, Policy, State};
use tiebeam_balance::outlier::Window;
use tiebeam_balance::{AsMember, Ask, Balancer, Member, Millis, NotPicked, Picked, RetryBudget};
use tiebeam_topology::{Balancing, HealthCheck, PoolName, ProxyVersion};

use crate::config::ServerId;
use crate::counters::ServerCounters;
use crate::queue::Queue;
use crate::reach::{Reach, Way};
use crate::sticky::Sticky;
use crate::upstream::ConnectError;

/// One server of one pool at one address.
pub struct Server {
    pub pool: PoolName,
    pub id: ServerId,
    pub address: SocketAddr,
    /// It is told so who the client of a connection is.
    pub proxy_protocol: Option<ProxyVersion>,
    /// How it is spoken to: connections that were opened otherwise are not for it.
    pub way: Way,
    /// A small number of its own, never given to another: workers index their idle connections by it.
    pub number: usize,
    /// One for each worker.
    pub(crate) counters: Arc<[ServerCounters]>,
    pub(crate) member: Member,
    /// What it had done when rates were judged last.
    pub(crate) judged: Mutex<Window>,
    /// When and why its state changed last.
    pub(crate) last: Mutex<Option<(SystemTime, &'static str)>>,
}

impl AsMember for Server {
    fn as_member(&self) -> &Member {
        &self.member
    }
}

impl Server {
    pub fn state(&self) -> State {
        self.member.state()
    }

    /// How often it stopped serving: a connection from before the last time may lead to a process that is gone.
    pub fn falls(&self) -> u32 {
        self.member.falls()
    }

    /// When and why its state changed last; `None`: never.
    pub fn last_change(&self) -> Option<(SystemTime, &'static str)> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn counters(&self, worker: usize) -> &ServerCounters {
        &self.counters[worker]
    }

    pub fn sum(&self, count: fn(&ServerCounters) -> u64) -> u64 {
        self.counters.iter().map(count).sum()
    }

    /// A check ended, or a connection for a request was not accepted in time.
    pub fn on_result(&self, ok: bool, policy: &Policy, now: Millis) {
        self.tell(self.member.on_probe(ok, policy, now));
    }

    /// Nobody listens at its address: it is ejected at once, until a check finds it again.
    pub fn on_refused(&self, now: Millis) {
        self.tell(self.member.on_refused(now));
    }

    /// It is to get nothing new, or is wanted again.
    pub fn drain(&self, is_wanted: bool, now: Millis) {
        self.tell(self.member.drain(is_wanted, now));
    }

    fn tell(&self, change: Option<Change>) {
        if let Some(change) = change {
            tracing::info!(pool = %self.pool, server = %self.id, address = %self.address, "server {change}");
            // A panic while it was held has left one of the two values, whole.
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((SystemTime::now(), change.why));
        }
    }

    /// What it did since this was asked last.
    pub(crate) fn window(&self) -> Window {
        let now = Window {
            requests: self.sum(|c| c.tried.get()),
            failures: self.sum(|c| c.failed.get()),
            took: Duration::from_micros(self.sum(|c| c.took_us.get())),
        };
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *judged, now);
        Window {
            requests: now.requests.saturating_sub(before.requests),
            failures: now.failures.saturating_sub(before.failures),
            took: now.took.saturating_sub(before.took),
        }
    }
}

/// What lives on with a pool's name. All of it is rare, so the workers share it.
#[derive(Default)]
pub struct Shared {
    /// Requests answered by another server than the one whose turn it was.
    pub out_of_turn: AtomicU64,
    /// Servers ejected for what clients met.
    pub ejections: AtomicU64,
    /// Picks that looked at no states, since too few servers serve.
    pub panics: AtomicU64,
    pub hedges: AtomicU64,
    /// Repeats that the budget had nothing left for.
    pub over_budget: AtomicU64,
    pub queue: Queue,
    budget: Mutex<RetryBudget>,
}

/// One pool as a configuration lists it.
pub struct Pool {
    pub name: PoolName,
    pub servers: Vec<Arc<Server>>,
    pub health: HealthCheck,
    pub reach: Reach,
    pub balancing: Balancing,
    pub shared: Arc<Shared>,
    pub sticky: Option<Sticky>,
    pub(crate) balancer: Balancer,
    /// When the edge began: its moments count from here.
    pub(crate) began: Instant,
}

impl Pool {
    pub fn moment(&self, at: Instant) -> Millis {
        Millis(u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX))
    }

    /// The next server; its place is taken until the answer is dropped. If none serves, those that are still being probed
    /// may be tried: that is better than a refusal, and a wrong guess costs one connection attempt.
    ///
    /// # Errors
    /// [`NotPicked`].
    pub fn pick(&self, ask: &Ask<'_>) -> Result<Place<'_>, NotPicked> {
        let picked = self.balancer.pick(&self.servers, ask)?;
        if picked.is_panic {
            self.shared.panics.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Place { pool: self, server: &self.servers[picked.index], picked, has_failed: false })
    }

    /// Whether a second server could be asked beside those that were tried.
    pub fn has_other(&self, tried: &[usize]) -> bool {
        self.balancer.has_other(&self.servers, tried)
    }

    /// Takes one repeat from the budget.
    pub fn may_repeat(&self, now: Instant) -> bool {
        let retries = &self.balancing.retries;
        let policy = tiebeam_balance::BudgetPolicy {
            share: tiebeam_balance::Percent::new(retries.budget),
            floor: retries.floor,
        };
        let requests = self.servers.iter().map(|server| server.sum(|c| c.firsts.get())).sum();
        let mut budget = self.shared.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let may = budget.spend(&policy, requests, self.moment(now));
        if !may {
            self.shared.over_budget.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    pub fn policy(&self) -> Policy {
        Policy { rise: self.health.rise, fall: self.health.fall }
    }

    /// Looks at the clock: who was ejected long enough is tried again, and who waits looks again.
    pub fn tick(&self, now: Instant) {
        let now = self.moment(now);
        self.balancer.tick(&self.servers, now, |index, change| self.servers[index].tell(Some(change)));
        self.shared.queue.look_again();
    }

    /// Judges the servers by what they did since this was called last.
    pub fn judge(&self, now: Instant) {
        let windows: Vec<Window> = self.servers.iter().map(|server| server.window()).collect();
        self.balancer.judge(&self.servers, &windows, self.moment(now), |index, change| {
            self.ejected(&self.servers[index], change);
        });
    }

    fn ejected(&self, server: &Server, change: Change) {
        self.shared.ejections.fetch_add(1, Ordering::Relaxed);
        server.tell(Some(change));
    }
}

/// A server that was picked for a request, as long as that is under way.
pub struct Place<'p> {
    pool: &'p Pool,
    pub server: &'p Server,
    picked: Picked,
    /// It failed the request: an end that is clean makes up for nothing.
    has_failed: bool,
}

impl Place<'_> {
    pub fn index(&self) -> usize {
        self.picked.index
    }

    /// The server has begun to answer, `took` after it had been asked.
    pub fn answered(&mut self, worker: usize, status: u16, took: Duration, now: Instant) {
        // What a gateway says when it got no answer itself. A 500 may be the request's own fault.
        if matches!(status, 502..=504) {
            return self.failed(worker, took, now);
        }
        self.count(worker, took);
        if self.pool.balancing.algorithm == tiebeam_topology::Algorithm::TwoChoices {
            self.server.member.latency().observe(took, self.pool.moment(now));
        }
        self.end_trial(Some(true), now);
    }

    /// Its answer is over, whole or cut short by the server.
    pub fn ended(&mut self, worker: usize, is_cut: bool) {
        match (is_cut, self.has_failed) {
            (true, false) => self.failed(worker, Duration::ZERO, Instant::now()),
            (false, false) => self.server.member.answered(),
            _ => {}
        }
    }

    /// There is no connection to it.
    pub fn not_connected(&mut self, error: &ConnectError, worker: usize, took: Duration) {
        let counters = self.server.counters(worker);
        counters.connect_failures.add(1);
        let now = Instant::now();
        match error {
            ConnectError::NoResources => {}
            // Probes find it again as soon as it is there again: a time of ejection would only be longer.
            ConnectError::Refused => {
                self.server.on_refused(self.pool.moment(now));
                self.end_trial(Some(false), now);
            }
            ConnectError::Failed => {
                self.server.on_result(false, &self.pool.policy(), self.pool.moment(now));
                self.failed(worker, took, now);
            }
        }
    }

    /// Another server was heard, for this one had not spoken after `took`.
    pub fn was_slow(&self, took: Duration, now: Instant) {
        self.server.member.latency().observe(took, self.pool.moment(now));
    }

    /// It gave no answer, or one as good as none.
    pub fn failed(&mut self, worker: usize, took: Duration, now: Instant) {
        self.has_failed = true;
        self.count(worker, took);
        self.server.counters(worker).failed.add(1);
        let at = self.pool.moment(now);
        // A failure may be fast; nobody shall be preferred for that.
        self.server.member.latency().observe(took.max(FAILED_LATENCY), at);
        if self.picked.is_trial {
            return self.end_trial(Some(false), now);
        }
        if let Some(change) = self.pool.balancer.failed(&self.pool.servers, self.picked.index, at) {
            self.pool.ejected(self.server, change);
        }
    }

    fn count(&self, worker: usize, took: Duration) {
        let counters = self.server.counters(worker);
        counters.tried.add(1);
        counters.took_us.add(took.as_micros() as u64);
    }

    fn end_trial(&mut self, ok: Option<bool>, now: Instant) {
        if std::mem::take(&mut self.picked.is_trial) {
            let now = self.pool.moment(now);
            self.server.tell(self.pool.balancer.end_trial(&self.server.member, ok, now));
        }
    }
}

/// What a failure counts for at least where latencies are compared.
const FAILED_LATENCY: Duration = Duration::from_secs(1);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.picked.is_trial {
            self.end_trial(None, Instant::now());
        }
        self.pool.balancer.release(&self.server.member);
        self.pool.shared.queue.let_one_look();
    }
}
