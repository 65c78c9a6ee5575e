//! What exactly is started for an instance: the program's path, its whole environment, its port.
//!
//! It starts nothing itself. Nothing of the agent's environment reaches an app but `PATH`, `LANG`, `TZ` and `HOME`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::settings::{InstanceId, Settings};
use crate::user::{self, User, UserError};

/// Where programs are looked for when the agent itself has no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How many free ports are asked for until one is not spoken for by another instance.
const PORT_TRIES: usize = 32;

/// Why an instance could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("the program {command:?} was not found; tried {}", list(.tried))]
    NotFound { command: String, tried: Vec<PathBuf> },
    #[error(
        "the program {path} is not an executable file; `chmod +x` it, or name its interpreter in `command`"
    )]
    NotExecutable { path: PathBuf },
    #[error("its command is empty; name a program in `command`")]
    NoCommand,
    #[error("its folder {path} cannot be entered: {source}")]
    Folder { path: PathBuf, source: io::Error },
    #[error("no free port on {address}: {source}; is it an address of this machine?")]
    Port { address: IpAddr, source: io::Error },
    #[error("{0}")]
    User(#[from] UserError),
    #[error("{path} could not be run{}: {source}", as_whom(.user, .folder))]
    Run { path: PathBuf, user: Option<String>, folder: PathBuf, source: io::Error },
}

fn as_whom(user: &Option<String>, folder: &Path) -> String {
    let by = |user| {
        format!(
            " as the user {user}, who must be able to enter {} and to run it (`user` of the app names another)",
            folder.display()
        )
    };
    user.as_ref().map(by).unwrap_or_default()
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    paths.join(", ")
}

/// Ready to be run. No `Debug`: its environment may hold what is secret.
pub struct Launch {
    pub program: PathBuf,
    /// The name it is called by, and its arguments.
    pub command: Vec<String>,
    pub env: BTreeMap<OsString, OsString>,
    pub folder: PathBuf,
    pub user: Option<User>,
    /// See [`Settings::descriptors`].
    pub descriptors: Option<u64>,
}

/// Finds the program and puts the environment together.
pub fn launch(settings: &Settings, id: &InstanceId, address: SocketAddr) -> Result<Launch, LaunchError> {
    // An instance is only started for an app that the settings hold.
    let app = settings.apps.get(&id.app).ok_or(LaunchError::NoCommand)?;
    let command = app.command.first().ok_or(LaunchError::NoCommand)?;
    let user = user::of_app(app.user.as_deref())?;
    let mut env = inherited(settings, user.is_none());
    env.extend(settings.env.iter().map(|(k, v)| (k.into(), v.expose().into())));
    env.extend(app.env.iter().map(|(k, v)| (k.into(), v.into())));
    for (key, value) in [
        ("PORT", address.port().to_string()),
        ("HOST", address.ip().to_string()),
        ("TIEBEAM_NODE", settings.node.to_string()),
        ("TIEBEAM_INSTANCE", id.to_string()),
    ] {
        env.insert(key.into(), value.into());
    }
    let folder = settings.folder.clone();
    fs::read_dir(&folder).map_err(|source| LaunchError::Folder { path: folder.clone(), source })?;
    let path = env.get(std::ffi::OsStr::new("PATH")).cloned().unwrap_or_default();
    let program = find(command, &folder, &path)?;
    Ok(Launch { program, command: app.command.clone(), env, folder, user, descriptors: settings.descriptors })
}

fn inherited(settings: &Settings, same_user: bool) -> BTreeMap<OsString, OsString> {
    let mut kept = BTreeMap::from([("PATH".into(), PATH_DEFAULT.into()), ("LANG".into(), "C.UTF-8".into())]);
    // Another user's home is not the agent's.
    kept.insert("HOME".into(), settings.folder.clone().into_os_string());
    for key in ["PATH", "LANG", "TZ", "HOME"] {
        if let Some(value) = env::var_os(key).filter(|_| key != "HOME" || same_user) {
            kept.insert(key.into(), value);
        }
    }
    kept
}

/// A command with a `/` is relative to `folder`; any other is looked for in `path`, as a shell does.
fn find(command: &str, folder: &Path, path: &OsString) -> Result<PathBuf, LaunchError> {
    let candidates: Vec<PathBuf> = if command.contains('/') {
        vec![folder.join(command)]
    } else {
        // An empty entry would mean the current folder, which is the agent's and not the app's.
        env::split_paths(path).filter(|d| d.is_absolute()).map(|d| d.join(command)).collect()
    };
    let executable = |path: &&PathBuf| {
        fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if let Some(found) = candidates.iter().find(executable) {
        return Ok(found.clone());
    }
    match candidates.iter().find(|path| path.exists()) {
        Some(path) => Err(LaunchError::NotExecutable { path: path.clone() }),
        None => Err(LaunchError::NotFound { command: command.to_owned(), tried: candidates }),
    }
}

/// A port that is free now: `before`, if it still is, or one that the system chooses, never one of `taken`. Another
/// process may take it before the app does; then the app fails to listen, and its next start asks again.
pub fn free_port(address: IpAddr, before: Option<u16>, taken: &BTreeSet<u16>) -> Result<u16, LaunchError> {
    if let Some(port) = before.filter(|p| !taken.contains(p))
        && TcpListener::bind((address, port)).is_ok()
    {
        return Ok(port);
    }
    let failed = |source| LaunchError::Port { address, source };
    let mut held = Vec::new();
    for _ in 0..PORT_TRIES {
        // Held while others are asked for, so that the system does not offer the same again.
        let listener = TcpListener::bind((address, 0)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        if !taken.contains(&port) {
            return Ok(port);
        }
        held.push(listener);
    }
    Err(failed(io::Error::other("every port that the system offered is another instance's")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_stay_while_they_are_free_and_are_never_shared() {
        let address: IpAddr = "127.0.0.1".parse().unwrap();
        let none = BTreeSet::new();
        let port = free_port(address, None, &none).unwrap();
        assert_ne!(free_port(address, Some(port), &BTreeSet::from([port])).unwrap(), port);
        let holder = TcpListener::bind((address, 0)).unwrap();
        let held = holder.local_addr().unwrap().port();
        assert_ne!(free_port(address, Some(held), &none).unwrap(), held);
        let nowhere = "192.0.2.1".parse().unwrap();
        let error = free_port(nowhere, None, &none).unwrap_err().to_string();
        assert!(error.contains("no free port on 192.0.2.1"), "{error}");
    }

    #[test]
    fn programs_are_found_or_the_error_says_where_they_were_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("plain"), "").unwrap();
        let path = OsString::from("/nowhere:relative:/bin");
        let text = |command| find(command, dir.path(), &path).unwrap_err().to_string();
        assert_eq!(find("sh", dir.path(), &path).unwrap(), Path::new("/bin/sh"));
        assert_eq!(
            text("no-such"),
            "the program \"no-such\" was not found; tried /nowhere/no-such, /bin/no-such"
        );
        let tried = dir.path().join("bin/server").display().to_string();
        assert_eq!(text("bin/server"), format!("the program \"bin/server\" was not found; tried {tried}"));
        assert!(text("./plain").contains("is not an executable file"));
    }
}
