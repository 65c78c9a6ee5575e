//! Runs the apps of one node: observes exits, probes and orders, asks `plan.rs` what to do, and does it.
//!
//! One task owns everything; it is told of the world by channels and tells of it by a watch and by events. It decides
//! nothing itself about starting and stopping. The wiring of a node starts it.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use tiebeam_topology::Moment;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::event::Event;
use crate::leash::Leash;
use crate::output::Tail;
use crate::plan;
use crate::settings::{Bounds, Instance, InstanceId, Secret, Settings};
use world::World;

mod world;

/// Orders, and news of the world, that wait to be handled; who has more waits.
const WAITING: usize = 64;
/// Events that wait to be read. More are dropped and counted in the log.
const EVENTS: usize = 256;
/// Longer than any stop time.
const NO_TIMEOUT: Duration = Duration::from_secs(u32::MAX as u64);

/// The last output of each instance.
type Tails = Arc<Mutex<BTreeMap<InstanceId, Tail>>>;

/// The apps of one node. Dropping it stops them, each within its stop time, as long as the runtime lives; the end of
/// the runtime kills them.
pub struct Supervisor {
    orders: mpsc::Sender<Order>,
    instances: watch::Receiver<Vec<Instance>>,
    events: Option<mpsc::Receiver<Event>>,
    tails: Tails,
    task: JoinHandle<()>,
}

enum Order {
    Update(Box<Settings>),
    Env(BTreeMap<String, Secret>),
    Shutdown(Duration),
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
    pub fn start_with(settings: Settings, bounds: Bounds) -> io::Result<Self> {
        let leash = Arc::new(Leash::start()?);
        let (orders, orders_in) = mpsc::channel(WAITING);
        let (events_out, events) = mpsc::channel(EVENTS);
        let (instances_out, instances) = watch::channel(Vec::new());
        let tails = Tails::default();
        let (news_out, news) = mpsc::channel(WAITING);
        let world = World::new(settings, bounds, leash, tails.clone(), news_out, events_out, instances_out);
        let task = tokio::spawn(run(world, orders_in, news));
        Ok(Self { orders, instances, events: Some(events), tails, task })
    }

    /// All instances, in the order of their names, as they are now.
    pub fn instances(&self) -> watch::Receiver<Vec<Instance>> {
        self.instances.clone()
    }

    /// What happens from the start on; for the first who asks.
    pub fn events(&mut self) -> Option<mpsc::Receiver<Event>> {
        self.events.take()
    }

    /// The last lines that an instance printed since its last start: at most `lines`, and at most 200.
    pub fn output(&self, id: &InstanceId, lines: usize) -> Vec<String> {
        let tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        tails.get(id).map(|tail| tail.last(lines)).unwrap_or_default()
    }

    /// New settings: instances appear and go, and those whose command or environment changed are replaced, one ready
    /// instance of an app after another.
    pub async fn update(&self, settings: Settings) {
        // The task ends only after `shutdown`, which takes the supervisor.
        let _ = self.orders.send(Order::Update(Box::new(settings))).await;
    }

    /// A new environment for all apps, such as another `DATABASE_URL`; instances are replaced as in
    /// [`Supervisor::update`].
    pub async fn set_env(&self, env: BTreeMap<String, Secret>) {
        let _ = self.orders.send(Order::Env(env)).await;
    }

    /// Ends all instances: SIGTERM to their process groups, and SIGKILL after an app's stop time or `timeout`,
    /// whichever is earlier. Returns when all have ended.
    pub async fn shutdown(self, timeout: Duration) {
        let _ = self.orders.send(Order::Shutdown(timeout)).await;
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

async fn run(mut world: World, mut orders: mpsc::Receiver<Order>, mut news: mpsc::Receiver<News>) {
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
                   order = orders.recv(), if !ending => match order {
                       Some(Order::Update(settings)) => world.update(*settings),
                       Some(Order::Env(env)) => world.set_env(env),
                       Some(Order::Shutdown(timeout)) => { ending = true; world.end(timeout); }
                       None => {
        ending = true;
        world.end(NO_TIMEOUT);
        }
                   },
                   // `world` holds a sender, so there is always another.
                   Some(news) = news.recv() => world.observe(news),
                   () = tokio::time::sleep(wait) => {}
               }
    }
}
