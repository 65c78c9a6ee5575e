//! One node of a file that a test writes, run as a user would.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{signal, tiebeam, until};

/// `tiebeam node` in a folder: `tiebeam.toml`, `data` and `node.log` are there. It dies with the value.
pub struct Node {
    child: Child,
    folder: PathBuf,
}

impl Node {
    /// Writes the file and starts.
    ///
    /// # Panics
    /// If the folder cannot be written or the binary not started.
    pub fn start(folder: &Path, file: &str) -> Self {
        let toml = folder.join("tiebeam.toml");
        std::fs::write(&toml, file).expect("the folder can be written");
        let log = File::create(folder.join("node.log")).expect("the folder can be written");
        let mut command = Command::new(tiebeam());
        command.args(["node", "--config"]).arg(&toml).arg("--data").arg(folder.join("data"));
        let also = log.try_clone().expect("a file can be opened twice");
        let child = command.stdin(Stdio::null()).stdout(also).stderr(log).spawn();
        Self { child: child.expect("the binary starts"), folder: folder.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
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
    /// If it does not end, or with another code than 0.
    pub fn end(mut self) -> Duration {
        let started = Instant::now();
        self.signal("TERM");
        let ended =
            until(Duration::from_secs(15), || self.child.try_wait().expect("a child can be waited for"));
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
    }
}
