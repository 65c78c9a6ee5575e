//! The guard as a real process, with shell scripts in place of PostgreSQL.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tiebeam_topology::Moment;
use tokio::sync::mpsc;

use super::LEAVE_TIME;
use super::client::{GuardClient, Push};
use super::wire::{Exit, Request, Stop};

/// Ignores all that can be ignored, and has children of its own session that do the same.
const STUBBORN: &str = "trap '' INT TERM QUIT; (trap '' INT TERM QUIT; setsid sh -c 'echo $$ >> pids; sleep 60 & echo $! >> pids; wait') & \
                        echo $$ >> pids; while :; do sleep 1; done";
/// Ends when asked to.
const POLITE: &str = "trap 'exit 0' INT; trap 'exit 3' QUIT; echo $$ >> pids; while :; do sleep 0.02; done";

struct Bed {
    dir: tempfile::TempDir,
    guard: Child,
    pushes: mpsc::Receiver<Push>,
    client: GuardClient,
}

fn program() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    exe.parent().unwrap().parent().unwrap().join("examples").join("guard")
}

fn spawn(dir: &Path, script: &str, more: &[&str]) -> Child {
    let file = |name: &str| OsString::from(dir.join(name));
    let mut command = Command::new(program());
    command.arg("--socket").arg(file("sock")).arg("--lock").arg(file("lock")).arg("--log").arg(file("log"));
    command.args(more).args(["--", "/bin/sh", "-c", script]).current_dir(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

async fn connect(dir: &Path) -> (GuardClient, mpsc::Receiver<Push>) {
    let (send, pushes) = mpsc::channel(16);
    let start = Instant::now();
    loop {
        if let Ok(client) = GuardClient::connect(&dir.join("sock"), send.clone()).await {
            return (client, pushes);
        }
        assert!(start.elapsed() < Duration::from_secs(10), "the guard does not listen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Bed {
    async fn new(script: &str, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let guard = spawn(dir.path(), script, more);
        let (client, pushes) = connect(dir.path()).await;
        Self { dir, guard, pushes, client }
    }

    /// Starts the command and waits until `n` of its processes have said their pids.
    async fn start(&mut self, n: usize) -> Vec<u32> {
        self.client.ask(Request::Start).await.unwrap();
        let start = Instant::now();
        loop {
            let text = std::fs::read_to_string(self.dir.path().join("pids")).unwrap_or_default();
            let pids: Vec<u32> = text.split_whitespace().filter_map(|p| p.parse().ok()).collect();
            if pids.len() == n {
                return pids;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "the command did not start: {text:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn exit(&mut self) -> Exit {
        loop {
            let push = tokio::time::timeout(Duration::from_secs(10), self.pushes.recv()).await;
            if let Push::Exited(exit) = push.unwrap().unwrap() {
                return exit;
            }
        }
    }

    async fn guard_ends(&mut self) {
        let start = Instant::now();
        while self.guard.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(10), "the guard did not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// Neither running nor a zombie that somebody could still wake.
fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
}

#[tokio::test]
async fn the_deadline_kills_everything_in_time() {
    let mut bed = Bed::new(STUBBORN, &[]).await;
    let pids = bed.start(3).await;
    let deadline = Moment::now() + Duration::from_millis(900);
    bed.client.ask(Request::Deadline { ms: deadline.as_ms() }).await.unwrap();
    assert_eq!(bed.exit().await, Exit::Signal(9));
    let late = Moment::now().since(deadline + crate::lease::LATE_MARGIN);
    assert!(late.is_zero(), "the end was told {late:?} later than anybody waits");
    assert!(pids.iter().all(|p| !alive(*p)));
    let state = bed.client.state().await.unwrap();
    assert_eq!((state.pid, state.deadline_ms, state.last), (None, None, Some(Exit::Signal(9))));
}

#[tokio::test]
async fn a_stopped_command_is_killed_as_well() {
    let mut bed = Bed::new(POLITE, &[]).await;
    let pids = bed.start(1).await;
    // SAFETY: a process that this test's guard started.
    unsafe { libc::kill(pids[0] as i32, libc::SIGSTOP) };
    bed.client.ask(Request::Stop(Stop::Immediate)).await.unwrap();
    assert_eq!(bed.exit().await, Exit::Signal(9));
}

#[tokio::test]
async fn a_renewed_deadline_harms_nobody() {
    let mut bed = Bed::new(POLITE, &[]).await;
    let pids = bed.start(1).await;
    // Past the first deadline.
    for _ in 0..9 {
        let ms = (Moment::now() + Duration::from_millis(2500)).as_ms();
        bed.client.ask(Request::Deadline { ms }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(alive(pids[0]));
    bed.client.ask(Request::Stop(Stop::Fast)).await.unwrap();
    assert_eq!(bed.exit().await, Exit::Code(0));
    bed.client.ask(Request::Quit).await.unwrap();
    bed.guard_ends().await;
}

#[tokio::test]
async fn orphans_of_a_dead_command_are_killed_before_its_end_is_told() {
    let mut bed = Bed::new(STUBBORN, &[]).await;
    let pids = bed.start(3).await;
    let main = bed.client.state().await.unwrap().pid.unwrap();
    // SAFETY: a process that this test's guard started.
    unsafe { libc::kill(main as i32, libc::SIGKILL) };
    assert_eq!(bed.exit().await, Exit::Signal(9));
    assert!(pids.iter().all(|p| !alive(*p)));
}

#[tokio::test]
async fn an_agent_that_comes_back_finds_everything_running() {
    let mut bed = Bed::new(POLITE, &[]).await;
    bed.start(1).await;
    let before = bed.client.state().await.unwrap();
    let (client, pushes) = connect(bed.dir.path()).await;
    (bed.client, bed.pushes) = (client, pushes);
    assert_eq!(bed.client.state().await.unwrap(), before);
    assert!(bed.client.ask(Request::Start).await.is_err());
    assert!(bed.client.ask(Request::Quit).await.is_err());
    bed.client.ask(Request::Stop(Stop::Kill)).await.unwrap();
    bed.exit().await;
    assert!(bed.client.ask(Request::Deadline { ms: 1 }).await.is_err());
}

#[tokio::test]
async fn a_data_directory_has_one_guard() {
    let mut bed = Bed::new(POLITE, &[]).await;
    let mut second = spawn(bed.dir.path(), POLITE, &[]);
    assert_eq!(second.wait().unwrap().code(), Some(1));
    bed.client.state().await.unwrap();
}

#[tokio::test]
async fn a_guard_without_agents_ends_after_its_linger() {
    let mut bed = Bed::new(POLITE, &["--linger-ms", "300"]).await;
    let pids = bed.start(1).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(alive(pids[0]), "an agent was connected");
    let (nobody, pushes) = mpsc::channel(1);
    drop(nobody);
    bed.pushes = pushes;
    let (read, _write) = tokio::net::UnixStream::pair().unwrap();
    drop(read);
    // Replaced by a connection to nowhere, so that the real one closes.
    let other = tempfile::tempdir().unwrap();
    let _listener = tokio::net::UnixListener::bind(other.path().join("sock")).unwrap();
    bed.client = connect(other.path()).await.0;
    bed.guard_ends().await;
    assert!(!alive(pids[0]));
}

#[tokio::test]
async fn a_guard_that_ends_does_not_wait_for_ever() {
    let mut bed = Bed::new(STUBBORN, &[]).await;
    let pids = bed.start(3).await;
    let start = Instant::now();
    // SAFETY: the guard that this test started.
    unsafe { libc::kill(bed.guard.id() as i32, libc::SIGTERM) };
    bed.guard_ends().await;
    assert!(pids.iter().all(|p| !alive(*p)));
    assert!(start.elapsed() >= LEAVE_TIME, "it was given its time");
}

#[tokio::test]
async fn the_command_dies_with_its_guard() {
    let mut bed = Bed::new(POLITE, &[]).await;
    let pids = bed.start(1).await;
    bed.guard.kill().unwrap();
    let start = Instant::now();
    while alive(pids[0]) {
        assert!(start.elapsed() < Duration::from_secs(5), "the command lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nonsense_is_refused_and_harms_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut bed = Bed::new(POLITE, &[]).await;
    let mut raw = tokio::net::UnixStream::connect(bed.dir.path().join("sock")).await.unwrap();
    raw.write_all(b"deadline\nstop it\n").await.unwrap();
    let mut answer = [0; 56];
    raw.read_exact(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"error that is not a request\nerror"));
    raw.write_all(&[b'x'; 1000]).await.unwrap();
    // A line that is too long closes the connection.
    let mut rest = Vec::new();
    let _ = raw.read_to_end(&mut rest).await;
    bed.client.state().await.unwrap();
}
