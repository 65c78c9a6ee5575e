//! What an instance prints: its last lines in memory, and a log file that never grows beyond twice its bound.
//!
//! A line is bytes; what is not UTF-8 is replaced, and a long line is cut. Called by the thread that reads the
//! instance's output. It adds nothing to the lines.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Lines that are kept in memory, of each instance: those that the event of its end quotes.
pub const TAIL_LINES: usize = 2;
/// The longest line, bytes; the rest of it becomes lines of its own.
pub const LINE_BYTES: u64 = 8 * 1024;
/// A log file that has grown to this, bytes, becomes `NAME.log.1`, in the place of the one before.
pub const LOG_BYTES: u64 = 10 * 1024 * 1024;

/// The last lines of one run of an instance. Cheap to clone: all clones are the same lines.
#[derive(Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    pub fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The lines, the oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// A log file with a bound.
pub struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    bound_bytes: u64,
}

impl Log {
    /// Opens a file for appending, 0600 if it is new, in a folder that is made if it is not there.
    pub fn open(path: &Path, bound_bytes: u64) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, bound_bytes })
    }

    pub fn write(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64 + 1;
        if self.bytes > 0 && self.bytes + length > self.bound_bytes {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            fs::rename(&self.path, old)?;
            *self = Self::open(&self.path, self.bound_bytes)?;
        }
        // One write for the line and its end, so that lines stay whole for who follows the file.
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.bytes += length;
        Ok(())
    }
}

/// Reads to the end, into the tail and, if there is one, the log. A log that cannot be written is given up, and
/// `unwritable` is told once.
pub fn copy(from: impl Read, tail: &Tail, mut log: Option<Log>, unwritable: impl FnOnce(io::Error)) {
    let mut unwritable = Some(unwritable);
    let mut from = BufReader::new(from);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match from.by_ref().take(LINE_BYTES).read_until(b'\n', &mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        }
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = String::from_utf8_lossy(text.strip_suffix(b"\r").unwrap_or(text)).into_owned();
        if let Some(Err(e)) = log.as_mut().map(|log| log.write(&line)) {
            log = None;
            if let Some(tell) = unwritable.take() {
                tell(e);
            }
        }
        tail.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_and_long_lines_are_cut() {
        let tail = Tail::default();
        let long = "x".repeat(LINE_BYTES as usize + 10);
        let text: String = (0..300).map(|n| format!("line {n}\n")).collect::<String>() + &long + "\r\n";
        copy(text.as_bytes(), &tail, None, |_| unreachable!());
        let last = tail.lines();
        assert_eq!(last.len(), TAIL_LINES);
        assert_eq!((last[0].len(), last[1].as_str()), (8192, "xxxxxxxxxx"));
    }

    #[test]
    fn a_log_turns_over_within_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/web.1.log");
        let text: String = (0..40).map(|n| format!("line {n:03}\n")).collect();
        for part in text.as_bytes().chunks(90) {
            // Opened anew each time, as after a restart: it goes on where it was.
            let log = Log::open(&path, 100).unwrap();
            copy(part, &Tail::default(), Some(log), |e| panic!("{e}"));
        }
        let (now, before) = (
            fs::read_to_string(&path).unwrap(),
            fs::read_to_string(dir.path().join("logs/web.1.log.1")).unwrap(),
        );
        assert!(now.len() <= 100 && before.len() <= 100, "{} {}", now.len(), before.len());
        assert!(text.ends_with(&(before + &now)));
    }

    #[test]
    fn output_goes_on_when_the_disk_does_not() {
        // Every write to this device fails as on a full disk.
        let log = Log::open(Path::new("/dev/full"), 100).unwrap();
        let (tail, mut told) = (Tail::default(), 0);
        copy(&b"a\nb\n"[..], &tail, Some(log), |_| told += 1);
        assert_eq!((told, tail.lines()), (1, vec!["a".to_owned(), "b".to_owned()]));
    }
}
