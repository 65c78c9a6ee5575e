//! How this process was started: by which path, and with which words. Read at its start, for once the file at that path is
//! another one, the kernel only says that the old one was deleted.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Of the binary; links in it are not followed, so that it may be a link that is set to another version.
    pub path: PathBuf,
    /// Without the program's own name.
    pub arguments: Vec<OsString>,
}

impl Program {
    pub fn of_this_process() -> Self {
        let mut words = std::env::args_os();
        let called = words.next().unwrap_or_default();
        // Without /proc there is nothing to compare with: the name it was called by must do.
        let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from(&called));
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let path = named(&called, &folders, &own).unwrap_or(own);
        Self { path, arguments: words.collect() }
    }
}

/// The path that a shell would have found `called` at, if it is this program's: whoever starts a process may call it
/// anything.
fn named(called: &OsStr, folders: &OsStr, own: &Path) -> Option<PathBuf> {
    let own = own.canonicalize().ok()?;
    let is_own = |path: &PathBuf| path.canonicalize().is_ok_and(|found| found == own);
    if called.as_encoded_bytes().contains(&b'/') {
        return std::path::absolute(called).ok().filter(is_own);
    }
    std::env::split_paths(folders).filter(|folder| folder.is_absolute()).map(|f| f.join(called)).find(is_own)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_stays_one_and_another_name_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("tiebeam-1"), "1").unwrap();
        std::fs::write(at("other"), "2").unwrap();
        symlink(at("tiebeam-1"), at("tiebeam")).unwrap();
        let (own, folders) = (at("tiebeam-1"), folder.path().as_os_str());
        let found = |called: &OsStr| named(called, folders, &own);
        assert_eq!(found(at("tiebeam").as_os_str()), Some(at("tiebeam")));
        assert_eq!(found(OsStr::new("tiebeam")), Some(at("tiebeam")));
        assert_eq!(found(at("other").as_os_str()), None);
        assert_eq!(found(OsStr::new("nothing")), None);
        assert_eq!(found(OsStr::new("")), None);
    }
}
