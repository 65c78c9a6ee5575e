//! What the whole cluster is doing, as this node knows it: events told and kept in the ledger, every node's report read
//! back, put together into the one [`View`] that the console and `tiebeam status` show.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tiebeam_console::Board as Source;
use tiebeam_ledger::{Key, Op, Read, Register, Store, Txn, WatchError};
use tiebeam_topology::{Durability, ManagedDatabase, Moment, NodeName};
use tiebeam_watch::{
    ClusterDatabaseView, EVENT_TEXT_MAX, EVENTS_MAX, Event, Extra, LedgerView, Level, NodeView, View,
    words::cut,
};
use tokio::sync::mpsc;

use super::Here;

/// Where reports and events live in the ledger.
pub const REPORTS: &str = "reports/";
const EVENTS: &str = "events/";
/// Events kept in the ledger are as many as a view carries; the leader deletes the oldest beyond, this many at once, so
/// that a transaction stays small.
const EVENTS_DELETED_AT_ONCE: usize = 50;
/// The events are read again when one of them changes, and at least this often; and at most this often.
const EVENTS_LOOK: Duration = Duration::from_secs(5);
const EVENTS_PAUSE: Duration = Duration::from_millis(200);
/// A node whose report is older does not report.
const SILENT_AFTER: Duration = Duration::from_millis(2500);
/// Events that wait for the ledger; more are logged and dropped.
const TOLD_MAX: usize = 256;
/// Between two tries to record an event without a quorum.
const TELL_AGAIN: Duration = Duration::from_millis(500);

/// The events, newest first, as they were last read.
type Events = Arc<Mutex<Arc<Vec<Event>>>>;

pub struct Board {
    here: Arc<Here>,
    source: Source,
    heard: Mutex<Heard>,
    events: Events,
    told: mpsc::Sender<Event>,
    dropped_events: AtomicU64,
}

impl Board {
    pub fn new(here: Arc<Here>) -> Arc<Self> {
        let (told, queue) = mpsc::channel(TOLD_MAX);
        let source = Source::new(View::new(here.cluster.name.clone(), here.name.clone(), unix_ms()));
        let (heard, events) = (Mutex::new(Heard::since(Moment::now())), Events::default());
        tokio::spawn(record(here.clone(), queue));
        tokio::spawn(keep_events(here.clone(), events.clone()));
        Arc::new(Self { here, source, heard, events, told, dropped_events: AtomicU64::new(0) })
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
        let text = cut(&text, EVENT_TEXT_MAX);
        let event = Event { unix_ms: unix_ms(), node: Some(self.here.name.clone()), level, text };
        if self.told.try_send(event).is_err() {
            // The log above has it; the timeline lacks it.
            let dropped = self.dropped_events.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(dropped, "too many events wait for the ledger: this one is not on the timeline");
        }
    }

    /// Events that found no place in the queue for the ledger.
    pub fn dropped_events(&self) -> u64 {
        self.dropped_events.load(Ordering::Relaxed)
    }

    /// Makes the view anew and hands it to the console. `mine` is what this node just reported, `own` what it alone
    /// counts.
    pub async fn refresh(&self, mine: NodeView, database: Option<ClusterDatabaseView>, own: Vec<Extra>) {
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
            if let Some(node) = view.nodes.get_mut(&name) {
                // A panic elsewhere leaves it whole: a note is one step.
                let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                let heard = heard.note(&name, applied_at).then(|| now.since(applied_at));
                *node = aged(report, heard, view.unix_ms);
            }
        }
        view.nodes.insert(here.name.clone(), NodeView { alive: true, report_age_ms: Some(0), ..mine });
        view.database = database.map(|d| explained(d, &view));
        view.events = self.events.lock().unwrap_or_else(PoisonError::into_inner).to_vec();
        self.source.publish(view);
        self.source.publish_own(own);
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
}

/// Which nodes this one has heard since it started. What was in the ledger when it was opened may be of any age, and so may
/// the first report that comes after it: it may be the last one of a node that has been dead for long, brought by whoever
/// helped this node to catch up. The second one can only come from a node that lives, a second later.
struct Heard {
    since: Moment,
    /// When the first report of each came.
    first: BTreeMap<NodeName, Moment>,
}

impl Heard {
    fn since(since: Moment) -> Self {
        Self { since, first: BTreeMap::new() }
    }

    /// Notes when the newest report of a node came. Is that node heard?
    fn note(&mut self, name: &NodeName, applied_at: Moment) -> bool {
        applied_at > self.since && *self.first.entry(name.clone()).or_insert(applied_at) != applied_at
    }
}

/// A report as it is worth now; `heard` is the time since this node saw it come, if it did. How old the last report of a
/// node is that is not alive, the wall clocks say too: that is for people only, nothing is decided by it.
fn aged(report: NodeView, heard: Option<Duration>, now_unix_ms: u64) -> NodeView {
    let alive = !report.ended && heard.is_some_and(|age| age < SILENT_AFTER);
    let by_boot_ms = heard.map_or(0, |age| age.as_millis() as u64);
    let by_wall_ms = now_unix_ms.saturating_sub(report.reported_unix_ms);
    let age_ms = if alive { by_boot_ms } else { by_boot_ms.max(by_wall_ms) };
    NodeView { alive, report_age_ms: Some(age_ms), ..report }
}

/// A node without a database does not know why writes are stopped: then one that has a database knows.
fn explained(mut database: ClusterDatabaseView, view: &View) -> ClusterDatabaseView {
    let knows = |name: &NodeName| view.nodes.get(name).is_some_and(|n| n.database.is_some());
    if database.stopped_because.is_none() && !knows(&view.this_node) {
        let mut others = view.nodes.values().filter(|n| n.alive).filter_map(|n| n.database.as_ref());
        database.stopped_because = others.find_map(|d| d.stopped_because.clone());
    }
    database
}

/// Reads the events whenever they change, and deletes surplus ones where the leader is. Runs until the ledger closes.
async fn keep_events(here: Arc<Here>, events: Events) {
    let mut changes = here.ledger.watch(EVENTS);
    loop {
        if let Ok(listing) = here.ledger.list(EVENTS, Read::Local).await {
            let newest = listing.entries.iter().rev().take(EVENTS_MAX);
            let decoded = newest.filter_map(|e| Some(Register::new(e.key.clone()).decode(e).ok()?.value));
            let decoded = Arc::new(decoded.collect::<Vec<Event>>());
            *events.lock().unwrap_or_else(PoisonError::into_inner) = decoded;
            let surplus = listing.entries.len().saturating_sub(EVENTS_MAX);
            if surplus > 0 && here.ledger.status().leader.as_ref() == Some(&here.name) {
                let oldest: Vec<Key> = listing.entries.into_iter().take(surplus).map(|e| e.key).collect();
                forget(&here, &oldest).await;
            }
        }
        tokio::time::sleep(EVENTS_PAUSE).await;
        if let Ok(Err(WatchError::Closed)) = tokio::time::timeout(EVENTS_LOOK, changes.next()).await {
            return;
        }
    }
}

async fn forget(here: &Here, oldest: &[Key]) {
    for keys in oldest.chunks(EVENTS_DELETED_AT_ONCE) {
        let then = keys.iter().map(|key| Op::Delete { key: key.clone() }).collect();
        // The next look will try again.
        if here.ledger.transact(Txn { compare: Vec::new(), then }).await.is_err() {
            return;
        }
    }
}

/// Writes told events to the ledger, each until it is there.
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

#[cfg(test)]
mod tests {
    use tiebeam_watch::fixtures;

    use super::*;

    #[test]
    fn a_report_is_worth_what_this_node_saw_of_it() {
        let ms = Duration::from_millis;
        let now = 1_000_000_000;
        // ended, heard before, told at by the wall clock; alive, age
        for (i, (ended, heard, told, alive, age)) in [
            (false, Some(ms(300)), now - 280, true, 300),
            (false, Some(ms(300)), now - 90_000, true, 300),
            (false, Some(ms(4000)), now - 4100, false, 4100),
            (false, Some(ms(4000)), now + 9000, false, 4000),
            (true, Some(ms(300)), now - 250, false, 300),
            (false, None, now - 86_400_000, false, 86_400_000),
        ]
        .into_iter()
        .enumerate()
        {
            let report = NodeView {
                ended,
                reported_unix_ms: told,
                ..NodeView::silent([127, 0, 0, 1].into(), Default::default())
            };
            let seen = aged(report, heard, now);
            assert_eq!((seen.alive, seen.report_age_ms), (alive, Some(age)), "row {i}");
        }
    }

    #[test]
    fn a_node_is_heard_from_its_second_report_on() {
        let mut heard = Heard::since(Moment::from_ms(5000));
        let (a, b) = (fixtures::node("a"), fixtures::node("b"));
        for (i, (name, ms, is_heard)) in [
            (&a, 3000, false),
            (&a, 5000, false),
            (&a, 5200, false),
            (&a, 5200, false),
            (&b, 6100, false),
            (&a, 6200, true),
            (&a, 6200, true),
            (&a, 7200, true),
            (&b, 6100, false),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(heard.note(name, Moment::from_ms(ms)), is_heard, "row {i}");
        }
    }

    #[test]
    fn a_witness_learns_from_the_databases_why_writes_are_stopped() {
        let mut view = fixtures::healthy();
        let why = |view: &View| explained(ClusterDatabaseView::default(), view).stopped_because;
        view.this_node = fixtures::node("c");
        view.nodes.get_mut(&fixtures::node("b")).unwrap().database.as_mut().unwrap().stopped_because =
            Some("a is needed".into());
        assert_eq!(why(&view), None, "a database node goes by its own agent");
        view.nodes.get_mut(&fixtures::node("c")).unwrap().database = None;
        assert_eq!(why(&view).as_deref(), Some("a is needed"));
        view.nodes.get_mut(&fixtures::node("b")).unwrap().alive = false;
        assert_eq!(why(&view), None, "what a dead node said last is no reason now");
    }
}
