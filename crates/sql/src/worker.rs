//! One core's share of a router: a thread with its own runtime, listener, pools and sessions.
//!
//! Workers share nothing on the path of a statement but the snapshot they load. A CancelRequest may arrive at any of
//! them; the worker whose number is in the client's process id gets it. Started by `router`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use bytes::BytesMut;
use tiebeam_balance::RoundRobin;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::control::Lookup;
use crate::pool::{ConnInfo, Key, Pool};
use crate::prepared::Statements;
use crate::server::Proof;
use crate::session;
use crate::snapshot::Snapshot;
use crate::stats::{Count, Counters};
use crate::{Settings, Target};

/// Connections of one worker that have not logged in yet. They take no place among `clients`: whoever has not proved
/// who he is keeps nobody out who has.
pub(crate) const LOGGING_IN_MAX: usize = 512;
/// More that are heard for a moment, as each may be a CancelRequest, before they are refused.
pub(crate) const LATE_MAX: usize = 64;
/// Idle connections are looked through so often.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Buffers kept for sessions that wake up.
const SPARE_BUFFERS_MAX: usize = 256;
/// A larger buffer is given back to the allocator.
const SPARE_BYTES_MAX: usize = 64 * 1024;
/// A process id is the number of the worker, then the place of the session in it, counted from one.
const SLOT_BITS: u32 = 20;

/// Startup parameters, sorted.
type Params = Vec<(String, String)>;

/// What all threads of a router share.
pub(crate) struct Shared {
    pub settings: Settings,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Changes with each published snapshot: for those who wait.
    pub samples: watch::Receiver<u64>,
    /// The serial of the view.
    pub views: watch::Receiver<u64>,
    /// Wakes the monitors: someone waits for a sample.
    pub nudge: watch::Sender<u64>,
    pub lookups: mpsc::Sender<Lookup>,
    /// One a worker.
    pub cancels: Vec<mpsc::UnboundedSender<CancelKey>>,
    pub clients: AtomicUsize,
    /// Sessions that wait for a primary.
    pub waiting: AtomicUsize,
    pub circle: RoundRobin,
    /// From it the salts of users that do not exist are derived.
    pub secret: [u8; 32],
    pub stage: watch::Receiver<Stage>,
}

/// How far the router's end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Running,
    /// No new sessions; those of now go on.
    Closed,
    /// No new sessions; each ends when it is in no transaction.
    Draining,
    Ended,
}

/// Which session a CancelRequest means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CancelKey {
    pub pid: u32,
    pub secret: u32,
}

pub(crate) struct Worker {
    pub index: usize,
    pub shared: Arc<Shared>,
    pub counters: Arc<Counters>,
    pub statements: Statements,
    snapshot: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    pools: RefCell<Pools>,
    keys: RefCell<HashMap<Params, Weak<Key>>>,
    next_key: Cell<u64>,
    sessions: RefCell<Vec<Option<Rc<Handle>>>>,
    vacant: RefCell<Vec<usize>>,
    spare: RefCell<Vec<BytesMut>>,
    pub logging_in: Cell<usize>,
}

#[derive(Default)]
struct Pools {
    serial: u64,
    primary: Option<Rc<Pool>>,
    replicas: Vec<Rc<Pool>>,
}

/// What others may tell a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The client asked for it while the session waits for a server.
    Cancel,
    /// The view changed.
    View,
    /// The session should end when it can.
    Drain,
}

/// How a session is reached from outside.
pub(crate) struct Handle {
    pub key: CancelKey,
    slot: usize,
    pub attached: RefCell<Option<Rc<ConnInfo>>>,
    signals: Cell<u8>,
    waker: RefCell<Option<Waker>>,
}

impl Handle {
    pub fn signal(&self, signal: Signal) {
        self.signals.set(self.signals.get() | 1 << signal as u8);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Takes a signal that came.
    pub fn take(&self, signal: Signal) -> bool {
        let bit = 1 << signal as u8;
        let came = self.signals.get() & bit != 0;
        self.signals.set(self.signals.get() & !bit);
        came
    }

    /// A signal that stays.
    pub fn has(&self, signal: Signal) -> bool {
        self.signals.get() & 1 << signal as u8 != 0
    }

    /// Lets the next signal wake this task.
    pub fn listen(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        match &mut *slot {
            Some(old) => old.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }
}

impl Worker {
    pub fn new(index: usize, shared: Arc<Shared>, counters: Arc<Counters>) -> Rc<Self> {
        let cache = Cache::new(shared.snapshot.clone());
        Rc::new(Self {
            index,
            shared,
            counters,
            statements: Statements::default(),
            snapshot: RefCell::new(cache),
            pools: RefCell::default(),
            keys: RefCell::default(),
            next_key: Cell::new(0),
            sessions: RefCell::default(),
            vacant: RefCell::default(),
            spare: RefCell::default(),
            logging_in: Cell::new(0),
        })
    }

    /// The thread's whole life.
    pub async fn run(
        self: Rc<Self>,
        mut listeners: Vec<TcpListener>,
        mut cancels: mpsc::UnboundedReceiver<CancelKey>,
    ) {
        let mut tasks = JoinSet::new();
        let mut views = self.shared.views.clone();
        let mut stage = self.shared.stage.clone();
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            let now = *stage.borrow_and_update();
            if now >= Stage::Closed {
                // The port is another process's, or nobody's: it must be free for who starts meanwhile.
                listeners.clear();
            }
            if now >= Stage::Draining {
                self.signal_all(Signal::Drain);
                if tasks.is_empty() || *stage.borrow() == Stage::Ended {
                    return;
                }
            }
            tokio::select! {
                accepted = accept(&listeners), if now == Stage::Running => match accepted {
                    Ok((stream, _)) => {
                        self.counters.count(Count::Accepted);
                        tasks.spawn_local(session::run(self.clone(), stream));
                    }
                    Err(error) => {
                        // Most likely out of file descriptors: sessions that end give some back.
                        tracing::warn!(%error, "cannot accept a client");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(key) = cancels.recv() => self.cancel(key),
                Ok(()) = views.changed() => {
                    views.borrow_and_update();
                    self.update_pools(&self.snapshot());
                    self.signal_all(Signal::View);
                }
                _ = sweep.tick() => self.sweep(),
                Ok(()) = stage.changed() => {}
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
        }
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow_mut().load().clone()
    }

    /// The pool of the view's primary.
    pub fn primary(&self, snapshot: &Snapshot) -> Option<Rc<Pool>> {
        self.update_pools(snapshot);
        self.pools.borrow().primary.clone()
    }

    /// The pool of a replica, by its place in the view.
    pub fn replica(&self, snapshot: &Snapshot, index: usize) -> Option<Rc<Pool>> {
        self.update_pools(snapshot);
        self.pools.borrow().replicas.get(index).cloned()
    }

    /// Makes the pools those of the view; the others are closed.
    fn update_pools(&self, snapshot: &Snapshot) {
        if self.pools.borrow().serial == snapshot.serial {
            return;
        }
        let old = std::mem::take(&mut *self.pools.borrow_mut());
        let mut old: Vec<Rc<Pool>> = old.primary.into_iter().chain(old.replicas).collect();
        let epoch = snapshot.view.epoch;
        let mut pool = |target: &Target, replica: bool| {
            let same = |p: &Rc<Pool>| p.target == *target && p.epoch == epoch && p.replica == replica;
            match old.iter().position(same) {
                Some(at) => old.swap_remove(at),
                None => {
                    let counters = self.counters.server(&target.node);
                    Pool::new(target.clone(), epoch, replica, self.pool_limit(), counters)
                }
            }
        };
        let new = Pools {
            serial: snapshot.serial,
            primary: snapshot.view.primary.as_ref().map(|target| pool(target, false)),
            replicas: snapshot.view.replicas.iter().map(|target| pool(target, true)).collect(),
        };
        self.pools.replace(new);
        old.iter().for_each(|pool| pool.close());
    }

    /// This worker's share of `pool_size`.
    fn pool_limit(&self) -> usize {
        let (size, workers) = (self.shared.settings.pool_size, self.shared.cancels.len());
        (size / workers + usize::from(self.index < size % workers)).max(1)
    }

    /// The key for these startup parameters; `proof` is from the login that just succeeded.
    pub fn key(&self, mut params: Vec<(String, String)>, proof: Proof) -> Rc<Key> {
        params.sort();
        let mut keys = self.keys.borrow_mut();
        if let Some(key) = keys.get(&params).and_then(Weak::upgrade) {
            key.proof.replace(proof);
            return key;
        }
        keys.retain(|_, key| key.strong_count() > 0);
        let value = |name| params.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default();
        let key = Rc::new(Key {
            id: self.next_key.replace(self.next_key.get() + 1),
            database: value("database"),
            params: params.clone(),
            proof: RefCell::new(proof),
            reported: RefCell::default(),
            serializable: Cell::new(false),
        });
        keys.insert(params, Rc::downgrade(&key));
        key
    }

    /// Registers a session; its place is the lower part of its process id.
    pub fn register(&self, secret: u32) -> Option<Rc<Handle>> {
        let mut sessions = self.sessions.borrow_mut();
        let slot = self.vacant.borrow_mut().pop().unwrap_or(sessions.len());
        if slot + 1 >= 1 << SLOT_BITS {
            return None;
        }
        // Never 0, which drivers take for "no process".
        let pid = (self.index as u32) << SLOT_BITS | (slot as u32 + 1);
        let handle = Rc::new(Handle {
            key: CancelKey { pid, secret },
            slot,
            attached: RefCell::default(),
            signals: Cell::new(0),
            waker: RefCell::default(),
        });
        if slot == sessions.len() {
            sessions.push(None);
        }
        sessions[slot] = Some(handle.clone());
        Some(handle)
    }

    pub fn unregister(&self, handle: &Handle) {
        self.sessions.borrow_mut()[handle.slot] = None;
        self.vacant.borrow_mut().push(handle.slot);
    }

    fn signal_all(&self, signal: Signal) {
        self.sessions.borrow().iter().flatten().for_each(|handle| handle.signal(signal));
    }

    /// A buffer for a session that wakes up.
    pub fn buffer(&self) -> BytesMut {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back an empty buffer.
    pub fn give_back(&self, buffer: BytesMut) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_BUFFERS_MAX && (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
            spare.push(buffer);
        }
    }

    /// Passes a CancelRequest to the worker that has the session.
    pub fn pass_cancel(&self, key: CancelKey) {
        if let Some(worker) = self.shared.cancels.get((key.pid >> SLOT_BITS) as usize) {
            // A worker that ended has no sessions.
            let _ = worker.send(key);
        }
    }

    fn cancel(&self, key: CancelKey) {
        let Some(slot) = ((key.pid & ((1 << SLOT_BITS) - 1)) as usize).checked_sub(1) else { return };
        let handle = self.sessions.borrow().get(slot).cloned().flatten();
        let Some(handle) = handle.filter(|handle| handle.key == key) else { return };
        self.counters.count(Count::Cancels);
        match &*handle.attached.borrow() {
            None => handle.signal(Signal::Cancel),
            Some(info) => {
                info.cancelled.set(true);
                let info = info.clone();
                tokio::task::spawn_local(async move {
                    let proof = info.key.proof.borrow().clone();
                    let target = &info.pool.target;
                    if let Err(error) = crate::server::cancel(target, &proof, &info.process).await {
                        tracing::warn!(node = %target.node, %error, "a CancelRequest did not reach PostgreSQL");
                    }
                });
            }
        }
    }

    fn sweep(&self) {
        let now = Instant::now();
        let pools = self.pools.borrow();
        pools.primary.iter().chain(&pools.replicas).for_each(|pool| pool.sweep(now));
    }

    /// As many sessions as there may be.
    pub fn is_full(&self) -> bool {
        self.shared.clients.load(Ordering::Relaxed) >= self.shared.settings.clients
    }

    /// Counts a session: false if there are too many, this one included. Each is ended by [`Worker::leave`].
    pub fn enter(&self) -> bool {
        let before = self.shared.clients.fetch_add(1, Ordering::Relaxed);
        self.counters.clients.add(1);
        before < self.shared.settings.clients
    }

    pub fn leave(&self) {
        self.shared.clients.fetch_sub(1, Ordering::Relaxed);
        self.counters.clients.sub(1);
    }
}

/// The next client at any of these; each is asked in turn, so the others wait no longer than the kernel lets them.
async fn accept(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        let ready = listeners.iter().map(|listener| listener.poll_accept(cx)).find(Poll::is_ready);
        ready.unwrap_or(Poll::Pending)
    })
    .await
}
