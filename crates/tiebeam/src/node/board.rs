//! What the whole cluster is doing, as this node knows it: events told and kept in the ledger, every node's report read
//! back, put together into the one [`View`] that the console and `tiebeam status` show.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tiebeam_console::Board as Source;
use tiebeam_ledger::{Key, Op, Read, Register, Store, Txn};
use tiebeam_topology::{Durability, ManagedDatabase, Moment, NodeName};
use tiebeam_watch::{ClusterDatabaseView, Event, LedgerView, Level, NodeView, View};
use tokio::sync::mpsc;

use super::Here;

/// Where reports and events live in the ledger.
pub const REPORTS: &str = "reports/";
const EVENTS: &str = "events/";
/// Events kept in the ledger; the leader deletes the oldest beyond.
const EVENTS_KEPT: usize = 200;
/// Deleted at once, so that a transaction stays small.
const EVENTS_DELETED_AT_ONCE: usize = 50;
/// A node whose report is older does not report.
const SILENT_AFTER: Duration = Duration::from_millis(2500);
/// Events that wait for the ledger; more are logged and dropped.
const TOLD_MAX: usize = 256;
/// Between two tries to record an event without a quorum.
const TELL_AGAIN: Duration = Duration::from_millis(500);

pub struct Board {
    here: Arc<Here>,
    source: Source,
    told: mpsc::Sender<Event>,
    dropped_events: AtomicU64,
}

impl Board {
    pub fn new(here: Arc<Here>) -> Arc<Self> {
        let (told, queue) = mpsc::channel(TOLD_MAX);
        let source = Source::new(View::new(here.cluster.name.clone(), here.name.clone(), unix_ms()));
        tokio::spawn(record(here.clone(), queue));
        Arc::new(Self { here, source, told, dropped_events: AtomicU64::new(0) })
    }

    /// What the console reads.
    pub fn source(&self) -> Source {
        self.source.clone()
    }

    /// Logs an event and puts it on the timeline. Never waits.
    pub fn tell(&self, level: Level, text: String) {
        match level {
            Level::Info => tracing::info!("{text}"),
            Level::Warning => tracing::warn!("{text}"),
            Level::Alarm => tracing::error!("{text}"),
        }
        self.post(level, text);
    }

    /// Puts an event that its room has logged on the timeline of the cluster. Never waits.
    pub fn post(&self, level: Level, text: String) {
        let event = Event { unix_ms: unix_ms(), node: Some(self.here.name.clone()), level, text };
        if self.told.try_send(event).is_err() {
            // The log above has it; the timeline lacks it.
            let dropped = self.dropped_events.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(dropped, "too many events wait for the ledger: this one is not on the timeline");
        }
    }

    /// Makes the view anew and hands it to the console. `mine` is what this node just reported.
    pub async fn refresh(&self, mine: NodeView, database: Option<ClusterDatabaseView>) {
        let now = Moment::now();
        let here = &self.here;
        let mut view = View::new(here.cluster.name.clone(), here.name.clone(), unix_ms());
        let status = here.ledger.status();
        view.ledger = LedgerView {
            leader: status.leader,
            quorum: status.quorum,
            term: status.term,
            revision: status.revision.0,
            voters: status.voters,
        };
        for (name, node) in &here.cluster.nodes {
            view.nodes.insert(name.clone(), NodeView::silent(node.address, node.roles.clone()));
        }
        for (name, report, applied_at) in self.reports().await {
            let age = now.since(applied_at);
            if let Some(node) = view.nodes.get_mut(&name) {
                *node = report;
                node.alive = age < SILENT_AFTER;
                node.report_age_ms = Some(age.as_millis() as u64);
            }
        }
        view.nodes.insert(here.name.clone(), NodeView { alive: true, report_age_ms: Some(0), ..mine });
        view.database = database;
        view.events = self.events().await;
        self.source.publish(view);
    }

    async fn reports(&self) -> Vec<(NodeName, NodeView, Moment)> {
        let Ok(listing) = self.here.ledger.list(REPORTS, Read::Local).await else { return Vec::new() };
        let decoded = listing.entries.iter().filter_map(|entry| {
            let name: NodeName = entry.key.as_str().strip_prefix(REPORTS)?.parse().ok()?;
            let held = Register::<NodeView>::new(entry.key.clone()).decode(entry).ok()?;
            Some((name, held.value, held.applied_at))
        });
        decoded.collect()
    }

    /// Newest first.
    async fn events(&self) -> Vec<Event> {
        let Ok(listing) = self.here.ledger.list(EVENTS, Read::Local).await else { return Vec::new() };
        let newest_first = listing.entries.iter().rev();
        newest_first.filter_map(|e| Some(Register::new(e.key.clone()).decode(e).ok()?.value)).collect()
    }
}

/// Writes told events to the ledger, each until it is there, and keeps their number bounded.
async fn record(here: Arc<Here>, mut queue: mpsc::Receiver<Event>) {
    let mut number = 0u64;
    while let Some(event) = queue.recv().await {
        number += 1;
        // Sorted by time; the name and number make it one node's own.
        let text = format!("{EVENTS}{:013}-{}-{number}", event.unix_ms, here.name);
        let Ok(key) = Key::new(text) else { continue };
        let Ok(put) = Register::new(key).put(&event, None) else { continue };
        while here.ledger.transact(Txn { compare: Vec::new(), then: vec![put.clone()] }).await.is_err() {
            if here.ledger.status().failed.is_some() {
                return;
            }
            tokio::time::sleep(TELL_AGAIN).await;
        }
        if here.ledger.status().leader.as_ref() == Some(&here.name) {
            forget_old(&here).await;
        }
    }
}

async fn forget_old(here: &Here) {
    let Ok(listing) = here.ledger.list(EVENTS, Read::Local).await else { return };
    let surplus = listing.entries.len().saturating_sub(EVENTS_KEPT).min(EVENTS_DELETED_AT_ONCE);
    if surplus > 0 {
        let then = listing.entries.into_iter().take(surplus).map(|e| Op::Delete { key: e.key }).collect();
        // Another event will try again.
        let _ = here.ledger.transact(Txn { compare: Vec::new(), then }).await;
    }
}

pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// What the file's durability means at this moment, for people.
pub fn durability_words(database: &ManagedDatabase, sync: &BTreeMap<NodeName, bool>) -> String {
    let members: Vec<&str> = sync.iter().filter(|(_, on)| **on).map(|(n, _)| n.as_str()).collect();
    match (database.durability, members.as_slice()) {
        (Durability::Async, _) => {
            "async: a commit waits for no replica; a failover may lose the newest".into()
        }
        (Durability::Quorum, []) => "quorum: no replica keeps up, the primary goes on alone".into(),
        (Durability::Strict, []) => "strict: no replica keeps up, writes wait".into(),
        (Durability::Quorum, m) => format!("quorum: a commit waits for one of {}", m.join(", ")),
        (Durability::Strict, m) => format!("strict: a commit waits for one of {}", m.join(", ")),
    }
}
