//! The history files of timelines (PostgreSQL documentation, "Timelines"): what tells where each earlier one ended, and
//! the empty ones that keep a promotion from using a number twice.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use tiebeam_topology::Timeline;

use super::Paths;
use crate::error::Error;
use crate::registers::WalPoint;

fn file(paths: &Paths, timeline: u32) -> PathBuf {
    paths.main.join("pg_wal").join(format!("{timeline:08X}.history"))
}

/// Before a promotion from `from` to `timeline`. PostgreSQL takes the first timeline after its own that has no history
/// file; the numbers between were used by promotions that this node has not seen, and get empty ones.
pub fn reserve(paths: &Paths, from: Timeline, timeline: Timeline) -> Result<(), Error> {
    for used in from.0 + 1..timeline.0 {
        let file = file(paths, used);
        if !file.exists() {
            paths.write(&file, b"")?;
        }
    }
    Ok(())
}

/// Before a start: removes the empty files of a promotion that did not happen. PostgreSQL would take the newest of them for
/// its own history and never start. Those below a real one stay: PostgreSQL looks for the newest timeline one number
/// after the other, and would stop at the gap and forget the real one.
pub fn forget_reserved(paths: &Paths) -> Result<(), Error> {
    let names = paths.wal_names();
    let files = names.iter().filter(|n| n.ends_with(".history")).map(|n| paths.main.join("pg_wal").join(n));
    let (empty, real): (Vec<_>, Vec<_>) =
        files.partition(|file| fs::metadata(file).is_ok_and(|m| m.len() == 0));
    // The names are of one length, in hexadecimal: their order is that of the timelines.
    let newest = real.into_iter().max();
    for file in empty.iter().filter(|file| newest.as_ref() < Some(file)) {
        paths.remove(file)?;
    }
    Ok(())
}

/// Where each earlier timeline of `timeline` ended.
pub fn read(paths: &Paths, timeline: Timeline) -> Result<Vec<WalPoint>, Error> {
    let file = file(paths, timeline.0);
    match fs::read_to_string(&file) {
        Ok(text) => Ok(parse(&text)),
        Err(e) if e.kind() == ErrorKind::NotFound && timeline.0 <= 1 => Ok(Vec::new()),
        Err(e) => Err(Error::file("read", file)(e)),
    }
}

/// Lines of `timeline <tab> position <tab> reason`.
fn parse(text: &str) -> Vec<WalPoint> {
    let end = |line: &str| {
        let mut words = line.split_whitespace();
        let timeline = Timeline(words.next()?.parse().ok()?);
        Some(WalPoint { timeline, lsn: words.next()?.parse().ok()? })
    };
    text.lines().filter_map(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        let text = "1\t0/3000148\tno recovery target specified\n\n3\t0/5000000\tx\n";
        let at = |t, l: &str| WalPoint { timeline: Timeline(t), lsn: l.parse().unwrap() };
        assert_eq!(parse(text), [at(1, "0/3000148"), at(3, "0/5000000")]);
        assert_eq!(parse(""), []);
    }

    #[test]
    fn only_what_was_reserved_for_nothing_goes() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = || PathBuf::from("/nonexistent");
        let paths = Paths {
            root: folder.path().to_owned(),
            main: folder.path().join("main"),
            growing: nowhere(),
            conf: nowhere(),
            tls: nowhere(),
            log: nowhere(),
            forks: nowhere(),
            sockets: nowhere(),
            guard_socket: nowhere(),
            guard_lock: nowhere(),
            guard_log: nowhere(),
            owner: None,
        };
        fs::create_dir_all(paths.main.join("pg_wal")).unwrap();
        // It was promoted from 1 to 3; then a promotion to 17 did not happen.
        reserve(&paths, Timeline(1), Timeline(3)).unwrap();
        fs::write(file(&paths, 3), "1\t0/3000148\tno recovery target specified\n").unwrap();
        reserve(&paths, Timeline(3), Timeline(17)).unwrap();
        forget_reserved(&paths).unwrap();
        let there: Vec<u32> = (1..20).filter(|n| file(&paths, *n).exists()).collect();
        assert_eq!(there, [2, 3]);
    }
}
