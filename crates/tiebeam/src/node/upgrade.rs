//! Hands this node over to a new process, while this one still serves what it has.
//!
//! What comes when is decided by `handover::steps`; here is only what each step means for the rooms of a node, and where
//! the events come from. `node/mod.rs` calls it for whoever asked at the admin socket, or by SIGUSR2.

use std::collections::VecDeque;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tiebeam_watch::Level;
use tokio::sync::watch;

use super::board::Board;
use super::ending::STOP_TIME;
use super::reload::Reload;
use super::rest::Rest;
use super::upgrades::{Heard, Request, unasked};
use super::{Here, Parts};
use crate::admin::{Fate, Process, Upgrade};
use crate::handover::old::Successor;
use crate::handover::steps::{Action, End, Event, State, next};
use crate::handover::{READY_TIME, SERVING_TIME};
use crate::notify;

/// Who asked reads one line.
const HEARD_TIME: Duration = Duration::from_secs(1);

/// What a handover leaves of this process.
pub enum Upgraded {
    /// All, as before.
    Stays(Box<Parts>),
    /// All, but it was told to end.
    Stops(Box<Parts>),
    /// Nothing: it ends with this code.
    Over(ExitCode),
}

/// Carries a handover out. Meanwhile no file is taken anew.
pub async fn run(
    here: &Arc<Here>,
    board: &Board,
    reload: &Reload,
    parts: Box<Parts>,
    request: Request,
    told: watch::Receiver<Option<Instant>>,
) -> Upgraded {
    reload.hand_over(true).await;
    let upgraded = hand_over(here, board, parts, request, told).await;
    reload.hand_over(false).await;
    upgraded
}

async fn hand_over(
    here: &Arc<Here>,
    board: &Board,
    parts: Box<Parts>,
    request: Request,
    told: watch::Receiver<Option<Instant>>,
) -> Upgraded {
    let began = Instant::now();
    tracing::info!(program = %here.options.program.path.display(), "a new process is started to take over");
    let started = match parts.blocked(here) {
        Some(why) => Err(why),
        None => parts.successor(here).await.map_err(|error| format!("it cannot be started: {error}")),
    };
    let mut successor = match started {
        Ok(successor) => successor,
        Err(why) => {
            refuse(board, request, Upgrade { why: Some(why), ..unasked(here.name.as_str()) });
            return Upgraded::Stays(parts);
        }
    };
    let mut old = Old {
        here,
        board,
        began,
        request: Some(request),
        heard: None,
        held: Held::All(parts),
        hurry: watch::Sender::new(false),
        ending: None,
    };
    match old.drive(&mut successor, told).await {
        (End::Stays, Held::All(parts)) => Upgraded::Stays(parts),
        (End::Stops, Held::All(parts)) => Upgraded::Stops(parts),
        (End::Fails, _) => Upgraded::Over(ExitCode::from(1)),
        _ => Upgraded::Over(ExitCode::SUCCESS),
    }
}

fn refuse(board: &Board, request: Request, outcome: Upgrade) {
    let why = outcome.why.as_deref().unwrap_or_default();
    tracing::error!("the node is not handed over; this process goes on as before: {why}");
    let first = why.lines().next().unwrap_or_default();
    board.post(Level::Warning, format!("{} goes on with its old process: {first}", outcome.node));
    request.answer(outcome);
}

/// The old process's side of a handover.
struct Old<'a> {
    here: &'a Arc<Here>,
    board: &'a Board,
    began: Instant,
    /// Until it is answered.
    request: Option<Request>,
    /// Until the answer is heard.
    heard: Option<Heard>,
    held: Held,
    /// Set once what runs has no more time than at a stop.
    hurry: watch::Sender<bool>,
    ending: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// What of the node this process has.
enum Held {
    All(Box<Parts>),
    Rest(Rest),
    Nothing,
}

impl Old<'_> {
    async fn drive(
        &mut self,
        successor: &mut Successor,
        mut told: watch::Receiver<Option<Instant>>,
    ) -> (End, Held) {
        let (mut state, mut until, mut is_told) = (State::Starting, self.began + READY_TIME, false);
        let mut events = VecDeque::new();
        loop {
            let event = match events.pop_front() {
                Some(event) => event,
                None => tokio::select! {
                    biased;
                    _ = told.wait_for(Option::is_some), if !is_told => {
                        is_told = true;
                        Event::Told
                    }
                    event = successor.event() => event,
                    () = finished(&mut self.ending) => {
                        self.ending = None;
                        Event::Drained
                    }
                    () = tokio::time::sleep_until(until.into()), if state != State::Draining => Event::TimeUp,
                },
            };
            // PostgreSQL may have begun to be copied after the new process was started.
            let event = match &self.held {
                Held::All(parts) if event == Event::Ready => parts.copies().map_or(event, |why| {
                    successor.give_up(why);
                    Event::Gone
                }),
                _ => event,
            };
            let (to, actions) = next(state, event);
            tracing::debug!(?state, ?event, ?to, ?actions, "handover");
            for action in actions {
                self.act(*action, event, successor, &mut events).await;
            }
            match to {
                State::Given if state != to => until = Instant::now() + SERVING_TIME,
                State::Ending if state != to => until = Instant::now() + STOP_TIME,
                _ => {}
            }
            state = to;
            if let State::Over(end) = state {
                if let Some(ending) = self.ending.take() {
                    ending.await;
                }
                if let Some(heard) = self.heard.take() {
                    let _ = tokio::time::timeout(HEARD_TIME, heard.wait()).await;
                }
                return (end, std::mem::replace(&mut self.held, Held::Nothing));
            }
        }
    }

    async fn act(
        &mut self,
        action: Action,
        event: Event,
        successor: &mut Successor,
        events: &mut VecDeque<Event>,
    ) {
        match action {
            Action::LetGo => {
                if let Held::All(parts) = std::mem::replace(&mut self.held, Held::Nothing) {
                    self.held = Held::Rest(parts.let_go(self.here).await);
                }
                events.push_back(Event::LetGo);
            }
            Action::Give => {
                let pid = successor.pid;
                tracing::info!(pid, "the node is the new process's; this one serves until that does");
                successor.give().await;
            }
            Action::Kill => successor.kill().await,
            Action::PassOn => successor.tell_to_end(),
            Action::TellDone => self.tell_done(successor),
            Action::TellRefused => {
                let outcome = self.outcome(Fate::Refused, successor, event);
                if let Some(request) = self.request.take() {
                    refuse(self.board, request, outcome);
                }
            }
            Action::TellFailed => {
                let outcome = self.outcome(Fate::Failed, successor, event);
                let why = outcome.why.as_deref().unwrap_or_default();
                tracing::error!("the handover failed half way, this process ends: {why}");
                self.answer(outcome);
            }
            Action::Drain => self.end_rest(),
            Action::Hurry => {
                self.hurry.send_replace(true);
                self.end_rest();
            }
        }
    }

    fn tell_done(&mut self, successor: &Successor) {
        notify::main_is(successor.pid);
        let mut outcome = self.outcome(Fate::Done, successor, Event::Serves);
        outcome.why = None;
        if let Held::Rest(Rest { edge: Some(edge), .. }) = &self.held {
            outcome.draining = edge.handle().stats().connections.open;
        }
        let (pid, version, draining) = (successor.pid, &successor.version, outcome.draining);
        tracing::info!(pid, version, draining, "the new process serves; this one ends what runs");
        self.answer(outcome);
    }

    fn answer(&mut self, outcome: Upgrade) {
        if let Some(request) = self.request.take() {
            self.heard = Some(request.answer(outcome));
        }
    }

    fn outcome(&self, fate: Fate, successor: &Successor, event: Event) -> Upgrade {
        let why = match event {
            Event::TimeUp if fate == Fate::Refused => format!("it was not ready within {READY_TIME:?}"),
            Event::TimeUp => format!(
                "process {} did not serve within {SERVING_TIME:?} and was killed; no process of this node serves: start it again",
                successor.pid
            ),
            Event::Told if fate == Fate::Refused => "the running process was told to end".into(),
            Event::Told => format!("the node was told to end, and process {} ends with it", successor.pid),
            _ if fate == Fate::Refused => successor.why("it ended; its log may say why"),
            _ => format!(
                "process {} ended before it served, and no process of this node serves: start it again: {}",
                successor.pid,
                successor.why("its log may say why")
            ),
        };
        Upgrade {
            to: Some(Process { version: successor.version.clone(), pid: successor.pid }),
            took_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            fate,
            why: Some(why),
            notes: successor.notes.clone(),
            ..unasked(self.here.name.as_str())
        }
    }

    /// Begins to end what this process has left, if it has not begun.
    fn end_rest(&mut self) {
        if let Held::Rest(rest) = std::mem::replace(&mut self.held, Held::Nothing) {
            self.ending = Some(Box::pin(rest.end(self.hurry.subscribe())));
        }
    }
}

/// Never, if there is nothing that ends.
async fn finished(ending: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    match ending {
        Some(ending) => ending.await,
        None => std::future::pending().await,
    }
}
