//! Runs the apps of one node: observes exits and probes, asks `plan.rs` what to do, and does it.
//!
//! One task owns everything; it is told of the world by channels and tells of it by a watch and by events. It decides
//! nothing itself about starting and stopping. The wiring of a node starts it.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use tiebeam_topology::Moment;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::event::Event;
use crate::leash::Leash;
use crate::plan;
use crate::settings::{Bounds, Instance, InstanceId, Settings};
use world::World;

mod world;

/// News of the world that wait to be handled; who has more waits.
const WAITING: usize = 64;
/// Events that wait to be read. More are dropped and counted in the log.
const EVENTS: usize = 256;
/// Longer than any stop time.
const NO_TIMEOUT: Duration = Duration::from_secs(u32::MAX as u64);

/// The apps of one node. Dropping it stops them, each within its stop time, as long as the runtime lives; the end of
/// the runtime kills them.
pub struct Supervisor {
    stop: oneshot::Sender<Duration>,
    instances: watch::Receiver<Vec<Instance>>,
    events: Option<mpsc::Receiver<Event>>,
    task: JoinHandle<()>,
}

/// What the world tells. `run` says of which start of the instance it speaks.
enum News {
    Ended { id: InstanceId, run: u64, status: ExitStatus },
    Checked { id: InstanceId, run: u64, result: Result<(), String> },
    NotLogged { id: InstanceId, why: String },
}

impl Supervisor {
    /// Starts every instance of every app. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the process that ends the apps after a crash of the agent cannot be started. That an app cannot be started
    /// is an event.
    pub fn start(settings: Settings) -> io::Result<Self> {
        Self::start_with(settings, Bounds::default())
    }

    /// As [`Supervisor::start`], with other bounds than the defaults.
    pub(crate) fn start_with(settings: Settings, bounds: Bounds) -> io::Result<Self> {
        let leash = Arc::new(Leash::start()?);
        let (stop, stopped) = oneshot::channel();
        let (events_out, events) = mpsc::channel(EVENTS);
        let (instances_out, instances) = watch::channel(Vec::new());
        let (news_out, news) = mpsc::channel(WAITING);
        let world = World::new(settings, bounds, leash, news_out, events_out, instances_out);
        let task = tokio::spawn(run(world, stopped, news));
        Ok(Self { stop, instances, events: Some(events), task })
    }

    /// All instances, in the order of their names, as they are now.
    pub fn instances(&self) -> watch::Receiver<Vec<Instance>> {
        self.instances.clone()
    }

    /// What happens from the start on; for the first who asks.
    pub fn events(&mut self) -> Option<mpsc::Receiver<Event>> {
        self.events.take()
    }

    /// Ends all instances: SIGTERM to their process groups, and SIGKILL after an app's stop time or `timeout`,
    /// whichever is earlier. Returns when all have ended, and a named time after SIGKILL in any case.
    pub async fn shutdown(self, timeout: Duration) {
        // The task ends only after this, so it hears it.
        let _ = self.stop.send(timeout);
        if let Err(e) = self.task.await {
            tracing::error!("the supervisor of apps ended early: {e}");
        }
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("instances", &*self.instances.borrow()).finish_non_exhaustive()
    }
}

async fn run(mut world: World, mut stopped: oneshot::Receiver<Duration>, mut news: mpsc::Receiver<News>) {
    let mut ending = false;
    loop {
        // Each action changes what is observed, so this ends.
        loop {
            let actions = plan::plan(world.wanted(), world.observed(), Moment::now());
            if actions.is_empty() {
                break;
            }
            for action in actions {
                world.act(action).await;
            }
        }
        world.tell_of_unopened(Moment::now());
        world.publish();
        if ending && world.observed().is_empty() {
            return;
        }
        let now = Moment::now();
        // Without anything to wait for, an hour is as good as never.
        let wait = world.next_moment().map_or(Duration::from_secs(3600), |at| at.since(now));
        tokio::select! {
            // An error says that the supervisor was dropped: its instances have their whole stop time.
            timeout = &mut stopped, if !ending => {
                ending = true;
                world.end(timeout.unwrap_or(NO_TIMEOUT));
            }
            // `world` holds a sender, so there is always another.
            Some(news) = news.recv() => world.observe(news),
            () = tokio::time::sleep(wait) => {}
        }
    }
}
