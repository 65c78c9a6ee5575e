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
            file.append(&format!("{number}{number}\n")).unwrap();
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
    file.append("new\n").unwrap();
    file.append("next\n").unwrap();
    let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(names(folder.path()), [text("l", "next\n"), text("l.1", "old\nhalf\nnew\n")]);
}

#[test]
fn a_batch_that_is_lost_is_counted() {
    let mut file = Appender::open(LogFile::at("/dev/full".into())).unwrap();
    let failed = file.append("a\nb\n").unwrap_err();
    assert_eq!((failed.lines, failed.error.kind()), (2, io::ErrorKind::StorageFull));
    let (sender, receiver) = std::sync::mpsc::channel();
    sender.send("a\n".to_owned()).unwrap();
    sender.send("b\nc\n".to_owned()).unwrap();
    drop(sender);
    let lost = Count::default();
    write_all(file, &receiver, &lost);
    assert_eq!(lost.get(), 3);
}

#[test]
fn a_file_that_cannot_be_put_aside_grows() {
    let folder = tempfile::tempdir().unwrap();
    // A folder stands where the older file would go.
    std::fs::create_dir_all(folder.path().join("l.1/x")).unwrap();
    let to = LogFile { path: folder.path().join("l"), most_bytes: 3, files: 2 };
    let mut file = Appender::open(to).unwrap();
    file.append("a\n").unwrap();
    file.append("b\n").unwrap();
    file.append("c\n").unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("l")).unwrap(), "a\nb\nc\n");
}
