//! Where a handover of this node is asked for, and where what became of it comes out. `node/admin.rs` asks, `node/upgrade.rs`
//! answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tiebeam_topology::NodeName;
use tokio::sync::{mpsc, oneshot};

use crate::admin::{Fate, Process, Upgrade};

/// Where handovers are asked for: one at a time.
#[derive(Clone)]
pub struct Upgrades {
    node: String,
    requests: mpsc::Sender<Request>,
    is_busy: Arc<AtomicBool>,
}

/// One that was asked for, and is not over.
pub struct Request {
    answer: oneshot::Sender<Answer>,
    busy: Busy,
}

/// What became of one, for who asked.
pub struct Answer {
    pub outcome: Upgrade,
    /// Held until it has been passed on.
    _unsaid: Option<oneshot::Sender<Infallible>>,
}

/// Comes to its end when who asked has been told, or has gone.
pub struct Heard(oneshot::Receiver<Infallible>);

impl Heard {
    pub async fn wait(self) {
        let _ = self.0.await;
    }
}

struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Request {
    /// Says what became of it; another one may be asked for then. A process that ends must wait until that is heard.
    pub fn answer(self, outcome: Upgrade) -> Heard {
        drop(self.busy);
        let (unsaid, heard) = oneshot::channel();
        // Who asked may have gone.
        let _ = self.answer.send(Answer { outcome, _unsaid: Some(unsaid) });
        Heard(heard)
    }
}

impl Upgrades {
    pub fn new(node: &NodeName) -> (Self, mpsc::Receiver<Request>) {
        let (requests, asked) = mpsc::channel(1);
        (Self { node: node.to_string(), requests, is_busy: Arc::default() }, asked)
    }

    /// Asks for one, now; what becomes of it comes later.
    pub fn ask(&self) -> impl Future<Output = Answer> + use<> {
        let (answer, outcome) = oneshot::channel();
        let mut why = "this process ends";
        if self.is_busy.swap(true, Ordering::SeqCst) {
            why = "another handover is under way";
        } else {
            // Dropped with its place if nobody takes requests any more.
            let _ = self.requests.try_send(Request { answer, busy: Busy(self.is_busy.clone()) });
        }
        let busy = Upgrade { fate: Fate::Busy, why: Some(why.into()), ..unasked(&self.node) };
        async move { outcome.await.unwrap_or(Answer { outcome: busy, _unsaid: None }) }
    }
}

/// Before anything was tried.
pub fn unasked(node: &str) -> Upgrade {
    Upgrade {
        node: node.to_owned(),
        from: Process { version: env!("CARGO_PKG_VERSION").into(), pid: std::process::id() },
        to: None,
        took_ms: 0,
        fate: Fate::Refused,
        draining: 0,
        why: None,
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time() {
        let (upgrades, mut asked) = Upgrades::new(&"a".parse().unwrap());
        let first = upgrades.ask();
        let second = upgrades.ask().await.outcome;
        assert_eq!((second.fate, second.why.as_deref()), (Fate::Busy, Some("another handover is under way")));
        let request = asked.recv().await.unwrap();
        let mut heard = request.answer(unasked("a"));
        let first = first.await;
        assert_eq!(first.outcome.fate, Fate::Refused);
        assert!(heard.0.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
        drop(first);
        heard.wait().await;
        // One that nobody answers, because the process ends, is over, too.
        let third = upgrades.ask();
        drop(asked.recv().await);
        assert_eq!(third.await.outcome.fate, Fate::Busy);
        drop(asked);
        assert_eq!(upgrades.ask().await.outcome.why.as_deref(), Some("this process ends"));
    }
}
