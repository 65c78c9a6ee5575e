//! The file of the access log: whole lines only, put aside when it is full, written by a thread that nobody waits for.
//!
//! What cannot be written is lost and counted, never tried again: a full disk must not become a full memory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use crate::config::LogFile;
use crate::counters::Count;

/// Batches of whole lines go in, in their order, until the last sender is gone. `lost` counts lines; this thread alone
/// writes to it.
pub fn write_all(mut file: Appender, batches: &Receiver<String>, lost: &Count) {
    let mut is_failing = false;
    while let Ok(batch) = batches.recv() {
        match file.append(&batch) {
            Ok(()) => is_failing = false,
            Err(failed) => {
                lost.add(failed.lines);
                if !is_failing {
                    let error = failed.error;
                    tracing::error!(%error, "the access log cannot be written; lines are lost until it can");
                }
                is_failing = true;
            }
        }
    }
}

/// The file that is being written.
pub struct Appender {
    to: LogFile,
    file: File,
    bytes: u64,
    is_torn: bool,
    /// Not pipes and devices; nor a file where that has failed.
    may_rotate: bool,
}

/// What could not be written.
#[derive(Debug)]
struct Failed {
    lines: u64,
    error: io::Error,
}

impl Appender {
    pub fn open(to: LogFile) -> io::Result<Self> {
        let file = open(&to.path)?;
        let metadata = file.metadata()?;
        let is_regular = metadata.is_file();
        // The last one to write may have died within a line.
        let is_torn = is_regular && metadata.len() > 0 && last_byte(&to.path)? != b'\n';
        Ok(Self { to, file, bytes: metadata.len(), is_torn, may_rotate: is_regular })
    }

    fn append(&mut self, batch: &str) -> Result<(), Failed> {
        let is_full = self.bytes > 0 && self.bytes + batch.len() as u64 > self.to.most_bytes;
        if is_full
            && self.may_rotate
            && let Err(error) = self.rotate()
        {
            // Better one file that is too long than none; said once.
            self.may_rotate = false;
            tracing::error!(%error, path = %self.to.path.display(), "the access log cannot be put aside and grows");
        }
        let result = append(&mut self.file, batch.as_bytes(), &mut self.is_torn);
        self.bytes += match &result {
            Ok(()) => batch.len() as u64,
            Err((_, kept)) => *kept,
        };
        result.map_err(|(failed, _)| failed)
    }

    /// `access.log` becomes `access.log.1`, that `access.log.2`, and so on; the oldest is gone.
    fn rotate(&mut self) -> io::Result<()> {
        let older = self.to.files.saturating_sub(1);
        if older == 0 {
            std::fs::remove_file(&self.to.path)?;
        }
        for number in (1..=older).rev() {
            let from = if number == 1 { self.to.path.clone() } else { numbered(&self.to.path, number - 1) };
            match std::fs::rename(from, numbered(&self.to.path, number)) {
                Err(error) if number == 1 || error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = open(&self.to.path)?;
        (self.bytes, self.is_torn) = (0, false);
        Ok(())
    }
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn last_byte(path: &Path) -> io::Result<u8> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last[0])
}

/// Something at whose end lines are written, and whose end can be taken off again.
trait Target: Write {
    fn shorten(&mut self, by: u64) -> io::Result<()>;
}

impl Target for File {
    fn shorten(&mut self, by: u64) -> io::Result<()> {
        let bytes = self.metadata()?.len();
        self.set_len(bytes.saturating_sub(by))
    }
}

/// Appends as many whole lines as it can. Half a line is taken off again; if even that fails, `is_torn` says so and the
/// next call ends it first, so that no line is glued to another. An error comes with the bytes that it kept.
fn append(file: &mut impl Target, lines: &[u8], is_torn: &mut bool) -> Result<(), (Failed, u64)> {
    let count = |lines: &[u8]| memchr::memchr_iter(b'\n', lines).count() as u64;
    if *is_torn {
        file.write_all(b"\n").map_err(|error| (Failed { lines: count(lines), error }, 0))?;
        *is_torn = false;
    }
    let mut written = 0;
    while written < lines.len() {
        let error = match file.write(&lines[written..]) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(bytes) => {
                written += bytes;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        let whole = memchr::memrchr(b'\n', &lines[..written]).map_or(0, |at| at + 1);
        let mut kept = whole;
        if whole < written && file.shorten((written - whole) as u64).is_err() {
            (kept, *is_torn) = (written, true);
        }
        return Err((Failed { lines: count(&lines[whole..]), error }, kept as u64));
    }
    Ok(())
}

#[cfg(test)]
#[path = "log_file/tests.rs"]
mod tests;
