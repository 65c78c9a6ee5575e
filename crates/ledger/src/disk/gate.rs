//! For tests: a disk that can be made to hang, and that shows what a crash at any of its commits would leave.

use std::io::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::*;

/// While it is shut, nothing becomes durable.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    shut: Mutex<bool>,
    failing: AtomicBool,
    opened: Condvar,
    /// Where copies of the data directory go, one for each flush to the disk.
    copies: Mutex<Option<PathBuf>>,
}

impl Gate {
    pub fn shut(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }

    /// From now on every flush fails.
    pub fn fail(&self) {
        self.failing.store(true, Ordering::Relaxed);
    }

    pub fn copy_to(&self, directory: &Path) {
        *self.copies.lock().unwrap() = Some(directory.to_owned());
    }

    fn pass(&self, data: &Path) -> Result<(), Error> {
        if self.failing.load(Ordering::Relaxed) {
            return Err(Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        let shut = self.shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
        if let Some(copies) = &*self.copies.lock().unwrap() {
            let copy = copies.join(format!("{:04}", fs::read_dir(copies).unwrap().count()));
            fs::create_dir(&copy).unwrap();
            for file in [FILE, "ledger.seal"] {
                fs::copy(data.join(file), copy.join(file)).unwrap();
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Gated {
    file: FileBackend,
    data: PathBuf,
    gate: Arc<Gate>,
}

impl StorageBackend for Gated {
    fn len(&self) -> Result<u64, Error> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> Result<(), Error> {
        self.file.sync_data()?;
        self.gate.pass(&self.data)
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.file.write(offset, data)
    }
    fn close(&self) -> Result<(), Error> {
        self.file.close()
    }
}

/// Opens the ledger as [`Disk::open`] does, on a disk behind `gate`.
pub(crate) fn open(directory: &Path, owner: &Owner, gate: Arc<Gate>) -> Arc<Disk> {
    Disk::open(directory, owner).unwrap().close();
    let file = fs::OpenOptions::new().read(true).write(true).open(directory.join(FILE)).unwrap();
    let file = FileBackend::new(file).unwrap();
    let backend = Gated { file, data: directory.to_owned(), gate };
    on(directory, owner, backend)
}

/// A whole file that is reached through `backend`.
pub(super) fn on(directory: &Path, owner: &Owner, backend: impl StorageBackend) -> Arc<Disk> {
    let seal = Seal::open(directory, owner).unwrap();
    let database = Database::builder().create_with_backend(backend).unwrap();
    let loaded = file::check(database, owner, seal.number()).unwrap();
    Disk::start(&directory.join(FILE), loaded, seal).unwrap()
}
