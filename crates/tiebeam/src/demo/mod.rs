//! `tiebeam demo`: three nodes on this machine as separate processes, a client that reads and writes through them, faults
//! on demand, and a receipt at the end that says what was lost.

mod asked;
mod client;
mod drills;
mod http;
mod layout;
mod lost;
mod observer;
mod processes;
mod queue;
mod receipt;
mod screen;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use tiebeam_topology::{Durability, Role};
use tokio::sync::watch;

use crate::cli::WrongUse;
use asked::Asked;
use client::{Load, Notes};
pub use drills::Fault;
use drills::Running;
pub use http::{Client, NoAnswer};
use layout::Layout;
use observer::Seen;
use processes::{Processes, STOP_TIME};
use queue::{By, Queue, Step};
use receipt::{Drill, Receipt};
use screen::{Key, Screen};

/// How long the cluster may take to become whole after the start.
const START_TIME: Duration = Duration::from_secs(90);
const READ_BACK_TIME: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(50);

pub struct Options {
    /// `None`: until someone quits.
    pub seconds: Option<u64>,
    pub drills: Vec<Fault>,
    pub keep: Option<PathBuf>,
    pub headless: bool,
    pub durability: Durability,
}

/// How a demo ended: what it measured, and what went wrong with the demo itself. There is a receipt as soon as there
/// was load, whatever ended it.
pub struct Ended {
    pub receipt: Option<Receipt>,
    pub failed: Option<anyhow::Error>,
}

/// Runs the whole demo. Whatever happens, nothing that it started is left.
pub fn run(options: Options) -> anyhow::Result<Ended> {
    // One thread: the nodes are told to end when the thread that started them ends, and that is this one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let layout = Layout::prepare(options.keep.as_deref(), options.durability)?;
        let mut demo = Demo::start(layout, options)?;
        let ended = demo.go().await;
        demo.stop().await;
        Ok(ended)
    })
}

struct Demo {
    options: Options,
    processes: Processes,
    notes: Arc<Notes>,
    edges: Vec<SocketAddr>,
    seen: watch::Receiver<Seen>,
    screen: Screen,
    asked: Asked,
    /// `None` while there is no load: keys that kill wait for it.
    queue: Option<Queue>,
    running: Option<Running>,
    done: Vec<Drill>,
    started: Instant,
}

impl Demo {
    fn start(layout: Layout, options: Options) -> anyhow::Result<Self> {
        let started = Instant::now();
        let cluster = layout.cluster.clone();
        let http = cluster.edge.as_ref().and_then(|e| e.http).context("the demo's file has no HTTP port")?;
        let edges =
            cluster.with_role(Role::Edge).map(|(_, n)| SocketAddr::new(n.address, http.get())).collect();
        let notes = Arc::new(Notes::new());
        let (sender, seen) = watch::channel(Seen::default());
        let asked = Asked::listen()?;
        let screen = Screen::new(options.headless, &cluster, &layout.folder)?;
        let processes = Processes::start(layout)?;
        tokio::spawn(observer::observe(cluster, sender));
        Ok(Self {
            options,
            processes,
            notes,
            edges,
            seen,
            screen,
            asked,
            queue: None,
            running: None,
            done: Vec::new(),
            started,
        })
    }

    async fn go(&mut self) -> Ended {
        let first_row = match self.come_up().await {
            Ok(row) => row,
            Err(failed) => {
                self.last_words(&failed);
                return Ended { receipt: None, failed: Some(failed) };
            }
        };
        let load = Load::start(self.edges.clone(), first_row, self.notes.clone());
        if !self.options.headless {
            tokio::spawn(lost::watch(self.edges.clone(), self.notes.clone()));
        }
        let work = self.work().await;
        self.queue = None;
        if let Some(running) = &mut self.running {
            running.resume(&self.processes);
        }
        if let Err(failed) = &work {
            self.last_words(failed);
        }
        self.screen.progress("reading every acknowledged row back");
        let found = self.prove(load).await;
        for (why, times) in self.notes.with(|t| t.failures.clone()) {
            self.screen.note(format!("{times} request(s) failed: {why}"));
        }
        let out_of_turn = self.seen.borrow().out_of_turn;
        let done = std::mem::take(&mut self.done);
        let receipt = self.notes.with(|t| Receipt::new(t, done, out_of_turn, found.as_ref().ok()));
        Ended { receipt: Some(receipt), failed: work.err().or(found.err()) }
    }

    /// Waits until everything that the file asks for is there, with the first page on the way; then the number of the
    /// first row to write.
    async fn come_up(&mut self) -> anyhow::Result<i64> {
        let edges = self.edges.clone();
        let mut page = std::pin::pin!(client::first_page(&edges));
        let mut shown = false;
        loop {
            self.tick()?;
            if self.asked.times() > 0 {
                bail!("ended before the cluster was up");
            }
            let missing = observer::missing(self.seen.borrow().view.as_deref());
            match missing {
                None if shown => break,
                _ if self.started.elapsed() > START_TIME => {
                    let what = missing.unwrap_or_else(|| "the page does not answer".into());
                    bail!("after {} s the cluster is not whole: {what}", START_TIME.as_secs());
                }
                Some(what) => self.screen.waiting(&what),
                None => {}
            }
            tokio::select! {
                () = &mut page, if !shown => {
                    shown = true;
                    let after = self.started.elapsed().as_secs_f32();
                    self.screen.progress(&format!("first page after {after:.1} s"));
                }
                () = tokio::time::sleep(TICK) => {}
            }
        }
        self.screen.progress(&format!("whole after {:.1} s", self.started.elapsed().as_secs_f32()));
        let rows = self.meanwhile(client::read_back(&edges, READ_BACK_TIME), 1).await?;
        let rows = rows.context("ended before the cluster was up")??;
        Ok(rows.last().map_or(1, |n| n + 1))
    }

    /// The load runs: tends processes, drills and the screen until the time is over or someone asks to end.
    async fn work(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.queue = Some(Queue::new(&self.options.drills, began));
        loop {
            self.tick()?;
            let seen = self.seen.borrow().clone();
            let running = self.running.as_mut();
            if let Some(drill) = running.and_then(|r| r.poll(&seen, &mut self.processes, &self.notes)) {
                self.screen.drill(&drill);
                self.done.push(drill);
                self.running = None;
                self.queue.iter_mut().for_each(|q| q.over(Instant::now()));
            }
            if self.running.is_none() {
                self.next_drill(&seen)?;
            }
            let idle = self.running.is_none() && self.queue.as_ref().is_none_or(Queue::is_empty);
            let over = idle && self.options.seconds.is_some_and(|s| began.elapsed().as_secs() >= s);
            if over || self.asked.times() > 0 {
                return Ok(());
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn next_drill(&mut self, seen: &Seen) -> anyhow::Result<()> {
        let missing = observer::missing(seen.view.as_deref());
        let step = self.queue.as_mut().map_or(Step::Wait, |q| q.step(Instant::now(), missing.is_none()));
        let (why, by) = match (step, &seen.view) {
            (Step::GiveUp(fault, by), _) => {
                let what = missing.unwrap_or_default();
                (format!("{fault} is given up: the cluster did not become whole again: {what}"), by)
            }
            (Step::Start(fault, by), Some(view)) => {
                match Running::start(fault, view, &mut self.processes, &self.notes) {
                    Ok(running) => {
                        self.screen.progress(&format!("{fault} on {}", running.node));
                        self.running = Some(running);
                        return Ok(());
                    }
                    Err(why) => (why, by),
                }
            }
            _ => return Ok(()),
        };
        match by {
            By::Words => Err(anyhow!(why)),
            By::Key => {
                self.screen.progress(&why);
                Ok(())
            }
        }
    }

    /// Stops the load and reads every row back.
    async fn prove(&mut self, load: Load) -> anyhow::Result<std::collections::BTreeSet<i64>> {
        let edges = self.edges.clone();
        let enough = self.asked.times() + 1;
        let proof = async {
            load.stop().await;
            client::read_back(&edges, READ_BACK_TIME).await
        };
        // A node that is down may be needed for the proof, so they are tended all the while.
        self.meanwhile(proof, enough).await?.context("asked to end before every row was read back")?
    }

    async fn stop(&mut self) {
        self.screen.progress("stopping every node");
        let (until, enough) = (Instant::now() + STOP_TIME, self.asked.times() + 1);
        self.processes.ask_to_end();
        while self.processes.any_runs() && Instant::now() < until && self.asked.times() < enough {
            self.look();
            tokio::time::sleep(TICK).await;
        }
        self.processes.end();
    }

    /// Carries on with everything else until `work` is done, or, with nothing, until someone has asked to end
    /// `enough` times.
    async fn meanwhile<T>(
        &mut self,
        work: impl Future<Output = T>,
        enough: u32,
    ) -> anyhow::Result<Option<T>> {
        let mut work = std::pin::pin!(work);
        loop {
            self.tick()?;
            if self.asked.times() >= enough {
                return Ok(None);
            }
            tokio::select! {
                done = &mut work => return Ok(Some(done)),
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// A step of what goes on all the time.
    fn tick(&mut self) -> anyhow::Result<()> {
        self.processes.tend(Instant::now())?;
        self.look();
        Ok(())
    }

    /// Shows the state, and takes a key if there is one.
    fn look(&mut self) {
        let seen = self.seen.borrow().clone();
        let waiting = self.queue.as_ref().map_or(0, Queue::len);
        let key = self.screen.draw(&seen, &self.notes, (self.running.as_ref(), waiting), &self.done);
        match (key, &mut self.queue) {
            (None, _) => {}
            (Some(Key::Quit), _) => self.asked.add(),
            (Some(Key::Fault(fault)), None) => {
                self.screen.progress(&format!("{fault}: faults are taken while the load runs"));
            }
            (Some(Key::Fault(fault)), Some(queue)) => {
                let text = if queue.press(fault) {
                    format!("{fault} comes as soon as the cluster is whole and no other drill runs")
                } else {
                    format!("{fault} is not taken: {} faults wait already", queue.len())
                };
                self.screen.progress(&text);
            }
        }
    }

    /// The ends of the nodes' logs, before the folder goes: unless the end was asked for, or the error has them.
    fn last_words(&mut self, failed: &anyhow::Error) {
        if self.asked.times() == 0 && failed.downcast_ref::<WrongUse>().is_none() {
            for words in self.processes.last_words() {
                self.screen.note(words);
            }
        }
    }
}
