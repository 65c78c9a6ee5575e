//! The demo's nodes as processes: starts them, starts them again when they die (as an init system would), kills all that
//! belongs to one, and leaves nothing behind, whatever ends the demo.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tiebeam_topology::NodeName;
use tokio::process::{Child, Command};

use super::layout::Layout;
use crate::cli::WrongUse;

/// Between the death of a node's daemon and its next start.
pub const RESTART_PAUSE: Duration = Duration::from_millis(1500);
/// How long a stopped node may take before it is killed.
pub const STOP_TIME: Duration = Duration::from_secs(12);
/// Lines of a node's log that are shown when it did not go well.
const LOG_LINES: usize = 12;

pub struct Processes {
    pub layout: Layout,
    nodes: BTreeMap<NodeName, Daemon>,
    stopping: bool,
}

/// A node's daemon, running or waiting for its next start.
enum Daemon {
    Running(Child),
    StartsAt(Instant),
}

impl Processes {
    /// Starts every node. Must be called from the main thread: the nodes are told to end when that thread ends.
    pub fn start(layout: Layout) -> anyhow::Result<Self> {
        // Processes that outlive their node become children of this one, so that none is forgotten.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let nodes =
            layout.cluster.nodes.keys().map(|n| (n.clone(), Daemon::StartsAt(Instant::now()))).collect();
        let mut all = Self { layout, nodes, stopping: false };
        all.tend(Instant::now())?;
        Ok(all)
    }

    /// Starts again what has died and is due. A node that says its use is wrong ends the demo.
    pub fn tend(&mut self, now: Instant) -> anyhow::Result<()> {
        if self.stopping {
            return Ok(());
        }
        for (name, daemon) in &mut self.nodes {
            if let Daemon::Running(child) = daemon
                && let Some(status) = child.try_wait()?
            {
                if status.code() == Some(2) {
                    let log = self.layout.folder.join(name.as_str()).join("node.log");
                    return Err(WrongUse(format!("node {name} did not start:\n{}", tail(&log))).into());
                }
                *daemon = Daemon::StartsAt(now + RESTART_PAUSE);
            }
            if let Daemon::StartsAt(at) = daemon
                && *at <= now
            {
                *daemon = Daemon::Running(spawn(&self.layout, name)?);
            }
        }
        self.reap_orphans();
        Ok(())
    }

    /// Takes the last word of processes that outlived their node and have ended.
    fn reap_orphans(&self) {
        let me = std::process::id() as i32;
        let daemons: BTreeSet<i32> = self.nodes.keys().filter_map(|n| self.daemon_pid(n)).collect();
        for p in processes().iter().filter(|p| p.zombie && p.parent == me && !daemons.contains(&p.pid)) {
            // SAFETY: waitpid(2) with no place for the status writes nothing.
            unsafe { libc::waitpid(p.pid, std::ptr::null_mut(), libc::WNOHANG) };
        }
    }

    /// The process of a node's daemon, if it runs.
    pub fn daemon_pid(&self, node: &NodeName) -> Option<i32> {
        match self.nodes.get(node)? {
            Daemon::Running(child) => child.id().and_then(|id| i32::try_from(id).ok()),
            Daemon::StartsAt(_) => None,
        }
    }

    /// The PostgreSQL of a node: the first line of the file that it keeps in its data folder.
    pub fn postgres_pid(&self, node: &NodeName) -> Option<i32> {
        let file = self.layout.folder.join(node.as_str()).join("postgres/main/postmaster.pid");
        std::fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()
    }

    /// The processes of a node's PostgreSQL that receive the primary's log.
    pub fn stream_pids(&self, node: &NodeName) -> Vec<i32> {
        let Some(postgres) = self.postgres_pid(node) else { return Vec::new() };
        let title = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let children = processes().into_iter().filter(|p| p.parent == postgres).map(|p| p.pid);
        children.filter(|pid| title(*pid).contains("walreceiver")).collect()
    }

    /// Kills everything that belongs to a node, at once and without warning; it is started again `after` that.
    pub fn kill_node(&mut self, node: &NodeName, after: Duration) {
        let folder = self.layout.folder.join(node.as_str());
        let root = self.daemon_pid(node);
        kill_all(|all| belonging(all, root, &folder));
        if let Some(daemon) = self.nodes.get_mut(node) {
            *daemon = Daemon::StartsAt(Instant::now() + after);
        }
    }

    /// Tells every node to end in order, and starts none any more. [`Processes::end`] comes after it.
    pub fn ask_to_end(&mut self) {
        self.stopping = true;
        self.nodes.keys().filter_map(|n| self.daemon_pid(n)).for_each(|pid| signal(pid, libc::SIGTERM));
    }

    /// Whether a node's daemon still runs.
    pub fn any_runs(&mut self) -> bool {
        self.nodes.values_mut().any(|daemon| match daemon {
            Daemon::Running(child) => matches!(child.try_wait(), Ok(None)),
            Daemon::StartsAt(_) => false,
        })
    }

    /// The end of every node's log.
    pub fn last_words(&self) -> Vec<String> {
        let logs = self.nodes.keys().map(|n| (n, tail(&self.log(n))));
        logs.filter(|(_, text)| !text.is_empty())
            .map(|(n, text)| format!("the log of {n} ends:\n{text}"))
            .collect()
    }

    fn log(&self, node: &NodeName) -> PathBuf {
        self.layout.folder.join(node.as_str()).join("node.log")
    }

    /// Whether a process is one of the demo's own.
    pub fn owns(&self, pid: i32) -> bool {
        descendants(&processes(), std::process::id() as i32).contains(&pid)
    }

    /// Kills what is left and removes the temporary folder. Safe to call again.
    pub fn end(&mut self) {
        self.stopping = true;
        let me = std::process::id() as i32;
        kill_all(|all| descendants(all, me));
        self.nodes.clear();
        self.layout.remove();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(layout: &Layout, name: &NodeName) -> anyhow::Result<Child> {
    let folder = layout.folder.join(name.as_str());
    let log = File::options().create(true).append(true).open(folder.join("node.log"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["node", "--config"])
        .arg(&layout.file)
        .args(["--name", name.as_str(), "--data"])
        .arg(&folder);
    command.args(["--linger", "8s"]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // SAFETY: between fork and exec only one async-signal-safe system call is made. The signal comes when the parent
    // thread ends: that is the main thread, see `start`.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
            // The terminal's Ctrl-C is for the demo, which then ends its nodes in order.
            rustix::process::setpgid(None, None)?;
            Ok(())
        });
    }
    command.spawn().with_context(|| format!("node {name} could not be started"))
}

/// One line of the process table.
struct Process {
    pid: i32,
    parent: i32,
    zombie: bool,
}

fn processes() -> Vec<Process> {
    let Ok(folder) = std::fs::read_dir("/proc") else { return Vec::new() };
    folder
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name in parentheses may hold anything: the fields begin after the last one.
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            let zombie = fields.next()? == "Z";
            Some(Process { pid, parent: fields.next()?.parse().ok()?, zombie })
        })
        .collect()
}

fn descendants(all: &[Process], root: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    loop {
        let more =
            all.iter().filter(|p| (p.parent == root || found.contains(&p.parent)) && !found.contains(&p.pid));
        let more: Vec<i32> = more.map(|p| p.pid).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// A node's daemon and all below it, and what works in the node's folder or was started with it in its arguments.
fn belonging(all: &[Process], daemon: Option<i32>, folder: &Path) -> BTreeSet<i32> {
    let mut found: BTreeSet<i32> = descendants(all, std::process::id() as i32)
        .into_iter()
        .filter(|pid| works_in(*pid, folder))
        .collect();
    for root in found.clone().into_iter().chain(daemon) {
        found.insert(root);
        found.extend(descendants(all, root));
    }
    found
}

fn works_in(pid: i32, folder: &Path) -> bool {
    let cwd: Option<PathBuf> = std::fs::read_link(format!("/proc/{pid}/cwd")).ok();
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = arguments.split(|&b| b == 0);
    cwd.is_some_and(|c| c.starts_with(folder))
        || words.any(|w| Path::new(&*String::from_utf8_lossy(w)).starts_with(folder))
}

/// Kills what `choose` names until nothing of it lives any more: what is forked in between is caught by the next look.
fn kill_all(choose: impl Fn(&[Process]) -> BTreeSet<i32>) {
    let me = std::process::id() as i32;
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        let all = processes();
        let chosen = choose(&all);
        let alive: Vec<i32> = all
            .iter()
            .filter(|p| chosen.contains(&p.pid) && !p.zombie && p.pid != me)
            .map(|p| p.pid)
            .collect();
        if alive.is_empty() {
            return;
        }
        for pid in alive {
            signal(pid, libc::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal; a process that is gone already is fine.
pub fn signal(pid: i32, signal: i32) {
    if pid > 1 {
        // SAFETY: kill(2) touches no memory of this process.
        unsafe { libc::kill(pid, signal) };
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
