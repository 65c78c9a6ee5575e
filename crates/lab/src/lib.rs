//! The test bench for the whole: runs `tiebeam` as a user would, and reads what it says.
//!
//! Nothing in the product uses this room. The binary must have been built before: `make test` does.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

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

/// A demo that runs beside the test.
pub struct Demo {
    child: Child,
}

impl Demo {
    /// # Panics
    /// If the binary cannot be started.
    pub fn start(words: &[&str]) -> Self {
        let mut command = Command::new(tiebeam());
        command.args(["demo", "--headless"]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().expect("the binary starts") }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, as `kill -NAME` does.
    ///
    /// # Panics
    /// If kill(1) is missing.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(kill.expect("kill(1) is there").success(), "the demo is not there any more");
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
            let _ = self.ended_within(Duration::from_secs(30));
        }
    }
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
    let named = numbers.filter(|pid| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id() && String::from_utf8_lossy(&arguments).contains(text)
    });
    named.collect()
}
