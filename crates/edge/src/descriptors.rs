//! How many client connections the process's limit of file descriptors allows.
//!
//! Beyond it, connections would be accepted that no server can be reached for. The edge asks once for each
//! configuration; it changes no limit.

use rustix::process::{Resource, getrlimit};

/// Descriptors for everything else in the process: listeners, files, health checks, idle connections to servers, and
/// the other rooms of the node.
const RESERVED_DESCRIPTORS: u64 = 256;

/// `edge.limits.connections`, or fewer: each client may need a second descriptor, for a server. `None`: no limit.
pub fn connections(asked: usize, limit: Option<u64>) -> usize {
    let Some(limit) = limit else { return asked };
    let most = limit.saturating_sub(RESERVED_DESCRIPTORS) / 2;
    asked.min(usize::try_from(most).unwrap_or(usize::MAX)).max(1)
}

/// The soft limit of now; `None`: there is none.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_descriptors_a_connection() {
        for (asked, limit, expected) in [
            (20_000, None, 20_000),
            (20_000, Some(1 << 20), 20_000),
            (20_000, Some(40_256), 20_000),
            (20_000, Some(20_000), 9_872),
            (20_000, Some(1024), 384),
            (100, Some(1024), 100),
            (100, Some(256), 1),
            (100, Some(0), 1),
        ] {
            assert_eq!(connections(asked, limit), expected, "{asked} {limit:?}");
        }
    }
}
