//! The store as its readers see it: keys with revisions, transactions, leases, watches, behind one trait.
//!
//! Nothing here stores anything; `Embedded` does, and a client of an existing etcd cluster could. Every room that keeps
//! something in the ledger is written against [`Store`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tiebeam_topology::Moment;

use crate::{StoreError, Watch};

/// A revisioned store of small values. All calls are bounded in time by the implementation (`Settings::call_timeout`).
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The entry at `key`, or `None` if there is none.
    async fn get(&self, key: &Key, read: Read) -> Result<Option<Entry>, StoreError>;

    /// All entries whose key starts with `prefix`, in the order of keys, of one single revision.
    async fn list(&self, prefix: &str, read: Read) -> Result<Listing, StoreError>;

    /// Does all of `txn.then` at once if all of `txn.compare` holds, or nothing.
    ///
    /// [`StoreError::Unknown`] means that it may have happened or happen yet; it says what settles that.
    async fn transact(&self, txn: Txn) -> Result<Outcome, StoreError>;

    /// A new lease. Keys put under it are deleted when `ttl` has passed without [`Store::keep`]; the cluster may take
    /// longer (a change of leader starts the count anew), never less. `ttl` is rounded up to milliseconds.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Starts the lease's count anew. [`StoreError::LeaseGone`] if it has ended.
    async fn keep(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends the lease and deletes its keys now. [`StoreError::LeaseGone`] if it has ended already.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Changes below `prefix` from now on, as this node applies them.
    ///
    /// To miss nothing: watch first, then list, then skip changes whose revision is not above the listing's.
    fn watch(&self, prefix: &str) -> Watch;
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// What this node has applied: no network, always answers, may be behind the cluster.
    Local,
    /// Not older than any write acknowledged before the call, anywhere. Needs a quorum.
    Linear,
}

/// Longest key, in bytes.
pub const KEY_MAX_BYTES: usize = 512;

/// A key: 1 to [`KEY_MAX_BYTES`] bytes of text without control characters, by convention `room/thing/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// Why a text is not a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{shown:?} cannot be a key of the ledger: 1 to {KEY_MAX_BYTES} bytes without control characters are allowed"
)]
pub struct KeyError {
    shown: String,
}

impl Key {
    /// A checked key. Errors if `text` is empty, longer than [`KEY_MAX_BYTES`] or holds control characters.
    pub fn new(text: impl Into<String>) -> Result<Self, KeyError> {
        let text = text.into();
        if text.is_empty() || text.len() > KEY_MAX_BYTES || text.chars().any(char::is_control) {
            return Err(KeyError { shown: text.chars().take(80).collect() });
        }
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Number of a change of the store: each transaction that changes something has the next one. 0 is the empty store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a lease. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub value: Vec<u8>,
    /// The change that put this value.
    pub revision: Revision,
    /// The change that created the key; a delete between makes it a later one.
    pub created: Revision,
    /// When *this node* applied the change, by its own boot clock; for what was there when the ledger was opened, not
    /// earlier than the opening. Never earlier than the true moment, so that "unchanged since" is never overestimated.
    pub applied_at: Moment,
    /// The lease that the key ends with.
    pub lease: Option<LeaseId>,
}

/// The answer of [`Store::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// In the order of keys.
    pub entries: Vec<Entry>,
    /// The revision that the whole list is of.
    pub revision: Revision,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compare {
    /// The key exists and its value was put by exactly this revision.
    Revision { key: Key, is: Revision },
    /// There is nothing at the key.
    Absent { key: Key },
    /// There is something at the key.
    Present { key: Key },
}

/// A step of a transaction. Steps are done in order and see one another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Puts a value. The key leaves the lease that it was under and ends with `lease`, if one is given.
    Put {
        key: Key,
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
        lease: Option<LeaseId>,
    },
    /// Deletes the key if it is there.
    Delete { key: Key },
    /// Deletes every key that starts with `prefix`.
    DeletePrefix { prefix: String },
}

/// If all of `compare` holds, all of `then` is done, in one revision; else nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub then: Vec<Op>,
}

impl Txn {
    /// A put without conditions or lease.
    pub fn put(key: Key, value: impl Into<Vec<u8>>) -> Self {
        Self { compare: Vec::new(), then: vec![Op::Put { key, value: value.into(), lease: None }] }
    }

    /// A delete without conditions.
    pub fn delete(key: Key) -> Self {
        Self { compare: Vec::new(), then: vec![Op::Delete { key }] }
    }

    /// The same with one more condition.
    #[must_use]
    pub fn only_if(mut self, compare: Compare) -> Self {
        self.compare.push(compare);
        self
    }

    /// The same with one more step.
    #[must_use]
    pub fn and(mut self, op: Op) -> Self {
        self.then.push(op);
        self
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done. `revision` is that of the change, or the store's own if nothing had to change.
    Done { revision: Revision },
    /// A condition did not hold, so nothing was done. `revision` is the store's at that time.
    Conflict { revision: Revision },
}
