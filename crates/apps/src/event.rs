//! What a person would want to know of an instance, as one line of text each.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use tiebeam_topology::NodeName;

use crate::settings::InstanceId;

/// Something happened to an instance. Its text is `web.1 on a exited with status 1 after 3 s; next start in 2 s`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub node: NodeName,
    pub instance: InstanceId,
    pub what: Happening,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It passed its health checks, for the first time since it started or again.
    Ready { after: Duration },
    /// It failed `checks` health checks in a row; `why` is the last failure.
    Unhealthy { checks: u32, why: String },
    /// It runs, but is not healthy after `after`; `said` are its last lines of output, without what is secret.
    NotOpened { port: u16, after: Duration, why: String, said: Vec<String> },
    /// It ended without being asked to.
    Exited { status: ExitStatus, after: Duration, next_start: Duration, said: Vec<String> },
    /// It could not be started at all.
    CannotStart { why: String, next_start: Duration },
    /// It ended as it was asked to; `killed` if it had to be forced.
    Stopped { after: Duration, killed: bool },
    /// It was killed, and has not ended: the kernel holds the process `pid` in a call, such as to a dead disk.
    Abandoned { pid: u32, after: Duration },
    /// It is one more than the leash holds: what it starts outlives a crash of the agent.
    NotHeld { most: usize },
    /// Its output is not in its log file.
    NotLogged { why: String },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} ", self.instance, self.node)?;
        match &self.what {
            Happening::Ready { after } => write!(f, "is ready after {}", time(*after)),
            Happening::Unhealthy { checks, why } => {
                write!(f, "failed {checks} health checks in a row; it gets no requests: {why}")
            }
            Happening::NotOpened { port, after, why, said } => {
                write!(f, "is not ready after {} (it should listen on PORT={port}): {why}", time(*after))?;
                quote(f, said)
            }
            Happening::Exited { status, after, next_start, said } => {
                write!(f, "{} after {}; next start in {}", end(*status), time(*after), time(*next_start))?;
                quote(f, said)
            }
            Happening::CannotStart { why, next_start } => {
                write!(f, "cannot be started: {why}; next try in {}", time(*next_start))
            }
            Happening::Stopped { after, killed: false } => write!(f, "stopped within {}", time(*after)),
            Happening::Stopped { after, killed: true } => {
                write!(f, "did not stop by itself and was killed after {}", time(*after))
            }
            Happening::Abandoned { pid, after } => write!(
                f,
                "does not end, {} after SIGKILL: the kernel holds its process {pid} in a call, and nobody waits for it any more",
                time(*after)
            ),
            Happening::NotHeld { most } => write!(
                f,
                "is one of more than {most} instances: if the agent crashes, what this one has started lives on"
            ),
            Happening::NotLogged { why } => write!(f, "writes no log file: {why}"),
        }
    }
}

fn quote(f: &mut fmt::Formatter<'_>, said: &[String]) -> fmt::Result {
    match said {
        [] => f.write_str("; it printed nothing"),
        lines => write!(f, "; it last printed: {}", lines.join(" | ")),
    }
}

/// `0.2 s`, `3 s`, `5 min`.
fn time(d: Duration) -> String {
    match d.as_millis() {
        ms @ 0..9_950 if ms % 1000 != 0 => format!("{:.1} s", d.as_secs_f64()),
        0..120_000 => format!("{:.0} s", d.as_secs_f64()),
        ms => format!("{} min", ms / 60_000),
    }
}

fn end(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(libc::SIGKILL)) => "was killed (signal 9)".to_owned(),
        (None, Some(libc::SIGSEGV)) => "crashed (signal 11, segmentation fault)".to_owned(),
        (None, Some(libc::SIGABRT)) => "aborted (signal 6)".to_owned(),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let s = Duration::from_secs;
        let said = |text: &str| vec![text.to_owned()];
        for (what, text) in [
            (
                Happening::Exited {
                    status: ExitStatus::from_raw(1 << 8),
                    after: s(3),
                    next_start: s(2),
                    said: vec![],
                },
                "web.1 on a exited with status 1 after 3 s; next start in 2 s; it printed nothing",
            ),
            (
                Happening::Exited {
                    status: ExitStatus::from_raw(9),
                    after: s(600),
                    next_start: Duration::from_millis(200),
                    said: said("bye"),
                },
                "web.1 on a was killed (signal 9) after 10 min; next start in 0.2 s; it last printed: bye",
            ),
            (Happening::Ready { after: Duration::from_millis(1234) }, "web.1 on a is ready after 1.2 s"),
            (
                Happening::Abandoned { pid: 7, after: s(2) },
                "web.1 on a does not end, 2 s after SIGKILL: the kernel holds its process 7 in a call, and nobody waits for it any more",
            ),
            (
                Happening::NotHeld { most: 512 },
                "web.1 on a is one of more than 512 instances: if the agent crashes, what this one has started lives on",
            ),
            (
                Happening::Stopped { after: s(10), killed: true },
                "web.1 on a did not stop by itself and was killed after 10 s",
            ),
            (
                Happening::NotOpened { port: 4000, after: s(10), why: "refused".into(), said: said("x") },
                "web.1 on a is not ready after 10 s (it should listen on PORT=4000): refused; it last printed: x",
            ),
        ] {
            let (node, app) = ("a".parse().unwrap(), "web".parse().unwrap());
            let event = Event { node, instance: InstanceId { app, number: 1 }, what };
            assert_eq!(event.to_string(), text);
        }
    }
}
