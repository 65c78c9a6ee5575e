//! Health is a write: while this node is primary, one small row is written each second, to this node's disk only.
//!
//! A server that answers reads but cannot write, hangs, or is stopped counts as down. A task of its own, and a connection
//! of its own for each probe: a postmaster that is stopped serves old connections on and on, and accepts no new one.
//! Absent replicas do not count, the commit waits for nobody.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tiebeam_topology::Moment;
use tokio::sync::watch;

use crate::control::Control;

/// Between two probes.
pub const EVERY: Duration = Duration::from_secs(1);

/// The result of the probes, and their switch.
pub struct Probe {
    last_ok_ms: Arc<AtomicU64>,
    on: watch::Sender<bool>,
}

impl Probe {
    pub fn start(sockets: PathBuf, port: u16) -> Self {
        let last_ok_ms = Arc::new(AtomicU64::new(0));
        let (on, switch) = watch::channel(false);
        tokio::spawn(run(sockets, port, Arc::clone(&last_ok_ms), switch));
        Self { last_ok_ms, on }
    }

    /// Probe or rest.
    pub fn switch(&self, on: bool) {
        self.on.send_if_modified(|was| std::mem::replace(was, on) != on);
    }

    pub fn last_ok(&self) -> Moment {
        Moment::from_ms(self.last_ok_ms.load(Ordering::Relaxed))
    }
}

async fn run(sockets: PathBuf, port: u16, last_ok_ms: Arc<AtomicU64>, mut on: watch::Receiver<bool>) {
    loop {
        if !*on.borrow_and_update() {
            if on.changed().await.is_err() {
                return;
            }
            continue;
        }
        let written = match Control::connect(&sockets, port, EVERY).await {
            Ok(control) => control.run("UPDATE tiebeam.heartbeat SET at = now()").await.is_ok(),
            Err(_) => false,
        };
        if written {
            last_ok_ms.store(Moment::now().as_ms(), Ordering::Relaxed);
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            changed = on.changed() => if changed.is_err() { return },
        }
    }
}
