//! A small process beside the agent that ends the apps if the agent dies, with all their children.
//!
//! The kernel tells only the first process of an instance that the agent is gone (`PR_SET_PDEATHSIG`, prctl(2)); what
//! that process has started would live on and hold its port. The leash knows the process groups, waits for the end of
//! a socket that only the agent holds, and then ends them all: SIGTERM, and SIGKILL after [`GRACE_MS`].
//!
//! It is a fork without exec of a process with threads, so it does nothing but what signal-safety(7) allows: no
//! allocation, no lock, no formatting. It keeps no descriptor of the agent but that socket.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use rustix::process::{Pid, WaitOptions, waitpid};

/// How long apps may take to end by themselves after their agent has died.
const GRACE_MS: i32 = 2000;
/// The most instances of a node that are held; the first process of any other is still ended by the kernel.
pub const GROUPS_MAX: usize = 512;
/// Descriptors that are closed one by one where the kernel does not close them all (before Linux 5.9).
const DESCRIPTORS_MAX: i32 = 65_536;

/// The agent's end of the leash. Dropping it ends what is still held.
pub struct Leash {
    /// `None` only while it is dropped.
    socket: Option<UnixStream>,
    process: Pid,
    /// Counts all holds.
    holds: AtomicU32,
    /// Holds that are not released.
    held: AtomicUsize,
}

/// One process group on the leash. It is valid as long as the leash is.
#[derive(Clone, Copy)]
pub struct Hold {
    number: u32,
    socket: RawFd,
    /// False for those beyond [`GROUPS_MAX`].
    pub kept: bool,
}

impl Hold {
    /// Puts the group of the calling process on the leash. Called by the new process itself before it becomes the
    /// app, so that the agent cannot die in between; async-signal-safe.
    pub fn take(self) -> io::Result<()> {
        self.tell(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// Eight bytes at once; without SIGPIPE, which would end the new process instead of being an error.
    fn tell(self, group: i32) -> io::Result<()> {
        let message = [self.number.cast_signed(), group];
        let size = size_of_val(&message);
        // SAFETY: the pointer and the size are of the same array. A socket that is closed by now is an error, not more.
        match unsafe { libc::send(self.socket, message.as_ptr().cast(), size, libc::MSG_NOSIGNAL) } {
            written if written == size as isize => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Leash {
    pub fn start() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        // SAFETY: the child calls only async-signal-safe functions and never returns (`watch`).
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => watch(reader.as_raw_fd(), writer.as_raw_fd()),
            pid => {
                let process = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
                Ok(Self {
                    socket: Some(writer),
                    process,
                    holds: AtomicU32::new(0),
                    held: AtomicUsize::new(0),
                })
            }
        }
    }

    /// A new hold, for a process group that is about to be started.
    pub fn hold(&self) -> Hold {
        let number = self.holds.fetch_add(1, Ordering::Relaxed);
        let kept = self.held.fetch_add(1, Ordering::Relaxed) < GROUPS_MAX;
        Hold { number, socket: self.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd), kept }
    }

    /// The group has ended, or was not started after all: its number may soon be another's. Called before its first
    /// process is reaped.
    pub fn release(&self, hold: Hold) {
        if let Err(e) = hold.tell(0) {
            tracing::warn!("the process that would end apps if this agent died is gone: {e}");
        }
        // After the message: whoever takes the place sends his own behind it.
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.socket = None;
        // It ends at once if it holds nothing, and within its grace otherwise.
        let _ = waitpid(Some(self.process), WaitOptions::empty());
    }
}

fn watch(socket: RawFd, agents: RawFd) -> ! {
    // SAFETY: async-signal-safe functions only, on memory of this frame; the process never leaves this block.
    unsafe {
        // Signals to the agent's terminal or group are not for it, and the agent's handlers must not run here.
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"tiebeam-leash".as_ptr());
        // With the agent's own end open here too, its death would never be heard.
        libc::close(agents);
        libc::dup2(socket, 0);
        // Any other descriptor, a listener of the agent for one, would stay open as long as this process lives.
        if libc::syscall(libc::SYS_close_range, 1u32, u32::MAX, 0u32) != 0 {
            for descriptor in 1..DESCRIPTORS_MAX {
                libc::close(descriptor);
            }
        }

        // Pairs of a hold's number and its group; a group of 0 is a free place.
        let mut holds = [[0i32; 2]; GROUPS_MAX];
        loop {
            let mut message = [0i32; 2];
            let size = size_of_val(&message);
            let got = libc::read(0, message.as_mut_ptr().cast(), size);
            if got == size as isize {
                let [number, group] = message;
                for hold in &mut holds {
                    if if group == 0 { hold[0] == number && hold[1] != 0 } else { hold[1] == 0 } {
                        *hold = message;
                        break;
                    }
                }
            } else if got == 0 || *libc::__errno_location() != libc::EINTR {
                break;
            }
        }
        let mut held = false;
        for [_, group] in holds {
            // Only a positive number: kill(2) gives zero and -1 another meaning.
            if group > 1 {
                held |= libc::kill(-group, libc::SIGTERM) == 0;
            }
        }
        if held {
            libc::poll(std::ptr::null_mut(), 0, GRACE_MS);
            for [_, group] in holds {
                if group > 1 {
                    libc::kill(-group, libc::SIGKILL);
                }
            }
        }
        libc::_exit(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_nothing_is_held_until_a_place_is_free() {
        let leash = Leash::start().unwrap();
        let holds: Vec<Hold> = (0..GROUPS_MAX).map(|_| leash.hold()).collect();
        assert!(holds.iter().all(|hold| hold.kept));
        assert!(!leash.hold().kept);
        leash.release(holds[0]);
        leash.release(holds[1]);
        assert!(leash.hold().kept);
        assert!(!leash.hold().kept);
    }
}
