//! One typed value at one key, with the version of its format: how rooms keep their values in the ledger.
//!
//! The bytes are JSON, `{"format": 1, "value": ...}`, so that a person can read them. A value of a newer format is
//! refused by name and never overwritten.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tiebeam_topology::Moment;

use crate::{Compare, Entry, Key, LeaseId, Op, Outcome, Read, Revision, Store, StoreError, Txn};

/// A value of type `T` at one key.
#[derive(Debug)]
pub struct Register<T> {
    key: Key,
    format: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Register<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), format: self.format, of: PhantomData }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<T> {
    pub value: T,
    /// What [`Register::put_if`] expects.
    pub revision: Revision,
    /// As [`Entry::applied_at`].
    pub applied_at: Moment,
}

/// Somebody else was first: the register is not at the expected revision any more. Read it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value was changed by somebody else before revision {revision} of the ledger; read it again")]
pub struct Conflict {
    /// The store's revision when the conflict was seen.
    pub revision: Revision,
}

/// Why a register has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the ledger's {key} was written in format {found}, this program knows formats up to {known}; update this node before it may use it"
    )]
    Newer { key: Key, found: u32, known: u32 },
    #[error("the ledger's {key} cannot be read: {reason}")]
    Malformed { key: Key, reason: String },
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    value: T,
}

impl<T: Serialize + DeserializeOwned + Send + Sync> Register<T> {
    /// A register of format 1.
    pub fn new(key: Key) -> Self {
        Self::versioned(key, 1)
    }

    /// A register that writes `format` and reads it and all before it; `T` must read them (`#[serde(default)]`).
    pub fn versioned(key: Key, format: u32) -> Self {
        Self { key, format, of: PhantomData }
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The value, or `None` if none was put.
    pub async fn get(&self, store: &dyn Store, read: Read) -> Result<Option<Held<T>>, RegisterError> {
        match store.get(&self.key, read).await? {
            Some(entry) => self.decode(&entry).map(Some),
            None => Ok(None),
        }
    }

    /// Puts `value` if the register is still at `expected` (`None`: still empty).
    ///
    /// [`StoreError::Unknown`] means that it may have happened or happen yet; it says what settles that.
    pub async fn put_if(
        &self,
        store: &dyn Store,
        expected: Option<Revision>,
        value: &T,
    ) -> Result<Result<Revision, Conflict>, RegisterError> {
        let txn = Txn { compare: vec![self.unchanged(expected)], then: vec![self.put(value, None)?] };
        Ok(match store.transact(txn).await? {
            Outcome::Done { revision } => Ok(revision),
            Outcome::Conflict { revision } => Err(Conflict { revision }),
        })
    }

    /// The condition that the register is still at `expected`, for a transaction over several.
    pub fn unchanged(&self, expected: Option<Revision>) -> Compare {
        match expected {
            Some(is) => Compare::Revision { key: self.key.clone(), is },
            None => Compare::Absent { key: self.key.clone() },
        }
    }

    /// The step that puts `value`, for a transaction over several.
    pub fn put(&self, value: &T, lease: Option<LeaseId>) -> Result<Op, RegisterError> {
        let value = serde_json::to_vec(&Envelope { format: self.format, value })
            .map_err(|e| RegisterError::Malformed { key: self.key.clone(), reason: e.to_string() })?;
        Ok(Op::Put { key: self.key.clone(), value, lease })
    }

    /// The value of an entry that a listing or a watch gave.
    pub fn decode(&self, entry: &Entry) -> Result<Held<T>, RegisterError> {
        let malformed =
            |e: serde_json::Error| RegisterError::Malformed { key: self.key.clone(), reason: e.to_string() };
        let FormatOnly { format } = serde_json::from_slice(&entry.value).map_err(malformed)?;
        if format > self.format {
            return Err(RegisterError::Newer { key: self.key.clone(), found: format, known: self.format });
        }
        let envelope: Envelope<T> = serde_json::from_slice(&entry.value).map_err(malformed)?;
        Ok(Held { value: envelope.value, revision: entry.revision, applied_at: entry.applied_at })
    }
}
