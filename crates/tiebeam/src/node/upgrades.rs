//! Where a handover of this node is asked for, and where what became of it comes out. `node/admin.rs` asks, `node/upgrade.rs`
//! answers.

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
    answer: oneshot::Sender<Upgrade>,
    busy: Busy,
}

struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Request {
    /// Says what became of it; another one may be asked for then.
    pub fn answer(self, outcome: Upgrade) {
        drop(self.busy);
        // Who asked may have gone.
        let _ = self.answer.send(outcome);
    }
}

impl Upgrades {
    pub fn new(node: &NodeName) -> (Self, mpsc::Receiver<Request>) {
        let (requests, asked) = mpsc::channel(1);
        (Self { node: node.to_string(), requests, is_busy: Arc::default() }, asked)
    }

    /// Asks for one, now; what becomes of it comes later.
    pub fn ask(&self) -> impl Future<Output = Upgrade> + use<> {
        let (answer, outcome) = oneshot::channel();
        let mut why = "this process ends";
        if self.is_busy.swap(true, Ordering::SeqCst) {
            why = "another handover is under way";
        } else {
            // Dropped with its place if nobody takes requests any more.
            let _ = self.requests.try_send(Request { answer, busy: Busy(self.is_busy.clone()) });
        }
        let busy = Upgrade { fate: Fate::Busy, why: Some(why.into()), ..unasked(&self.node) };
        async move { outcome.await.unwrap_or(busy) }
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
        let second = upgrades.ask().await;
        assert_eq!((second.fate, second.why.as_deref()), (Fate::Busy, Some("another handover is under way")));
        let request = asked.recv().await.unwrap();
        request.answer(unasked("a"));
        assert_eq!(first.await.fate, Fate::Refused);
        // One that nobody answers, because the process ends, is over, too.
        let third = upgrades.ask();
        drop(asked.recv().await);
        assert_eq!(third.await.fate, Fate::Busy);
        drop(asked);
        assert_eq!(upgrades.ask().await.why.as_deref(), Some("this process ends"));
    }
}
