//! PostgreSQL's own programs: finding them and running them as PostgreSQL's user.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::Error;
use crate::settings::Owner;

/// Oldest and newest major version that is known to work.
const MAJORS: std::ops::RangeInclusive<u32> = 14..=18;

/// How much of a failing program's talk is shown.
const SHOWN_BYTES: usize = 1500;

/// The folder of PostgreSQL's programs: of the version that made the data in `data` (the folder of an instance), if there
/// is any, else of the newest that is installed. Debian's place for each version first, then `PATH`.
///
/// # Errors
/// When there is none; the message names the package.
pub fn find_binaries(data: Option<&Path>) -> Result<PathBuf, Error> {
    let made_by = data.and_then(|data| std::fs::read_to_string(data.join("main/PG_VERSION")).ok());
    let made_by: Option<u32> = made_by.and_then(|v| v.trim().parse().ok()).filter(|v| MAJORS.contains(v));
    let debian = made_by.into_iter().chain(MAJORS.rev());
    let debian = debian.map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates: Vec<_> = debian.chain(std::env::split_paths(&path)).collect();
    let whole =
        |dir: &&PathBuf| ["postgres", "initdb", "pg_basebackup"].iter().all(|p| dir.join(p).is_file());
    candidates.iter().find(whole).cloned().ok_or_else(|| Error::NoBinaries {
        min: *MAJORS.start(),
        max: *MAJORS.end(),
        searched: "/usr/lib/postgresql/VERSION/bin and PATH".into(),
    })
}

/// Runs programs of one installation.
#[derive(Clone, Debug)]
pub struct Programs {
    pub bin_dir: PathBuf,
    pub owner: Option<Owner>,
    /// Where they run: a folder that their user may enter.
    pub cwd: PathBuf,
}

impl Programs {
    /// Runs `program` to its end and gives its stdout. It is killed when `limit` has passed or the future is dropped.
    /// Arguments are visible to every user of the machine: secrets go to `stdin`.
    ///
    /// # Errors
    /// When it cannot be started, takes too long, or exits with another code than 0: with the end of what it said.
    pub async fn run<S: AsRef<std::ffi::OsStr>>(
        &self,
        program: &'static str,
        args: &[S],
        stdin: Option<&[u8]>,
        limit: Duration,
    ) -> Result<String, Error> {
        self.run_heard(program, args, stdin, limit).await.map(|(output, _)| output)
    }

    /// The same; gives also what it said on stderr.
    pub async fn run_heard<S: AsRef<std::ffi::OsStr>>(
        &self,
        program: &'static str,
        args: &[S],
        stdin: Option<&[u8]>,
        limit: Duration,
    ) -> Result<(String, String), Error> {
        let failed = |why: String| Error::Program { program, why };
        let mut command = Command::new(self.bin_dir.join(program));
        command.args(args).current_dir(&self.cwd).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").env("PGAPPNAME", "tiebeam");
        command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if let Some(Owner { uid, gid }) = self.owner {
            command.uid(uid).gid(gid);
        }
        let mut child = command.spawn().map_err(|e| failed(format!("it cannot be started: {e}")))?;
        if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
            pipe.write_all(text).await.map_err(|e| failed(format!("it does not read: {e}")))?;
        }
        let output = match tokio::time::timeout(limit, child.wait_with_output()).await {
            Ok(output) => output.map_err(|e| failed(e.to_string()))?,
            Err(_) => return Err(failed(format!("it took longer than {} s", limit.as_secs()))),
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let from = said.len().saturating_sub(SHOWN_BYTES);
            let tail = said.char_indices().find(|(at, _)| *at >= from).map_or("", |(at, _)| &said[at..]);
            return Err(failed(format!("{}: {}", output.status, tail.trim())));
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(&output.stdout), text(&output.stderr)))
    }

    /// The major version of the programs.
    pub async fn major(&self) -> Result<u32, Error> {
        let text = self.run("postgres", &["--version"], None, Duration::from_secs(10)).await?;
        parse_major(&text).ok_or_else(|| Error::Program {
            program: "postgres",
            why: format!("{text:?} does not tell its version"),
        })
    }

    /// The system identifier of a data directory (`pg_controldata`).
    pub async fn system_identifier(&self, data: &Path) -> Result<String, Error> {
        let text = self.run("pg_controldata", &[data.as_os_str()], None, Duration::from_secs(10)).await?;
        let line = text.lines().find_map(|l| l.strip_prefix("Database system identifier:"));
        line.map(|v| v.trim().to_owned()).ok_or_else(|| Error::Program {
            program: "pg_controldata",
            why: format!("it does not tell the system identifier of {}", data.display()),
        })
    }
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`
fn parse_major(text: &str) -> Option<u32> {
    let digits: String = text.split(") ").nth(1)?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions() {
        let of = super::parse_major;
        assert_eq!(of("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(of("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(of("nonsense"), None);
    }
}
