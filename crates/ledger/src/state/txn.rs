//! Transactions: all conditions, then all steps in one revision, or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use tiebeam_topology::Moment;

use super::{Answer, STORE_MAX_BYTES, State, Stored, entry, size};
use crate::{Changes, Compare, Key, LeaseId, Op, Outcome, Revision, Txn};

impl State {
    pub(super) fn transact(&mut self, txn: &Txn, now: Moment, changes: &mut Vec<Changes>) -> Answer {
        if !txn.compare.iter().all(|c| self.holds(c)) {
            return Answer::Transacted(Outcome::Conflict { revision: self.revision });
        }
        if let Some(gone) = self.missing_lease(txn) {
            return Answer::LeaseGone(gone);
        }
        let after = self.bytes_after(txn);
        if after > STORE_MAX_BYTES && after > self.bytes {
            return Answer::Full { bytes: after as u64 };
        }

        let next = Revision(self.revision.0 + 1);
        // Whether each touched key was there before.
        let mut touched = BTreeMap::new();
        for op in &txn.then {
            self.step(op, next, now, &mut touched);
        }
        let mut change = Changes { revision: next, puts: Vec::new(), deletes: Vec::new() };
        for (key, was_there) in touched {
            match self.entries.get(&key) {
                Some(stored) => change.puts.push(entry(&key, stored)),
                None if was_there => change.deletes.push(key),
                None => {}
            }
        }
        if !change.puts.is_empty() || !change.deletes.is_empty() {
            self.revision = next;
            changes.push(change);
        }
        Answer::Transacted(Outcome::Done { revision: self.revision })
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Revision { key, is } => self.entries.get(key).is_some_and(|e| e.revision == *is),
            Compare::Absent { key } => !self.entries.contains_key(key),
            Compare::Present { key } => self.entries.contains_key(key),
        }
    }

    fn missing_lease(&self, txn: &Txn) -> Option<LeaseId> {
        txn.then.iter().find_map(|op| match op {
            Op::Put { lease: Some(lease), .. } if !self.leases.contains_key(lease) => Some(*lease),
            _ => None,
        })
    }

    /// What all keys and values would weigh after `txn`.
    fn bytes_after(&self, txn: &Txn) -> usize {
        let mut touched: BTreeMap<&Key, usize> = BTreeMap::new();
        for op in &txn.then {
            match op {
                Op::Put { key, value, .. } => {
                    touched.insert(key, size(key, value));
                }
                Op::Delete { key } => {
                    touched.insert(key, 0);
                }
                Op::DeletePrefix { prefix } => {
                    touched.extend(self.below(prefix).map(|(key, _)| (key, 0)));
                    for (_, bytes) in
                        touched.iter_mut().filter(|(k, _)| k.as_str().starts_with(prefix.as_str()))
                    {
                        *bytes = 0;
                    }
                }
            }
        }
        let mut total = self.bytes;
        for (key, bytes) in touched {
            total += bytes;
            total -= self.entries.get(key).map_or(0, |old| size(key, &old.value));
        }
        total
    }

    fn step(&mut self, op: &Op, next: Revision, now: Moment, touched: &mut BTreeMap<Key, bool>) {
        match op {
            Op::Put { key, value, lease } => {
                let old = self.take(key, touched);
                let created = old.map_or(next, |old| old.created);
                if let Some(held) = lease.and_then(|id| self.leases.get_mut(&id)) {
                    held.keys.insert(key.clone());
                }
                self.bytes += size(key, value);
                let stored =
                    Stored { value: value.clone(), revision: next, created, lease: *lease, applied_at: now };
                self.entries.insert(key.clone(), Arc::new(stored));
            }
            Op::Delete { key } => {
                self.take(key, touched);
            }
            Op::DeletePrefix { prefix } => {
                let keys: Vec<Key> = self.below(prefix).map(|(key, _)| key.clone()).collect();
                for key in keys {
                    self.take(&key, touched);
                }
            }
        }
    }

    /// Removes the key with all that hangs on it, and notes it as touched.
    fn take(&mut self, key: &Key, touched: &mut BTreeMap<Key, bool>) -> Option<Arc<Stored>> {
        let old = self.entries.remove(key);
        touched.entry(key.clone()).or_insert(old.is_some());
        let old = old?;
        self.bytes -= size(key, &old.value);
        if let Some(held) = old.lease.and_then(|id| self.leases.get_mut(&id)) {
            held.keys.remove(key);
        }
        Some(old)
    }
}
