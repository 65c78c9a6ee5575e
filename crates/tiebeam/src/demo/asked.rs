//! How often someone asked the demo to end, by a signal or a key: once ends the load and proves what was written, once
//! more ends without the proof.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::signal::unix::{SignalKind, signal};

#[derive(Clone, Default)]
pub struct Asked(Arc<AtomicU32>);

impl Asked {
    /// Counts every signal that asks for an end, from now on and as long as the runtime lives.
    pub fn listen() -> std::io::Result<Self> {
        let asked = Self::default();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let (mut signals, asked) = (signal(kind)?, asked.clone());
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    asked.add();
                }
            });
        }
        Ok(asked)
    }

    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn times(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
