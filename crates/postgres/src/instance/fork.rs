//! Keeping what only this node has before its history is given up: the log segments, and a listing for people.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tiebeam_topology::{Epoch, Lsn, Timeline};

use super::{Paths, Programs};
use crate::error::Error;

/// PostgreSQL's default, and the only size that our `initdb` makes.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// A fork longer than this is kept as segments but not listed.
const LISTED_SEGMENTS_MAX: usize = 64;

/// Copies the segments from `from` to `to` on `timeline` to `forks/epoch-N`, and lists their records in `records.txt`.
/// Gives the folder.
///
/// # Errors
/// When the folder or a copy cannot be written: then nothing may be given up. A missing listing is no error.
pub async fn keep_fork(
    paths: &Paths,
    programs: &Programs,
    epoch: Epoch,
    timeline: Timeline,
    from: Lsn,
    to: Lsn,
) -> Result<PathBuf, Error> {
    let folder = paths.forks.join(format!("epoch-{epoch}-{}", from.to_string().replace('/', "-")));
    fs::create_dir_all(&folder).map_err(Error::file("make the folder", &folder))?;
    let names = segments(timeline, from, to);
    let wal = paths.main.join("pg_wal");
    let (copied, into) = (names.clone(), (wal.clone(), folder.clone()));
    let copying = tokio::task::spawn_blocking(move || copy_all(&copied, &into.0, &into.1));
    let gone =
        copying.await.map_err(|e| Error::Sql(format!("the copy of the fork was broken off: {e}")))??;
    let listing = match names.len() {
        0..=LISTED_SEGMENTS_MAX => {
            let (start, path) = (from.to_string(), wal.to_string_lossy().into_owned());
            let (end, timeline) = (to.to_string(), timeline.to_string());
            let args = ["-p", &path, "-t", &timeline, "-s", &start, "-e", &end];
            programs.run("pg_waldump", &args, None, Duration::from_secs(60)).await
        }
        n => Ok(format!("{n} segments; list them with pg_waldump\n")),
    };
    let mut text = listing.unwrap_or_else(|e| format!("{e}\n"));
    if !gone.is_empty() {
        text.push_str(&format!("PostgreSQL had removed these segments already: {}\n", gone.join(", ")));
    }
    let file = folder.join("records.txt");
    fs::write(&file, text).map_err(Error::file("write", &file))?;
    Ok(folder)
}

/// Copies the whole log of a server that does not start to `forks/broken`, in place of what an earlier one left there.
/// Gives the folder.
///
/// # Errors
/// When it cannot be written: then nothing may be given up.
pub async fn keep_log(paths: &Paths) -> Result<PathBuf, Error> {
    let (wal, folder) = (paths.main.join("pg_wal"), paths.forks.join("broken"));
    let mut names = paths.wal_names();
    names.retain(|name| wal.join(name).is_file());
    let into = folder.clone();
    let copying = tokio::task::spawn_blocking(move || {
        if into.exists() {
            fs::remove_dir_all(&into).map_err(Error::file("remove", &into))?;
        }
        fs::create_dir_all(&into).map_err(Error::file("make the folder", &into))?;
        copy_all(&names, &wal, &into)
    });
    copying.await.map_err(|e| Error::Sql(format!("the copy of the log was broken off: {e}")))??;
    Ok(folder)
}

/// Copies the segments; gives the names of those that are not there any more.
fn copy_all(names: &[String], wal: &Path, folder: &Path) -> Result<Vec<String>, Error> {
    let mut gone = Vec::new();
    for name in names {
        let (source, target) = (wal.join(name), folder.join(name));
        match fs::copy(&source, &target) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => gone.push(name.clone()),
            Err(e) => return Err(Error::file("copy", &source)(e)),
        }
    }
    Ok(gone)
}

/// The names of the segments that hold `from` to `to`.
fn segments(timeline: Timeline, from: Lsn, to: Lsn) -> Vec<String> {
    let last = to.bytes().saturating_sub(1).max(from.bytes()) / SEGMENT_BYTES;
    (from.bytes() / SEGMENT_BYTES..=last)
        .map(|n| format!("{:08X}{}", timeline.0, segment_suffix(n)))
        .collect()
}

/// What follows the timeline in the name of segment number `n`.
fn segment_suffix(n: u64) -> String {
    let per_id = 0x1_0000_0000 / SEGMENT_BYTES;
    format!("{:08X}{:08X}", n / per_id, n % per_id)
}

/// On which timeline the byte before `lsn` is, by the names in `pg_wal`: the newest segment that holds it. Replay and
/// control file know it only after the next restart point; the names know it at once.
pub fn timeline_of(names: &[String], lsn: Lsn) -> Option<Timeline> {
    let suffix = segment_suffix(lsn.bytes().saturating_sub(1) / SEGMENT_BYTES);
    let tli = |name: &String| {
        (name.len() == 24 && name.ends_with(&suffix))
            .then(|| u32::from_str_radix(&name[..8], 16).ok())
            .flatten()
    };
    names.iter().filter_map(tli).max().map(Timeline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_names_are_postgresqls() {
        let lsn = |s: &str| s.parse::<Lsn>().unwrap();
        assert_eq!(
            segments(Timeline(2), lsn("0/3000100"), lsn("0/5000000")),
            ["000000020000000000000003", "000000020000000000000004"]
        );
        assert_eq!(
            segments(Timeline(1), lsn("1/FF000000"), lsn("2/1")),
            ["0000000100000001000000FF", "000000010000000200000000"]
        );
    }

    #[test]
    fn the_newest_segment_tells_the_timeline() {
        let names: Vec<_> = ["000000010000000000000003", "000000020000000000000003", "00000002.history", "x"]
            .iter()
            .map(|s| s.to_string())
            .collect();
        let of = |s: &str| timeline_of(&names, s.parse().unwrap());
        assert_eq!(of("0/3000100"), Some(Timeline(2)));
        assert_eq!(of("0/4000000"), Some(Timeline(2)));
        assert_eq!(of("0/4000001"), None);
    }
}
