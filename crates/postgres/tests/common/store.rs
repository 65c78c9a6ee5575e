//! A ledger in memory, shared by the nodes of a test; any node can be cut off from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tiebeam_ledger::{
    Changes, Compare, Entry, Key, LeaseId, Listing, Op, Outcome, Read, Revision, Store, StoreError, Txn,
    Watch,
};
use tiebeam_topology::Moment;
use tokio::sync::broadcast;

#[derive(Clone, Default)]
struct Keys {
    revision: u64,
    entries: BTreeMap<Key, Entry>,
}

/// The whole ledger.
pub struct Memory {
    keys: Mutex<Keys>,
    ring: broadcast::Sender<Arc<Changes>>,
}

impl Memory {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { keys: Mutex::default(), ring: broadcast::channel(1024).0 })
    }

    /// One node's way to it.
    pub fn handle(self: &Arc<Self>) -> Arc<Handle> {
        Arc::new(Handle { all: self.clone(), frozen: Mutex::default() })
    }
}

pub struct Handle {
    all: Arc<Memory>,
    /// What the node knew when it was cut off.
    frozen: Mutex<Option<Keys>>,
}

impl Handle {
    pub fn cut(&self, cut: bool) {
        *self.frozen.lock().unwrap() = cut.then(|| self.all.keys.lock().unwrap().clone());
    }

    fn reach(&self) -> Result<(), StoreError> {
        match *self.frozen.lock().unwrap() {
            Some(_) => Err(StoreError::NoQuorum { waited_ms: 0, detail: "cut off by the test".into() }),
            None => Ok(()),
        }
    }

    fn see<T>(&self, read: Read, look: impl FnOnce(&Keys) -> T) -> Result<T, StoreError> {
        if read == Read::Linear {
            self.reach()?;
        }
        Ok(match &*self.frozen.lock().unwrap() {
            Some(keys) => look(keys),
            None => look(&self.all.keys.lock().unwrap()),
        })
    }
}

#[async_trait]
impl Store for Handle {
    async fn get(&self, key: &Key, read: Read) -> Result<Option<Entry>, StoreError> {
        self.see(read, |k| k.entries.get(key).cloned())
    }

    async fn list(&self, prefix: &str, read: Read) -> Result<Listing, StoreError> {
        self.see(read, |k| Listing {
            entries: k.entries.values().filter(|e| e.key.as_str().starts_with(prefix)).cloned().collect(),
            revision: Revision(k.revision),
        })
    }

    async fn transact(&self, txn: Txn) -> Result<Outcome, StoreError> {
        self.reach()?;
        let mut keys = self.all.keys.lock().unwrap();
        let holds = |c: &Compare| match c {
            Compare::Revision { key, is } => keys.entries.get(key).is_some_and(|e| e.revision == *is),
            Compare::Absent { key } => !keys.entries.contains_key(key),
            Compare::Present { key } => keys.entries.contains_key(key),
        };
        if !txn.compare.iter().all(holds) {
            return Ok(Outcome::Conflict { revision: Revision(keys.revision) });
        }
        keys.revision += 1;
        let revision = Revision(keys.revision);
        let mut changes = Changes { revision, puts: Vec::new(), deletes: Vec::new() };
        for op in txn.then {
            match op {
                Op::Put { key, value, lease } => {
                    let created = keys.entries.get(&key).map_or(revision, |e| e.created);
                    let entry = Entry {
                        key: key.clone(),
                        value,
                        revision,
                        created,
                        applied_at: Moment::now(),
                        lease,
                    };
                    changes.puts.push(entry.clone());
                    keys.entries.insert(key, entry);
                }
                Op::Delete { key } => {
                    keys.entries.remove(&key);
                    changes.deletes.push(key);
                }
                Op::DeletePrefix { prefix } => keys.entries.retain(|k, _| !k.as_str().starts_with(&prefix)),
            }
        }
        drop(keys);
        let _ = self.all.ring.send(Arc::new(changes));
        Ok(Outcome::Done { revision })
    }

    async fn grant(&self, _: Duration) -> Result<LeaseId, StoreError> {
        Err(StoreError::ShuttingDown)
    }
    async fn keep(&self, _: LeaseId) -> Result<(), StoreError> {
        Err(StoreError::ShuttingDown)
    }
    async fn revoke(&self, _: LeaseId) -> Result<(), StoreError> {
        Err(StoreError::ShuttingDown)
    }
    fn watch(&self, prefix: &str) -> Watch {
        Watch::new(prefix, self.all.ring.subscribe())
    }
}
