//! The PostgreSQL wire router that runs on every node: clients connect to it with any driver as they would to
//! PostgreSQL; it sends writes to the primary and certain reads to replicas that are fresh enough.
//!
//! It never decides who is primary (a [`View`] tells it), never stores a password, and never sends a statement twice
//! whose bytes had already left and that might have changed anything. The node's wiring starts one [`Router`].
//!
//! The parts, from the wire up: `wire` (codec, no I/O), `scram` (logins, no I/O), `server` and `pool` (connections to
//! PostgreSQL), `session` (one client), `worker` (a core's share of all), `control` (what a router learns about the
//! servers), `fresh` and `route` (the decisions, pure), [`classify`] (what a statement may do, pure).

pub mod classify;

mod control;
mod fresh;
mod listen;
mod pool;
mod prepared;
mod route;
mod router;
mod scram;
mod server;
mod session;
mod settings;
mod snapshot;
mod stats;
mod stream;
mod wire;
mod worker;

pub use router::Router;
pub use settings::{Secret, ServerLogin, Settings, StartError, Target, View};
pub use stats::{ServerStats, Stats};
