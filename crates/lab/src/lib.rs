//! The test bench for the whole: runs `tiebeam` as a user would, and reads what it says.
//!
//! Nothing in the product uses this room. The binary must have been built before: `make test` does.

mod node;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

pub use node::Node;
use serde_json::Value;

/// The binary that was built beside this test.
///
/// # Panics
/// If there is none: `cargo build --bin tiebeam` makes it.
pub fn tiebeam() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a file");
    // target/debug/deps/TEST or target/debug/TEST
    let built = test.ancestors().skip(1).take(2).map(|folder| folder.join("tiebeam")).find(|b| b.is_file());
    built.expect("the binary is not built: run `cargo build --bin tiebeam` first")
}

/// Runs a verb to its end and gives what it said.
///
/// # Panics
/// If the binary cannot be started.
pub fn run(words: &[&str]) -> Output {
    Command::new(tiebeam()).args(words).stdin(Stdio::null()).output().expect("the binary starts")
}

/// What a finished demo left behind.
pub struct Finished {
    pub status: ExitStatus,
    pub receipt: Value,
    /// Progress and complaints.
    pub talk: String,
}

impl Finished {
    /// The drill of this name.
    ///
    /// # Panics
    /// If it was not run.
    pub fn drill(&self, name: &str) -> &Value {
        let drills = self.receipt["drills"].as_array().expect("a receipt has drills");
        drills.iter().find(|d| d["name"] == name).unwrap_or_else(|| panic!("no {name} in {}", self.receipt))
    }

    pub fn lost(&self) -> Option<u64> {
        self.receipt["writes"]["lost"].as_u64()
    }
}

/// Runs a headless demo with these words and reads its receipt.
///
/// # Panics
/// If there is no receipt.
pub fn demo(words: &[&str]) -> Finished {
    let mut all = vec!["demo", "--headless", "--json"];
    all.extend(words);
    let output = run(&all);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    let receipt = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("no receipt ({e}); the demo ended with {} and said:\n{talk}", output.status)
    });
    Finished { status: output.status, receipt, talk }
}

/// A demo that runs beside the test, in a folder of its own that it keeps.
pub struct Demo {
    child: Child,
    folder: PathBuf,
}

impl Demo {
    /// Starts one with these words besides `--keep`. What it says goes to files beside the folder.
    ///
    /// # Panics
    /// If the binary cannot be started.
    pub fn start(folder: &Path, words: &[&str]) -> Self {
        let mut command = Command::new(tiebeam());
        command.args(["demo", "--headless", "--json", "--keep"]).arg(folder).args(words);
        let into =
            |name| File::create(folder.with_extension(name)).expect("the folder's own folder is there");
        command.stdin(Stdio::null()).stdout(into("out")).stderr(into("talk"));
        Self { child: command.spawn().expect("the binary starts"), folder: folder.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Progress and complaints so far.
    pub fn talk(&self) -> String {
        std::fs::read_to_string(self.folder.with_extension("talk")).unwrap_or_default()
    }

    /// Its receipt, once it has ended.
    ///
    /// # Panics
    /// If it left none.
    pub fn receipt(&self) -> Value {
        let text = std::fs::read_to_string(self.folder.with_extension("out")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("no receipt ({e}):\n{}", self.talk()))
    }

    /// Whether it has said this within `time`.
    pub fn says_within(&self, time: Duration, text: &str) -> bool {
        until(time, || self.talk().contains(text).then_some(())).is_some()
    }

    /// The process of a node's daemon.
    pub fn daemon(&self, node: &str) -> Option<u32> {
        let data = self.folder.join(node);
        let mut all = processes_that_name(data.to_str()?).into_iter();
        // Its PostgreSQL and guard name the folder too.
        all.find(|pid| arguments(*pid).contains(" node --config "))
    }

    /// Where the page or the console answers, by what it said at its start: `page` or `console`.
    pub fn address(&self, what: &str) -> Option<SocketAddr> {
        let talk = self.talk();
        let (_, rest) = talk.split_once(&format!("the {what} http://"))?;
        rest.split('/').next()?.parse().ok()
    }

    /// Sends a signal by its name, as `kill -NAME` does.
    ///
    /// # Panics
    /// If kill(1) is missing.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// How it ended, or `None` if it has not within `time`.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        until(time, || self.child.try_wait().expect("a child can be waited for"))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It ends its nodes when it is told to; only then it is gone without a trace.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal("TERM");
            let _ = self.ended_within(Duration::from_secs(60));
        }
        for name in ["out", "talk"] {
            let _ = std::fs::remove_file(self.folder.with_extension(name));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Sends a signal by its name to a process.
///
/// # Panics
/// If kill(1) is missing, or the process.
pub fn signal(pid: u32, name: &str) {
    let kill = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(kill.expect("kill(1) is there").success(), "process {pid} is not there any more");
}

/// Whether a process is there and has not ended.
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with('Z'))
}

/// The body of an answer with status 200, or `None`.
pub fn get(at: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
}

/// Asks again and again until there is an answer, for at most `time`.
pub fn until<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        pause(Duration::from_millis(20));
    }
}

fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Processes whose arguments name this text, by number: what a demo left running in its folder.
pub fn processes_that_name(text: &str) -> Vec<u32> {
    let Ok(folder) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = folder.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|pid| *pid != std::process::id() && arguments(*pid).contains(text)).collect()
}

/// The command line of a process, its words apart by spaces; empty if it is gone.
fn arguments(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}
