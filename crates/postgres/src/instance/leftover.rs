//! Processes of PostgreSQL that lost their guard: found by their working folder, which is always the data directory.
//!
//! Only after a guard has died, which also kills its PostgreSQL; a backend that was busy at that moment may live on
//! for a while, and must not answer a client any more.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Sends SIGKILL to every process that works in `main`, and gives one of them.
pub fn kill(main: &Path) -> Option<u32> {
    // The folder itself, not its name: the way to it may lead over a link.
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let folder = identity(main)?;
    let mut found = None;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<libc::pid_t>().ok()) else {
            continue;
        };
        let works_there = identity(&entry.path().join("cwd")) == Some(folder);
        if works_there && is_postgres(&entry.path().join("exe")) {
            found = u32::try_from(pid).ok();
            // SAFETY: sends a signal; the process was looked at a moment ago.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    found
}

/// Also after its package was upgraded: then the kernel adds ` (deleted)` to the name.
fn is_postgres(exe: &Path) -> bool {
    let Ok(target) = std::fs::read_link(exe) else { return false };
    let name = target.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    name.strip_suffix(" (deleted)").unwrap_or(name) == "postgres"
}
