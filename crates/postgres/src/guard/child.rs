//! The guarded command and everything below it: starting it, signalling it, killing it to the last process.
//!
//! PostgreSQL's backends are their own sessions, so no process group reaches them. The guard is a subreaper: whatever
//! loses its parent below it becomes its child, and is found in `/proc`. Called by `run.rs` only; never allocates.

use std::ffi::CString;
use std::ptr;

use super::wire::Exit;
use crate::settings::Owner;

/// The argument vector, made before the loop starts.
pub struct Command {
    // Keeps what `argv` points to.
    _strings: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    owner: Option<Owner>,
    log: libc::c_int,
}

impl Command {
    /// `log` becomes the command's stdout and stderr.
    pub fn new(strings: Vec<CString>, owner: Option<Owner>, log: libc::c_int) -> Self {
        let argv = strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        Self { _strings: strings, argv, owner, log }
    }

    /// Starts the command, which dies with the guard. Gives its pid, or the errno of `fork`.
    pub fn start(&self) -> Result<libc::pid_t, i32> {
        // SAFETY: the guard has one thread, and the child calls only async-signal-safe functions until it execs.
        unsafe {
            match libc::fork() {
                -1 => Err(errno()),
                0 => self.become_command(),
                pid => Ok(pid),
            }
        }
    }

    /// # Safety
    /// Only in a just forked child.
    unsafe fn become_command(&self) -> ! {
        // SAFETY: plain system calls on values made before the fork.
        unsafe {
            libc::setsid();
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            // PostgreSQL takes its turn with the OOM killer as everybody does; only the guard is spared.
            let oom = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            libc::write(oom, c"0".as_ptr().cast(), 1);
            let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
            libc::dup2(null, 0);
            libc::dup2(self.log, 1);
            libc::dup2(self.log, 2);
            if let Some(owner) = self.owner {
                let ok = libc::setgroups(1, &owner.gid) == 0
                    && libc::setgid(owner.gid) == 0
                    && libc::setuid(owner.uid) == 0;
                if !ok {
                    libc::_exit(126);
                }
            }
            libc::umask(0o077);
            // After the change of user, which would clear it. If the guard died before this line, nobody reads us.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0);
            if libc::getppid() == 1 {
                libc::_exit(125);
            }
            libc::execv(self.argv[0], self.argv.as_ptr());
            libc::_exit(127)
        }
    }
}

pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

pub fn signal(pid: libc::pid_t, signal: libc::c_int) {
    // SAFETY: sends a signal; `pid` is a child that has not been waited for, so it names nobody else.
    unsafe { libc::kill(pid, signal) };
}

/// Waits, without blocking, for any child that has ended.
pub fn reap() -> Option<(libc::pid_t, Exit)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let exit = if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    };
    Some((pid, exit))
}

/// Sends SIGKILL to `root`, to its children, and to every child of the guard: orphans of the command have become its
/// children. Called again and again until nothing is left, because each death may hand down more.
pub fn kill_all(root: Option<libc::pid_t>) {
    if let Some(root) = root {
        // The command first, so that it cannot start more; its children are read before, to reach them at once.
        let mut pids = Pids::of(root);
        signal(root, libc::SIGKILL);
        while let Some(pid) = pids.next() {
            signal(pid, libc::SIGKILL);
        }
    }
    // SAFETY: no arguments, cannot fail.
    let mut pids = Pids::of(unsafe { libc::getpid() });
    while let Some(pid) = pids.next() {
        signal(pid, libc::SIGKILL);
    }
}

/// Whether the guard has any child, dead and not waited for included.
pub fn any_child() -> bool {
    // SAFETY: `info` outlives the call; WNOWAIT leaves the child to `reap`.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) == 0
    }
}

/// The children of a single-threaded process, from `/proc/PID/task/PID/children` (proc(5)), 4 KiB at a time.
struct Pids {
    fd: libc::c_int,
    buffer: [u8; 4096],
    len: usize,
    at: usize,
}

impl Pids {
    fn of(pid: libc::pid_t) -> Self {
        let path = super::wire::Line::of(format_args!("/proc/{pid}/task/{pid}/children")).into_path();
        // SAFETY: `path` ends with a zero byte.
        let fd = unsafe { libc::open(path.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC) };
        Self { fd, buffer: [0; 4096], len: 0, at: 0 }
    }

    fn byte(&mut self) -> Option<u8> {
        if self.at == self.len {
            // SAFETY: reads at most the buffer's size; a bad descriptor gives an error.
            let n = unsafe { libc::read(self.fd, self.buffer.as_mut_ptr().cast(), self.buffer.len()) };
            self.at = 0;
            self.len = n.max(0) as usize;
        }
        let byte = *self.buffer[..self.len].get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn next(&mut self) -> Option<libc::pid_t> {
        let mut pid = None;
        while let Some(byte) = self.byte() {
            match (byte, pid) {
                (b'0'..=b'9', _) => pid = Some(pid.unwrap_or(0) * 10 + libc::pid_t::from(byte - b'0')),
                (_, Some(_)) => break,
                _ => {}
            }
        }
        pid
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        // SAFETY: ours; closing -1 only gives an error.
        unsafe { libc::close(self.fd) };
    }
}
