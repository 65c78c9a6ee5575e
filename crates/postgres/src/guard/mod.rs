//! `tiebeam guard`: the process between the agent and PostgreSQL, which holds the deadline.
//!
//! It starts one command, answers a few one-line questions on a unix socket, and kills the command with everything
//! below it when its deadline comes. It knows no ledger, no SQL and no configuration. It is synchronous, allocates
//! nothing after its start, and locks its memory, so that neither a hung agent nor a full machine keeps it from the
//! one thing it is for. The agent starts it (`client.rs`) and may die, be stopped and come back without harm.
//!
//! When the guard itself is killed, the kernel kills the postmaster with it (`PR_SET_PDEATHSIG`), and the agent whatever
//! is left. A backend that is busy at that moment may live a little longer; it cannot acknowledge a write that would
//! be lost, because replicas close their streams before anyone is promoted. Under `async` nothing covers that moment.
//!
//! ```text
//! guard --socket FILE --lock FILE --log FILE [--uid N --gid N] [--linger-ms N] -- COMMAND [ARGUMENT]...
//! ```

mod child;
pub(crate) mod client;
mod run;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Duration;

use crate::settings::Owner;

/// How long before its deadline the guard asks PostgreSQL to stop at once (SIGQUIT).
pub const QUIT_BEFORE: Duration = Duration::from_millis(500);

/// How long before its deadline the guard kills what is left (SIGKILL), so that all is dead when the deadline comes.
pub const KILL_BEFORE: Duration = Duration::from_millis(150);

/// How long an immediate stop may take before it becomes a kill.
pub const IMMEDIATE_STOP: Duration = Duration::from_millis(500);

/// How long a command may take to end when the guard itself ends; then it is killed.
pub const LEAVE_TIME: Duration = Duration::from_secs(5);

/// Connections at once: the agent uses two; more are closed.
pub const CLIENTS_MAX: usize = 4;

/// What the command line says.
pub(crate) struct Options {
    pub socket: CString,
    pub lock: CString,
    pub log: CString,
    pub owner: Option<Owner>,
    pub linger: Option<Duration>,
    /// Absolute path of the program, then its arguments.
    pub command: Vec<CString>,
}

/// The whole process. `args` are those after the word `guard`. Returns when it was told to end and its command is gone.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match parse(args) {
        Ok(options) => options,
        Err(why) => return fail(&why, 2),
    };
    match run::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why, 1),
    }
}

fn fail(why: &str, code: u8) -> ExitCode {
    // The guard has no tracing; what it says here ends up in its log file.
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "guard: {why}");
    ExitCode::from(code)
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, String> {
    let text = |value: OsString| {
        CString::new(value.as_bytes()).map_err(|_| "an argument holds a zero byte".to_owned())
    };
    let number = |value: OsString| {
        value.to_str().and_then(|v| v.parse::<u64>().ok()).ok_or_else(|| format!("{value:?} is not a number"))
    };
    let (mut socket, mut lock, mut log, mut uid, mut gid, mut linger) = (None, None, None, None, None, None);
    let mut args = args.into_iter();
    let mut command = Vec::new();
    while let Some(arg) = args.next() {
        let name = arg.to_str().unwrap_or("").to_owned();
        if name == "--" {
            command = args.by_ref().map(text).collect::<Result<_, _>>()?;
            break;
        }
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--socket" => socket = Some(text(value)?),
            "--lock" => lock = Some(text(value)?),
            "--log" => log = Some(text(value)?),
            "--uid" => uid = Some(number(value)? as u32),
            "--gid" => gid = Some(number(value)? as u32),
            "--linger-ms" => linger = Some(Duration::from_millis(number(value)?)),
            _ => {
                return Err(format!(
                    "{arg:?} is not an option of the guard; the agent starts it, people do not"
                ));
            }
        }
    }
    let missing = |name: &str| format!("{name} is missing; the agent starts the guard, people do not");
    let owner = match (uid, gid) {
        (Some(uid), Some(gid)) => Some(Owner { uid, gid }),
        (None, None) => None,
        _ => return Err("--uid and --gid go together".into()),
    };
    if command.is_empty() {
        return Err(missing("the command after --"));
    }
    Ok(Options {
        socket: socket.ok_or_else(|| missing("--socket"))?,
        lock: lock.ok_or_else(|| missing("--lock"))?,
        log: log.ok_or_else(|| missing("--log"))?,
        owner,
        linger,
        command,
    })
}
