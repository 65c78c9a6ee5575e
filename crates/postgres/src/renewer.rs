//! Renews the lease. A task of its own, so that no other work delays it; the only writer of a lease that this node holds.
//!
//! Only a renewal that is known to be committed moves the deadline, to the moment it was *sent* plus the length; the
//! guard is told each. When renewing fails, nothing has to be done here: the guard keeps the deadline.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tiebeam_ledger::{Read, Register, Revision, Store};
use tiebeam_topology::{Epoch, Moment, NodeName};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::Error;
use crate::guard::client::{GuardClient, Push};
use crate::guard::wire::Request;
use crate::lease::holder_end;
use crate::registers::Lease;

/// After a failed renewal, the next one comes this soon.
const RETRY: Duration = Duration::from_millis(100);

/// What is held, as others may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub epoch: Epoch,
    /// `None` until the first committed renewal of this process.
    pub deadline: Option<Moment>,
}

type Answer = oneshot::Sender<Result<(), Error>>;

enum Order {
    Hold {
        lease: Box<Lease>,
        revision: Revision,
        sent: Option<Moment>,
        answer: Answer,
    },
    /// Renew no more; what is held may still be given back.
    Lapse,
    Change {
        epoch: Epoch,
        change: Box<dyn Fn(&mut Lease) + Send + Sync>,
        answer: Answer,
    },
}

/// The handle of the task; it ends when the handle is dropped.
pub struct Renewer {
    orders: mpsc::Sender<Order>,
    holding: watch::Receiver<Option<Holding>>,
}

impl Renewer {
    pub fn start(
        me: NodeName,
        store: Arc<dyn Store>,
        register: Register<Lease>,
        every: Duration,
        guard_socket: PathBuf,
        lost: mpsc::Sender<(Epoch, String)>,
    ) -> Self {
        let (orders, inbox) = mpsc::channel(8);
        let (show, holding) = watch::channel(None);
        // Larger than what an earlier process of this node has used since the machine started.
        let attempts = Moment::now().as_ms();
        let task = Task {
            me,
            store,
            register,
            every,
            guard_socket,
            guard: None,
            held: None,
            lapsing: false,
            untold: false,
            attempts,
            failing: false,
            show,
            lost,
        };
        tokio::spawn(task.run(inbox));
        Self { orders, holding }
    }

    pub fn holding(&self) -> Option<Holding> {
        self.holding.borrow().clone()
    }

    /// Begins to renew. `sent` is when the lease was asked for, if its commit is known; `None` after a restart: then
    /// nothing is promised until a renewal is committed.
    ///
    /// # Errors
    /// When the guard could not be given the deadline: nothing may be promoted then.
    pub async fn hold(&self, lease: Lease, revision: Revision, sent: Option<Moment>) -> Result<(), Error> {
        self.order(|answer| Order::Hold { lease: Box::new(lease), revision, sent, answer }).await
    }

    /// Changes the lease that is held, such as to say that the node is promoted.
    ///
    /// # Errors
    /// When the lease of `epoch` is not held any more, or the ledger does not take it.
    pub async fn change(
        &self,
        epoch: Epoch,
        change: impl Fn(&mut Lease) + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.order(|answer| Order::Change { epoch, change: Box::new(change), answer }).await
    }

    /// Lets the lease end by itself: this node stops its PostgreSQL and may not succeed.
    pub fn lapse(&self) {
        // A full queue means that orders wait already, and the plan says it again at its next look.
        let _ = self.orders.try_send(Order::Lapse);
    }

    async fn order(&self, make: impl FnOnce(Answer) -> Order) -> Result<(), Error> {
        let (answer, done) = oneshot::channel();
        let gone = || Error::Refused("the agent is ending".into());
        self.orders.send(make(answer)).await.map_err(|_| gone())?;
        done.await.map_err(|_| gone())?
    }
}

struct Held {
    lease: Lease,
    revision: Revision,
    deadline: Option<Moment>,
}

struct Task {
    me: NodeName,
    store: Arc<dyn Store>,
    register: Register<Lease>,
    every: Duration,
    guard_socket: PathBuf,
    guard: Option<GuardClient>,
    held: Option<Held>,
    /// What is held ends by itself.
    lapsing: bool,
    /// The guard has not taken the last deadline.
    untold: bool,
    /// The number of the last attempt to write. No two attempts write the same value, so that a lease found in the
    /// ledger is never taken for a later attempt than the one that wrote it.
    attempts: u64,
    /// The last renewal failed, and that was logged.
    failing: bool,
    show: watch::Sender<Option<Holding>>,
    lost: mpsc::Sender<(Epoch, String)>,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut next = tokio::time::Instant::now();
        loop {
            let due = async {
                match self.held {
                    Some(_) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Hold { lease, revision, sent, answer }) => {
                        let _ = answer.send(self.hold(*lease, revision, sent).await);
                        next = tokio::time::Instant::now() + self.every;
                    }
                    Some(Order::Lapse) => {
                        if let (false, Some(held)) = (self.lapsing, &self.held) {
                            self.lapsing = true;
                            next = tokio::time::Instant::now() + held.lease.length();
                        }
                    }
                    Some(Order::Change { epoch, change, answer }) => {
                        let _ = answer.send(self.change(epoch, &*change).await);
                    }
                    None => return,
                },
                () = due => if self.lapsing {
                    self.held = None;
                } else {
                    let begun = tokio::time::Instant::now();
                    next = begun + if self.renew().await { self.every } else { RETRY };
                }
            }
            self.publish();
        }
    }

    async fn hold(&mut self, lease: Lease, revision: Revision, sent: Option<Moment>) -> Result<(), Error> {
        let deadline = sent.map(|sent| holder_end(sent, lease.length()));
        self.held = Some(Held { lease, revision, deadline });
        (self.lapsing, self.untold) = (false, false);
        self.publish();
        match sent {
            Some(_) => self.tell_guard().await,
            None if self.renew().await => Ok(()),
            None => Err(Error::Ledger("the lease could not be renewed at once".into())),
        }
    }

    /// One renewal; whether it is known to be committed. Not without a guard that keeps the deadline: a lease that nobody
    /// would end in time must not be made longer.
    async fn renew(&mut self) -> bool {
        let told = if self.untold { self.tell_guard().await } else { Ok(()) };
        let renewed = match told {
            Ok(()) => self.change_held(|_| {}).await,
            Err(error) => Err(error),
        };
        match &renewed {
            Err(error) if !self.failing => {
                tracing::warn!(node = %self.me, %error, "the lease was not renewed; trying on")
            }
            Ok(()) if self.failing => tracing::info!(node = %self.me, "the lease is renewed again"),
            _ => {}
        }
        self.failing = renewed.is_err();
        renewed.is_ok()
    }

    async fn change(
        &mut self,
        epoch: Epoch,
        change: &(dyn Fn(&mut Lease) + Send + Sync),
    ) -> Result<(), Error> {
        if self.held.as_ref().map(|h| h.lease.epoch) != Some(epoch) {
            return Err(Error::Refused(format!("the lease of epoch {epoch} is not held here any more")));
        }
        self.change_held(change).await
    }

    /// Writes a changed lease if it is still ours, and moves the deadline when that is committed.
    async fn change_held(&mut self, change: impl Fn(&mut Lease)) -> Result<(), Error> {
        let Some(held) = &mut self.held else {
            return Err(Error::Refused("no lease is held here".into()));
        };
        let mut lease = held.lease.clone();
        change(&mut lease);
        self.attempts = self.attempts.max(lease.renewed) + 1;
        lease.renewed = self.attempts;
        let sent = Moment::now();
        let limit = lease.length() / 3;
        let put = self.register.put_if(&*self.store, Some(held.revision), &lease);
        let written = match tokio::time::timeout(limit, put).await {
            Ok(Ok(Ok(revision))) => Some((lease, revision)),
            // Conflict, or no answer: what the ledger has now tells whether it happened.
            Ok(Ok(Err(_))) | Ok(Err(_)) | Err(_) => self.look(&lease, limit).await?,
        };
        let Some((lease, revision)) = written else {
            return Err(Error::Ledger(
                "the lease is ours, but this change was not taken; trying again".into(),
            ));
        };
        let released = lease.released.is_some();
        let deadline = Some(holder_end(sent, lease.length()));
        self.held = (!released).then_some(Held { lease, revision, deadline });
        if !released {
            // The guard may have nothing running; that is for the plan to see.
            self.untold = self.tell_guard().await.is_err();
        }
        Ok(())
    }

    /// Reads the lease. Gives it back if it is what was just written, and keeps its revision if it is still ours.
    async fn look(&mut self, written: &Lease, limit: Duration) -> Result<Option<(Lease, Revision)>, Error> {
        let get = self.register.get(&*self.store, Read::Linear);
        let found = match tokio::time::timeout(limit, get).await {
            Ok(found) => found?,
            Err(_) => return Err(Error::Ledger(format!("no answer within {} ms", limit.as_millis()))),
        };
        match found {
            Some(found) if found.value == *written => Ok(Some((found.value, found.revision))),
            Some(found) if found.value.epoch == written.epoch && found.value.released.is_none() => {
                if let Some(held) = &mut self.held {
                    held.revision = found.revision;
                    held.lease = found.value;
                }
                Ok(None)
            }
            other => {
                let why = match other {
                    Some(found) if found.value.epoch == written.epoch => "it was given back".to_owned(),
                    Some(found) => {
                        format!("{} took the lease of epoch {}", found.value.holder, found.value.epoch)
                    }
                    None => "the lease is not in the ledger any more".to_owned(),
                };
                self.held = None;
                let _ = self.lost.try_send((written.epoch, why.clone()));
                Err(Error::Refused(format!("{} lost its lease: {why}", self.me)))
            }
        }
    }

    /// Gives the guard the deadline, over a connection that nothing else uses.
    async fn tell_guard(&mut self) -> Result<(), Error> {
        let Some(deadline) = self.held.as_ref().and_then(|h| h.deadline) else { return Ok(()) };
        let failed = |e: std::io::Error| Error::Refused(format!("the guard did not take the deadline: {e}"));
        if self.guard.is_none() {
            // The main connection hears the pushes; this one only asks.
            let (ignored, _) = mpsc::channel::<Push>(1);
            self.guard = Some(GuardClient::connect(&self.guard_socket, ignored).await.map_err(failed)?);
        }
        let Some(guard) = &mut self.guard else { return Ok(()) };
        match guard.ask(Request::Deadline { ms: deadline.as_ms() }).await {
            Ok(_) => Ok(()),
            Err(e) => {
                self.guard = None;
                Err(failed(e))
            }
        }
    }

    fn publish(&self) {
        let now = self.held.as_ref().map(|h| Holding { epoch: h.lease.epoch, deadline: h.deadline });
        self.show.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}
