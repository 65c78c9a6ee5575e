//! Why the ledger's file cannot be opened or read, told apart by what a person has to do about it.
//!
//! Only bytes that were read and are wrong count as damage: who is told so deletes data. A disk that gives an error, a
//! file that may not be read, or a full disk is an I/O error, and the data may be well.

use std::io;
use std::path::Path;

use super::DiskError;
use crate::OpenError;

#[derive(Debug)]
pub(crate) enum Fault {
    /// The operating system could not do it.
    Io(io::Error),
    /// Another process has the file open.
    InUse,
    /// The bytes are not what was written.
    Corrupt(String),
}

impl Fault {
    /// As the opener of the ledger hears it.
    pub fn at(self, what: &'static str, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => OpenError::Io { what, path, source },
            Self::InUse => OpenError::Locked { path },
            Self::Corrupt(reason) => OpenError::corrupt(path, reason),
        }
    }
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Corrupt(reason)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self::Corrupt(reason.to_owned())
    }
}

impl From<Fault> for DiskError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io(error) => Self(format!("the ledger's file cannot be read: {error}")),
            Fault::InUse => Self("another process has the ledger's file open".into()),
            Fault::Corrupt(reason) => Self(format!("the ledger's file is damaged: {reason}")),
        }
    }
}

/// Sorts redb's errors. It reports a file that ends too early or is no redb file at all as an I/O error of these kinds.
pub(super) fn redb(error: impl Into<redb::Error>) -> Fault {
    match error.into() {
        redb::Error::Io(error) => match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Fault::Corrupt(error.to_string()),
            _ => Fault::Io(error),
        },
        redb::Error::DatabaseAlreadyOpen => Fault::InUse,
        error @ (redb::Error::PreviousIo | redb::Error::Backend(_) | redb::Error::Unsupported) => {
            Fault::Io(io::Error::other(error.to_string()))
        }
        error => Fault::Corrupt(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wrong_bytes_are_called_damage() {
        use io::ErrorKind::{InvalidData, PermissionDenied, StorageFull, UnexpectedEof};
        let io = |kind| redb::Error::Io(io::Error::from(kind));
        let eio = redb::Error::Io(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        // (error, is damage, what the advice must name)
        for (error, damage, advice) in [
            (eio, false, "kernel's log"),
            (io(PermissionDenied), false, "the user that runs"),
            (io(StorageFull), false, "Make room"),
            (redb::Error::PreviousIo, false, "kernel's log"),
            (redb::Error::DatabaseAlreadyOpen, false, "stop the other one first"),
            (io(InvalidData), true, "empty one"),
            (io(UnexpectedEof), true, "empty one"),
            (redb::Error::Corrupted("page 7".into()), true, "empty one"),
        ] {
            let shown = redb::Error::to_string(&error);
            let told = redb(error).at("read", Path::new("/data/ledger.redb"));
            assert_eq!(matches!(told, OpenError::Corrupt { .. }), damage, "{shown}: {told}");
            let text = told.to_string();
            assert!(text.contains(advice) && text.contains("/data/ledger.redb"), "{shown}: {text}");
        }
    }
}
