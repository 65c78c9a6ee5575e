//! `tiebeam demo`: three nodes on this machine as separate processes, a client that reads and writes through them, faults
//! on demand, and a receipt at the end that says what was lost.

mod client;
mod drills;
mod http;
mod layout;
mod observer;
mod processes;
mod receipt;
mod screen;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tiebeam_topology::{Durability, Role};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use client::{Load, Notes};
pub use drills::Fault;
use drills::{Running, WHOLE_TIME};
pub use http::{Client, NoAnswer};
use layout::Layout;
use observer::Seen;
use processes::Processes;
use receipt::{Drill, Receipt};
use screen::{Key, Screen};

/// How long the cluster may take to become whole after the start.
const START_TIME: Duration = Duration::from_secs(90);
const READ_BACK_TIME: Duration = Duration::from_secs(30);
/// Between two tries to see the first page.
const PAGE_EVERY: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(50);

pub struct Options {
    /// `None`: until someone quits.
    pub seconds: Option<u64>,
    pub drills: Vec<Fault>,
    pub keep: Option<PathBuf>,
    pub headless: bool,
    pub durability: Durability,
}

/// Runs the whole demo and gives its receipt. Whatever happens, nothing that it started is left.
pub fn run(options: Options) -> anyhow::Result<Receipt> {
    // One thread: the nodes are told to end when the thread that started them ends, and that is this one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let layout = Layout::prepare(options.keep.as_deref(), options.durability)?;
        let mut demo = Demo::start(layout, options)?;
        let receipt = demo.go().await;
        demo.screen.progress("stopping every node");
        demo.processes.stop().await;
        drop(demo);
        receipt
    })
}

struct Demo {
    options: Options,
    processes: Processes,
    notes: Arc<Notes>,
    edges: Vec<SocketAddr>,
    seen: watch::Receiver<Seen>,
    screen: Screen,
    running: Option<Running>,
    waiting: VecDeque<Fault>,
    done: Vec<Drill>,
    started: Instant,
}

/// Why the loop ended.
enum End {
    Time,
    Asked,
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
        let screen = Screen::new(options.headless, &cluster, &layout.folder)?;
        let processes = Processes::start(layout)?;
        tokio::spawn(observer::observe(cluster, notes.clone(), sender));
        Ok(Self {
            waiting: options.drills.iter().copied().collect(),
            options,
            processes,
            notes,
            edges,
            seen,
            screen,
            running: None,
            done: Vec::new(),
            started,
        })
    }

    async fn go(&mut self) -> anyhow::Result<Receipt> {
        let mut interrupts = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(signal)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let mut quit = std::pin::pin!(async move {
            let [a, b, c] = &mut interrupts[..] else { return };
            tokio::select! { _ = a.recv() => {}, _ = b.recv() => {}, _ = c.recv() => {} }
        });
        tokio::select! {
            () = &mut quit => bail!("ended before the cluster was up"),
            up = self.come_up() => up?,
        }
        self.screen.progress(&format!("whole after {:.1} s", self.started.elapsed().as_secs_f32()));
        let first_row = client::read_back(&self.edges, READ_BACK_TIME).await?.last().map_or(1, |n| n + 1);
        let load = Load::start(self.edges.clone(), first_row, self.notes.clone());
        let end = tokio::select! {
            () = &mut quit => Ok(End::Asked),
            end = self.work() => end,
        };
        if let Some(running) = &mut self.running {
            running.resume(&self.processes);
        }
        if matches!(end, Ok(End::Asked)) {
            self.screen.progress("asked to end: reading every acknowledged row back");
        }
        let receipt = tokio::select! {
            // A second Ctrl-C ends without the proof.
            _ = tokio::signal::ctrl_c() => bail!("ended without a receipt"),
            receipt = self.prove(load) => receipt,
        };
        end.and(receipt)
    }

    /// Waits until everything that the file asks for is there, with the first page on the way.
    async fn come_up(&mut self) -> anyhow::Result<()> {
        let (mut page, mut said, mut next_try) = (false, false, Instant::now());
        loop {
            self.processes.tend(Instant::now())?;
            if !page && Instant::now() >= next_try {
                next_try = Instant::now() + PAGE_EVERY;
                page = client::first_page(&self.edges).await;
            }
            if page && !said {
                said = true;
                self.screen
                    .progress(&format!("first page after {:.1} s", self.started.elapsed().as_secs_f32()));
            }
            let missing = observer::missing(self.seen.borrow().view.as_deref());
            match missing {
                None if page => return Ok(()),
                _ if self.started.elapsed() > START_TIME => {
                    let what = missing.unwrap_or_else(|| "the page does not answer".into());
                    bail!("after {} s the cluster is not whole: {what}", START_TIME.as_secs());
                }
                Some(what) => self.screen.waiting(&what),
                None => {}
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// The load runs: tends processes, drills and the screen until the time is over or someone quits.
    async fn work(&mut self) -> anyhow::Result<End> {
        let began = Instant::now();
        let mut whole_by = began + WHOLE_TIME;
        // Between drills the cluster runs undisturbed for a while: that is part of what is measured.
        let mut next_drill = began + Duration::from_secs(2);
        loop {
            let now = Instant::now();
            self.processes.tend(now)?;
            let seen = self.seen.borrow().clone();
            if let Some(drill) =
                self.running.as_mut().and_then(|r| r.poll(&seen, &mut self.processes, &self.notes))
            {
                self.screen.drill(&drill);
                self.done.push(drill);
                self.running = None;
                whole_by = now + WHOLE_TIME;
                next_drill = now + Duration::from_secs(1);
            }
            if self.running.is_none() && now >= next_drill && !self.waiting.is_empty() {
                match drills::waits_for(&seen) {
                    None => self.start_drill(&seen)?,
                    Some(what) if now > whole_by => bail!("the cluster did not become whole again: {what}"),
                    Some(_) => {}
                }
            }
            let idle = self.running.is_none() && self.waiting.is_empty();
            if idle && self.options.seconds.is_some_and(|s| began.elapsed().as_secs() >= s) {
                return Ok(End::Time);
            }
            match self.screen.draw(&seen, &self.notes, self.running.as_ref(), &self.done)? {
                Some(Key::Quit) => return Ok(End::Asked),
                Some(Key::Fault(fault)) if idle => self.waiting.push_back(fault),
                _ => {}
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn start_drill(&mut self, seen: &Seen) -> anyhow::Result<()> {
        let (Some(fault), Some(view)) = (self.waiting.pop_front(), &seen.view) else { return Ok(()) };
        match Running::start(fault, view, &mut self.processes, &self.notes) {
            Ok(running) => {
                self.screen.progress(&format!("{fault} on {}", running.node));
                self.running = Some(running);
                Ok(())
            }
            Err(why) => bail!("{why}"),
        }
    }

    /// Stops the load and reads every row back.
    async fn prove(&mut self, load: Load) -> anyhow::Result<Receipt> {
        load.stop().await;
        let tended = async {
            loop {
                // A node that is down may be needed for the proof.
                self.processes.tend(Instant::now())?;
                tokio::time::sleep(TICK).await;
            }
        };
        let found = tokio::select! {
            found = client::read_back(&self.edges, READ_BACK_TIME) => found,
            failed = tended => failed,
        };
        if let Err(error) = &found {
            self.screen.progress(&format!("{error:#}"));
        }
        for (why, times) in self.notes.with(|t| t.failures.clone()) {
            self.screen.progress(&format!("{times} request(s) failed: {why}"));
        }
        let seen = self.seen.borrow().clone();
        let done = std::mem::take(&mut self.done);
        Ok(self.notes.with(|t| Receipt::new(t, done, seen.out_of_turn, found.as_ref().ok())))
    }
}
