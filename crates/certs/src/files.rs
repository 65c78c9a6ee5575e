//! Reading and writing certificate files: whole or not at all, and never a key that others may read.
//!
//! Called by `authority.rs` and `identity.rs`; knows nothing of what the files mean.

use std::ffi::OsString;
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

/// Everything is written for its owner alone. PostgreSQL, which runs as another user, gets copies of its own.
const FILE_MODE: u32 = 0o600;

/// Who may read a file that is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A certificate: anybody.
    Public,
    /// A key: its owner alone.
    Secret,
}

/// What to do with a folder that is there and not empty.
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

/// Fills a folder that is whole or not there: `fill` writes into a new one beside it, `.NAME.new`, which then takes its
/// place. A crash between the two leaves the old folder as `.NAME.old` at worst; the next call tidies up.
pub fn place(
    dir: &Path,
    existing: Existing,
    fill: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let parent = dir.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let name = dir.file_name().unwrap_or_default();
    let beside = |end: &str| {
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(end);
        parent.join(hidden)
    };
    let (new, old) = (beside(".new"), beside(".old"));
    folder(parent)?;
    remove(&new)?;
    folder(&new)?;
    let placed = fill(&new).and_then(|()| exchange(&new, dir, &old, existing));
    // Best effort: the error that led here is the one to tell.
    if placed.is_err() {
        let _ = fs::remove_dir_all(&new);
    }
    placed?;
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(unwritable(parent))?;
    remove(&old)
}

/// Puts `new` in the place of `dir`, which becomes `old`.
fn exchange(new: &Path, dir: &Path, old: &Path, existing: Existing) -> Result<(), Error> {
    if existing == Existing::Replace {
        remove(old)?;
        gone(fs::rename(dir, old)).map_err(unwritable(dir))?;
    }
    // Fails on a folder that is not empty, whatever has happened since it was last looked at (rename(2)).
    fs::rename(new, dir).map_err(|source| match source.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
            Error::Exists { path: dir.to_owned() }
        }
        _ => unwritable(dir)(source),
    })
}

fn remove(dir: &Path) -> Result<(), Error> {
    gone(fs::remove_dir_all(dir)).map_err(unwritable(dir))
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Unwritable { path, source }
}

/// That something is not there is no error.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Writes a file that is whole or not there, after a crash as well: a temporary file, fsync, then a rename.
pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let result = put(&path, &temporary, bytes);
    if result.is_err() {
        // Best effort: the error that led here is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(|source| Error::Unwritable { path, source })
}

fn put(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    // A leftover of a crashed process that had the same id.
    gone(fs::remove_file(temporary))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}
