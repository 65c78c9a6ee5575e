//! Tasks that answer streams, one after the other. A stream is short and the state of its answer large: a task of its
//! own would be made, moved and freed for each, which costs more than what most of them do.
//!
//! A connection gives its streams to [`Lanes::run`]; which lane answers one means nothing to it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::Accepted;
use crate::worker::Worker;

/// Lanes that wait for a stream; one that finds so many waiting ends.
const WAITING: usize = 256;

/// Those of a worker that have nothing to do.
#[derive(Default)]
pub struct Lanes {
    waiting: RefCell<Vec<Rc<Lane>>>,
}

#[derive(Default)]
struct Lane {
    next: Cell<Option<Accepted>>,
    waker: Cell<Option<Waker>>,
}

impl Lanes {
    /// Has a stream answered by a lane that waits, or by a new one.
    pub fn run(worker: &Rc<Worker>, stream: Accepted) {
        let waiting = worker.lanes.waiting.borrow_mut().pop();
        match waiting {
            Some(lane) => {
                lane.next.set(Some(stream));
                if let Some(waker) = lane.waker.take() {
                    waker.wake();
                }
            }
            None => drop(tokio::task::spawn_local(answer_all(worker.clone(), stream))),
        }
    }

    /// False: there are enough.
    fn wait(&self, lane: &Rc<Lane>) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let is_wanted = waiting.len() < WAITING;
        if is_wanted {
            waiting.push(lane.clone());
        }
        is_wanted
    }
}

async fn answer_all(worker: Rc<Worker>, mut stream: Accepted) {
    let lane = Rc::<Lane>::default();
    loop {
        stream.answer(&worker).await;
        if !worker.lanes.wait(&lane) {
            return;
        }
        stream = lane.next().await;
    }
}

impl Lane {
    async fn next(&self) -> Accepted {
        poll_fn(|cx| match self.next.take() {
            Some(stream) => Poll::Ready(stream),
            None => {
                self.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}
