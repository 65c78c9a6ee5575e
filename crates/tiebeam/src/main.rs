//! The `tiebeam` command: reads the words of the command line and hands over to one file a verb in `cli/`.
//!
//! Exit codes: 0 fine, 1 it is not, 2 wrong use (a bad file, a port in use, a missing package).

mod admin;
mod cli;
mod demo;
mod explain;
mod handover;
mod node;
mod notify;
mod why;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
