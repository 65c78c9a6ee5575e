//! A disk that is full at the worst moment, and files that are put aside.

use super::*;

/// Takes `room` bytes, then has none.
struct Disk {
    bytes: Vec<u8>,
    room: usize,
    can_shorten: bool,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room - self.bytes.len());
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Disk {
    fn shorten(&mut self, by: u64) -> io::Result<()> {
        if !self.can_shorten {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.bytes.truncate(self.bytes.len() - by as usize);
        Ok(())
    }
}

#[test]
fn a_full_disk_tears_no_line() {
    // Room, whether the half line can be taken off, what is there then, lines lost, and what is there once there is
    // room again.
    for (room, can_shorten, then, lost, after) in [
        (9, true, "aa\nbb\ncc\n", 0, "aa\nbb\ncc\ndd\n"),
        (8, true, "aa\nbb\n", 1, "aa\nbb\ndd\n"),
        (6, true, "aa\nbb\n", 1, "aa\nbb\ndd\n"),
        (4, true, "aa\n", 2, "aa\ndd\n"),
        (1, true, "", 3, "dd\n"),
        (0, true, "", 3, "dd\n"),
        (4, false, "aa\nb", 2, "aa\nb\ndd\n"),
        (3, false, "aa\n", 2, "aa\ndd\n"),
    ] {
        let mut disk = Disk { bytes: Vec::new(), room, can_shorten };
        let mut is_torn = false;
        let (lines, kept) = match append(&mut disk, b"aa\nbb\ncc\n", &mut is_torn) {
            Ok(()) => (0, 9),
            Err((failed, kept)) => (failed.lines, kept),
        };
        assert_eq!((disk.bytes.as_slice(), lines), (then.as_bytes(), lost), "{room}");
        assert_eq!(kept, disk.bytes.len() as u64, "{room}");
        if is_torn {
            // Still full: nothing changes.
            assert!(append(&mut disk, b"dd\n", &mut is_torn).is_err() && is_torn);
        }
        disk.room = 100;
        append(&mut disk, b"dd\n", &mut is_torn).unwrap();
        assert_eq!(String::from_utf8_lossy(&disk.bytes), after, "{room}");
    }
}

fn names(folder: &Path) -> Vec<(String, String)> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    names.sort();
    names
}

#[test]
fn full_files_are_put_aside_and_the_oldest_is_gone() {
    for (files, expected) in [
        (3, &[("l", "66\n"), ("l.1", "44\n55\n"), ("l.2", "22\n33\n")][..]),
        (1, &[("l", "66\n")]),
        (0, &[("l", "66\n")]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let to = LogFile { path: folder.path().join("l"), most_bytes: 6, files };
        let mut file = Appender::open(to).unwrap();
        for number in 0..7 {
            file.append(&format!("{number}{number}\n"), Instant::now()).unwrap();
        }
        let expected: Vec<_> = expected.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect();
        assert_eq!(names(folder.path()), expected, "{files}");
    }
}

#[test]
fn what_was_left_by_another_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l");
    std::fs::write(&path, "old\nhalf").unwrap();
    let mut file = Appender::open(LogFile { most_bytes: 13, ..LogFile::at(path) }).unwrap();
    file.append("new\n", Instant::now()).unwrap();
    file.append("next\n", Instant::now()).unwrap();
    let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(names(folder.path()), [text("l", "next\n"), text("l.1", "old\nhalf\nnew\n")]);
}

#[test]
fn a_batch_that_is_lost_is_counted() {
    let mut file = Appender::open(LogFile::at("/dev/full".into())).unwrap();
    let failed = file.append("a\nb\n", Instant::now()).unwrap_err();
    assert_eq!((failed.lines, failed.error.kind()), (2, io::ErrorKind::StorageFull));
    let (sender, receiver) = std::sync::mpsc::channel();
    sender.send("a\n".to_owned()).unwrap();
    sender.send("b\nc\n".to_owned()).unwrap();
    drop(sender);
    let lost = Count::default();
    write_all(file, &receiver, &lost);
    assert_eq!(lost.get(), 3);
}

/// A folder stands where an older file would go; then it is gone.
#[test]
fn a_file_that_cannot_be_put_aside_grows_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("l.1"), "old\n").unwrap();
    std::fs::create_dir_all(path("l.2/x")).unwrap();
    let mut file = Appender::open(LogFile { path: path("l"), most_bytes: 3, files: 3 }).unwrap();
    let began = Instant::now();
    file.append("a\n", began).unwrap();
    file.append("b\n", began).unwrap();
    std::fs::remove_dir_all(path("l.2")).unwrap();
    file.append("c\n", began + ASIDE_AGAIN - Duration::from_millis(1)).unwrap();
    let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(names(folder.path()), [text("l", "a\nb\nc\n"), text("l.1", "old\n")]);
    file.append("d\n", began + ASIDE_AGAIN).unwrap();
    let aside = [text("l", "d\n"), text("l.1", "a\nb\nc\n"), text("l.2", "old\n")];
    assert_eq!(names(folder.path()), aside);
    assert_eq!(file.again_at, None, "the next time nothing is waited for");
}

#[test]
fn a_file_that_another_took_away_is_made_anew() {
    for files in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l");
        let mut file = Appender::open(LogFile { path: path.clone(), most_bytes: 3, files }).unwrap();
        file.append("a\n", Instant::now()).unwrap();
        std::fs::rename(&path, folder.path().join("mine")).unwrap();
        file.append("b\n", Instant::now()).unwrap();
        let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(names(folder.path()), [text("l", "b\n"), text("mine", "a\n")], "{files}");
    }
}

#[test]
fn a_new_file_that_cannot_be_made_is_asked_for_again_with_each_batch() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let mut file = Appender::open(LogFile { path: place.join("l"), most_bytes: 3, files: 2 }).unwrap();
    file.append("a\n", Instant::now()).unwrap();
    std::fs::remove_dir_all(&place).unwrap();
    for _ in 0..2 {
        assert_eq!(file.append("b\nc\n", Instant::now()).unwrap_err().lines, 2);
    }
    std::fs::create_dir(&place).unwrap();
    file.append("d\n", Instant::now()).unwrap();
    assert_eq!(names(&place), [("l".to_owned(), "d\n".to_owned())]);
}

/// What a try that ended half way left is no reason to push the oldest file out.
#[test]
fn files_move_no_further_than_to_a_free_place() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["l", "l.2", "l.3"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    put_aside(&LogFile { path: folder.path().join("l"), most_bytes: 3, files: 4 }).unwrap();
    let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(names(folder.path()), [text("l.1", "l"), text("l.2", "l.2"), text("l.3", "l.3")]);
}

#[test]
fn whether_it_can_be_opened_is_known_before() {
    use crate::config::LogSink;
    let folder = tempfile::tempdir().unwrap();
    let (here, gone) = (folder.path().join("l"), folder.path().join("none/l"));
    assert!(LogSink::File(LogFile::at(here)).check().is_ok());
    assert!(LogSink::File(LogFile::at(gone.clone())).check().is_err());
    assert!(LogSink::Later(LogFile::at(gone)).check().is_ok(), "it is off");
}
