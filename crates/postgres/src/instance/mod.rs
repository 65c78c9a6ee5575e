//! One PostgreSQL installation on this machine: its folders, its configuration files, its programs.
//!
//! Nothing here knows the cluster or decides anything; `act.rs` calls it. The server itself is run by the guard.

pub mod conf;
pub mod copy;
pub mod create;
pub mod fork;
pub mod history;
pub mod leftover;
mod paths;
mod program;
pub mod setup;

pub use paths::Paths;
pub use program::{Programs, find_binaries};
pub use setup::random_password;

/// The superuser, reachable only by the unix socket.
pub const SUPERUSER: &str = "tiebeam";
/// Streams, clones and rewinds.
pub const REPLICATION_ROLE: &str = "tiebeam_replication";
/// The routers' own role: reads the verifiers of others.
pub const ROUTER_ROLE: &str = "tiebeam_router";

/// The replication slot of a node: names of slots know no dashes (PostgreSQL documentation, "Replication Slots").
pub fn slot_name(node: &tiebeam_topology::NodeName) -> String {
    format!("tiebeam_{}", node.as_str().replace('-', "_"))
}
