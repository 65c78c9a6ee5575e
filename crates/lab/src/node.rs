//! One node of a file that a test writes, run as a user would.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{lives, processes_that_name, run, signal, tiebeam, until};

/// `tiebeam node` in a folder: `tiebeam.toml`, `data` and `node.log` are there. It dies with the value, as does whoever
/// took over from it.
pub struct Node {
    child: Child,
    folder: PathBuf,
    /// The process that took over last.
    heir: Option<u32>,
}

impl Node {
    /// Writes the file and starts.
    ///
    /// # Panics
    /// If the folder cannot be written or the binary not started.
    pub fn start(folder: &Path, file: &str) -> Self {
        Self::start_as(&tiebeam(), folder, file, &[])
    }

    /// As [`Node::start`], from a binary at another path, and with more in its environment.
    ///
    /// # Panics
    /// As that.
    pub fn start_as(program: &Path, folder: &Path, file: &str, environment: &[(&str, &str)]) -> Self {
        let toml = folder.join("tiebeam.toml");
        std::fs::write(&toml, file).expect("the folder can be written");
        let log = File::create(folder.join("node.log")).expect("the folder can be written");
        let mut command = Command::new(program);
        command.envs(environment.iter().copied());
        command.args(["node", "--config"]).arg(&toml).arg("--data").arg(folder.join("data"));
        let also = log.try_clone().expect("a file can be opened twice");
        let child = command.stdin(Stdio::null()).stdout(also).stderr(log).spawn();
        Self { child: child.expect("the binary starts"), folder: folder.to_owned(), heir: None }
    }

    /// Of the process that is the node now.
    pub fn pid(&self) -> u32 {
        self.heir.unwrap_or(self.child.id())
    }

    /// Asks it to hand over to a new process, by `tiebeam upgrade`; what that said, as JSON, with its exit code.
    ///
    /// # Panics
    /// If it said nothing.
    pub fn upgrade(&mut self) -> (i32, Value) {
        let data = self.folder.join("data");
        let said = run(&["upgrade", "--json", "--data", &data.to_string_lossy()]);
        let outcome: Value = serde_json::from_slice(&said.stdout)
            .unwrap_or_else(|error| panic!("{error}: {said:?}\n{}", self.log()));
        if outcome["fate"] == "done" {
            let pid = outcome["to"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            self.heir = Some(pid.expect("a process has a number"));
        }
        (said.status.code().expect("it ended by itself"), outcome)
    }

    /// The process that took over unasked, by what is in the log.
    ///
    /// # Panics
    /// If none has.
    pub fn heir(&mut self) -> u32 {
        let log = self.log();
        let rest = log.rsplit_once("the new process serves").expect("one has taken over").1;
        let pid = rest.split("pid=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        self.heir = pid;
        self.pid()
    }

    /// How the first process ended, if it has within `time`.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn first_ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        until(time, || self.child.try_wait().expect("a child can be waited for"))
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("node.log")).unwrap_or_default()
    }

    /// Sends a signal by its name, as `kill -NAME` does.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Ends it in order, and says how long that took.
    ///
    /// # Panics
    /// If it does not end, or with another code than 0, as far as that can be seen.
    pub fn end(mut self) -> Duration {
        let started = Instant::now();
        self.signal("TERM");
        if let Some(heir) = self.heir {
            let ended = until(Duration::from_secs(15), || (!lives(heir)).then_some(()));
            assert!(ended.is_some(), "{}", self.log());
        }
        let ended = self.first_ended_within(Duration::from_secs(15));
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
        started.elapsed()
    }

    /// How many listeners it has, by the kernel.
    ///
    /// # Panics
    /// If /proc cannot be read.
    pub fn listens_at(&self) -> usize {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc is there");
        let inodes: Vec<&str> = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|row| row.get(3) == Some(&"0A"))
            .map(|row| row[9])
            .collect();
        let sockets = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        let links = sockets.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        let mine: Vec<_> = links.map(|link| link.to_string_lossy().into_owned()).collect();
        inodes.iter().filter(|inode| mine.contains(&format!("socket:[{inode}]"))).count()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Whoever took over, and what a node leaves that did not end in order: all name its folder.
        for pid in processes_that_name(&self.folder.join("data").to_string_lossy()) {
            let _ = Command::new("kill").arg("-KILL").arg(pid.to_string()).stderr(Stdio::null()).status();
        }
    }
}
