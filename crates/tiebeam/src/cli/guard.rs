//! `tiebeam guard`: the small process beside each PostgreSQL. Started by the agent, never by hand.

use std::ffi::OsString;
use std::process::ExitCode;

pub fn run(words: impl Iterator<Item = OsString>) -> ExitCode {
    tiebeam_postgres::guard::main(words)
}
