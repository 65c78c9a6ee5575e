//! Carries the plan's steps out, one by one, without choices of its own.
//!
//! What a step was decided for is checked again where the world may have moved: the ledger compares revisions, the
//! renewer compares epochs, the guard compares moments. Long steps run as jobs, so that the agent goes on looking.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tiebeam_ledger::{Outcome, Read, Register, Revision, Txn};
use tiebeam_topology::{Epoch, Lsn, Moment, NodeName, Timeline};
use tokio::sync::mpsc;

use crate::agent::{Context, Job};
use crate::control::Control;
use crate::error::Error;
use crate::event::Event;
use crate::guard::client::GuardClient;
use crate::guard::wire::{Request, Stop};
use crate::instance::{conf, copy, create, fork, history, random_password, setup};
use crate::observe::{register, taken_up};
use crate::plan::{Action, World};
use crate::quorum::SyncSet;
use crate::registers::{AppSecret, Init, Lease, SyncRegister, Vote, WalPoint, keys};

/// A clean stop writes a checkpoint; on a slow disk that takes a while. Then the stop becomes an immediate one.
const FAST_STOP: Duration = Duration::from_secs(30);

/// After a long step has failed, the next one waits: each time longer, because a clone costs its source a checkpoint.
const JOB_PAUSE: Duration = Duration::from_secs(2);
const JOB_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How a long step ended.
#[derive(Debug)]
pub enum JobDone {
    Copied(Vec<Event>),
    Checkpointed {
        names: String,
        at: Lsn,
    },
    PromotionCheckpointed {
        epoch: Epoch,
    },
    /// It is not needed any more.
    Outdated,
    Failed {
        what: String,
        why: String,
        events: Vec<Event>,
    },
}

impl Context {
    /// One step.
    ///
    /// # Errors
    /// Why it could not be done; the next look decides again.
    pub async fn act(&mut self, action: Action, world: &World) -> Result<(), Error> {
        match action {
            Action::ClaimInit => self.claim_init().await,
            Action::Create => self.create(world),
            Action::Clone { from } => self.clone_again(world, from, false),
            Action::CloneBroken { from } => {
                self.memory.copied = true;
                self.clone_again(world, from, true)
            }
            Action::Rejoin { from, epoch, have, fork } => self.rejoin(from, epoch, have, fork),
            Action::Start { follow } => self.start_postgres(follow.as_ref()).await,
            Action::ForgetRewind => {
                self.data = None;
                self.paths.forget_rewind()
            }
            Action::Stop { why } => self.stop_postgres(&why).await,
            Action::Fence => self.set_follow(None).await,
            Action::EndReceiver { pid } => self.end_receiver(world, pid),
            Action::Follow { primary, epoch } => {
                self.set_follow(Some(&primary)).await?;
                self.tell(Event::Following { node: self.me(), primary, epoch });
                Ok(())
            }
            Action::Vote(vote) => self.vote(vote, world).await,
            Action::TakeLease { lease, expected, sync } => {
                self.take_lease(*lease, expected, sync, world).await
            }
            Action::AdoptLease { epoch } => self.adopt_lease(epoch).await,
            Action::SetSlots { make, drop } => self.control()?.set_slots(&make, &drop).await,
            Action::SetStandbyNames(names) => self.set_standby_names(&names).await,
            Action::Checkpoint { names } => self.checkpoint(names, world),
            Action::CheckpointPromotion { epoch } => self.checkpoint_promotion(epoch),
            Action::WriteSync { sync, expected } => self.write_sync(sync, expected).await,
            Action::Promote { epoch, from, timeline } => self.promote(epoch, from, timeline).await,
            Action::Announce { epoch } => self.announce(epoch, world).await,
            Action::Release { epoch, why } => self.release(epoch, why).await,
            Action::WriteIdent { roles } => self.write_ident(roles).await,
        }
    }

    fn me(&self) -> NodeName {
        self.settings.node.clone()
    }

    fn control(&self) -> Result<&Control, Error> {
        self.control.as_ref().ok_or_else(|| Error::Sql("there is no connection to it".into()))
    }

    async fn claim_init(&self) -> Result<(), Error> {
        let init = Init { node: self.me(), system_identifier: None, major: None };
        // Another node was first: the next look shows it.
        let _ = register::<Init>(keys::INIT)?.put_if(&*self.store, None, &init).await?;
        Ok(())
    }

    fn create(&mut self, world: &World) -> Result<(), Error> {
        let Some((_, revision)) = world.init.clone() else {
            return Err(Error::Refused("nobody has claimed to create the database".into()));
        };
        let (paths, programs, store, node) =
            (self.paths.clone(), self.programs.clone(), self.store.clone(), self.me());
        self.start_job("create the database", false, async move {
            let identifier = create::initdb(&paths, &programs).await?;
            let init = Init {
                node: node.clone(),
                system_identifier: Some(identifier),
                major: Some(programs.major().await?),
            };
            let written =
                register::<Init>(keys::INIT)?.put_if(&*store, Some(Revision(revision)), &init).await?;
            written.map_err(|e| Error::Ledger(e.to_string()))?;
            paths.adopt_grown()?;
            Ok(JobDone::Copied(vec![Event::Created { node }]))
        });
        Ok(())
    }

    /// A clone for a node that may still have a server running, which goes on until the new copy is whole.
    /// `broken`: what is here does not start; its log is kept, as nobody can tell whether others have all of it.
    fn clone_again(&mut self, world: &World, from: NodeName, broken: bool) -> Result<(), Error> {
        if let Some(full) = self.paths.full_disk(false) {
            return Err(Error::Refused(format!("there is no room for a copy: {full}")));
        }
        let (settings, paths, programs) = (self.settings.clone(), self.paths.clone(), self.programs.clone());
        let running = world.running();
        self.start_job("clone", false, async move {
            if running {
                stop_and_wait(&paths.guard_socket, Stop::Fast, FAST_STOP).await?;
            }
            let node = settings.node.clone();
            let mut events = Vec::new();
            if broken {
                let folder = fork::keep_log(&paths).await?.display().to_string();
                events.push(Event::LogKept { node: node.clone(), folder });
            }
            copy::clone_from(&settings, &paths, &programs, &from).await?;
            events.push(Event::Cloned { node, from });
            Ok(JobDone::Copied(events))
        });
        Ok(())
    }

    fn rejoin(&mut self, from: NodeName, epoch: Epoch, have: WalPoint, fork_at: Lsn) -> Result<(), Error> {
        let (settings, paths, programs) = (self.settings.clone(), self.paths.clone(), self.programs.clone());
        self.start_job("rejoin", false, async move {
            let node = settings.node.clone();
            stop_and_wait(&paths.guard_socket, Stop::Fast, FAST_STOP).await?;
            let kept = fork::keep_fork(&paths, &programs, epoch, have.timeline, fork_at, have.lsn).await?;
            let folder = kept.display().to_string();
            let mut events =
                vec![Event::ForkKept { node: node.clone(), from: fork_at, to: have.lsn, folder }];
            match copy::rewind_to(&settings, &paths, &programs, &from, epoch).await {
                Ok(()) => events.push(Event::Rewound { node, from }),
                Err(e) => {
                    events.push(Event::Failed {
                        node: node.clone(),
                        what: "rewind".into(),
                        why: e.to_string(),
                    });
                    if let Err(e) = copy::clone_from(&settings, &paths, &programs, &from).await {
                        return Ok(JobDone::Failed { what: "clone".into(), why: e.to_string(), events });
                    }
                    events.push(Event::Cloned { node, from });
                }
            }
            Ok(JobDone::Copied(events))
        });
        Ok(())
    }

    /// Runs `work` beside the agent's loop; its end comes back through `self.jobs`.
    fn start_job(
        &mut self,
        what: &'static str,
        beside_server: bool,
        work: impl Future<Output = Result<JobDone, Error>> + Send + 'static,
    ) {
        let done = self.job_done.clone();
        if !beside_server {
            self.control = None;
        }
        let task = tokio::spawn(async move {
            let end = work.await.unwrap_or_else(|e| JobDone::Failed {
                what: what.into(),
                why: e.to_string(),
                events: Vec::new(),
            });
            let _ = done.send(end).await;
        });
        self.job = Some(Job { task, beside_server });
    }

    /// Takes note of a job that has ended.
    pub async fn job_ended(&mut self, done: JobDone) {
        if self.job.take().is_none_or(|job| !job.beside_server) {
            self.data = None;
        }
        if !matches!(done, JobDone::Failed { .. }) {
            self.job_failures = 0;
        }
        match done {
            JobDone::Copied(events) => {
                self.memory.quick_ends = 0;
                events.into_iter().for_each(|e| self.tell(e));
            }
            JobDone::Outdated => {}
            JobDone::PromotionCheckpointed { epoch } => {
                if let Err(error) = self.renewer.change(epoch, |lease| lease.checkpointed = true).await {
                    tracing::debug!(%error, "the checkpoint was not noted; the next one will be");
                }
            }
            JobDone::Checkpointed { names, at } => self.memory.in_force = Some((names, at)),
            JobDone::Failed { what, why, events } => {
                let pause = JOB_PAUSE * 2u32.pow(self.job_failures.min(4));
                self.memory.job_not_before = Moment::now() + pause.min(JOB_PAUSE_MAX);
                self.job_failures += 1;
                events.into_iter().for_each(|e| self.tell(e));
                self.tell(Event::Failed { node: self.me(), what, why });
            }
        }
    }

    async fn start_postgres(&mut self, follow: Option<&NodeName>) -> Result<(), Error> {
        let (settings, paths) = (&self.settings, &self.paths);
        let write = |name: &str, text: String| paths.write(&paths.conf.join(name), text.as_bytes());
        write("postgresql.conf", conf::postgresql_conf(settings, paths))?;
        write("pg_hba.conf", conf::hba_conf())?;
        write("follow.conf", conf::follow_conf(settings, paths, follow))?;
        // Not empty even on a standby: so every part of the server knows from its start that commits wait.
        let others = settings.peers.keys().filter(|n| **n != settings.node).cloned().collect();
        let names = match settings.database.durability {
            tiebeam_topology::Durability::Async => String::new(),
            _ => SyncSet::any_of(others).standby_names(),
        };
        write("sync.conf", conf::sync_conf(&names))?;
        if !paths.conf.join("pg_ident.conf").exists() {
            let text = self.ident_text(&BTreeSet::new());
            paths.write(&paths.conf.join("pg_ident.conf"), text.as_bytes())?;
        }
        history::forget_reserved(paths)?;
        paths.write_standby_signal()?;
        self.begin_start().await
    }

    fn ident_text(&self, roles: &BTreeSet<String>) -> String {
        let nodes = self.settings.peers.keys().cloned().collect();
        conf::ident_conf(&self.system_users, &nodes, roles)
    }

    async fn write_ident(&mut self, roles: BTreeSet<String>) -> Result<(), Error> {
        let text = self.ident_text(&roles);
        if self.paths.write(&self.paths.conf.join("pg_ident.conf"), text.as_bytes())? {
            self.control()?.reload().await?;
        }
        self.memory.ident_roles = roles;
        Ok(())
    }

    async fn stop_postgres(&mut self, why: &str) -> Result<(), Error> {
        tracing::warn!(node = %self.settings.node, why, "PostgreSQL is being stopped");
        self.stop_reason = Some(why.to_owned());
        // A process that waits for a dead disk outlives even SIGKILL: then the lease must end without it.
        self.renewer.lapse();
        self.lapsed = self.renewer.holding().map(|held| held.epoch).or(self.lapsed);
        self.ask_guard(Request::Stop(Stop::Immediate)).await
    }

    async fn set_follow(&self, primary: Option<&NodeName>) -> Result<(), Error> {
        let text = conf::follow_conf(&self.settings, &self.paths, primary);
        self.paths.write(&self.paths.conf.join("follow.conf"), text.as_bytes())?;
        self.control()?.reload().await
    }

    async fn set_standby_names(&self, names: &str) -> Result<(), Error> {
        self.paths.write(&self.paths.conf.join("sync.conf"), conf::sync_conf(names).as_bytes())?;
        self.control()?.reload().await
    }

    /// The walreceiver whose pid PostgreSQL has just told; by the time of the signal it may be gone, and a number is not
    /// given again that soon.
    fn end_receiver(&self, world: &World, pid: u32) -> Result<(), Error> {
        let told = world.view.as_ref().and_then(|v| v.receiver.as_ref()).map(|r| r.pid);
        if let (true, Ok(pid)) = (told == Some(pid), libc::pid_t::try_from(pid)) {
            // SAFETY: sends a signal.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        Ok(())
    }

    async fn vote(&self, vote: Vote, world: &World) -> Result<(), Error> {
        let node = self.me();
        let register = register::<Vote>(&keys::vote(&node))?;
        // A vote for a lease that has changed since would be worthless; it is not even written.
        let lease = self.lease.unchanged(world.lease.as_ref().map(|l| Revision(l.seen.revision)));
        let txn = Txn { compare: vec![lease], then: vec![register.put(&vote, None)?] };
        if let Outcome::Done { .. } = self.store.transact(txn).await? {
            let WalPoint { timeline, lsn } = vote.at;
            self.tell(Event::Voted { node, epoch: vote.for_epoch, timeline, lsn });
        }
        Ok(())
    }

    async fn take_lease(
        &mut self,
        lease: Lease,
        expected: Option<u64>,
        sync: SyncRegister,
        world: &World,
    ) -> Result<(), Error> {
        let sync_register = register::<SyncRegister>(keys::SYNC)?;
        let mut compare = vec![
            self.lease.unchanged(expected.map(Revision)),
            sync_register.unchanged(world.sync_revision.map(Revision)),
        ];
        for node in world.valid_votes().keys() {
            let revision = world.vote_revisions.get(node).copied().map(Revision);
            compare.push(register::<Vote>(&keys::vote(node))?.unchanged(revision));
        }
        let txn = Txn { compare, then: vec![self.lease.put(&lease, None)?, sync_register.put(&sync, None)?] };
        let sent = Moment::now();
        match self.store.transact(txn).await? {
            Outcome::Done { revision } => self.renewer.hold(lease, revision, Some(sent)).await,
            Outcome::Conflict { .. } => {
                Err(Error::Refused("another node was first to take the lease, or has voted anew".into()))
            }
        }
    }

    async fn adopt_lease(&self, epoch: Epoch) -> Result<(), Error> {
        match self.lease.get(&*self.store, Read::Linear).await? {
            Some(held) if held.value.epoch == epoch && held.value.holder == self.settings.node => {
                self.renewer.hold(held.value, held.revision, None).await
            }
            _ => Err(Error::Refused(format!("the lease of epoch {epoch} is another's by now"))),
        }
    }

    fn checkpoint(&mut self, names: String, world: &World) -> Result<(), Error> {
        let ready = world.view.as_ref().is_some_and(|v| taken_up(&self.settings, v, &world.sync));
        if !ready {
            return Ok(());
        }
        let (sockets, port) = (self.paths.sockets.clone(), self.settings.database.port.get());
        self.start_job("checkpoint", true, async move {
            let control = Control::connect(&sockets, port, Duration::from_secs(2)).await?;
            control.client().batch_execute("CHECKPOINT").await?;
            let view = control.view().await?;
            match view.current {
                Some((_, at)) if view.standby_names == names => Ok(JobDone::Checkpointed { names, at }),
                _ => Ok(JobDone::Outdated),
            }
        });
        Ok(())
    }

    fn checkpoint_promotion(&mut self, epoch: Epoch) -> Result<(), Error> {
        let (sockets, port) = (self.paths.sockets.clone(), self.settings.database.port.get());
        self.start_job("checkpoint", true, async move {
            let control = Control::connect(&sockets, port, Duration::from_secs(2)).await?;
            control.client().batch_execute("CHECKPOINT").await?;
            Ok(JobDone::PromotionCheckpointed { epoch })
        });
        Ok(())
    }

    async fn write_sync(&self, sync: SyncRegister, expected: Option<u64>) -> Result<(), Error> {
        let register: Register<SyncRegister> = register(keys::SYNC)?;
        let txn = Txn {
            compare: vec![register.unchanged(expected.map(Revision))],
            then: vec![register.put(&sync, None)?],
        };
        if let Outcome::Done { .. } = self.store.transact(txn).await? {
            let members: Vec<_> = sync.target.members.iter().cloned().collect();
            let alone = sync.sets == [SyncSet::alone()] && members.is_empty();
            if alone || sync.sets == [sync.target.clone()] {
                self.tell(Event::SyncSet { primary: self.me(), members, alone });
            }
        }
        Ok(())
    }

    async fn promote(&mut self, epoch: Epoch, from: Timeline, timeline: Timeline) -> Result<(), Error> {
        if self.renewer.holding().is_none_or(|h| h.epoch != epoch) {
            return Err(Error::Refused(format!("the lease of epoch {epoch} is not held any more")));
        }
        history::reserve(&self.paths, from, timeline)?;
        self.control()?.run("SELECT pg_promote(false)").await?;
        self.promoting = Some(epoch);
        Ok(())
    }

    async fn announce(&mut self, epoch: Epoch, world: &World) -> Result<(), Error> {
        let Some((timeline, _)) = world.view.as_ref().and_then(|v| v.current) else {
            return Err(Error::Sql("it does not tell its timeline".into()));
        };
        self.prepare().await?;
        let ends = history::read(&self.paths, timeline)?;
        self.renewer
            .change(epoch, move |lease| {
                lease.promoted = true;
                lease.timeline = timeline;
                lease.ends = ends.clone();
            })
            .await?;
        // What this node has applied may not show it yet, and then it is announced again; it is told once.
        if self.announced.replace(epoch) == Some(epoch) {
            return Ok(());
        }
        let because = world.lease.as_ref().map(|l| l.lease.because.clone()).unwrap_or_default();
        self.tell(Event::BecamePrimary { node: self.me(), epoch, timeline, because });
        Ok(())
    }

    /// Roles, database and the routers' function, if they are missing. The password is in the ledger before it is used.
    async fn prepare(&self) -> Result<(), Error> {
        let control = self.control()?;
        if setup::is_prepared(control.client()).await? {
            return Ok(());
        }
        let register: Register<AppSecret> = register(keys::APP_SECRET)?;
        let app = match register.get(&*self.store, Read::Linear).await? {
            Some(held) => held.value,
            None => {
                let (user, database) = ("app".to_owned(), "app".to_owned());
                let app = AppSecret { user, password: random_password(), database };
                let put = register.put_if(&*self.store, None, &app).await?;
                put.map_err(|e| Error::Ledger(e.to_string()))?;
                app
            }
        };
        setup::prepare_primary(control.client(), &app).await
    }

    pub async fn release(&mut self, epoch: Epoch, why: String) -> Result<(), Error> {
        if self.renewer.holding().is_none_or(|h| h.epoch != epoch) {
            self.adopt_lease(epoch).await?;
        }
        let said = why.clone();
        self.renewer.change(epoch, move |lease| lease.released = Some(said.clone())).await?;
        self.tell(Event::Released { node: self.me(), epoch, why });
        Ok(())
    }
}

/// Stops PostgreSQL over a connection of its own and waits until it is gone; a fast stop that takes longer than `limit`
/// becomes an immediate one.
pub async fn stop_and_wait(socket: &Path, how: Stop, limit: Duration) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::Refused(format!("the guard does not answer: {e}"));
    let (ignored, _) = mpsc::channel(1);
    let mut guard = GuardClient::connect(socket, ignored).await.map_err(failed)?;
    guard.ask(Request::Stop(how)).await.map_err(failed)?;
    let start = Moment::now();
    let mut pressed = false;
    while guard.state().await.map_err(failed)?.pid.is_some() {
        if !pressed && Moment::now().since(start) > limit {
            pressed = true;
            guard.ask(Request::Stop(Stop::Immediate)).await.map_err(failed)?;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
