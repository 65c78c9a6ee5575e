//! The guard as a program of its own, for the tests; the daemon has it as `tiebeam guard`.

fn main() -> std::process::ExitCode {
    tiebeam_postgres::guard::main(std::env::args_os().skip(1))
}
