//! `initdb`: a new, empty database.

use std::time::Duration;

use super::{Paths, Programs, SUPERUSER};
use crate::error::Error;

/// `initdb` itself takes a second; a slow disk may take long to sync.
const INITDB_TIME: Duration = Duration::from_secs(120);

/// Makes a new data directory beside its place and gives its system identifier. The caller records that before
/// [`Paths::adopt_grown`], so that a crash between leaves no database that nobody knows.
///
/// # Errors
/// What `initdb` said.
pub async fn initdb(paths: &Paths, programs: &Programs) -> Result<String, Error> {
    let growing = paths.growing.clone();
    if growing.exists() {
        std::fs::remove_dir_all(&growing).map_err(Error::file("remove the unfinished", &growing))?;
    }
    let dir = growing.to_string_lossy().into_owned();
    let args = [
        "-D",
        &dir,
        "--username",
        SUPERUSER,
        "--auth-local=peer",
        "--auth-host=reject",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--data-checksums",
        "--no-instructions",
    ];
    programs.run("initdb", &args, None, INITDB_TIME).await?;
    forget_own_conf(&growing);
    programs.system_identifier(&growing).await
}

/// The configuration is outside of the data directory. Without these files, a start by hand fails with a clear message
/// instead of making a second primary.
pub fn forget_own_conf(data: &std::path::Path) {
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        // Not there is as well.
        let _ = std::fs::remove_file(data.join(name));
    }
}
