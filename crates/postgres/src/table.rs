//! The life of a database node as one table, for `tiebeam explain failover` and the docs. `plan` does what it says;
//! the tests of the plan go through it row by row.

use serde::Serialize;

/// One row: in `state`, when `event`, the node does `step` and is `next`; because `why`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Transition {
    pub state: &'static str,
    pub event: &'static str,
    pub step: &'static str,
    pub next: &'static str,
    pub why: &'static str,
}

/// All rows, in the order in which a node goes through them.
pub fn transitions() -> &'static [Transition] {
    TABLE
}

const fn row(
    state: &'static str,
    event: &'static str,
    step: &'static str,
    next: &'static str,
    why: &'static str,
) -> Transition {
    Transition { state, event, step, next, why }
}

const TABLE: &[Transition] = &[
    row(
        "empty",
        "no database exists, first node by name",
        "claim-init",
        "empty",
        "so that it is always clear who creates it",
    ),
    row(
        "empty",
        "no database exists, it is mine to create",
        "create",
        "stopped",
        "initdb; its identity is in the ledger before it is used",
    ),
    row("empty", "a primary exists", "clone", "stopped", "a copy over TLS, through its own slot"),
    row(
        "stopped",
        "data is here",
        "start",
        "replica",
        "PostgreSQL is only ever started as a standby that follows nobody",
    ),
    row(
        "stopped",
        "data is here, does not start, and another node is primary",
        "clone-broken",
        "stopped",
        "the primary has every acknowledged write; the log that is here is kept in forks/, and this is tried once",
    ),
    row(
        "replica",
        "another node is primary and has all that is here",
        "follow",
        "replica",
        "it streams from the holder of the lease",
    ),
    row(
        "replica",
        "another node is primary, its history left ours",
        "rejoin",
        "stopped",
        "the fork is kept in forks/, then it is rewound, or cloned",
    ),
    row(
        "replica",
        "the lease ended",
        "fence",
        "fenced",
        "the old primary gets no acknowledgement from here any more",
    ),
    row(
        "fenced",
        "the walreceiver still runs",
        "end-receiver",
        "fenced",
        "a vote is a promise that nothing more arrives",
    ),
    row(
        "fenced",
        "the log here is read to its end",
        "vote",
        "voted",
        "it tells the ledger how far its log goes",
    ),
    row(
        "voted",
        "elected",
        "take-lease",
        "holder",
        "enough answered to prove that the furthest log has every acknowledged write",
    ),
    row(
        "voted",
        "too few answered",
        "wait",
        "voted",
        "an acknowledged write could be on a node that is silent",
    ),
    row(
        "holder",
        "in recovery, the guard has the deadline",
        "promote",
        "holder",
        "commits wait for the right replicas from the first on",
    ),
    row("holder", "promoted", "announce", "primary", "routers send writes only now"),
    row(
        "primary",
        "newly announced",
        "checkpoint-promotion",
        "primary",
        "whoever has to rewind sees the new history only after it",
    ),
    row(
        "primary",
        "its replicas changed",
        "write-sync",
        "primary",
        "the ledger knows each set before PostgreSQL does",
    ),
    row(
        "primary",
        "PostgreSQL ended",
        "release",
        "stopped",
        "every process of it is gone, so nobody has to wait for the lease",
    ),
    row("primary", "no write succeeds", "stop", "stopped", "a hung disk or a stopped process counts as down"),
    row(
        "primary",
        "this process was restarted",
        "adopt-lease",
        "primary",
        "its guard kept PostgreSQL and the deadline",
    ),
    row(
        "replica",
        "it accepts writes without a lease",
        "stop",
        "stopped",
        "two primaries in one epoch must never be",
    ),
];
