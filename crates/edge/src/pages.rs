//! Pages of the operator's, for errors and for maintenance: read once, when the file is loaded, and kept in memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use crate::files;

/// A page is no longer, bytes: it is sent when something is wrong, in one write.
pub const PAGE_MAX_BYTES: u64 = 256 * 1024;

/// A whole body.
#[derive(Clone, PartialEq, Eq)]
pub struct Page {
    /// By the end of the file's name.
    pub media_type: &'static str,
    pub bytes: Arc<[u8]>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Page({}, {} bytes)", self.media_type, self.bytes.len())
    }
}

/// Why a page cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("it is not a file")]
    NoFile,
    #[error("it has more than {PAGE_MAX_BYTES} bytes")]
    TooLong,
}

impl Page {
    /// Reads the disk: not for a worker.
    ///
    /// # Errors
    /// [`PageError`], without the name of the file.
    pub fn load(path: &Path) -> Result<Self, PageError> {
        // Looked at first: opening a pipe would wait for whoever writes into it.
        if !std::fs::metadata(path)?.is_file() {
            return Err(PageError::NoFile);
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(PAGE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > PAGE_MAX_BYTES {
            return Err(PageError::TooLong);
        }
        let media_type = files::kind(&path.to_string_lossy()).media_type;
        Ok(Self { media_type, bytes: bytes.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_files_within_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("502.html");
        assert!(matches!(Page::load(&path), Err(PageError::Read(_))));
        assert!(matches!(Page::load(folder.path()), Err(PageError::NoFile)));
        std::fs::write(&path, vec![b'x'; PAGE_MAX_BYTES as usize]).unwrap();
        let page = Page::load(&path).unwrap();
        assert_eq!((page.media_type, page.bytes.len() as u64), ("text/html; charset=utf-8", PAGE_MAX_BYTES));
        std::fs::write(&path, vec![b'x'; PAGE_MAX_BYTES as usize + 1]).unwrap();
        assert!(matches!(Page::load(&path), Err(PageError::TooLong)));
    }
}
