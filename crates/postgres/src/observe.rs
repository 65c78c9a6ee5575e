//! Reads the world into a [`World`]: the guard, PostgreSQL, the folders, the ledger. Decides nothing.
//!
//! Some of what the plan needs is "since when"; that is remembered here between two looks ([`Memory`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tiebeam_ledger::{Entry, Key, Listing, Read, Register, RegisterError, Store};
use tiebeam_topology::{Epoch, Lsn, Moment, NodeName};

use crate::control::{ServerView, standby};
use crate::guard::wire::GuardState;
use crate::instance::{Paths, conf, fork};
use crate::lease::Seen;
use crate::plan::{Data, Following, Guard, LeaseSeen, World};
use crate::quorum::SyncSet;
use crate::registers::{Init, Lease, Member, SyncRegister, Vote, keys};
use crate::settings::Settings;

/// How long the stream must have been closed and without a walreceiver: the startup process, which could be about
/// to start one with the old setting, has read the new one by then.
const FENCE_SETTLES: Duration = Duration::from_millis(30);

/// A server that is to be promoted may take this long before it counts as hung.
const PROMOTION_TIME: Duration = Duration::from_secs(30);

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub struct Memory {
    seen: Option<Seen>,
    ended_since: Option<(u64, Moment)>,
    closed_since: Option<Moment>,
    unfed_since: Option<Moment>,
    absent_since: BTreeMap<NodeName, Moment>,
    holding_since: Option<(Epoch, bool, Moment)>,
    pub in_force: Option<(String, Lsn)>,
    pub ident_roles: BTreeSet<String>,
    pub start_not_before: Moment,
    pub quick_ends: u32,
    pub copied: bool,
    pub job_not_before: Moment,
    /// The walreceiver that streamed at the last look.
    fed_by: Option<u32>,
}

/// What the ledger says below [`keys::PREFIX`], decoded.
#[derive(Debug, Default, PartialEq)]
pub struct LedgerView {
    pub init: Option<(Init, u64)>,
    pub lease: Option<(Lease, u64)>,
    pub sync: Option<(SyncRegister, u64)>,
    pub votes: BTreeMap<NodeName, Vote>,
    pub vote_revisions: BTreeMap<NodeName, u64>,
    pub members: BTreeMap<NodeName, Member>,
    /// A majority has confirmed it.
    pub confirmed: bool,
}

/// Reads the ledger: what this node has applied, or what a majority confirms.
///
/// # Errors
/// When there is no majority, or a value is of a newer format.
pub async fn read_ledger(store: &dyn Store, read: Read) -> Result<LedgerView, RegisterError> {
    let listing = store.list(keys::PREFIX, read).await?;
    decode(&listing, read == Read::Linear)
}

fn decode(listing: &Listing, confirmed: bool) -> Result<LedgerView, RegisterError> {
    fn value<T: serde::Serialize + serde::de::DeserializeOwned + Send + Sync>(
        entry: &Entry,
    ) -> Result<(T, u64), RegisterError> {
        let held = Register::new(entry.key.clone()).decode(entry)?;
        Ok((held.value, held.revision.0))
    }
    let mut view = LedgerView { confirmed, ..LedgerView::default() };
    for entry in &listing.entries {
        let key = entry.key.as_str();
        let node = |prefix: &str| key.strip_prefix(prefix).and_then(|n| n.parse::<NodeName>().ok());
        if key == keys::LEASE {
            view.lease = Some(value(entry)?);
        } else if key == keys::SYNC {
            view.sync = Some(value(entry)?);
        } else if key == keys::INIT {
            view.init = Some(value(entry)?);
        } else if let Some(node) = node(keys::VOTES) {
            let (vote, revision) = value(entry)?;
            view.votes.insert(node.clone(), vote);
            view.vote_revisions.insert(node, revision);
        } else if let Some(node) = node(keys::MEMBERS) {
            view.members.insert(node, value(entry)?.0);
        }
    }
    Ok(view)
}

/// The key of a register of this room. The names are ours and short, so they always are keys.
pub fn register<T: serde::Serialize + serde::de::DeserializeOwned + Send + Sync>(
    name: &str,
) -> Result<Register<T>, crate::Error> {
    Key::new(name).map(Register::new).map_err(|e| crate::Error::Ledger(e.to_string()))
}

/// The raw parts of one look.
pub struct Parts<'a> {
    pub settings: &'a Settings,
    pub paths: &'a Paths,
    pub data: Data,
    pub guard: Option<GuardState>,
    pub view: Option<ServerView>,
    pub ledger: &'a LedgerView,
    pub busy: bool,
    pub holding: Option<Epoch>,
    pub promoting: Option<Epoch>,
    pub lapsed: Option<Epoch>,
    pub probe_ok: Moment,
}

impl Memory {
    /// The lease of `ledger` as seen from here at `now`.
    pub fn lease(&mut self, me: &NodeName, ledger: &LedgerView, now: Moment) -> Option<LeaseSeen> {
        let (lease, revision) = ledger.lease.as_ref()?;
        let seen = Seen::look(self.seen, *revision, now);
        self.seen = Some(seen);
        let given_up = ledger.votes.get(me).is_some_and(|v| v.lease_revision == *revision);
        Some(LeaseSeen { lease: lease.clone(), seen, given_up })
    }

    /// Puts one look together and remembers what the next one needs.
    pub fn world(&mut self, parts: Parts<'_>, now: Moment) -> World {
        let me = &parts.settings.node;
        let lease = self.lease(me, parts.ledger, now);
        let revision = lease.as_ref().map_or(0, |l| l.seen.revision);
        let ended = lease.as_ref().is_none_or(|l| l.ended(now));
        self.ended_since = match self.ended_since {
            _ if !ended => None,
            Some((of, at)) if of == revision => Some((of, at)),
            _ => Some((revision, now)),
        };
        let view = parts.view;
        let following = following(parts.settings, parts.paths, view.as_ref());
        let closed = following == Following::Nobody && view.as_ref().is_some_and(|v| v.receiver.is_none());
        self.closed_since = closed.then(|| self.closed_since.unwrap_or(now));
        // A walreceiver that is refused shows itself as streaming for a moment: only one that lasts feeds.
        let streams = view.as_ref().and_then(|v| v.receiver.as_ref()).filter(|r| r.streaming).map(|r| r.pid);
        let fed = streams.is_some() && streams == std::mem::replace(&mut self.fed_by, streams);
        let follows = matches!(following, Following::Node(_));
        self.unfed_since = (follows && !fed).then(|| self.unfed_since.unwrap_or(now));
        let (sync, sync_revision) = match &parts.ledger.sync {
            Some((sync, revision)) => (sync.clone(), Some(*revision)),
            None => (SyncRegister::default(), None),
        };
        self.note_absent(me, parts.settings, view.as_ref(), now);
        self.note_in_force(parts.settings, view.as_ref(), &sync);
        World {
            timeline: timeline(parts.paths, view.as_ref()),
            probe_bad_for: self.probe_bad_for(parts.holding, lease.as_ref(), parts.probe_ok, now),
            data: parts.data,
            guard: parts.guard.map(|g| Guard { pid: g.pid, deadline: g.deadline_ms.map(Moment::from_ms) }),
            view,
            following,
            fence_settled: self.closed_since.is_some_and(|at| now.since(at) >= FENCE_SETTLES),
            busy: parts.busy,
            init: parts.ledger.init.clone(),
            lease,
            sync,
            sync_revision,
            votes: parts.ledger.votes.clone(),
            vote_revisions: parts.ledger.vote_revisions.clone(),
            confirmed: parts.ledger.confirmed,
            holding: parts.holding,
            promoting: parts.promoting,
            ended_since: self.ended_since.map(|(_, at)| at),
            start_not_before: self.start_not_before,
            quick_ends: self.quick_ends,
            copied: self.copied,
            job_not_before: self.job_not_before,
            lapsed: parts.lapsed,
            unfed_since: self.unfed_since,
            absent_since: self.absent_since.clone(),
            in_force: self.in_force.clone(),
            ident_roles: self.ident_roles.clone(),
        }
    }

    fn note_absent(&mut self, me: &NodeName, settings: &Settings, view: Option<&ServerView>, now: Moment) {
        let Some(view) = view.filter(|v| !v.in_recovery) else {
            self.absent_since.clear();
            return;
        };
        for node in settings.peers.keys().filter(|n| *n != me) {
            match standby(view, node).is_some_and(|s| s.streaming) {
                true => self.absent_since.remove(node),
                false => Some(*self.absent_since.entry(node.clone()).or_insert(now)),
            };
        }
    }

    /// In force: PostgreSQL shows it, and every walsender counts exactly the target's members. Where the log is *then*
    /// is the place up to which commits may have been acknowledged by an older rule.
    fn note_in_force(&mut self, settings: &Settings, view: Option<&ServerView>, sync: &SyncRegister) {
        let Some(view) = view.filter(|v| !v.in_recovery) else {
            self.in_force = None;
            return;
        };
        let names = sync.target.standby_names();
        if self.in_force.as_ref().is_some_and(|(force, _)| *force != names) {
            self.in_force = None;
        }
        // After having been alone only a checkpoint tells; see `plan/sync.rs`.
        if self.in_force.is_none() && !sync.sets.contains(&SyncSet::alone()) && taken_up(settings, view, sync)
        {
            self.in_force = view.current.map(|(_, lsn)| (names, lsn));
        }
    }

    fn probe_bad_for(
        &mut self,
        holding: Option<Epoch>,
        lease: Option<&LeaseSeen>,
        ok: Moment,
        now: Moment,
    ) -> Duration {
        let Some(epoch) = holding else {
            self.holding_since = None;
            return Duration::ZERO;
        };
        let promoted = lease.is_some_and(|l| l.lease.epoch == epoch && l.lease.promoted);
        let since = match self.holding_since {
            Some((of, as_promoted, at)) if of == epoch && as_promoted == promoted => at,
            _ => now,
        };
        self.holding_since = Some((epoch, promoted, since));
        let from = if promoted { since } else { since + PROMOTION_TIME };
        now.since(from.max(ok))
    }
}

/// Whether every walsender works by `sync.target`.
pub fn taken_up(settings: &Settings, view: &ServerView, sync: &SyncRegister) -> bool {
    view.standby_names == sync.target.standby_names()
        && settings
            .peers
            .keys()
            .all(|n| standby(view, n).is_none_or(|s| s.sync == sync.target.members.contains(n)))
}

fn following(settings: &Settings, paths: &Paths, view: Option<&ServerView>) -> Following {
    let Some(view) = view.filter(|v| v.in_recovery) else { return Following::Unknown };
    if view.primary_conninfo.is_empty() {
        return Following::Nobody;
    }
    let to = |peer| conf::conninfo(settings, paths, peer, settings.node.as_str()) == view.primary_conninfo;
    match settings.peers.iter().find(|(_, peer)| to(peer)) {
        Some((node, _)) => Following::Node(node.clone()),
        None => Following::Unknown,
    }
}

fn timeline(paths: &Paths, view: Option<&ServerView>) -> Option<tiebeam_topology::Timeline> {
    let view = view?;
    if let Some((timeline, _)) = view.current {
        return Some(timeline);
    }
    match &view.receiver {
        Some(r) if r.streaming && r.timeline.is_some() => r.timeline,
        _ => fork::timeline_of(&paths.wal_names(), view.received.max(view.replayed)?),
    }
}
