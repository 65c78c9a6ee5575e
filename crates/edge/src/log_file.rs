//! The file of the access log: whole lines only, put aside when it is full, written by a thread that nobody waits for.
//!
//! What cannot be written is lost and counted, never tried again: a full disk must not become a full memory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::config::LogFile;
use crate::counters::Count;

/// A full file that cannot be put aside is tried again after this long; until then it grows.
const ASIDE_AGAIN: Duration = Duration::from_secs(60);

/// Batches of whole lines go in, in their order, until the last sender is gone. `lost` counts lines; this thread alone
/// writes to it.
pub fn write_all(mut file: Appender, batches: &Receiver<String>, lost: &Count) {
    let mut is_failing = false;
    while let Ok(batch) = batches.recv() {
        match file.append(&batch, Instant::now()) {
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
    /// `None` until the first line, and from when a full file was put aside until there is a new one.
    file: Option<File>,
    bytes: u64,
    is_torn: bool,
    /// Pipes and devices are never full.
    is_regular: bool,
    /// While a full file cannot be put aside: when that is tried again.
    again_at: Option<Instant>,
}

/// What could not be written.
#[derive(Debug)]
struct Failed {
    lines: u64,
    error: io::Error,
}

impl Failed {
    /// None of these lines could be.
    fn all(lines: &[u8], error: io::Error) -> Self {
        Self { lines: memchr::memchr_iter(b'\n', lines).count() as u64, error }
    }
}

impl Appender {
    pub fn open(to: LogFile) -> io::Result<Self> {
        let mut appender = Self::closed(to);
        appender.file = Some(appender.reopen()?);
        Ok(appender)
    }

    /// Makes the file for the first line.
    pub fn closed(to: LogFile) -> Self {
        Self { to, file: None, bytes: 0, is_torn: false, is_regular: true, again_at: None }
    }

    fn reopen(&mut self) -> io::Result<File> {
        let file = open(&self.to.path)?;
        let metadata = file.metadata()?;
        self.is_regular = metadata.is_file();
        // The last one to write may have died within a line.
        self.is_torn = self.is_regular && metadata.len() > 0 && last_byte(&self.to.path)? != b'\n';
        self.bytes = metadata.len();
        Ok(file)
    }

    fn append(&mut self, batch: &str, now: Instant) -> Result<(), Failed> {
        if self.file.is_none() {
            // If it cannot be made now, the next batch asks again.
            self.file = Some(self.reopen().map_err(|error| Failed::all(batch.as_bytes(), error))?);
        }
        let is_full = self.bytes > 0 && self.bytes + batch.len() as u64 > self.to.most_bytes;
        if is_full && self.is_regular && self.again_at.is_none_or(|at| now >= at) {
            self.put_aside(now);
        }
        let file = match self.file.take() {
            Some(file) => file,
            // It has just been put aside.
            None => self.reopen().map_err(|error| Failed::all(batch.as_bytes(), error))?,
        };
        let file = self.file.insert(file);
        let result = append(file, batch.as_bytes(), &mut self.is_torn);
        self.bytes += match &result {
            Ok(()) => batch.len() as u64,
            Err((_, kept)) => *kept,
        };
        result.map_err(|(failed, _)| failed)
    }

    fn put_aside(&mut self, now: Instant) {
        match put_aside(&self.to) {
            Ok(()) => (self.file, self.bytes, self.is_torn, self.again_at) = (None, 0, false, None),
            // Better one file that is too long than none; said once.
            Err(error) => {
                if self.again_at.is_none() {
                    let path = self.to.path.display();
                    tracing::error!(%error, %path, "the access log cannot be put aside and grows until it can");
                }
                self.again_at = Some(now + ASIDE_AGAIN);
            }
        }
    }
}

/// `access.log` becomes `access.log.1`, that `access.log.2`, and so on; the oldest is gone. It is no error if somebody
/// else took `access.log` away.
fn put_aside(to: &LogFile) -> io::Result<()> {
    let unless_gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let older = to.files.saturating_sub(1);
    if older == 0 {
        return unless_gone(std::fs::remove_file(&to.path));
    }
    // No further than to the first free place: a try that ended half way does not push another file out.
    let is_free = |number: &usize| numbered(&to.path, *number).symlink_metadata().is_err();
    for number in (1..=(1..older).find(is_free).unwrap_or(older)).rev() {
        let from = if number == 1 { to.path.clone() } else { numbered(&to.path, number - 1) };
        unless_gone(std::fs::rename(from, numbered(&to.path, number)))?;
    }
    Ok(())
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
    if *is_torn {
        file.write_all(b"\n").map_err(|error| (Failed::all(lines, error), 0))?;
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
        return Err((Failed::all(&lines[whole..], error), kept as u64));
    }
    Ok(())
}

#[cfg(test)]
#[path = "log_file/tests.rs"]
mod tests;
