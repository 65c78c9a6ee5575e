//! The guard's one-line protocol, both ways. Pure; nothing here allocates on the guard's side.
//!
//! Requests: `start`, `deadline MS`, `stop fast|immediate|kill`, `state`, `quit`. Each is answered by one line,
//! `ok WORDS` or `error WORDS`. Pushed to every client: `running PID`, `exited code N` or `exited signal N`, and
//! `deadline-passed`. A deadline is milliseconds of `CLOCK_BOOTTIME`.

use std::fmt::{self, Write};

/// Longest line, both ways.
pub const LINE_MAX_BYTES: usize = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start the command, without a deadline.
    Start,
    Deadline {
        ms: u64,
    },
    Stop(Stop),
    State,
    /// End the guard; refused while the command runs.
    Quit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT: PostgreSQL ends its sessions, writes its shutdown checkpoint and sends it to its replicas.
    Fast,
    /// SIGQUIT, and SIGKILL when that does not help soon.
    Immediate,
    /// SIGKILL, to everything.
    Kill,
}

pub fn parse(line: &[u8]) -> Option<Request> {
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.split_ascii_whitespace();
    let request = match (words.next()?, words.next()) {
        ("start", None) => Request::Start,
        ("state", None) => Request::State,
        ("quit", None) => Request::Quit,
        ("deadline", Some(ms)) => Request::Deadline { ms: ms.parse().ok()? },
        ("stop", Some("fast")) => Request::Stop(Stop::Fast),
        ("stop", Some("immediate")) => Request::Stop(Stop::Immediate),
        ("stop", Some("kill")) => Request::Stop(Stop::Kill),
        _ => return None,
    };
    words.next().is_none().then_some(request)
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Deadline { ms } => write!(f, "deadline {ms}"),
            Self::Stop(Stop::Fast) => f.write_str("stop fast"),
            Self::Stop(Stop::Immediate) => f.write_str("stop immediate"),
            Self::Stop(Stop::Kill) => f.write_str("stop kill"),
            Self::State => f.write_str("state"),
            Self::Quit => f.write_str("quit"),
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(n) => write!(f, "code {n}"),
            Self::Signal(n) => write!(f, "signal {n}"),
        }
    }
}

impl Exit {
    fn parse(kind: &str, number: &str) -> Option<Self> {
        let number = number.parse().ok()?;
        match kind {
            "code" => Some(Self::Code(number)),
            "signal" => Some(Self::Signal(number)),
            _ => None,
        }
    }

    /// For people.
    pub fn words(self) -> String {
        match self {
            Self::Code(0) => "it was stopped".into(),
            Self::Code(n) => format!("it exited with code {n}"),
            Self::Signal(9) => "it was killed (SIGKILL)".into(),
            Self::Signal(n) => format!("it was ended by signal {n}"),
        }
    }
}

/// The answer to `state`, and what the agent knows of its guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardState {
    pub guard_pid: u32,
    /// The command; also set while it or anything below it is still being killed.
    pub pid: Option<u32>,
    pub deadline_ms: Option<u64>,
    /// How the last command ended.
    pub last: Option<Exit>,
}

impl fmt::Display for GuardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state {} {} {} ", self.guard_pid, self.pid.unwrap_or(0), self.deadline_ms.unwrap_or(0))?;
        match self.last {
            Some(exit) => write!(f, "{exit}"),
            None => f.write_str("none 0"),
        }
    }
}

/// A line from the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Ok(String),
    Error(String),
    State(GuardState),
    Running(u32),
    Exited(Exit),
    DeadlinePassed,
}

/// Reads a line from the guard; `None` if it is not one.
pub fn parse_reply(line: &str) -> Option<Reply> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    Some(match words[..] {
        ["running", pid] => Reply::Running(pid.parse().ok()?),
        ["exited", kind, number] => Reply::Exited(Exit::parse(kind, number)?),
        ["deadline-passed"] => Reply::DeadlinePassed,
        ["ok", "state", guard, pid, deadline, kind, number] => {
            let some = |n: u64| (n != 0).then_some(n);
            Reply::State(GuardState {
                guard_pid: guard.parse().ok()?,
                pid: some(pid.parse().ok()?).map(|p| p as u32),
                deadline_ms: some(deadline.parse().ok()?),
                last: Exit::parse(kind, number),
            })
        }
        ["ok", ..] => Reply::Ok(line[2..].trim().to_owned()),
        ["error", ..] => Reply::Error(line[5..].trim().to_owned()),
        _ => return None,
    })
}

/// A line on the stack.
pub struct Line {
    bytes: [u8; LINE_MAX_BYTES],
    len: usize,
}

impl Line {
    /// Formats without allocating; what does not fit is cut.
    pub fn of(args: fmt::Arguments<'_>) -> Self {
        let mut line = Self { bytes: [0; LINE_MAX_BYTES], len: 0 };
        // Writing into the array cannot fail: what is too long is cut below.
        let _ = line.write_fmt(args);
        let end = line.len.min(LINE_MAX_BYTES - 1);
        line.bytes[end] = b'\n';
        line.len = end + 1;
        line
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The same as a path for a system call: ends with a zero byte instead of the line's end.
    pub fn into_path(mut self) -> [u8; LINE_MAX_BYTES] {
        self.bytes[self.len - 1] = 0;
        self.bytes
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let n = text.len().min(room.len());
        room[..n].copy_from_slice(&text.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}
