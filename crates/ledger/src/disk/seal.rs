//! `ledger.seal`: whose the ledger is, under which authority, in which format, and the number of its last commit; one line that a person can read.
//!
//! It is read before the redb file is touched, so foreign data stays as it is. It also notices what redb cannot: that the
//! file is whole but *older* than what was acknowledged (an old copy put back, the last commit damaged so that redb
//! fell back to the one before). A voter that forgets what it has acknowledged can lose the cluster's writes.
//! The line is written after each commit without a flush of its own: after a power loss it may be behind the file, never
//! ahead of it. The open file also holds the lock of the directory.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Owner;
use crate::OpenError;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

const SEAL: &str = "ledger.seal";
/// The format of everything in the data directory that this program writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;
const LINE_MAX_BYTES: u64 = 512;
/// A file by which a person says that the cluster's authority was replaced on purpose.
const ACCEPT: &str = "accept-authority";

/// Whether another process has this directory open. Nothing is made or written.
pub(crate) fn is_held(directory: &Path) -> bool {
    // What cannot be opened is told of when it is opened in earnest.
    let Ok(file) = File::open(directory.join(SEAL)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

#[derive(Debug)]
pub(super) struct Seal {
    path: PathBuf,
    file: File,
    owner: Owner,
    number: u64,
}

impl Seal {
    /// Opens or creates the seal, locks it, and refuses what is not this node's.
    pub fn open(directory: &Path, owner: &Owner) -> Result<Self, OpenError> {
        let path = directory.join(SEAL);
        let io = |what| move |source| (what, source);
        let named = |(what, source)| OpenError::Io { what, path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io("open"))
            .map_err(named)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(OpenError::Locked { path: directory.to_owned() });
        }
        let mut bytes = Vec::new();
        (&mut file).take(LINE_MAX_BYTES).read_to_end(&mut bytes).map_err(io("read")).map_err(named)?;
        let mut seal = Self { path, file, owner: owner.clone(), number: 0 };
        if bytes.is_empty() {
            seal.create(directory)?;
        } else {
            let found = seal.read(&bytes)?;
            seal.number = found.commit;
            seal.join_authority(directory, found.authority)?;
        }
        Ok(seal)
    }

    /// The number of a commit that the redb file must hold, it or a later one.
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn write(&mut self, number: u64) -> std::io::Result<()> {
        self.number = number;
        self.file.write_all_at(line(FORMAT, &self.owner, number).as_bytes(), 0)
    }

    /// For tests: every later [`Seal::write`] fails.
    #[cfg(test)]
    pub fn read_only(mut self) -> Self {
        self.file = File::open(&self.path).unwrap();
        self
    }

    fn create(&mut self, directory: &Path) -> Result<(), OpenError> {
        if directory.join(super::FILE).exists() {
            return Err(self.corrupt("it is empty though ledger.redb is there".into()));
        }
        let written = self.write(0).and_then(|()| self.file.sync_all());
        written.and_then(|()| File::open(directory)?.sync_all()).map_err(|source| OpenError::Io {
            what: "create",
            path: self.path.clone(),
            source,
        })
    }

    fn read(&self, bytes: &[u8]) -> Result<Found, OpenError> {
        let text = std::str::from_utf8(bytes).map_err(|_| self.corrupt("it is not text".into()))?;
        let field = |name: &str| {
            let found =
                text.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            found.ok_or_else(|| self.corrupt(format!("it has no {name}=")))
        };
        let number = |name: &str| {
            field(name)?.parse::<u64>().map_err(|_| self.corrupt(format!("its {name}= is not a number")))
        };
        let (format, cluster, node) = (number("format")?, field("cluster")?, field("node")?);
        let crc = u32::from_str_radix(field("crc")?, 16).ok();
        let covered = text.rsplit_once(" crc=").map_or("", |(before, _)| before);
        if !text.starts_with("tiebeam-ledger ") || crc != Some(crc32fast::hash(covered.as_bytes())) {
            return Err(self.corrupt("its checksum does not match".into()));
        }
        if format > u64::from(FORMAT) {
            let found = u32::try_from(format).unwrap_or(u32::MAX);
            return Err(OpenError::Newer { path: self.path.clone(), found, known: FORMAT });
        }
        if cluster != self.owner.cluster.as_str() || node != self.owner.node.as_str() {
            return Err(OpenError::Foreign {
                path: self.path.clone(),
                found: format!("node {node} of cluster {cluster}"),
                ours: format!("node {} of cluster {}", self.owner.node, self.owner.cluster),
                or_else: String::new(),
            });
        }
        let authority = Some(field("authority")?.trim_end_matches('-')).filter(|text| !text.is_empty());
        let authority = authority.map(str::to_owned);
        Ok(Found { authority, commit: number("commit")? })
    }

    /// Two clusters may have one name, but not one authority.
    fn join_authority(&mut self, directory: &Path, found: Option<String>) -> Result<(), OpenError> {
        let accept = directory.join(ACCEPT);
        match (&found, &self.owner.authority) {
            (Some(found), Some(ours)) if found != ours && !accept.exists() => {
                let Owner { cluster, node, .. } = &self.owner;
                let under =
                    |authority| format!("node {node} of cluster {cluster} under authority {authority}");
                return Err(OpenError::Foreign {
                    path: self.path.clone(),
                    found: under(found),
                    ours: under(ours),
                    or_else: format!(
                        "; or, if the cluster's certificate authority was replaced on purpose, create an empty file {}",
                        accept.display()
                    ),
                });
            }
            (Some(found), Some(ours)) if found != ours => {
                tracing::warn!(
                    "the ledger is of authority {ours} now, no longer of {found}, as {} says",
                    accept.display()
                );
            }
            // What is known stays known.
            (Some(_), None) => self.owner.authority = found,
            _ => return Ok(()),
        }
        let sealed = self.write(self.number).and_then(|()| self.file.sync_all());
        let sealed =
            sealed.and_then(|()| if accept.exists() { std::fs::remove_file(&accept) } else { Ok(()) });
        sealed.map_err(|source| OpenError::Io { what: "write", path: self.path.clone(), source })
    }

    fn corrupt(&self, reason: String) -> OpenError {
        OpenError::corrupt(self.path.clone(), reason)
    }
}

/// What an existing seal says.
struct Found {
    authority: Option<String>,
    commit: u64,
}

/// Of the same length whatever the number, so that a later line covers the one before.
pub(super) fn line(format: u32, owner: &Owner, number: u64) -> String {
    let Owner { cluster, node, authority } = owner;
    let authority = authority.as_deref().unwrap_or_default();
    let covered = format!(
        "tiebeam-ledger format={format} cluster={cluster} node={node} authority={authority:-<40.40} commit={number:020}"
    );
    format!("{covered} crc={:08x}\n", crc32fast::hash(covered.as_bytes()))
}
