//! One thread that serves: its own runtime, listeners, connections to servers, buffers and counters.
//!
//! Everything in [`Worker`] is used by this thread alone, so it is cells, not locks. A borrow of a cell never lives
//! across an `.await`.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rand::distr::{Distribution, StandardUniform};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::access_log::Log;
use crate::addresses::{ByAddress, Origin};
use crate::buffer::Buffers;
use crate::clock::{Clock, TICK};
use crate::codec::{RequestHead, ResponseHead};
use crate::counters::{Counters, Reason};
use crate::doors::{Incoming, Listener};
use crate::files::Forms;
use crate::h2::lanes::Lanes;
use crate::snapshot::Snapshot;
use crate::upstream::{Http2Servers, IdleServers};
use crate::welcome::welcome;

/// What all workers of an edge share.
pub struct Shared {
    pub snapshot: ArcSwap<Snapshot>,
    /// Counts what was published: each request asks for it, and finds it in its core's cache.
    version: AtomicU64,
    /// One for each worker.
    pub counters: Vec<Arc<Counters>>,
    /// Client connections of all workers: touched when one opens or closes, never by a request.
    pub open: AtomicUsize,
    pub by_address: ByAddress,
    /// 0: the edge does not listen for HTTPS.
    pub https_port: AtomicU16,
    /// Compressed files, for blocking threads only.
    pub forms: Forms,
}

impl Shared {
    pub fn new(snapshot: Snapshot, workers: usize) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            version: AtomicU64::new(0),
            counters: (0..workers).map(|_| Arc::default()).collect(),
            open: AtomicUsize::new(0),
            by_address: ByAddress::default(),
            https_port: AtomicU16::new(0),
            forms: Forms::default(),
        }
    }

    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.version.fetch_add(1, Ordering::Release);
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// A snapshot that is at least as new as the version with it.
    fn published(&self) -> (u64, Arc<Snapshot>) {
        (self.version(), self.snapshot.load_full())
    }

    /// Where clients are sent who came over HTTP.
    pub fn https_port(&self) -> Option<u16> {
        Some(self.https_port.load(Ordering::Relaxed)).filter(|port| *port != 0)
    }
}

/// How far an edge is on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Serving,
    /// No new connections; the next answer on an old one is its last. What runs may run until `until`, and who says
    /// nothing is let go at `idle_until`.
    Draining {
        until: Instant,
        idle_until: Instant,
    },
}

impl Phase {
    /// The next phase of an edge that is asked to end by then: a moment that was named already is never put off.
    pub fn ending_by(self, until: Instant, idle_until: Instant) -> Self {
        match self {
            Self::Serving => Self::Draining { until, idle_until },
            Self::Draining { until: named, idle_until: idle_named } => {
                Self::Draining { until: until.min(named), idle_until: idle_until.min(idle_named) }
            }
        }
    }
}

pub struct Worker {
    pub index: usize,
    pub shared: Arc<Shared>,
    pub counters: Arc<Counters>,
    pub clock: Rc<Clock>,
    pub buffers: Buffers,
    pub idle: IdleServers,
    pub http2: Http2Servers,
    pub lanes: Lanes,
    pub log: Log,
    /// Where heads are parsed into: used between two awaits only.
    pub request: Rc<RefCell<RequestHead>>,
    pub response: RefCell<ResponseHead>,
    pub draining: Cell<bool>,
    /// Idle connections end.
    pub lets_idle_go: Cell<bool>,
    view: RefCell<Rc<View>>,
    /// [`Shared::version`] when `view` was taken.
    seen: Cell<u64>,
    random: RefCell<SmallRng>,
    connections: Cell<usize>,
    /// Told when the last connection has ended.
    gone: Notify,
    date: RefCell<String>,
}

/// A worker's hold on a snapshot: requests share it without touching the count that all workers share.
pub struct View(Arc<Snapshot>);

impl Deref for View {
    type Target = Snapshot;
    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

const UNSPECIFIED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// How long accepting pauses at the bound of connections before it looks again.
const BOUND_PAUSE: Duration = Duration::from_millis(10);
/// How long accepting pauses without descriptors: doubled each time, up to a second.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(20);
/// How long connections that are cut have to end. One that waits for a disk even then ends with the worker.
const CUT_TIME: Duration = Duration::from_millis(200);

impl Worker {
    pub fn new(index: usize, shared: Arc<Shared>, log: Log) -> Rc<Self> {
        let (version, snapshot) = shared.published();
        Rc::new(Self {
            index,
            counters: shared.counters[index].clone(),
            clock: Clock::new(Instant::now()),
            buffers: Buffers::default(),
            idle: IdleServers::default(),
            http2: Http2Servers::default(),
            lanes: Lanes::default(),
            log,
            request: Rc::default(),
            response: RefCell::default(),
            draining: Cell::new(false),
            lets_idle_go: Cell::new(false),
            view: RefCell::new(Rc::new(View(snapshot))),
            seen: Cell::new(version),
            random: RefCell::new(SmallRng::from_os_rng()),
            connections: Cell::new(0),
            gone: Notify::new(),
            date: RefCell::new(http_date()),
            shared,
        })
    }

    /// The configuration of now. A request keeps the one it began with.
    pub fn view(&self) -> Rc<View> {
        let mut view = self.view.borrow_mut();
        if self.shared.version() != self.seen.get() {
            let (version, snapshot) = self.shared.published();
            (*view, _) = (Rc::new(View(snapshot)), self.seen.replace(version));
        }
        view.clone()
    }

    pub fn random<T>(&self) -> T
    where
        StandardUniform: Distribution<T>,
    {
        self.random.borrow_mut().random()
    }

    /// Random bits, as hexadecimal. It may be the id of a trace, and its first half that of a part of one: neither may
    /// be zero.
    pub fn request_id(&self) -> RequestId {
        let bits: u128 = self.random::<u128>() | 1;
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bits.to_le_bytes()) {
            pair.copy_from_slice(
                &[byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]),
            );
        }
        RequestId(text)
    }

    /// `Date` of now, at most a second old.
    pub fn with_date<T>(&self, use_it: impl FnOnce(&str) -> T) -> T {
        use_it(&self.date.borrow())
    }

    /// Serves until the edge drains and the last connection has ended, or its time is up.
    pub async fn run(self: Rc<Self>, mut listeners: Incoming, mut phase: watch::Receiver<Phase>) {
        let ticker = tokio::task::spawn_local(self.clone().tick());
        let (mut accepting, seen) = (JoinSet::new(), phase.clone());
        loop {
            tokio::select! {
                Some(listener) = listeners.recv() => {
                    accepting.spawn_local(self.clone().accept(listener, seen.clone()));
                }
                // One that the edge has given up.
                Some(_) = accepting.join_next() => {}
                _ = phase.wait_for(|p| *p != Phase::Serving) => break,
            }
        }
        self.draining.set(true);
        let ended = async {
            // The listeners' tasks take what the kernel had already accepted, then close.
            while accepting.join_next().await.is_some() {}
            self.all_gone().await;
        };
        self.drain(phase, ended).await;
        ticker.abort();
        self.log.flush(&self.counters);
    }

    /// Waits for the end of what runs, and ends it when its time is up. That may come sooner than was said first.
    async fn drain(&self, mut phase: watch::Receiver<Phase>, ended: impl Future<Output = ()>) {
        let mut ended = std::pin::pin!(ended);
        self.clock.wake_all();
        loop {
            let (until, idle_until) = match *phase.borrow_and_update() {
                Phase::Draining { until, idle_until } => (until, idle_until),
                // An edge that is dropped without having been drained ends at once.
                Phase::Serving => (Instant::now(), Instant::now()),
            };
            let now = Instant::now();
            if idle_until <= now && !self.lets_idle_go.replace(true) {
                // Each connection looks for itself when it has answered.
                self.clock.wake_all();
            }
            if until <= now {
                return self.cut().await;
            }
            let next = if self.lets_idle_go.get() { until } else { until.min(idle_until) };
            tokio::select! {
                () = &mut ended => return,
                // Without a sender nothing comes sooner any more.
                Ok(()) = phase.changed() => {}
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }

    /// Ends what still runs: its time is up, whatever it waits for.
    async fn cut(&self) {
        let before = self.counters.reasons[Reason::DrainTime as usize].get();
        self.clock.end();
        let _ = tokio::time::timeout(CUT_TIME, self.all_gone()).await;
        let cut = self.counters.reasons[Reason::DrainTime as usize].get() - before;
        if cut > 0 {
            tracing::warn!(
                worker = self.index,
                cut,
                "connections were cut: they ran longer than the edge's drain"
            );
        }
    }

    async fn all_gone(&self) {
        while self.connections.get() > 0 {
            self.gone.notified().await;
        }
    }

    async fn tick(self: Rc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0u64;
        loop {
            let now = interval.tick().await;
            self.clock.tick(now.into_std());
            self.log.flush(&self.counters);
            ticks += 1;
            if ticks.is_multiple_of(10) {
                *self.date.borrow_mut() = http_date();
                self.idle.sweep(now.into_std());
                self.http2.sweep(now.into_std());
            }
        }
    }

    async fn accept(self: Rc<Self>, listener: Listener, mut phase: watch::Receiver<Phase>) {
        let Listener { socket, scheme, mut open } = listener;
        let socket = match TcpListener::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%error, "a listener could not be registered with epoll"),
        };
        // A listener that is bound has an address; its connections have theirs.
        let local = socket.local_addr().unwrap_or(UNSPECIFIED);
        let mut pause = DESCRIPTOR_PAUSE;
        while !self.draining.get() {
            let accepted = tokio::select! {
                biased;
                accepted = socket.accept() => accepted,
                _ = phase.wait_for(|p| *p != Phase::Serving) => break,
                // Only ever because its sender is gone.
                _ = open.changed() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = DESCRIPTOR_PAUSE;
                    welcome(&self, stream, peer, local, scheme);
                    self.wait_at_bound().await;
                }
                Err(error) => {
                    // Out of descriptors or memory, or the client left in the queue: never spin on it.
                    if is_exhaustion(&error) {
                        self.counters.paused_without_descriptors.add(1);
                        tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "accepting pauses");
                        let ends = phase.wait_for(|p| *p != Phase::Serving);
                        let _ = tokio::time::timeout(pause, ends).await;
                        pause = (pause * 2).min(Duration::from_secs(1));
                    }
                }
            }
        }
        // What the kernel has accepted by now would be reset by closing: it is served, with `Connection: close`.
        while let Some(Ok((stream, peer))) = at_once(socket.accept()).await {
            welcome(&self, stream, peer, local, scheme);
        }
    }

    async fn wait_at_bound(&self) {
        let is_full =
            || self.shared.open.load(Ordering::Relaxed) >= self.shared.snapshot.load().limits.connections;
        if is_full() {
            self.counters.paused_at_bound.add(1);
            while is_full() && !self.draining.get() {
                tokio::time::sleep(BOUND_PAUSE).await;
            }
        }
    }
}

/// An id of a request: 32 hexadecimal digits.
#[derive(Clone, Copy)]
pub struct RequestId([u8; 32]);

impl RequestId {
    pub fn as_str(&self) -> &str {
        // Always hexadecimal digits, so always UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Counts a client connection as open while it lives.
pub struct Open {
    pub worker: Rc<Worker>,
    /// Whom it is counted for.
    origin: Option<Origin>,
}

impl Open {
    pub fn new(worker: Rc<Worker>) -> Self {
        worker.counters.accepted.add(1);
        worker.counters.open.add(1);
        worker.connections.set(worker.connections.get() + 1);
        worker.shared.open.fetch_add(1, Ordering::Relaxed);
        Self { worker, origin: None }
    }

    /// Counts it for an address; false: that has as many as it may have.
    pub fn count(&mut self, from: IpAddr) -> bool {
        let (origin, most) = (Origin::of(from), self.worker.view().limits.connections_per_address());
        let is_counted = self.worker.shared.by_address.enter(origin, most);
        if is_counted {
            self.origin = Some(origin);
        }
        is_counted
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Self { worker, origin } = self;
        worker.counters.open.sub(1);
        worker.connections.set(worker.connections.get() - 1);
        if worker.connections.get() == 0 {
            worker.gone.notify_one();
        }
        worker.shared.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(origin) = origin {
            worker.shared.by_address.leave(*origin);
        }
    }
}

async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

/// Is the process or the machine out of what a connection needs?
pub fn is_exhaustion(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    const LACKING: [Errno; 5] =
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| LACKING.iter().any(|e| e.raw_os_error() == code))
}

fn http_date() -> String {
    // The clock's years are those that the format can write.
    jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&jiff::Timestamp::now())
        .unwrap_or_default()
}
