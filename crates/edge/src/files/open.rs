//! Opens files below a directory; the kernel refuses every name and link that leads out of it.
//!
//! `openat2` with `RESOLVE_BENEATH` (Linux 5.6) is the wall; what [`super::path`] refuses before it is only quicker.
//! Blocks on the disk: never called on a worker.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct Opened {
    pub file: File,
    pub bytes: u64,
    pub modified: SystemTime,
    pub device: u64,
    pub inode: u64,
}

/// Why there is no file to send.
#[derive(Debug)]
pub enum Missing {
    NotThere,
    /// A folder, asked for without its final slash.
    NeedsSlash,
    /// The process or the machine has no descriptor or memory left.
    NoResources,
    Failed(io::Error),
}

/// How often an opening is tried again that a rename elsewhere in the tree has disturbed, openat2(2).
const RACES: u32 = 8;

/// A directory that files are served from. Found anew for each request, so that a link may be turned to a new release.
pub struct Root(OwnedFd);

impl Root {
    pub fn open(directory: &Path) -> Result<Self, Missing> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(directory, flags, Mode::empty()).map(Self).map_err(|error| match error {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Missing::NoResources,
            error => Missing::Failed(error.into()),
        })
    }

    /// The regular file of this name, or where it really leads within the directory.
    pub fn file(&self, name: &str) -> Result<Opened, Missing> {
        let file = self.open_beneath(name)?;
        let metadata = file.metadata().map_err(Missing::Failed)?;
        if metadata.is_dir() {
            return Err(Missing::NeedsSlash);
        }
        if !metadata.is_file() {
            return Err(Missing::NotThere);
        }
        Ok(Opened {
            bytes: metadata.len(),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            device: metadata.dev(),
            inode: metadata.ino(),
            file,
        })
    }

    fn open_beneath(&self, name: &str) -> Result<File, Missing> {
        // NONBLOCK: a pipe with that name must not hold the thread.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut races = 0;
        loop {
            return match rustix::fs::openat2(&self.0, name, flags, Mode::empty(), resolve) {
                Ok(file) => Ok(file.into()),
                Err(Errno::AGAIN) if races < RACES => {
                    races += 1;
                    continue;
                }
                Err(Errno::NOSYS) => Err(Missing::Failed(io::Error::other(
                    "the kernel has no openat2: Linux 5.6 or newer is needed",
                ))),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Err(Missing::NoResources),
                Err(error @ (Errno::IO | Errno::AGAIN)) => Err(Missing::Failed(error.into())),
                Err(_) => Err(Missing::NotThere),
            };
        }
    }
}
