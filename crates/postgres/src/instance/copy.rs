//! Becoming a copy of the primary: by rewinding to its history, or by cloning it.

use std::time::Duration;

use tiebeam_topology::{Epoch, NodeName};

use super::conf::{COPYING, conninfo};
use super::{Paths, Programs, create, slot_name};
use crate::error::Error;
use crate::settings::Settings;

/// A day: longer copies are somebody's mistake.
const COPY_TIME: Duration = Duration::from_secs(24 * 3600);

/// Clones `from` into a new data directory and puts it into place. The old one stays until the new one is whole.
///
/// # Errors
/// What `pg_basebackup` said; then nothing has changed.
pub async fn clone_from(
    settings: &Settings,
    paths: &Paths,
    programs: &Programs,
    from: &NodeName,
) -> Result<(), Error> {
    let peer = settings.peers.get(from).ok_or_else(|| Error::NotAPeer { node: from.to_string() })?;
    if paths.growing.exists() {
        std::fs::remove_dir_all(&paths.growing)
            .map_err(Error::file("remove the unfinished", &paths.growing))?;
    }
    let dir = paths.growing.to_string_lossy().into_owned();
    let dsn = conninfo(settings, paths, peer, COPYING);
    let slot = slot_name(&settings.node);
    let args = [
        "-D",
        &dir,
        "-d",
        &dsn,
        "--slot",
        &slot,
        "--wal-method=stream",
        "--checkpoint=fast",
        "--no-password",
    ];
    programs.run("pg_basebackup", &args, None, COPY_TIME).await?;
    create::forget_own_conf(&paths.growing);
    paths.adopt_grown()
}

/// Takes back what `from` does not have. The server is stopped cleanly before, so no recovery is needed here.
///
/// # Errors
/// What `pg_rewind` said; then the data directory may be half rewound and must be cloned.
pub async fn rewind_to(
    settings: &Settings,
    paths: &Paths,
    programs: &Programs,
    from: &NodeName,
    epoch: Epoch,
) -> Result<(), Error> {
    let peer = settings.peers.get(from).ok_or_else(|| Error::NotAPeer { node: from.to_string() })?;
    paths.write(&paths.spoiled(), b"A rewind did not end; this data directory must be cloned.\n")?;
    // pg_rewind asks the target's configuration for nothing but insists that there is one.
    paths.write(&paths.main.join("postgresql.conf"), b"# pg_rewind wants to see this file.\n")?;
    let dir = paths.main.to_string_lossy().into_owned();
    let dsn = conninfo(settings, paths, peer, COPYING);
    let args = ["--target-pgdata", &dir, "--source-server", &dsn, "--no-ensure-shutdown"];
    let done = programs.run_heard("pg_rewind", &args, None, COPY_TIME).await;
    create::forget_own_conf(&paths.main);
    let (_, said) = done?;
    // It is only asked where the histories are known to part: if it sees no fork, it looked at something old.
    if said.contains("no rewind required") {
        let why = "it sees no fork where there is one".to_owned();
        return Err(Error::Program { program: "pg_rewind", why });
    }
    paths.note_rewound(from, epoch)?;
    paths.note_unspoiled()
}
