//! The guard's loop: one poll over its socket, its clients, its signals and one timer on the boot clock.
//!
//! Everything it needs is made in [`run`] before the loop; the loop allocates nothing, so a machine without memory
//! cannot stop it. Called by `main` only.

use std::ptr;
use std::time::Duration;

use super::child::{self, Command};
use super::wire::{self, Exit, GuardState, LINE_MAX_BYTES, Line, Request, Stop};
use super::{CLIENTS_MAX, IMMEDIATE_STOP, KILL_BEFORE, LEAVE_TIME, Options, QUIT_BEFORE};

/// Between two rounds of SIGKILL.
const KILL_EVERY_MS: u64 = 3;

/// How the end of the command proceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Running,
    /// SIGQUIT was sent; SIGKILL follows at this moment.
    Quitting {
        kill_at: u64,
    },
    /// Everything is being killed, round after round.
    Killing,
}

struct Client {
    fd: libc::c_int,
    buffer: [u8; LINE_MAX_BYTES],
    len: usize,
}

struct Guard {
    command: Command,
    listener: libc::c_int,
    signals: libc::c_int,
    timer: libc::c_int,
    clients: [Option<Client>; CLIENTS_MAX],
    stage: Stage,
    child: Option<libc::pid_t>,
    last: Option<Exit>,
    deadline: Option<u64>,
    deadline_told: bool,
    linger: Option<u64>,
    alone_since: u64,
    /// End when the command is gone.
    leaving: bool,
    ended: bool,
}

pub fn run(options: &Options) -> Result<(), String> {
    let log = open(&options.log, libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND)?;
    let lock = open(&options.lock, libc::O_RDWR | libc::O_CREAT)?;
    // SAFETY: plain system calls on descriptors that are ours.
    unsafe {
        if libc::flock(lock, libc::LOCK_EX | libc::LOCK_NB) != 0 {
            return Err(format!("another guard holds {:?}: one data directory has one guard", options.lock));
        }
        libc::setsid();
        if libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 {
            return Err(os("become the parent of orphaned processes"));
        }
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        // Best effort, both: without the right to do so the guard works as well on a machine that is not full.
        libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE);
        let oom = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        libc::write(oom, c"-900".as_ptr().cast(), 4);
        libc::close(oom);
    }
    let mut guard = Guard {
        command: Command::new(options.command.clone(), options.owner, log),
        signals: signal_fd()?,
        timer: timer_fd()?,
        listener: listen(&options.socket)?,
        clients: [const { None }; CLIENTS_MAX],
        stage: Stage::Idle,
        child: None,
        last: None,
        deadline: None,
        deadline_told: false,
        linger: options.linger.map(ms),
        alone_since: now_ms(),
        leaving: false,
        ended: false,
    };
    while !guard.ended {
        guard.wait();
        guard.take_signals();
        guard.take_clients();
        guard.tick(now_ms());
    }
    // SAFETY: the path ends with a zero byte. The lock is released by the end of the process.
    unsafe { libc::unlink(options.socket.as_ptr()) };
    Ok(())
}

impl Guard {
    /// Sleeps until something happens or the next moment of the schedule has come.
    fn wait(&mut self) {
        self.arm();
        let mut fds = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; CLIENTS_MAX + 3];
        fds[0].fd = self.listener;
        fds[1].fd = self.signals;
        fds[2].fd = self.timer;
        for (slot, client) in fds[3..].iter_mut().zip(&self.clients) {
            slot.fd = client.as_ref().map_or(-1, |c| c.fd);
        }
        // SAFETY: the array lives through the call. An early return only makes a round with nothing to do.
        unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
        let mut times = 0u64;
        // SAFETY: reads eight bytes into eight bytes; the descriptor does not block.
        unsafe { libc::read(self.timer, ptr::from_mut(&mut times).cast(), 8) };
    }

    fn arm(&self) {
        let at = self.next_moment(now_ms()).unwrap_or(0);
        // SAFETY: `spec` outlives the call. A moment of zero disarms; a moment in the past fires at once.
        unsafe {
            let mut spec: libc::itimerspec = std::mem::zeroed();
            spec.it_value.tv_sec = (at / 1000) as libc::time_t;
            spec.it_value.tv_nsec = ((at % 1000) * 1_000_000) as libc::c_long;
            libc::timerfd_settime(self.timer, libc::TFD_TIMER_ABSTIME, &spec, ptr::null_mut());
        }
    }

    /// When something must be done even if nothing happens.
    fn next_moment(&self, now: u64) -> Option<u64> {
        let by_stage = match self.stage {
            Stage::Idle => None,
            Stage::Running => self.deadline.map(|d| d.saturating_sub(ms(QUIT_BEFORE))),
            Stage::Quitting { kill_at } => Some(kill_at),
            Stage::Killing => Some(now + KILL_EVERY_MS),
        };
        let deadline_kill = match self.stage {
            Stage::Running | Stage::Quitting { .. } => {
                self.deadline.map(|d| d.saturating_sub(ms(KILL_BEFORE)))
            }
            _ => None,
        };
        let linger = self.linger_end().filter(|_| !self.leaving);
        [by_stage, deadline_kill, linger].into_iter().flatten().min().map(|at| at.max(1))
    }

    fn linger_end(&self) -> Option<u64> {
        let alone = self.clients.iter().all(Option::is_none);
        self.linger.filter(|_| alone).map(|linger| self.alone_since + linger)
    }

    /// What the clock asks for.
    fn tick(&mut self, now: u64) {
        if matches!(self.stage, Stage::Running | Stage::Quitting { .. })
            && let Some(deadline) = self.deadline
        {
            let quits = self.stage == Stage::Running && now + ms(QUIT_BEFORE) >= deadline;
            let kills = now + ms(KILL_BEFORE) >= deadline;
            if kills {
                self.stage = Stage::Killing;
            } else if quits {
                self.quit_command(deadline.saturating_sub(ms(KILL_BEFORE)));
            }
            if (quits || kills) && !self.deadline_told {
                self.deadline_told = true;
                self.tell(&Line::of(format_args!("deadline-passed")));
            }
        }
        if matches!(self.stage, Stage::Quitting { kill_at } if now >= kill_at) {
            self.stage = Stage::Killing;
        }
        if self.stage == Stage::Killing {
            child::kill_all(self.child);
            self.take_dead();
        }
        if self.linger_end().is_some_and(|end| now >= end) && !self.leaving {
            self.leave(now);
        }
        if self.leaving && self.stage == Stage::Idle {
            self.ended = true;
        }
    }

    /// Stops the command as it would be stopped by hand, then ends.
    fn leave(&mut self, now: u64) {
        self.leaving = true;
        if let (Stage::Running, Some(pid)) = (self.stage, self.child) {
            child::signal(pid, libc::SIGINT);
            self.stage = Stage::Quitting { kill_at: now + ms(LEAVE_TIME) };
        }
    }

    fn quit_command(&mut self, kill_at: u64) {
        if let Some(pid) = self.child {
            child::signal(pid, libc::SIGQUIT);
            // A stopped process does not see SIGQUIT; it does not matter, SIGKILL follows.
        }
        self.stage = Stage::Quitting { kill_at };
    }

    fn take_signals(&mut self) {
        loop {
            // SAFETY: reads one structure into its own space; the descriptor does not block.
            let (n, signal) = unsafe {
                let mut info: libc::signalfd_siginfo = std::mem::zeroed();
                let size = size_of::<libc::signalfd_siginfo>();
                (
                    libc::read(self.signals, ptr::from_mut(&mut info).cast(), size),
                    info.ssi_signo as libc::c_int,
                )
            };
            if n <= 0 {
                break;
            }
            if signal != libc::SIGCHLD {
                self.leave(now_ms());
            }
        }
        self.take_dead();
    }

    /// Waits for what has ended. When the command itself has, all that it left behind is killed; `exited` is told
    /// only when not one process of it is left.
    fn take_dead(&mut self) {
        while let Some((pid, exit)) = child::reap() {
            if self.child == Some(pid) {
                self.child = None;
                self.last = Some(exit);
                self.stage = Stage::Killing;
            }
        }
        if self.stage == Stage::Killing && self.child.is_none() {
            if child::any_child() {
                child::kill_all(None);
                while child::reap().is_some() {}
            }
            if !child::any_child() {
                self.stage = Stage::Idle;
                self.deadline = None;
                if let Some(exit) = self.last {
                    self.tell(&Line::of(format_args!("exited {exit}")));
                }
            }
        }
    }

    fn take_clients(&mut self) {
        // SAFETY: accepts on our own descriptor, which does not block.
        let fd = unsafe {
            libc::accept4(
                self.listener,
                ptr::null_mut(),
                ptr::null_mut(),
                libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            )
        };
        if fd >= 0 {
            match self.clients.iter_mut().find(|c| c.is_none()) {
                Some(slot) => *slot = Some(Client { fd, buffer: [0; LINE_MAX_BYTES], len: 0 }),
                // SAFETY: just accepted, known to nobody else.
                None => unsafe {
                    libc::close(fd);
                },
            }
        }
        for index in 0..CLIENTS_MAX {
            self.read_client(index);
        }
    }

    fn read_client(&mut self, index: usize) {
        while let Some(client) = &mut self.clients[index] {
            let room = &mut client.buffer[client.len..];
            // SAFETY: reads at most the room that is left; the descriptor does not block.
            let n = unsafe { libc::read(client.fd, room.as_mut_ptr().cast(), room.len()) };
            if n < 0 && matches!(child::errno(), libc::EAGAIN | libc::EINTR) {
                return;
            }
            client.len += n.max(0) as usize;
            // Closed, broken, or a line longer than any of ours.
            if n <= 0 {
                return self.drop_client(index);
            }
            self.take_lines(index);
        }
    }

    fn take_lines(&mut self, index: usize) {
        while let Some(client) = &mut self.clients[index] {
            let Some(end) = client.buffer[..client.len].iter().position(|b| *b == b'\n') else { return };
            let request = wire::parse(&client.buffer[..end]);
            client.buffer.copy_within(end + 1..client.len, 0);
            client.len -= end + 1;
            let fd = client.fd;
            let answer = match request {
                Some(request) => self.answer(request),
                None => Line::of(format_args!("error that is not a request")),
            };
            if !send(fd, answer.bytes()) {
                return self.drop_client(index);
            }
        }
    }

    fn answer(&mut self, request: Request) -> Line {
        match request {
            Request::State => Line::of(format_args!("ok {}", self.state())),
            Request::Start => self.start(),
            Request::Deadline { ms } => self.set_deadline(ms),
            Request::Stop(how) => self.stop(how),
            Request::Quit if self.stage == Stage::Idle => {
                self.ended = true;
                Line::of(format_args!("ok ending"))
            }
            Request::Quit => Line::of(format_args!("error the command is running")),
        }
    }

    fn start(&mut self) -> Line {
        if self.stage != Stage::Idle || self.leaving {
            return Line::of(format_args!("error the command is running or ending"));
        }
        match self.command.start() {
            Ok(pid) => {
                self.child = Some(pid);
                self.stage = Stage::Running;
                self.deadline = None;
                self.deadline_told = false;
                self.tell(&Line::of(format_args!("running {pid}")));
                Line::of(format_args!("ok running {pid}"))
            }
            Err(errno) => Line::of(format_args!("error cannot fork: errno {errno}")),
        }
    }

    /// A new deadline, later or earlier. Once the stop has begun it does not turn back.
    fn set_deadline(&mut self, at: u64) -> Line {
        if self.stage != Stage::Running {
            return Line::of(format_args!("error the command is not running"));
        }
        self.deadline = Some(at);
        Line::of(format_args!("ok deadline {at}"))
    }

    fn stop(&mut self, how: Stop) -> Line {
        let Some(pid) = self.child.filter(|_| self.stage != Stage::Idle) else {
            return Line::of(format_args!("ok not running"));
        };
        match how {
            Stop::Fast if self.stage == Stage::Running => child::signal(pid, libc::SIGINT),
            Stop::Immediate if self.stage == Stage::Running => {
                self.quit_command(now_ms() + ms(IMMEDIATE_STOP))
            }
            Stop::Kill => self.stage = Stage::Killing,
            Stop::Fast | Stop::Immediate => {}
        }
        Line::of(format_args!("ok stopping {pid}"))
    }

    fn state(&self) -> GuardState {
        // SAFETY: no arguments, cannot fail.
        let guard_pid = unsafe { libc::getpid() } as u32;
        // While orphans are being killed there is no command any more, but it is not over either.
        let pid = self.child.map(|p| p as u32).or((self.stage != Stage::Idle).then_some(guard_pid));
        GuardState { guard_pid, pid, deadline_ms: self.deadline, last: self.last }
    }

    fn tell(&mut self, line: &Line) {
        for index in 0..CLIENTS_MAX {
            if self.clients[index].as_ref().is_some_and(|c| !send(c.fd, line.bytes())) {
                self.drop_client(index);
            }
        }
    }

    fn drop_client(&mut self, index: usize) {
        if let Some(client) = self.clients[index].take() {
            // SAFETY: the client's own descriptor, taken out of the table.
            unsafe { libc::close(client.fd) };
            self.alone_since = now_ms();
        }
    }
}

/// False when the client is gone, or does not read: then it is dropped, and asks again when it comes back.
fn send(fd: libc::c_int, bytes: &[u8]) -> bool {
    // SAFETY: writes from a slice to a descriptor that is ours and does not block.
    let n = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    n == bytes.len() as isize
}

fn ms(d: Duration) -> u64 {
    d.as_millis() as u64
}

fn now_ms() -> u64 {
    tiebeam_topology::Moment::now().as_ms()
}

fn os(what: &str) -> String {
    format!("cannot {what}: {}", std::io::Error::last_os_error())
}

fn open(path: &std::ffi::CStr, flags: libc::c_int) -> Result<libc::c_int, String> {
    // SAFETY: the path ends with a zero byte.
    let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o600) };
    if fd < 0 { Err(os(&format!("open {path:?}"))) } else { Ok(fd) }
}

/// SIGCHLD, and SIGTERM and SIGINT, which mean: stop the command, then end.
fn signal_fd() -> Result<libc::c_int, String> {
    // SAFETY: `set` outlives the calls.
    let fd = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT] {
            libc::sigaddset(&mut set, signal);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &set, ptr::null_mut());
        libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)
    };
    if fd < 0 { Err(os("watch its signals")) } else { Ok(fd) }
}

fn timer_fd() -> Result<libc::c_int, String> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
    if fd < 0 { Err(os("make its timer")) } else { Ok(fd) }
}

/// The guard holds its lock by now, so a socket that is there is a dead guard's.
fn listen(path: &std::ffi::CStr) -> Result<libc::c_int, String> {
    use std::os::fd::IntoRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixListener;
    let file = std::path::Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()));
    let _ = std::fs::remove_file(file);
    // SAFETY: changes only the mask of files to come; the socket must not be open to others for a moment.
    unsafe { libc::umask(0o177) };
    let listener =
        UnixListener::bind(file).map_err(|e| format!("cannot listen on {}: {e}", file.display()))?;
    // SAFETY: as above.
    unsafe { libc::umask(0o077) };
    listener.set_nonblocking(true).map_err(|e| format!("cannot use {}: {e}", file.display()))?;
    Ok(listener.into_raw_fd())
}
