//! One PostgreSQL instance and the plan for the cluster of them.
//!
//! [`Agent`] runs on every node with the role `database`. It observes its PostgreSQL and the ledger (`observe.rs`),
//! decides (`plan.rs`, pure) and acts (`act.rs`). PostgreSQL itself is a child of the [`guard`], which stops it before
//! the node's right to be primary ends, whatever has become of the agent.
//!
//! The invariant: no write acknowledged to a client is lost, and no two nodes acknowledge writes in the same epoch.
//! It rests on three files, each pure and tested on its own: `lease.rs` (who may, until when), `quorum.rs` (which
//! answers prove that a replica has everything) and `plan.rs`.
//!
//! This room never routes a client and never opens a port of its own.

mod act;
mod agent;
mod control;
mod error;
mod event;
mod follow;
pub mod guard;
mod instance;
mod lease;
mod link;
mod observe;
mod plan;
mod probe;
mod quorum;
mod registers;
mod renewer;
mod report;
mod settings;
mod state;
mod table;

pub use agent::{Agent, Shutdown};
pub use error::Error;
pub use event::{Event, Level};
pub use follow::follow;
pub use instance::find_binaries;
pub use lease::{LATE_MARGIN, RATE_MARGIN_PERCENT};
pub use registers::{AppSecret, keys};
pub use settings::{Owner, Peer, Settings, TlsFiles};
pub use state::{LeaseView, MemberRole, MemberStatus, State};
pub use table::{Transition, transitions};
