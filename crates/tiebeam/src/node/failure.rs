//! Which failures of a start another start may mend (exit 1, an init system tries again), and which need a person first
//! (exit 2): a wrong setting, a folder of another's, a missing package.

use std::io::{self, ErrorKind};
use std::path::Path;

use tiebeam_edge::StartError;
use tiebeam_ledger::OpenError;

use crate::cli::WrongUse;

/// The ledger did not open.
pub fn ledger(error: OpenError) -> anyhow::Error {
    let mends = match &error {
        OpenError::Io { source, .. } => io_mends(source),
        OpenError::Locked { .. } | OpenError::Start(_) => true,
        // A setting, a port, a folder that is another's, newer or damaged: nobody but a person mends that.
        _ => false,
    };
    told(format!("the ledger did not open: {error}"), mends)
}

/// The agent of PostgreSQL did not start.
pub fn database(error: tiebeam_postgres::Error) -> anyhow::Error {
    use tiebeam_postgres::Error;
    let mends = match &error {
        Error::File { source, .. } => io_mends(source),
        Error::Guard { .. } | Error::Program { .. } | Error::Sql(_) | Error::Ledger(_) => true,
        _ => false,
    };
    told(error.to_string(), mends)
}

/// The edge did not start.
pub fn edge(error: StartError) -> anyhow::Error {
    let mends = match &error {
        StartError::Log { source, .. } => io_mends(source),
        StartError::Thread(_) => true,
        // An address, a port: nobody but a person mends that.
        StartError::Bind { .. } | StartError::NoListener | StartError::Tls(_) => false,
    };
    told(error.to_string(), mends)
}

/// The folder of this node's data cannot be made.
pub fn data_folder(path: &Path, error: &io::Error) -> anyhow::Error {
    told(format!("the data folder {} cannot be made: {error}", path.display()), io_mends(error))
}

/// This node's certificates cannot be read or made.
pub fn certificates(error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    let mends = error.chain().find_map(|cause| cause.downcast_ref()).is_some_and(io_mends);
    // An error of that room names its place and its cause itself.
    let known = error.downcast_ref::<tiebeam_certs::Error>().map(ToString::to_string);
    told(known.unwrap_or_else(|| format!("{error:#}")), mends)
}

/// Disks fill and fail and come back; a wrong owner or path stays what it is.
fn io_mends(error: &io::Error) -> bool {
    use ErrorKind::{
        AlreadyExists, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied,
    };
    !matches!(
        error.kind(),
        NotFound
            | PermissionDenied
            | NotADirectory
            | IsADirectory
            | AlreadyExists
            | InvalidInput
            | InvalidFilename
    )
}

fn told(text: String, mends: bool) -> anyhow::Error {
    if mends { anyhow::anyhow!(text) } else { WrongUse(text).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(source: impl Into<io::Error>) -> OpenError {
        OpenError::Io { what: "write", path: "/data/ledger".into(), source: source.into() }
    }

    #[test]
    fn what_a_start_may_mend_is_no_wrong_use() {
        let database_file = |kind: ErrorKind| {
            let (what, path) = ("write", "/data/postgres".into());
            database(tiebeam_postgres::Error::File { what, path, source: kind.into() })
        };
        let os = io::Error::from_raw_os_error;
        let log = |errno| StartError::Log { path: "/data/access.log".into(), source: os(errno) };
        let bind = |errno| {
            let address = ([127, 0, 0, 1], 80).into();
            StartError::Bind { address, which: "edge.http", source: os(errno) }
        };
        let folder = |errno| data_folder(Path::new("/data"), &os(errno));
        let cert = |errno| {
            let (path, source) = ("/data/certs/node.key".into(), os(errno));
            tiebeam_certs::Error::Unwritable { path, source }
        };
        let issued =
            |errno| certificates(anyhow::Error::new(cert(errno)).context("the certificate authority"));
        let table = [
            (ledger(io(ErrorKind::StorageFull)), true),
            (ledger(io(os(libc::EIO))), true),
            (ledger(io(ErrorKind::PermissionDenied)), false),
            (ledger(OpenError::Locked { path: "/data/ledger".into() }), true),
            (ledger(OpenError::Settings("a node twice".into())), false),
            (ledger(OpenError::Newer { path: "/data/ledger".into(), found: 9, known: 1 }), false),
            (database_file(ErrorKind::StorageFull), true),
            (database_file(ErrorKind::PermissionDenied), false),
            (database(tiebeam_postgres::Error::NoUser { name: "postgres".into() }), false),
            (edge(log(libc::ENOSPC)), true),
            (edge(log(libc::EACCES)), false),
            (edge(StartError::Thread(os(libc::EAGAIN))), true),
            (edge(bind(libc::EADDRINUSE)), false),
            (edge(StartError::NoListener), false),
            (folder(libc::ENOSPC), true),
            (folder(libc::EIO), true),
            (folder(libc::EACCES), false),
            (certificates(cert(libc::EIO)), true),
            (certificates(cert(libc::EACCES)), false),
            (issued(libc::ENOSPC), true),
            (issued(libc::EACCES), false),
            (certificates(tiebeam_certs::Error::Missing { path: "/data/certs".into() }), false),
        ];
        for (error, mends) in table {
            assert_eq!(error.downcast_ref::<WrongUse>().is_none(), mends, "{error}");
        }
    }
}
