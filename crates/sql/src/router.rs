//! The handle of a running router, for the node's wiring: it starts the threads, sums their counters, ends them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rand::Rng as _;
use tiebeam_balance::RoundRobin;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use crate::control::{Control, Published};
use crate::listen;
use crate::settings::WORKERS_MAX;
use crate::snapshot::Snapshot;
use crate::stats::Counters;
use crate::worker::{Shared, Stage, Worker};
use crate::{Settings, StartError, Stats, View};

/// Questions of logins that wait for the control thread.
const LOOKUPS_MAX: usize = 1024;

/// A running router. Dropped, it ends at once; [`Router::drain`] ends it gently.
pub struct Router {
    shared: Arc<Shared>,
    counters: Vec<Arc<Counters>>,
    stage: watch::Sender<Stage>,
    threads: Vec<JoinHandle<()>>,
    address: SocketAddr,
    /// The workers' own, once more, for a process after this one.
    sockets: Mutex<Vec<TcpListener>>,
}

impl Router {
    /// Binds `settings.listen`, starts a thread a worker and one that watches the servers, and returns. Clients are
    /// accepted from then on; what they want is held until `view` names a primary.
    pub fn start(settings: Settings, view: watch::Receiver<Arc<View>>) -> Result<Self, StartError> {
        Self::start_on(Vec::new(), settings, view)
    }

    /// As [`Router::start`]; of `inherited`, sockets of a process before this one that listen already, those at
    /// `settings.listen` are used, and the others closed.
    pub fn start_on(
        inherited: Vec<TcpListener>,
        settings: Settings,
        view: watch::Receiver<Arc<View>>,
    ) -> Result<Self, StartError> {
        let workers = match settings.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX),
            n if n > WORKERS_MAX => return Err(StartError::TooManyWorkers(n)),
            n => n,
        };
        let (mut listeners, address) = listen::bind(settings.listen, workers, inherited)?;
        let failed = |source| StartError::Listen { listen: address, source };
        let sockets = listeners
            .iter()
            .flatten()
            .map(TcpListener::try_clone)
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let snapshot = Snapshot::new(view.borrow().clone(), Instant::now());
        let (samples, samples_seen) = watch::channel(0);
        let (views, views_seen) = watch::channel(snapshot.serial);
        let (stage, stage_seen) = watch::channel(Stage::Running);
        let (lookups, lookups_asked) = mpsc::channel(LOOKUPS_MAX);
        let (cancels, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        let shared = Arc::new(Shared {
            settings,
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            samples: samples_seen,
            views: views_seen,
            nudge: watch::Sender::new(0),
            lookups,
            cancels,
            clients: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            circle: RoundRobin::new(),
            secret: rand::rng().random(),
            stage: stage_seen,
        });
        let counters: Vec<Arc<Counters>> = (0..workers).map(|_| Arc::default()).collect();
        let mut router = Self {
            shared: shared.clone(),
            counters,
            stage,
            threads: Vec::new(),
            address,
            sockets: Mutex::new(sockets),
        };

        let control = shared.clone();
        let published = Published { samples, views };
        router
            .thread("sql-control".into(), 0, move || Control::run(control, published, view, lookups_asked))?;
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let (shared, counters) = (shared.clone(), router.counters[index].clone());
            let mine = std::mem::take(&mut listeners[index]);
            router.thread(format!("sql-{index}"), index, move || async move {
                match mine.into_iter().map(tokio::net::TcpListener::from_std).collect() {
                    Ok(listeners) => Worker::new(index, shared, counters).run(listeners, inbox).await,
                    Err(error) => tracing::error!(%error, "a worker of the router cannot use its listener"),
                }
            })?;
        }
        tracing::info!(node = %shared.settings.node, listen = %address, workers, "the router accepts clients");
        Ok(router)
    }

    /// Where it listens: as in the settings, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The sum of all counters now.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.counters.iter().for_each(|counters| counters.add_to(&mut stats));
        let snapshot = self.shared.snapshot.load();
        stats.epoch = snapshot.view.epoch;
        stats.primary = snapshot.view.primary.as_ref().map(|target| target.node.clone());
        let primary = snapshot.primary.latest();
        for (target, sample) in snapshot.view.replicas.iter().zip(&snapshot.replicas) {
            if let (Some(primary), Some(sample)) = (primary, sample) {
                let server = stats.servers.entry(target.node.clone()).or_default();
                server.lag_bytes = Some(primary.lsn.ahead_of(sample.lsn));
            }
        }
        stats
    }

    /// The sockets that it listens on, for a process that goes on with them; none once it accepts no more.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn listening(&self) -> io::Result<Vec<TcpListener>> {
        self.sockets().iter().map(TcpListener::try_clone).collect()
    }

    /// Accepts no more clients and listens no more, for another process has the sockets; the sessions of now go on until
    /// [`Router::drain`].
    pub fn stop_accepting(&self) {
        self.sockets().clear();
        self.enter(Stage::Closed);
    }

    /// Never back.
    fn enter(&self, next: Stage) {
        self.stage.send_if_modified(|stage| {
            let is_next = *stage < next;
            *stage = next.max(*stage);
            is_next
        });
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<TcpListener>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts no more clients, lets each session finish its transaction, at most `within`, then ends all. Given up, it may
    /// be asked for once more, with another time.
    pub async fn drain(&self, within: Duration) {
        self.sockets().clear();
        self.enter(Stage::Draining);
        let deadline = tokio::time::Instant::now() + within;
        while self.threads.iter().skip(1).any(|thread| !thread.is_finished()) {
            if tokio::time::timeout_at(deadline, tokio::time::sleep(Duration::from_millis(5))).await.is_err()
            {
                break;
            }
        }
        self.enter(Stage::Ended);
        while !self.threads.iter().all(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn thread<F>(
        &mut self,
        name: String,
        worker: usize,
        main: impl FnOnce() -> F + Send + 'static,
    ) -> Result<(), StartError>
    where
        F: Future<Output = ()>,
    {
        let failed = |source| StartError::Thread { worker, source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let body = move || {
            let tasks = LocalSet::new();
            runtime.block_on(tasks.run_until(async move { main().await }));
        };
        self.threads.push(std::thread::Builder::new().name(name).spawn(body).map_err(failed)?);
        Ok(())
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.enter(Stage::Ended);
    }
}
