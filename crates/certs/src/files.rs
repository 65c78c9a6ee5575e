//! Reading and writing certificate files: whole or not at all, and never a key that others may read.
//!
//! Called by `authority.rs` and `identity.rs`; knows nothing of what the files mean.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::Error;

pub const CA_CERT: &str = "ca.pem";
pub const CA_KEY: &str = "ca.key";
pub const NODE_CERT: &str = "node.pem";
pub const NODE_KEY: &str = "node.key";

/// The largest file that is read, bytes: certificates are a few thousand.
const FILE_MAX_BYTES: u64 = 256 * 1024;

/// Who may read the file, as its mode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Public = 0o644,
    Secret = 0o600,
}

/// What to do with a file that exists.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    Replace,
    Refuse,
}

/// Reads a file. A secret that its group or others may read is refused, as ssh does.
pub fn read(path: &Path, access: Access) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing { path: path.to_owned() });
        }
        Err(e) => return Err(unreadable(e)),
    };
    // Asked of the open file, so that nobody can swap it between the question and the reading.
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if access == Access::Secret && mode & 0o077 != 0 {
        return Err(Error::TooOpen { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(unreadable(io::Error::other(format!("it is larger than {FILE_MAX_BYTES} bytes"))));
    }
    Ok(bytes)
}

/// Makes the folder for certificates, 0700, if it is not there.
pub fn folder(dir: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| Error::Unwritable { path: dir.to_owned(), source })
}

/// Writes a file that is whole or not there, after a crash as well: a temporary file, fsync, then a rename.
pub fn write(dir: &Path, name: &str, bytes: &[u8], access: Access, existing: Existing) -> Result<(), Error> {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let result = put(&path, &temporary, bytes, access, existing);
    if result.is_err() {
        // Best effort: the error that led here is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists if existing == Existing::Refuse => Error::Exists { path },
        _ => Error::Unwritable { path, source },
    })
}

fn put(path: &Path, temporary: &Path, bytes: &[u8], access: Access, existing: Existing) -> io::Result<()> {
    // A leftover of a crashed process that had the same id.
    match fs::remove_file(temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(access as u32).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    match existing {
        Existing::Replace => fs::rename(temporary, path)?,
        // A rename would replace; a second link to the same file fails if the name is taken.
        Existing::Refuse => {
            fs::hard_link(temporary, path)?;
            fs::remove_file(temporary)?;
        }
    }
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}
