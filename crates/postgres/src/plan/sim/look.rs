//! What one node of the simulation sees: its part of the model as a [`World`], as `observe.rs` makes it of the real one.

use super::*;

impl World3 {
    pub(super) fn look(&mut self, i: usize) -> World {
        let now = self.now;
        let moment = Moment::from_ms(now);
        let mut confirmed = false;
        let mut lease = None;
        for _ in 0..2 {
            let node = &mut self.nodes[i];
            lease = node.known.lease.clone().map(|(lease, revision)| {
                node.seen = Some(Seen::look(node.seen, revision, moment));
                let given_up = node.known.votes.get(&name(i)).is_some_and(|v| v.lease_revision == revision);
                LeaseSeen { lease, seen: node.seen.unwrap(), given_up }
            });
            if !confirmed && !node.cut && lease.as_ref().is_none_or(|l| l.ended(moment)) {
                node.known = self.ledger.clone();
                confirmed = true;
            }
        }
        let streams: Vec<_> = (0..3).map(|r| self.streams(r) == Some(i)).collect();
        let node = &mut self.nodes[i];
        let revision = lease.as_ref().map_or(0, |l| l.seen.revision);
        node.ended_since = match node.ended_since {
            _ if lease.as_ref().is_some_and(|l| !l.ended(moment)) => None,
            Some((of, at)) if of == revision => Some((of, at)),
            _ => Some((revision, now)),
        };
        for (r, streams) in streams.iter().enumerate() {
            match streams {
                true => node.absent.remove(&r),
                false => Some(*node.absent.entry(r).or_insert(now)),
            };
        }
        let (sync, sync_revision) = match &node.known.sync {
            Some((s, r)) => (s.clone(), Some(*r)),
            None => (SyncRegister::default(), None),
        };
        let at = end(&node.log);
        if let Some(server) = node.server.as_ref().filter(|s| !s.standby) {
            let names = sync.target.standby_names();
            if node.in_force.as_ref().is_some_and(|(f, _)| *f != names) {
                node.in_force = None;
            }
            if node.in_force.is_none() && !sync.sets.contains(&SyncSet::alone()) && server.names == names {
                node.in_force = Some((names, at.lsn));
            }
        } else {
            node.in_force = None;
        }
        let node = &self.nodes[i];
        World {
            data: Data::Here,
            guard: Some(Guard {
                pid: node.server.as_ref().map(|_| 7),
                deadline: node.deadline.map(Moment::from_ms),
            }),
            view: node.server.as_ref().map(|s| self.view(i, s, at)),
            timeline: Some(at.timeline),
            following: match node.server.as_ref().and_then(|s| s.following).filter(|_| !node.lies) {
                Some(f) => Following::Node(name(f)),
                None => Following::Nobody,
            },
            fence_settled: true,
            busy: false,
            init: Some((Init { node: name(0), system_identifier: Some("1".into()), major: Some(15) }, 1)),
            lease,
            sync,
            sync_revision,
            votes: node.known.votes.clone(),
            vote_revisions: BTreeMap::new(),
            confirmed,
            holding: node.holding.as_ref().map(|(l, _)| l.epoch),
            promoting: None,
            probe_bad_for: Duration::ZERO,
            ended_since: node.ended_since.map(|(_, at)| Moment::from_ms(at)),
            start_not_before: Moment::default(),
            quick_ends: 0,
            copied: false,
            job_not_before: Moment::default(),
            lapsed: None,
            unfed_since: None,
            absent_since: node.absent.iter().map(|(r, at)| (name(*r), Moment::from_ms(*at))).collect(),
            in_force: node.in_force.clone(),
            ident_roles: BTreeSet::new(),
        }
    }

    fn view(&self, i: usize, server: &Server, at: WalPoint) -> ServerView {
        let standbys = (0..3).filter(|r| self.streams(*r) == Some(i)).map(|r| {
            let flushed = server.flushed.get(&r).map(|n| Lsn::new(*n as u64));
            let sync = server.members.contains(&name(r));
            (name(r).to_string(), Standby { streaming: true, flushed, replayed: flushed, sync, lag_ms: None })
        });
        ServerView {
            in_recovery: server.standby,
            current: (!server.standby).then_some((at.timeline, at.lsn)),
            received: server.standby.then_some(at.lsn),
            replayed: server.standby.then_some(at.lsn),
            drained: true,
            receiver: server.following.filter(|_| !self.nodes[i].lies).map(|_| Receiver {
                pid: 9,
                streaming: true,
                timeline: None,
            }),
            standby_names: server.names.clone(),
            standbys: if server.standby { BTreeMap::new() } else { standbys.collect() },
            slots: match self.nodes[i].holding {
                Some(_) => self.policy(i).others(&name(i)).iter().map(crate::instance::slot_name).collect(),
                None => BTreeSet::new(),
            },
            ..ServerView::default()
        }
    }

    /// From whom `r` streams now.
    pub(super) fn streams(&self, r: usize) -> Option<usize> {
        let from = self.nodes[r].server.as_ref().filter(|s| s.standby)?.following?;
        let source = self.nodes[from].server.as_ref()?;
        (!source.standby && is_prefix(&self.nodes[r].log, &self.nodes[from].log)).then_some(from)
    }
}
