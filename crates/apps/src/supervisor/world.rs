//! The instances as the supervisor knows them: the facts for `plan.rs`, and how its actions are carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tiebeam_topology::{App, AppName, HealthCheck, Moment};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::News;
use crate::event::{Event, Happening};
use crate::launch::{self, LaunchError};
use crate::leash::{GROUPS_MAX, Leash};
use crate::output::{Log, Tail};
use crate::plan::{self, Action, Gate, Observed, Phase, Wanted};
use crate::process::{Output, Process};
use crate::settings::{Bounds, Instance, InstanceId, Settings, State};
use crate::{probe, redact};

/// Until an instance is ready it is probed this often, or as often as its check says if that is more.
const STARTING_EVERY: Duration = Duration::from_millis(100);

pub struct World {
    settings: Settings,
    bounds: Bounds,
    wanted: BTreeMap<AppName, Wanted>,
    observed: BTreeMap<InstanceId, Observed>,
    /// The same keys as `observed`.
    runs: BTreeMap<InstanceId, Run>,
    /// Counts all starts, so that late news of an earlier run are known as such.
    starts: u64,
    leash: Arc<Leash>,
    news: mpsc::Sender<News>,
    events: mpsc::Sender<Event>,
    instances: watch::Sender<Vec<Instance>>,
}

/// What is known of an instance beyond what the plan needs. It outlives restarts.
struct Run {
    number: u64,
    process: Option<Process>,
    address: SocketAddr,
    starts: u64,
    started: Moment,
    state: State,
    since: Moment,
    /// Whether it was, since its last start.
    was_ready: bool,
    gate: Gate,
    /// Read by the task that probes.
    ready: Arc<AtomicBool>,
    probes: Option<AbortHandle>,
    last_failure: String,
    told_unopened: bool,
    /// The reason of the last event that it cannot be started: the same is not told again.
    told_cannot_start: String,
    tail: Tail,
}

impl Run {
    fn new(address: SocketAddr, now: Moment) -> Self {
        Self {
            number: 0,
            process: None,
            address,
            starts: 0,
            started: now,
            state: State::Starting,
            since: now,
            was_ready: false,
            gate: Gate::default(),
            ready: Arc::default(),
            probes: None,
            last_failure: String::new(),
            told_unopened: false,
            told_cannot_start: String::new(),
            tail: Tail::default(),
        }
    }

    fn become_(&mut self, state: State, now: Moment) {
        (self.state, self.since) = (state, now);
        self.was_ready |= state == State::Ready;
        self.ready.store(state == State::Ready, Ordering::Relaxed);
    }

    fn stop_probes(&mut self) {
        if let Some(probes) = self.probes.take() {
            probes.abort();
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stop_probes();
    }
}

impl World {
    pub fn new(
        settings: Settings,
        bounds: Bounds,
        leash: Arc<Leash>,
        news: mpsc::Sender<News>,
        events: mpsc::Sender<Event>,
        instances: watch::Sender<Vec<Instance>>,
    ) -> Self {
        let (observed, runs) = (BTreeMap::new(), BTreeMap::new());
        let want = |app: &App| Wanted { instances: app.instances.get(), stop_time: app.stop_time };
        let wanted = settings.apps.iter().map(|(name, app)| (name.clone(), want(app))).collect();
        Self { settings, bounds, wanted, observed, runs, starts: 0, leash, news, events, instances }
    }

    pub fn wanted(&self) -> &BTreeMap<AppName, Wanted> {
        &self.wanted
    }

    pub fn observed(&self) -> &BTreeMap<InstanceId, Observed> {
        &self.observed
    }

    /// Nothing is wanted any more, and all is to be over within `timeout`.
    pub fn end(&mut self, timeout: Duration) {
        let last = Moment::now() + timeout;
        for wanted in self.wanted.values_mut() {
            (wanted.instances, wanted.stop_time) = (0, wanted.stop_time.min(timeout));
        }
        for there in self.observed.values_mut() {
            if let Phase::Stopping { kill_at } = &mut there.phase {
                *kill_at = last.min(*kill_at);
            }
        }
    }

    pub async fn act(&mut self, action: Action) {
        match action {
            Action::Start(id) => self.start(id).await,
            Action::Stop(id, kill_at) => self.stop(&id, Phase::Stopping { kill_at }),
            Action::Kill(id) => {
                if let (Some(run), Some(there)) = (self.runs.get(&id), self.observed.get_mut(&id)) {
                    run.process.iter().for_each(Process::kill);
                    there.phase = Phase::Killed { give_up_at: Moment::now() + self.bounds.give_up_time };
                }
            }
            Action::Abandon(id) => self.abandon(&id),
            Action::Forget(id) => {
                self.observed.remove(&id);
                self.runs.remove(&id);
            }
        }
    }

    /// When the plan, or what there is to tell, can next be different by itself.
    pub fn next_moment(&self) -> Option<Moment> {
        let unopened = self.runs.values().filter(|r| awaited(r)).map(|r| r.started + self.bounds.open_time);
        unopened.chain(plan::next_moment(&self.observed)).min()
    }

    /// Tells of instances that should have been ready by now, once each start.
    pub fn tell_of_unopened(&mut self, now: Moment) {
        let after = self.bounds.open_time;
        let mut late = Vec::new();
        for (id, run) in self.runs.iter_mut().filter(|(_, r)| awaited(r) && now >= r.started + after) {
            run.told_unopened = true;
            let why = run.last_failure.clone();
            let said = quotable(&self.settings, id, &run.tail);
            late.push((id.clone(), Happening::NotOpened { port: run.address.port(), after, why, said }));
        }
        late.into_iter().for_each(|(id, what)| self.tell(&id, what));
    }

    pub fn publish(&self) {
        let instance = |(id, run): (&InstanceId, &Run)| Instance {
            id: id.clone(),
            app: id.app.clone(),
            address: run.address,
            pid: run.process.as_ref().map(Process::pid),
            state: run.state,
            restarts: run.starts.saturating_sub(1),
            since: run.since,
        };
        let now: Vec<Instance> = self.runs.iter().map(instance).collect();
        self.instances.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    pub fn observe(&mut self, news: News) {
        let now = Moment::now();
        match news {
            News::Ended { id, run, status } => self.ended(&id, run, status, now),
            News::Checked { id, run, result } => self.checked(&id, run, result, now),
            News::NotLogged { id, why } => self.tell(&id, Happening::NotLogged { why }),
        }
    }

    async fn start(&mut self, id: InstanceId) {
        let now = Moment::now();
        let before = self.observed.remove(&id);
        let failures = before.map_or(0, |there| there.failures);
        let mut there = Observed { phase: Phase::Down { start_at: now }, failures };
        let anywhere = SocketAddr::new(self.settings.address, 0);
        let mut run = self.runs.remove(&id).unwrap_or_else(|| Run::new(anywhere, now));
        match self.try_start(&id, &mut run).await {
            Ok(check) => {
                run.told_cannot_start.clear();
                run.become_(State::Starting, Moment::now());
                there.phase = Phase::Up { ready_since: None };
                match check {
                    Some(check) => run.probes = Some(self.probe(&id, &run, check)),
                    None => {
                        there.phase = Phase::Up { ready_since: Some(now) };
                        run.become_(State::Ready, now);
                        self.tell(&id, Happening::Ready { after: Duration::ZERO });
                    }
                }
            }
            Err(e) => {
                let (failures, wait) = plan::failed(&there, now);
                there = Observed { phase: Phase::Down { start_at: now + wait }, failures };
                run.become_(State::Backoff { until: now + wait }, now);
                let why = e.to_string();
                if run.told_cannot_start != why {
                    run.told_cannot_start.clone_from(&why);
                    self.tell(&id, Happening::CannotStart { why, next_start: wait });
                }
            }
        }
        self.observed.insert(id.clone(), there);
        self.runs.insert(id, run);
    }

    /// Starts the process; returns how to see that it is healthy, if that was said.
    async fn try_start(
        &mut self,
        id: &InstanceId,
        run: &mut Run,
    ) -> Result<Option<HealthCheck>, LaunchError> {
        let ip = self.settings.address;
        let mut taken: BTreeSet<u16> = self.runs.values().map(|r| r.address.port()).collect();
        let before = Some(run.address.port()).filter(|port| *port != 0);
        // Who never got ready on a port may have been kept from it by another program that uses it now and then.
        let again = before.filter(|_| run.was_ready);
        taken.extend(before.filter(|_| !run.was_ready));
        run.address = SocketAddr::new(ip, launch::free_port(ip, again, &taken)?);
        let launch = launch::launch(&self.settings, id, run.address)?;

        self.starts += 1;
        let number = self.starts;
        let tail = Tail::default();
        let log = Log::open(&self.settings.log_dir.join(format!("{id}.log")), self.bounds.log_bytes);
        let log = log.map_err(|e| self.tell(id, Happening::NotLogged { why: e.to_string() })).ok();
        let (news, of) = (self.news.clone(), id.clone());
        let unwritable = Box::new(move |e: io::Error| {
            let _ = news.blocking_send(News::NotLogged { id: of, why: e.to_string() });
        });
        let (news, of) = (self.news.clone(), id.clone());
        let ended = move |status| {
            // Nobody listens any more when the supervisor is gone.
            let _ = news.blocking_send(News::Ended { id: of, run: number, status });
        };
        let output = Output { tail: tail.clone(), log, unwritable };
        let process = Process::start(launch, self.leash.clone(), output, ended).await?;
        if !process.is_held() {
            self.tell(id, Happening::NotHeld { most: GROUPS_MAX });
        }
        run.process = Some(process);
        (run.number, run.tail, run.starts) = (number, tail, run.starts + 1);
        run.started = Moment::now();
        run.gate = Gate::default();
        (run.was_ready, run.told_unopened) = (false, false);
        run.last_failure.clear();
        Ok(self.settings.health.get(&id.app).cloned())
    }

    fn probe(&self, id: &InstanceId, run: &Run, check: HealthCheck) -> AbortHandle {
        let (id, number, address) = (id.clone(), run.number, run.address);
        let (ready, news) = (run.ready.clone(), self.news.clone());
        let task = tokio::spawn(async move {
            loop {
                let result = probe::check(address, check.path.as_deref(), check.timeout).await;
                if news.send(News::Checked { id: id.clone(), run: number, result }).await.is_err() {
                    return;
                }
                let starting = !ready.load(Ordering::Relaxed);
                tokio::time::sleep(if starting { check.every.min(STARTING_EVERY) } else { check.every })
                    .await;
            }
        });
        task.abort_handle()
    }

    fn stop(&mut self, id: &InstanceId, phase: Phase) {
        let (Some(run), Some(there)) = (self.runs.get_mut(id), self.observed.get_mut(id)) else { return };
        run.stop_probes();
        run.process.iter().for_each(Process::terminate);
        run.become_(State::Stopping, Moment::now());
        there.phase = phase;
    }

    fn ended(&mut self, id: &InstanceId, number: u64, status: std::process::ExitStatus, now: Moment) {
        let (Some(run), Some(there)) = (self.runs.get_mut(id), self.observed.get_mut(id)) else { return };
        if run.number != number {
            return;
        }
        run.stop_probes();
        run.process = None;
        let what = if let Phase::Stopping { .. } | Phase::Killed { .. } = there.phase {
            let killed = matches!(there.phase, Phase::Killed { .. });
            (there.phase, there.failures) = (Phase::Down { start_at: now }, 0);
            Happening::Stopped { after: now.since(run.since), killed }
        } else {
            let (failures, next_start) = plan::failed(there, now);
            (there.phase, there.failures) = (Phase::Down { start_at: now + next_start }, failures);
            run.become_(State::Backoff { until: now + next_start }, now);
            let (after, said) = (now.since(run.started), quotable(&self.settings, id, &run.tail));
            Happening::Exited { status, after, next_start, said }
        };
        self.tell(id, what);
    }

    /// Its thread waits on, and reaps it if it ever ends.
    fn abandon(&mut self, id: &InstanceId) {
        let now = Moment::now();
        let (Some(run), Some(there)) = (self.runs.get_mut(id), self.observed.get_mut(id)) else { return };
        let pid = run.process.take().map_or(0, |process| process.pid());
        // What that thread may still tell is of no run that anybody knows.
        run.number = 0;
        there.phase = Phase::Down { start_at: now };
        self.tell(id, Happening::Abandoned { pid, after: self.bounds.give_up_time });
    }

    fn checked(&mut self, id: &InstanceId, number: u64, result: Result<(), String>, now: Moment) {
        let Some(check) = self.settings.health.get(&id.app) else { return };
        let (rise, fall) = (check.rise, check.fall);
        let (Some(run), Some(there)) = (self.runs.get_mut(id), self.observed.get_mut(id)) else { return };
        if run.number != number || !matches!(there.phase, Phase::Up { .. }) {
            return;
        }
        let ok = result.is_ok();
        run.last_failure = result.err().unwrap_or_default();
        let what = match run.gate.on_check(ok, rise, fall) {
            None => return,
            Some(true) => {
                let after = now.since(run.since);
                there.phase = Phase::Up { ready_since: Some(now) };
                run.become_(State::Ready, now);
                Happening::Ready { after }
            }
            Some(false) => {
                there.failures = plan::counted(there, now);
                there.phase = Phase::Up { ready_since: None };
                run.become_(State::Unhealthy, now);
                Happening::Unhealthy { checks: fall.max(1), why: run.last_failure.clone() }
            }
        };
        self.tell(id, what);
    }

    fn tell(&self, id: &InstanceId, what: Happening) {
        let event = Event { node: self.settings.node.clone(), instance: id.clone(), what };
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            tracing::warn!("nobody reads the events of apps, so this is only told here: {event}");
        }
    }
}

/// Is it still to become ready for the first time, and has nobody been told that this takes long? The first check must
/// have ended: before that there is nothing to say why.
fn awaited(run: &Run) -> bool {
    run.state == State::Starting
        && run.process.is_some()
        && !run.told_unopened
        && !run.last_failure.is_empty()
}

/// The last output of a run, fit for an event.
fn quotable(settings: &Settings, id: &InstanceId, tail: &Tail) -> Vec<String> {
    let none = BTreeMap::new();
    let written = settings.apps.get(&id.app).map_or(&none, |app| &app.env);
    redact::quotable(tail.lines(), &redact::secrets(&settings.env, written))
}
