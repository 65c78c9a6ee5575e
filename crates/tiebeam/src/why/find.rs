//! Looks for the line of a request in the access logs of a node: the one that is written, then those put aside, newest
//! first.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::Line;

/// A longer line is none of ours, and is skipped.
const LINE_BYTES: u64 = 256 * 1024;

/// What a search came to.
#[derive(Debug)]
pub enum Found {
    Line(Box<Line>),
    /// The files that were looked through, and whether there was a line that no id could be found in.
    Nothing {
        looked: Vec<PathBuf>,
        has_other_format: bool,
    },
}

/// Looks for an id, or the beginning of one.
pub fn find(data: &Path, id: &str) -> io::Result<Found> {
    let (mut looked, mut has_other_format) = (Vec::new(), false);
    for number in 0.. {
        let name = if number == 0 { "access.log".to_owned() } else { format!("access.log.{number}") };
        let path = data.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            // The one that is written may just have been put aside.
            Err(error) if error.kind() == ErrorKind::NotFound && number == 0 => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        };
        if let Some(line) = look(file, id, &mut has_other_format)? {
            return Ok(Found::Line(Box::new(line)));
        }
        looked.push(path);
    }
    Ok(Found::Nothing { looked, has_other_format })
}

fn look(file: impl Read, id: &str, has_other_format: &mut bool) -> io::Result<Option<Line>> {
    let wanted = format!("\"id\":\"{id}");
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let Ok(text) = std::str::from_utf8(&line) else { continue };
        if !text.starts_with('{') {
            *has_other_format = true;
        } else if text.contains(&wanted)
            && let Ok(found) = serde_json::from_str::<Line>(text)
            && found.id.starts_with(id)
        {
            return Ok(Some(found));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_file_first_and_older_ones_after() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("access.log", "{\"id\":\"aa11\",\"path\":\"/\\\"id\\\":\\\"bb\"}\n{\"id\":\"torn");
        write("access.log.1", "{\"id\":\"bb22\",\"status\":502}\n10.0.0.1 - - [x] \"GET / HTTP/1.1\" 200\n");
        let status = |id: &str| match find(folder.path(), id).unwrap() {
            Found::Line(line) => Some(line.status),
            Found::Nothing { .. } => None,
        };
        assert_eq!(status("aa11"), Some(0));
        assert_eq!(status("bb22"), Some(502));
        assert_eq!(status("bb"), Some(502), "a beginning is enough, and the path is not the id");
        match find(folder.path(), "cc").unwrap() {
            Found::Nothing { looked, has_other_format } => {
                assert!(has_other_format && looked.len() == 2, "{looked:?}");
            }
            Found::Line(line) => panic!("{line:?}"),
        }
    }
}
