//! The agent of one node: looks, plans, acts, and tells. The daemon starts it; it starts everything else here.
//!
//! It is driven by what happens (the ledger's watch, the guard's pushes, the end of a long step) and by a slow tick.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tiebeam_ledger::{Read, Register, Store, WatchError};
use tiebeam_topology::{Epoch, Moment};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::act::{JobDone, stop_and_wait};
use crate::control::Control;
use crate::error::Error;
use crate::event::{Event, Level};
use crate::guard::client::Push;
use crate::guard::wire::Stop;
use crate::instance::{Paths, Programs, conf};
use crate::link::GuardLink;
use crate::observe::{LedgerView, Memory, Parts, read_ledger, register};
use crate::plan::{Data, Plan, Policy, World, plan};
use crate::probe::Probe;
use crate::registers::{Lease, keys};
use crate::renewer::Renewer;
use crate::report::Reporter;
use crate::settings::Settings;
use crate::state::State;

/// Between two looks when nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// Between two looks when something is about to happen by itself.
const SOON: Duration = Duration::from_millis(10);

/// For how long nobody must have accepted writes before it is told why.
const STOPPED_LASTS: Duration = Duration::from_secs(2);

/// A planned end of the node must be over in ten seconds with all that it runs: this much is PostgreSQL's, to give its
/// replicas everything. Then the stop becomes an immediate one: acknowledged writes are on a replica already, except under
/// `async`, where what could not be given is left behind as by a crash.
const PLANNED_STOP: Duration = Duration::from_secs(4);

/// Events that nobody has taken yet; more are dropped, they were logged.
const EVENTS_MAX: usize = 256;

/// How to end an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Stop PostgreSQL and the guard. A primary stops cleanly, so that its replicas get everything, then gives its
    /// lease back, so that one of them takes over at once.
    Stop,
    /// Leave both running for the next agent, which must come before the lease ends (or, with `linger`, before that).
    Leave,
}

/// A running agent.
pub struct Agent {
    state: watch::Receiver<Arc<State>>,
    events: Mutex<Option<mpsc::Receiver<Event>>>,
    shutdown: mpsc::Sender<(Shutdown, oneshot::Sender<()>)>,
    task: JoinHandle<()>,
}

impl Agent {
    /// Checks the folders and programs and starts the agent's tasks on the current tokio runtime. PostgreSQL itself comes
    /// later, when the ledger allows it: watch [`Agent::state`].
    ///
    /// # Errors
    /// What is wrong with this machine: missing programs or users, folders that cannot be made or read.
    pub async fn start(settings: Settings, store: Arc<dyn Store>) -> Result<Agent, Error> {
        if !settings.peers.contains_key(&settings.node) {
            return Err(Error::NotAPeer { node: settings.node.to_string() });
        }
        let paths = Paths::of(&settings);
        paths.prepare(&settings)?;
        let programs =
            Programs { bin_dir: settings.bin_dir.clone(), owner: settings.owner, cwd: settings.data.clone() };
        let major = programs.major().await?;
        let (show, state) = watch::channel(Arc::new(State::default()));
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        let (shutdown, orders) = mpsc::channel(1);
        let context = Context::new(settings, paths, programs, major, store, events_in)?;
        let task = tokio::spawn(run(context, orders, show));
        Ok(Agent { state, events: Mutex::new(Some(events)), shutdown, task })
    }

    /// The database as this node sees it, now and at each change.
    pub fn state(&self) -> watch::Receiver<Arc<State>> {
        self.state.clone()
    }

    /// What happens from the start on. There is one receiver: `None` when it was taken already.
    pub fn events(&self) -> Option<mpsc::Receiver<Event>> {
        self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    /// Ends the agent. Returns when all that `how` says is done.
    pub async fn shutdown(self, how: Shutdown) {
        let (answer, done) = oneshot::channel();
        if self.shutdown.send((how, answer)).await.is_ok() {
            let _ = done.await;
        }
        let _ = self.task.await;
    }

    /// Ends the agent's tasks at once, as if its process had died: PostgreSQL and its guard stay as they are. For
    /// drills and tests.
    pub fn abort(&self) {
        self.task.abort();
    }
}

/// A long step under way.
pub struct Job {
    pub task: JoinHandle<()>,
    /// PostgreSQL goes on meanwhile; otherwise the step stops it.
    pub beside_server: bool,
}

/// All that the agent's loop holds. Its steps are in `act.rs`.
pub struct Context {
    pub settings: Settings,
    pub paths: Paths,
    pub programs: Programs,
    pub major: u32,
    pub store: Arc<dyn Store>,
    pub lease: Register<Lease>,
    pub policy: Policy,
    pub system_users: BTreeSet<String>,
    pub guard: GuardLink,
    pub control: Option<Control>,
    pub renewer: Renewer,
    pub probe: Probe,
    pub memory: Memory,
    /// `None`: to be looked at again.
    pub data: Option<Data>,
    pub job: Option<Job>,
    /// How many long steps have failed in a row.
    pub job_failures: u32,
    pub job_done: mpsc::Sender<JobDone>,
    pub promoting: Option<Epoch>,
    /// The last epoch that this process announced.
    pub announced: Option<Epoch>,
    /// The last epoch whose lease this process let end, because its PostgreSQL was told to stop.
    pub lapsed: Option<Epoch>,
    /// Why PostgreSQL was told to stop, for the event of its end.
    pub stop_reason: Option<String>,
    events: mpsc::Sender<Event>,
    jobs: Option<mpsc::Receiver<JobDone>>,
    lost: Option<mpsc::Receiver<(Epoch, String)>>,
    pushes: Option<mpsc::Receiver<Push>>,
    reporter: Reporter,
    /// Since when nobody accepts writes, and what was told about it.
    stopped: Option<(Moment, Option<String>)>,
    /// That was told.
    disk_full: bool,
}

impl Context {
    fn new(
        settings: Settings,
        paths: Paths,
        programs: Programs,
        major: u32,
        store: Arc<dyn Store>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, Error> {
        let (job_done, jobs) = mpsc::channel(1);
        let (lost_in, lost) = mpsc::channel(4);
        let (pushes_in, pushes) = mpsc::channel(16);
        let lease = register(keys::LEASE)?;
        let policy = Policy {
            me: settings.node.clone(),
            nodes: settings.peers.keys().cloned().collect(),
            durability: settings.database.durability,
            lease: settings.database.lease,
        };
        let renew = settings.database.renew;
        let guard_socket = paths.guard_socket.clone();
        let renewer =
            Renewer::start(settings.node.clone(), store.clone(), lease.clone(), renew, guard_socket, lost_in);
        // SAFETY: no arguments, cannot fail.
        let uids = [0, unsafe { libc::geteuid() }, settings.owner.map_or(0, |o| o.uid)];
        Ok(Self {
            system_users: conf::system_users(&uids, Path::new("/etc/passwd")),
            probe: Probe::start(paths.sockets.clone(), settings.database.port.get()),
            guard: GuardLink::new(&settings, &paths, pushes_in),
            reporter: Reporter::new(settings.node.clone(), store.clone()),
            settings,
            paths,
            programs,
            major,
            store,
            lease,
            policy,
            control: None,
            renewer,
            memory: Memory::default(),
            data: None,
            job: None,
            job_failures: 0,
            job_done,
            promoting: None,
            announced: None,
            lapsed: None,
            stop_reason: None,
            events,
            jobs: Some(jobs),
            lost: Some(lost),
            pushes: Some(pushes),
            stopped: None,
            disk_full: false,
        })
    }

    /// Logs an event and hands it on.
    pub fn tell(&self, event: Event) {
        match event.level() {
            Level::Info => tracing::info!(node = %self.settings.node, "{event}"),
            Level::Warning => tracing::warn!(node = %self.settings.node, "{event}"),
            Level::Critical => tracing::error!(node = %self.settings.node, "{event}"),
        }
        let _ = self.events.try_send(event);
    }

    /// One look at everything.
    async fn look(&mut self, ledger: &LedgerView) -> World {
        let guard = self.guard.state().await;
        if guard.is_none_or(|g| g.pid.is_none()) {
            self.control = None;
        } else if self.control.is_none() && self.job.as_ref().is_none_or(|job| job.beside_server) {
            let (sockets, port) = (&self.paths.sockets, self.settings.database.port.get());
            self.control = Control::connect(sockets, port, Duration::from_millis(500)).await.ok();
        }
        let view = match &self.control {
            Some(control) => control.view().await.ok(),
            None => None,
        };
        if view.is_none() {
            self.control = None;
        }
        let data = self.look_at_data(ledger).await;
        let parts = Parts {
            settings: &self.settings,
            paths: &self.paths,
            data,
            guard,
            view,
            ledger,
            busy: self.job.is_some(),
            holding: self.renewer.holding().map(|h| h.epoch),
            promoting: self.promoting,
            lapsed: self.lapsed,
            probe_ok: self.probe.last_ok(),
        };
        self.memory.world(parts, Moment::now())
    }

    /// Whether the data directory is this cluster's. Looked at once, and again after each long step.
    async fn look_at_data(&mut self, ledger: &LedgerView) -> Data {
        if self.job.is_some() {
            return self.data.clone().unwrap_or(if self.paths.has_data() {
                Data::Here
            } else {
                Data::Missing
            });
        }
        let Some((init, _)) = &ledger.init else {
            return if self.paths.has_data() { Data::Here } else { Data::Missing };
        };
        if let Some(data) = &self.data {
            return data.clone();
        }
        let Some(expected) = &init.system_identifier else {
            // The identifier is in the ledger before a new database is put into place: this one is someone else's.
            return match self.paths.has_data() {
                true => Data::Refused(format!(
                    "{} holds a database that the ledger does not know; it is left untouched. Restore the ledger, or move \
                     the data away",
                    self.paths.main.display()
                )),
                false => Data::Missing,
            };
        };
        // The creation was recorded and then interrupted before the new directory was put into place.
        if !self.paths.has_data() && ledger.lease.is_none() && init.node == self.settings.node {
            let grown = self.programs.system_identifier(&self.paths.growing).await;
            if grown.is_ok_and(|id| id == *expected) {
                let _ = self.paths.adopt_grown();
            }
        }
        match self.check_data(expected, init.major).await {
            Ok(data) => self.data.insert(data).clone(),
            // Perhaps only for this moment: it is looked at again.
            Err(e) => Data::Refused(format!(
                "{} cannot be read; it is left untouched: {e}",
                self.paths.main.display()
            )),
        }
    }

    async fn check_data(&self, expected: &str, major: Option<u32>) -> Result<Data, Error> {
        let main = self.paths.main.display();
        if let Some(major) = major.filter(|m| *m != self.major) {
            return Ok(Data::Refused(format!(
                "the database is of PostgreSQL {major}, this node has {}; install postgresql-{major}",
                self.major
            )));
        }
        if !self.paths.has_data() {
            return Ok(Data::Missing);
        }
        let made_by = self.paths.version();
        if made_by.as_deref() != Some(&*self.major.to_string()) {
            return Ok(Data::Refused(format!(
                "{main} was made by PostgreSQL {}, this node has {}; it is left untouched. Install that version, or move \
                 the data away, and this node is cloned from the primary",
                made_by.as_deref().unwrap_or("of an unknown version"),
                self.major
            )));
        }
        let found = self.programs.system_identifier(&self.paths.main).await?;
        Ok(match (found == expected, self.paths.was_rewound()) {
            (true, Some((from, epoch))) => Data::Rewound { from, epoch },
            (true, None) => Data::Here,
            (false, _) => Data::Refused(format!(
                "{main} holds another database (system identifier {found}, this cluster's is {expected}); it is left untouched. \
                 Move it away, and this node is cloned from the primary"
            )),
        })
    }

    async fn take_push(&mut self, push: Push) {
        match push {
            Push::Exited(exit) => {
                self.control = None;
                self.promoting = None;
                self.guard.note_exit(&mut self.memory, self.stop_reason.is_some());
                let why = self.stop_reason.take().unwrap_or_else(|| exit.words());
                self.tell(Event::Exited { node: self.settings.node.clone(), why });
            }
            Push::DeadlinePassed => {
                self.control = None;
                self.stop_reason =
                    Some("its lease could not be renewed in time, so its guard stopped it".into());
            }
            Push::Running(_) => {}
            Push::Gone => self.control = None,
        }
    }

    /// Tells that the disk is full, and that it is not any more: PostgreSQL says it only in its log and to its clients.
    fn note_disk(&mut self) {
        let full = self.paths.full_disk(self.disk_full);
        if full.is_some() != self.disk_full {
            self.disk_full = full.is_some();
            self.tell(Event::Disk { node: self.settings.node.clone(), full });
        }
    }

    /// Tells why nobody accepts writes, once, and only when it lasts: an election passes through such moments.
    fn note_stopped(&mut self, plan: &mut Plan) {
        let now = Moment::now();
        let Some(why) = &plan.stopped_because else {
            self.stopped = None;
            return;
        };
        let (since, told) = self.stopped.take().unwrap_or((now, None));
        if now.since(since) < STOPPED_LASTS {
            plan.stopped_because = None;
            self.stopped = Some((since, told));
            return;
        }
        if told.as_ref() != Some(why) {
            self.tell(Event::Stopped { why: why.clone() });
        }
        self.stopped = Some((since, Some(why.clone())));
    }
}

/// The loop. Each round looks, plans, acts; then waits for something to happen.
async fn run(
    mut cx: Context,
    mut orders: mpsc::Receiver<(Shutdown, oneshot::Sender<()>)>,
    show: watch::Sender<Arc<State>>,
) {
    let mut changes = cx.store.watch(keys::PREFIX);
    let (Some(mut pushes), Some(mut jobs), Some(mut lost)) =
        (cx.pushes.take(), cx.jobs.take(), cx.lost.take())
    else {
        return;
    };
    let (mut begun, mut watching) = (false, true);
    loop {
        let pause = round(&mut cx, &mut begun, &show).await;
        let wake = tokio::time::sleep(pause);
        tokio::select! {
            () = wake => {}
            // A closed ledger has no more changes; the tick goes on.
            change = changes.next(), if watching => watching = change != Err(WatchError::Closed),
            Some(push) = pushes.recv() => cx.take_push(push).await,
            Some(done) = jobs.recv() => cx.job_ended(done).await,
            Some((epoch, why)) = lost.recv() => {
                cx.tell(Event::LostLease { node: cx.settings.node.clone(), epoch, why });
            }
            order = orders.recv() => match order {
                Some((how, answer)) => {
                    end(&mut cx, how).await;
                    let _ = answer.send(());
                    return;
                }
                // The handle was dropped: PostgreSQL goes on, as if the agent had died.
                None => return,
            },
        }
    }
}

/// Looks, plans and acts once; how long to wait before the next time.
async fn round(cx: &mut Context, begun: &mut bool, show: &watch::Sender<Arc<State>>) -> Duration {
    let Some(ledger) = look_at_ledger(cx, *begun).await else {
        return TICK;
    };
    let world = cx.look(&ledger).await;
    if let (false, Some(pid)) = (*begun, world.guard.and_then(|g| g.pid)) {
        cx.tell(Event::Started { node: cx.settings.node.clone(), pid, adopted: true });
    }
    *begun = true;
    cx.note_disk();
    let mut plan = plan(&world, &cx.policy, Moment::now());
    cx.note_stopped(&mut plan);
    let announced =
        world.lease.as_ref().is_some_and(|l| l.lease.promoted && Some(l.lease.epoch) == world.holding);
    cx.probe.switch(announced && world.running());
    cx.reporter.report(&world, &plan, &cx.policy, &ledger, cx.guard.pid(), show);
    let mut pause = if plan.soon { SOON } else { TICK };
    for action in plan.actions {
        tracing::debug!(node = %cx.settings.node, ?action, "step");
        let what = format!("{action:?}");
        match cx.act(action, &world).await {
            Ok(()) => pause = pause.min(SOON),
            Err(error) => {
                tracing::warn!(node = %cx.settings.node, step = what, %error, "a step was not done");
                return SOON * 5;
            }
        }
    }
    pause
}

/// What this node has applied; once at the start, and whenever the lease looks ended, what a majority confirms.
async fn look_at_ledger(cx: &mut Context, begun: bool) -> Option<LedgerView> {
    let local = if begun { read_ledger(&*cx.store, Read::Local).await } else { read_linear(cx).await };
    let mut view = match local {
        Ok(view) => view,
        Err(error) => {
            tracing::warn!(node = %cx.settings.node, %error, "the ledger does not answer");
            return None;
        }
    };
    let now = Moment::now();
    let ended = cx.memory.lease(&cx.settings.node, &view, now).is_none_or(|l| l.ended(now));
    if ended
        && !view.confirmed
        && let Ok(confirmed) = read_linear(cx).await
    {
        view = confirmed;
    }
    Some(view)
}

async fn read_linear(cx: &Context) -> Result<LedgerView, tiebeam_ledger::RegisterError> {
    read_ledger(&*cx.store, Read::Linear).await
}

/// A planned end.
async fn end(cx: &mut Context, how: Shutdown) {
    if let Some(job) = cx.job.take() {
        job.task.abort();
    }
    if how == Shutdown::Leave {
        return;
    }
    cx.stop_reason = Some("this node is being stopped".into());
    if let Err(error) = stop_and_wait(&cx.paths.guard_socket, Stop::Fast, PLANNED_STOP).await {
        tracing::debug!(%error, "there was nothing to stop");
    }
    // Only now: whoever takes over relies on every process here being gone.
    if let Some(holding) = cx.renewer.holding()
        && cx.guard.state().await.is_none_or(|g| g.pid.is_none())
        && let Err(error) = cx.release(holding.epoch, "planned: this node is being stopped".into()).await
    {
        tracing::warn!(%error, "the lease was not given back; it ends by itself");
    }
    cx.guard.quit().await;
}
