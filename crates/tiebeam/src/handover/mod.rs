//! A new binary takes over from the running daemon of a node without a connection that is refused: the old process
//! starts the new one, passes it the sockets it listens on, lets go of the ledger and PostgreSQL, and serves on until the
//! new one serves, too.
//!
//! [`steps`] decides, purely; [`link`] carries what the two say to each other; [`old`] and [`new`] are the two ends of
//! that. What a node lets go of and takes over is the wiring's business, in `node/`.

pub mod link;
pub mod new;
pub mod old;
pub mod program;
pub mod sockets;
pub mod steps;

use std::time::Duration;

/// Set for a process that is to take over, to the version of what the two say to each other: its stdin is their link.
pub const VARIABLE: &str = "TIEBEAM_HANDOVER";
pub const PROTOCOL: &str = "1";

/// The new process must have checked its file, certificates and ports within this time.
pub const READY_TIME: Duration = Duration::from_secs(10);
/// It must serve this long after the node has become its own. Until then the old one's edge serves.
pub const SERVING_TIME: Duration = Duration::from_secs(60);
/// How long what runs on the old one's edge may go on: nobody waits for it, so WebSockets get more than at a stop.
pub const DRAIN_TIME: Duration = Duration::from_secs(60);
/// How long an idle connection of the old one's edge may wait for one more request.
pub const IDLE_TIME: Duration = Duration::from_secs(10);
/// How long the old one's servers stay in the ledger without it.
pub const REGISTERED_TIME: Duration = Duration::from_secs(SERVING_TIME.as_secs() + 30);
/// How long the new one waits for its own servers before it serves without them.
pub const SERVERS_TIME: Duration = Duration::from_secs(20);
/// How long it waits for the old one's lock on the ledger.
pub const LOCK_TIME: Duration = Duration::from_secs(5);
