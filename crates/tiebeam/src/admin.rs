//! What a person on a node's own machine may ask its daemon, over the unix socket `DATA/admin.sock`: one line of JSON,
//! answered by one line of JSON. The verbs ask; `node/admin.rs` answers those whose user owns the daemon.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tiebeam_topology::Change;

/// A line of more bytes is refused, either way.
pub const LINE_BYTES: u64 = 1 << 20;
/// How long the daemon may take to answer.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// What would change if this node took the file.
    Plan { file: PathBuf },
    /// Takes the file, which must be the one that the node was started with.
    Apply { file: PathBuf },
    /// Hands over to a new process of the program and the file as they are now. Answered by an [`Upgrade`].
    Upgrade,
}

/// What a node made of a file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub node: String,
    pub file: PathBuf,
    /// In the order of the file's keys.
    pub changes: Vec<Change>,
    /// Certificates that are read anew although the file does not change, by site.
    pub certificates: Vec<String>,
    /// All of it is served now.
    pub applied: bool,
    /// Why not, in words; the file served before goes on.
    pub refused: Option<String>,
    /// The file or what it names is wrong: another start would fail, too.
    pub is_wrong: bool,
}

/// What became of a handover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    pub node: String,
    /// The process that was asked.
    pub from: Process,
    /// The one that it started, as far as it came.
    pub to: Option<Process>,
    pub took_ms: u64,
    pub fate: Fate,
    /// Client connections of the old process that go on.
    pub draining: u64,
    /// Why it was not done, in words.
    pub why: Option<String>,
    /// What is not as it should be although it was done.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Empty: it never said.
    pub version: String,
    pub pid: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// The new process serves.
    Done,
    /// Nothing has changed: the new program or the file is not fit.
    Refused,
    /// Nothing has changed: another handover is under way, or the node ends.
    Busy,
    /// It went wrong half way.
    Failed,
}

pub fn socket(data: &Path) -> PathBuf {
    data.join("admin.sock")
}

/// Asks the daemon whose folder this is, which may take `time` to answer.
pub fn ask<T: DeserializeOwned>(data: &Path, ask: &Ask, time: Duration) -> anyhow::Result<T> {
    let path = socket(data);
    let mut stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow::anyhow!(
            "no node runs in {} (there is nobody at {}); say with --data where its folder is, or start it with `tiebeam node`",
            data.display(),
            path.display()
        ),
        ErrorKind::PermissionDenied => anyhow::anyhow!(
            "{} belongs to another user: ask as the user of the daemon, or as root",
            path.display()
        ),
        _ => anyhow::anyhow!("{} cannot be asked: {error}", path.display()),
    })?;
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    writeln!(stream, "{}", serde_json::to_string(ask)?)?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES)).read_line(&mut line)?;
    anyhow::ensure!(
        !line.is_empty(),
        "the node closed without an answer: {} belongs to another user, or the node ends",
        path.display()
    );
    Ok(serde_json::from_str(&line)?)
}
