//! The handle of a running router, for the node's wiring: it starts the threads, sums their counters, ends them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rand::Rng as _;
use socket2::{Domain, Protocol, Socket, Type};
use tiebeam_balance::RoundRobin;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use crate::control::{Control, Published};
use crate::settings::WORKERS_MAX;
use crate::snapshot::Snapshot;
use crate::stats::Counters;
use crate::worker::{Shared, Stage, Worker};
use crate::{Settings, StartError, Stats, View};

/// Connections that the kernel holds for a worker that has not accepted them yet.
const BACKLOG: i32 = 1024;
/// Questions of logins that wait for the control thread.
const LOOKUPS_MAX: usize = 1024;

/// A running router. Dropped, it ends at once; [`Router::drain`] ends it gently.
pub struct Router {
    shared: Arc<Shared>,
    counters: Vec<Arc<Counters>>,
    stage: watch::Sender<Stage>,
    threads: Vec<JoinHandle<()>>,
    address: SocketAddr,
}

impl Router {
    /// Binds `settings.listen`, starts a thread a worker and one that watches the servers, and returns. Clients are
    /// accepted from then on; what they want is held until `view` names a primary.
    pub fn start(settings: Settings, view: watch::Receiver<Arc<View>>) -> Result<Self, StartError> {
        let workers = match settings.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX),
            n if n > WORKERS_MAX => return Err(StartError::TooManyWorkers(n)),
            n => n,
        };
        let (listeners, address) = listen(settings.listen, workers)?;
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
        let mut router = Self { shared: shared.clone(), counters, stage, threads: Vec::new(), address };

        let control = shared.clone();
        let published = Published { samples, views };
        router
            .thread("sql-control".into(), 0, move || Control::run(control, published, view, lookups_asked))?;
        for (index, (listener, inbox)) in listeners.into_iter().zip(inboxes).enumerate() {
            let (shared, counters) = (shared.clone(), router.counters[index].clone());
            router.thread(format!("sql-{index}"), index, move || async move {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => Worker::new(index, shared, counters).run(listener, inbox).await,
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

    /// Accepts no more clients, lets each session finish its transaction, at most `within`, then ends all.
    pub async fn drain(&self, within: Duration) {
        self.stage.send_replace(Stage::Draining);
        let deadline = tokio::time::Instant::now() + within;
        while self.threads.iter().skip(1).any(|thread| !thread.is_finished()) {
            if tokio::time::timeout_at(deadline, tokio::time::sleep(Duration::from_millis(5))).await.is_err()
            {
                break;
            }
        }
        self.stage.send_replace(Stage::Ended);
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
        self.stage.send_replace(Stage::Ended);
    }
}

/// A listener for each worker, all at one address: the kernel spreads clients over them.
fn listen(
    address: SocketAddr,
    workers: usize,
) -> Result<(Vec<std::net::TcpListener>, SocketAddr), StartError> {
    let fail = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => StartError::InUse { listen: address },
        _ => StartError::Listen { listen: address, source },
    };
    // With SO_REUSEPORT another process of ours would share the port unnoticed; without it the port is taken or not.
    let probe = bind(address, false).map_err(fail)?;
    let bound = probe.local_addr().ok().and_then(|a| a.as_socket()).unwrap_or(address);
    drop(probe);
    let one = |_| {
        let socket = bind(bound, true)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    let listeners = (0..workers).map(one).collect::<std::io::Result<_>>().map_err(fail)?;
    Ok((listeners, bound))
}

fn bind(address: SocketAddr, shared: bool) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
