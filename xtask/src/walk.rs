//! The text files of the repository. What builds leave behind and what git keeps for itself is left out.

use std::fs;
use std::path::Path;

use anyhow::Context;

/// Folders, anywhere, that hold nothing of ours.
const SKIPPED: [&str; 2] = [".git", "target"];
/// A larger file is data, which has no style.
const FILE_MAX_BYTES: u64 = 4 << 20;

pub struct File {
    /// From the root, with `/` between folders.
    pub path: String,
    pub text: String,
}

/// In the order of their paths. Links are not followed, and files that are not UTF-8 are left out.
pub fn files(root: &Path) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    folder(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn folder(folder_path: &Path, prefix: &str, files: &mut Vec<File>) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(folder_path).with_context(|| format!("cannot list {}", folder_path.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            folder(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() && entry.metadata()?.len() <= FILE_MAX_BYTES {
            let bytes = fs::read(entry.path()).with_context(|| format!("cannot read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(File { path, text });
            }
        }
    }
    Ok(())
}
