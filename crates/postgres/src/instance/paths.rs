//! Where everything of one instance is, and the folders made with the right owner and mode.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tiebeam_topology::{Epoch, NodeName};

use crate::error::Error;
use crate::settings::{Owner, Settings};

/// `sockaddr_un` holds 107 bytes, and PostgreSQL adds `/pg/.s.PGSQL.65535`.
const RUN_MAX_BYTES: usize = 88;

/// With less space than this PostgreSQL cannot make its next log segments.
const FULL_BYTES: u64 = 64 << 20;
/// And only with this much again it is not full any more, so that what comes and goes is not told each time.
const ROOM_BYTES: u64 = 2 * FULL_BYTES;

/// The places of one instance.
#[derive(Clone, Debug)]
pub struct Paths {
    pub root: PathBuf,
    /// The data directory.
    pub main: PathBuf,
    /// Where a new data directory grows before it takes the place of `main`.
    pub growing: PathBuf,
    /// Configuration; outside of the data directory, so that no clone or rewind brings another node's.
    pub conf: PathBuf,
    pub tls: PathBuf,
    pub log: PathBuf,
    /// What only this node had, kept when its history was given up.
    pub forks: PathBuf,
    /// PostgreSQL's unix socket is in here.
    pub sockets: PathBuf,
    pub guard_socket: PathBuf,
    pub guard_lock: PathBuf,
    pub guard_log: PathBuf,
    pub owner: Option<Owner>,
}

impl Paths {
    pub fn of(settings: &Settings) -> Self {
        let root = settings.data.clone();
        Self {
            main: root.join("main"),
            growing: root.join("main.new"),
            conf: root.join("conf"),
            tls: root.join("tls"),
            log: root.join("log"),
            forks: root.join("forks"),
            sockets: settings.run.join("pg"),
            guard_socket: settings.run.join("guard.sock"),
            guard_lock: root.join("guard.lock"),
            guard_log: root.join("log").join("guard.log"),
            owner: settings.owner,
            root,
        }
    }

    /// Makes the folders and copies the node's certificate for PostgreSQL, which insists on owning its key.
    ///
    /// # Errors
    /// What could not be made, read or written; a folder for sockets whose path is too long.
    pub fn prepare(&self, settings: &Settings) -> Result<(), Error> {
        let len = settings.run.as_os_str().len();
        if len > RUN_MAX_BYTES {
            return Err(Error::RunTooLong { path: settings.run.clone(), len, max: RUN_MAX_BYTES });
        }
        // The guard's socket is in `run`, so PostgreSQL's user may pass through it but not write there.
        fs::create_dir_all(&settings.run).map_err(Error::file("make the folder", &settings.run))?;
        for dir in [&self.root, &self.conf, &self.tls, &self.log, &self.forks, &self.sockets] {
            self.make_dir(dir)?;
        }
        let files =
            [("ca.pem", &settings.tls.ca), ("node.pem", &settings.tls.cert), ("node.key", &settings.tls.key)];
        for (name, from) in files {
            let bytes = fs::read(from).map_err(Error::file("read", from))?;
            self.write(&self.tls.join(name), &bytes)?;
        }
        // A crash between the two renames of `adopt_grown`: what was there is still whole, and may be needed for a vote.
        if !self.main.exists() && self.old().exists() {
            fs::rename(self.old(), &self.main).map_err(Error::file("put back", self.old()))?;
        }
        Ok(())
    }

    fn make_dir(&self, dir: &Path) -> Result<(), Error> {
        if !dir.exists() {
            let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(dir);
            made.map_err(Error::file("make the folder", dir))?;
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(Error::file("protect", dir))?;
        self.own(dir)
    }

    /// Gives a file to PostgreSQL's user.
    fn own(&self, path: &Path) -> Result<(), Error> {
        let Some(owner) = self.owner else { return Ok(()) };
        chown(path, Some(owner.uid), Some(owner.gid)).map_err(Error::file("give to PostgreSQL's user", path))
    }

    /// Replaces a file at once, mode 0600, owned by PostgreSQL's user. Gives whether anything changed.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<bool, Error> {
        if fs::read(path).is_ok_and(|old| old == bytes) {
            return Ok(false);
        }
        let new = path.with_extension("new");
        let _ = fs::remove_file(&new);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
        let mut file = file.map_err(Error::file("create", &new))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::file("write", &new))?;
        self.own(&new)?;
        fs::rename(&new, path).map_err(Error::file("replace", path))?;
        sync_parent(path)?;
        Ok(true)
    }

    /// Removes a file for good: it does not come back when the power fails.
    pub fn remove(&self, path: &Path) -> Result<(), Error> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(e)),
            _ => sync_parent(path),
        }
    }

    /// That the disk is full, for people, if it is; `before`: it was.
    pub fn full_disk(&self, before: bool) -> Option<String> {
        let disk = rustix::fs::statvfs(&self.root).ok()?;
        let left = disk.f_bavail.saturating_mul(disk.f_frsize);
        let enough = if before { ROOM_BYTES } else { FULL_BYTES };
        (left < enough).then(|| {
            format!("the disk of {} is full ({} MiB left): make room there", self.root.display(), left >> 20)
        })
    }

    /// Whether there is a data directory that may be started: whole, and not half rewound.
    pub fn has_data(&self) -> bool {
        self.main.join("PG_VERSION").exists() && !self.spoiled().exists()
    }

    /// The major version that made the data.
    pub fn version(&self) -> Option<String> {
        let text = fs::read_to_string(self.main.join("PG_VERSION")).ok()?;
        Some(text.trim().to_owned())
    }

    /// There while a rewind is under way: after a crash in it, the data directory can only be cloned again.
    pub fn spoiled(&self) -> PathBuf {
        self.root.join("half-rewound")
    }

    /// There from the end of a rewind until the server is consistent: to whose history, in which epoch.
    fn rewound(&self) -> PathBuf {
        self.root.join("rewound")
    }

    pub fn note_rewound(&self, from: &NodeName, epoch: Epoch) -> Result<(), Error> {
        self.write(&self.rewound(), format!("{from} {}", epoch.0).as_bytes()).map(|_| ())
    }

    pub fn was_rewound(&self) -> Option<(NodeName, Epoch)> {
        let text = fs::read_to_string(self.rewound()).ok()?;
        let (from, epoch) = text.trim().split_once(' ')?;
        Some((from.parse().ok()?, Epoch(epoch.parse().ok()?)))
    }

    pub fn forget_rewind(&self) -> Result<(), Error> {
        self.remove(&self.rewound())
    }

    /// The rewind has ended: the data directory may be started.
    pub fn note_unspoiled(&self) -> Result<(), Error> {
        self.remove(&self.spoiled())
    }

    fn old(&self) -> PathBuf {
        self.root.join("main.old")
    }

    /// Puts a grown data directory into the place of `main`; what was there goes, now that the new one is whole.
    pub fn adopt_grown(&self) -> Result<(), Error> {
        let old = self.old();
        if self.main.exists() {
            let _ = fs::remove_dir_all(&old);
            fs::rename(&self.main, &old).map_err(Error::file("move away", &self.main))?;
        }
        fs::rename(&self.growing, &self.main).map_err(Error::file("put into place", &self.growing))?;
        sync_parent(&self.main)?;
        self.remove(&self.spoiled())?;
        self.remove(&self.rewound())?;
        if old.exists() {
            fs::remove_dir_all(&old).map_err(Error::file("remove", &old))?;
        }
        Ok(())
    }

    /// PostgreSQL starts as a standby when this file is there. It always is, before a start: whoever is primary has
    /// been promoted.
    pub fn write_standby_signal(&self) -> Result<(), Error> {
        self.write(&self.main.join("standby.signal"), b"").map(|_| ())
    }

    /// The segments in `pg_wal` and `history` files, by name.
    pub fn wal_names(&self) -> Vec<String> {
        let Ok(dir) = fs::read_dir(self.main.join("pg_wal")) else { return Vec::new() };
        dir.flatten().filter_map(|e| e.file_name().into_string().ok()).collect()
    }
}

/// Makes a change of names in the folder of `path` durable (fsync(2): a file's own sync does not cover its name).
fn sync_parent(path: &Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::File::open(folder).and_then(|f| f.sync_all()).map_err(Error::file("sync the folder", folder))
}
