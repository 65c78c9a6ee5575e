//! One run of an instance: a process group that is started, asked to end, killed, and waited for.
//!
//! Each run has a thread of its own, which starts the process and outlives it: `PR_SET_PDEATHSIG` (prctl(2)) is sent
//! when the *thread* that forked ends, not the process. It decides nothing; `supervisor.rs` tells it what to do.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, kill_process_group, setrlimit, waitid,
};
use tokio::sync::oneshot;

use crate::launch::{Launch, LaunchError};
use crate::leash::{Hold, Leash};
use crate::output::{self, Log, Tail};

/// How often a stopping group is looked at whose first process has ended already.
const GROUP_POLL: Duration = Duration::from_millis(20);
/// How long the last output of an ended group is waited for; only a process that left the group can hold it longer.
const OUTPUT_WAIT: Duration = Duration::from_millis(500);

/// Where the output of a run goes.
pub struct Output {
    pub tail: Tail,
    pub log: Option<Log>,
    pub unwritable: Box<dyn FnOnce(io::Error) + Send>,
}

/// A process group that runs, or has just ended. Dropping it kills what is left of it.
pub struct Process {
    group: Arc<Group>,
}

struct Group {
    id: Pid,
    /// False as soon as the number may belong to another: nothing is signalled then.
    ours: Mutex<bool>,
    stopping: AtomicBool,
    killed: AtomicBool,
    /// Whether the leash has a place for it.
    held: bool,
}

impl Process {
    /// Starts a process group, and calls `ended` from another thread when all of it has ended.
    pub async fn start(
        launch: Launch,
        leash: Arc<Leash>,
        output: Output,
        ended: impl FnOnce(ExitStatus) + Send + 'static,
    ) -> Result<Self, LaunchError> {
        let (path, folder) = (launch.program.clone(), launch.folder.clone());
        let user = launch.user.as_ref().map(|user| user.name.clone());
        let failed = |source| LaunchError::Run {
            path: path.clone(),
            user: user.clone(),
            folder: folder.clone(),
            source,
        };
        let (tell, told) = oneshot::channel();
        let run = move || run(launch, &leash, output, tell, ended);
        thread::Builder::new().name("app".to_owned()).spawn(run).map_err(failed)?;
        match told.await {
            Ok(Ok(group)) => Ok(Self { group }),
            Ok(Err(source)) => Err(failed(source)),
            Err(_) => Err(failed(io::Error::other("its thread ended"))),
        }
    }

    pub fn pid(&self) -> u32 {
        self.group.id.as_raw_nonzero().get().unsigned_abs()
    }

    /// False if what it starts would outlive a crash of the agent: the leash is full.
    pub fn is_held(&self) -> bool {
        self.group.held
    }

    /// SIGTERM to the whole group.
    pub fn terminate(&self) {
        self.group.stopping.store(true, Ordering::Release);
        self.group.signal(Signal::TERM);
    }

    /// SIGKILL to the whole group.
    pub fn kill(&self) {
        self.group.killed.store(true, Ordering::Release);
        self.group.signal(Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Group {
    fn signal(&self, signal: Signal) {
        if *self.ours.lock().unwrap_or_else(PoisonError::into_inner) {
            // The group may have ended this very moment: there is nothing to do then.
            let _ = kill_process_group(self.id, signal);
        }
    }
}

/// The life of a run, on its own thread.
fn run(
    launch: Launch,
    leash: &Leash,
    output: Output,
    tell: oneshot::Sender<io::Result<Arc<Group>>>,
    ended: impl FnOnce(ExitStatus),
) {
    let hold = leash.hold();
    let (mut child, reader) = match spawn(launch, hold) {
        Ok(started) => started,
        Err(e) => {
            leash.release(hold);
            let _ = tell.send(Err(e));
            return;
        }
    };
    let id = Pid::from_child(&child);
    let group = Arc::new(Group {
        id,
        ours: Mutex::new(true),
        stopping: AtomicBool::new(false),
        killed: AtomicBool::new(false),
        held: hold.kept,
    });
    if tell.send(Ok(group.clone())).is_err() {
        group.signal(Signal::KILL);
    }
    let (copied, all_copied) = mpsc::channel::<()>();
    let copy = move || {
        output::copy(reader, &output.tail, output.log, output.unwritable);
        drop(copied);
    };
    // Without its thread the output is closed; the app sees that as a broken pipe.
    let _ = thread::Builder::new().name("app-output".to_owned()).spawn(copy);

    let status = wait(&mut child, &group, || leash.release(hold));
    // Returns when the sender is dropped: nothing is ever sent.
    let _ = all_copied.recv_timeout(OUTPUT_WAIT);
    ended(status);
}

fn spawn(launch: Launch, hold: Hold) -> io::Result<(Child, io::PipeReader)> {
    let (reader, writer) = io::pipe()?;
    let agent = rustix::process::getpid();
    let mut command = Command::new(&launch.program);
    command
        .arg0(&launch.command[0])
        .args(&launch.command[1..])
        .env_clear()
        .envs(&launch.env)
        .current_dir(&launch.folder)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    if let Some(user) = &launch.user {
        // Drops the supplementary groups too: the library calls setgroups(2) before setuid(2).
        command.uid(user.uid).gid(user.gid);
    }
    // SAFETY: between fork and exec, and after the change of user, which would undo it; system calls only.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            // The agent may have died before the line above: then nobody would tell.
            if rustix::process::getppid() != Some(agent) {
                return Err(io::ErrorKind::NotConnected.into());
            }
            // Without its leash an app still runs; its end tells the log that the leash is gone.
            let _ = hold.take();
            if launch.descriptors.is_some() {
                let limit = Rlimit { current: launch.descriptors, ..getrlimit(Resource::Nofile) };
                // Refused only above the hard limit, where the agent's own will do.
                let _ = setrlimit(Resource::Nofile, limit);
            }
            Ok(())
        });
    }
    Ok((command.spawn()?, reader))
}

/// Waits until the first process has ended, sees to the rest of the group, and only then lets go of its number.
fn wait(child: &mut Child, group: &Group, release: impl FnOnce()) -> ExitStatus {
    // Leaves the ended process there as a zombie, so that the number of the group stays ours.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(group.id), options) {}
    // A stopping group may take its time: who waits for it kills it at its deadline. What that does not end at once is
    // in the kernel's hands, and nobody's to wait for.
    while group.stopping.load(Ordering::Acquire)
        && !group.killed.load(Ordering::Acquire)
        && others_live(group.id)
    {
        thread::sleep(GROUP_POLL);
    }
    let mut ours = group.ours.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = kill_process_group(group.id, Signal::KILL);
    release();
    *ours = false;
    // A child that was seen to have ended can be waited for; if not, somebody else has reaped it.
    child.wait().unwrap_or_default()
}

/// Does anything but the first process live in the group?
fn others_live(group: Pid) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().any(|entry| {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else { return false };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // proc_pid_stat(5): the name, in parentheses, may hold anything; then state, parent, group.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let (state, _parent, of) = (fields.next(), fields.next(), fields.next());
        let id = group.as_raw_nonzero().get();
        pid != id && of.and_then(|g| g.parse().ok()) == Some(id) && !matches!(state, Some("Z" | "X"))
    })
}
