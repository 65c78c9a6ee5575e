//! Processes of PostgreSQL that lost their guard: found by their working folder, which is always the data directory.
//!
//! Only after a guard has died, which also kills its PostgreSQL; a backend that was busy at that moment may live on
//! for a while, and must not answer a client any more.

use std::path::Path;

/// Sends SIGKILL to every process that works in `main`, and gives how many there were.
pub fn kill(main: &Path) -> usize {
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
    let mut found = 0;
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<libc::pid_t>().ok()) else {
            continue;
        };
        let works_there = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == main);
        let is_postgres =
            std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe.ends_with("postgres"));
        if works_there && is_postgres {
            found += 1;
            // SAFETY: sends a signal; the process was looked at a moment ago.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    found
}
