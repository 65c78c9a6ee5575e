//! How much memory this process really holds, and for how long it has run.

use tiebeam_topology::Moment;

/// Resident memory, bytes; 0 where the kernel does not say (proc_pid_statm(5)).
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|p| p.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Whole seconds since `started`.
pub fn uptime_s(started: Moment, now: Moment) -> u64 {
    now.since(started).as_secs()
}
