//! The replicated store: revisioned keys, transactions, leases and watches, on every node of the cluster.
//!
//! [`Store`] is all that other rooms see. [`Embedded`] is the one that comes with Tiebeam: Raft (openraft) with its log
//! in one redb file, peers over mutual TLS. It shares no lock and no thread with the data plane.
//!
//! From the outside in: `store.rs` what can be asked · `node.rs` the running node · `propose.rs`, `read.rs` how a write
//! and a read travel · `recovery.rs` a voter that may have lost its data · `state/` what a log entry means (pure) · `machine.rs`, `log.rs` the storage that openraft sees ·
//! `disk/` the file · `wire/` the peers · `upkeep.rs` what a node does by itself.

mod answer;
mod core;
mod disk;
mod error;
mod expiry;
mod log;
mod machine;
mod node;
mod propose;
mod raft;
mod read;
mod recovery;
mod register;
mod requests;
mod settings;
mod state;
mod status;
mod store;
mod upkeep;
mod watch;
mod wire;

pub use error::{OpenError, StoreError};
pub use node::Embedded;
pub use register::{Conflict, Held, Register, RegisterError};
pub use settings::{Limits, Peer, Settings, Timing};
pub use status::{Counters, Status};
pub use store::{
    Compare, Entry, KEY_MAX_BYTES, Key, KeyError, LeaseId, Listing, Op, Outcome, Read, Revision, Store, Txn,
};
pub use watch::{Changes, WATCH_RING_BYTES, WATCH_RING_CHANGES, Watch, WatchError};
