//! What can go wrong in this room, in words for the person who must act on it.

use std::io;
use std::path::PathBuf;

/// Why an agent cannot start, or a step of it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "PostgreSQL {min} to {max} is not installed: no `postgres` program in {searched}. Install it: apt-get install postgresql"
    )]
    NoBinaries { min: u32, max: u32, searched: String },
    #[error(
        "there is no user {name:?} on this machine; the package `postgresql` makes the user `postgres`: apt-get install postgresql"
    )]
    NoUser { name: String },
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the folder for sockets {} is too long a path ({len} bytes; at most {max}): give a shorter one", path.display())]
    RunTooLong { path: PathBuf, len: usize, max: usize },
    #[error("the settings name no node {node:?} among the database nodes")]
    NotAPeer { node: String },
    #[error("the guard of PostgreSQL cannot be started: {why}. Its log: {}", log.display())]
    Guard { why: String, log: PathBuf },
    #[error("{program} failed: {why}")]
    Program { program: &'static str, why: String },
    #[error("PostgreSQL of this node did not answer: {0}")]
    Sql(String),
    #[error("the ledger did not take it: {0}")]
    Ledger(String),
    #[error("{0}")]
    Refused(String),
}

impl Error {
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(e: tokio_postgres::Error) -> Self {
        // The driver's own words leave out the server's message.
        match e.as_db_error() {
            Some(db) => Self::Sql(format!("{} ({})", db.message(), db.code().code())),
            None => Self::Sql(e.to_string()),
        }
    }
}

impl From<tiebeam_ledger::StoreError> for Error {
    fn from(e: tiebeam_ledger::StoreError) -> Self {
        Self::Ledger(e.to_string())
    }
}

impl From<tiebeam_ledger::RegisterError> for Error {
    fn from(e: tiebeam_ledger::RegisterError) -> Self {
        Self::Ledger(e.to_string())
    }
}
