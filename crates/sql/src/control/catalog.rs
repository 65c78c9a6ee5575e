//! Keeps what is known of the functions of each database that sessions use: looked at every few seconds and at each
//! new view, loaded again when its fingerprint has changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Control;
use crate::classify::Volatility;
use crate::server::{Server, ServerError};

const LOOK_EVERY: Duration = Duration::from_secs(3);
/// One database's questions must be answered in this time.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Databases whose catalog is kept; in others every function is taken for PostgreSQL's own or uncertain.
const CATALOGS_MAX: usize = 256;

struct Known {
    server: Server,
    fingerprint: String,
    /// The view's serial at which the connection was opened.
    serial: u64,
}

pub(super) async fn keep(control: &Control) {
    let mut known: HashMap<String, Known> = HashMap::new();
    let mut views = control.shared.views.clone();
    loop {
        let databases: Vec<String> = control.databases.borrow().iter().take(CATALOGS_MAX).cloned().collect();
        let serial = control.snapshot.load().serial;
        for database in databases {
            match timeout(ANSWER_TIME, look(control, known.remove(&database), &database, serial)).await {
                Ok(Ok(state)) => {
                    known.insert(database, state);
                }
                // A database that was dropped or refuses us: what was known stays, it is tried again.
                Ok(Err(error)) => tracing::debug!(database, %error, "cannot read the catalog"),
                Err(_) => tracing::debug!(database, "the catalog was not read in time"),
            }
        }
        let new_view = views.wait_for(|seen| *seen != serial);
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = control.more_databases.notified() => {}
            _ = new_view => {}
        }
    }
}

async fn look(
    control: &Control,
    known: Option<Known>,
    database: &str,
    serial: u64,
) -> Result<Known, ServerError> {
    let mut known = match known {
        Some(known) if known.serial == serial => known,
        _ => Known { server: connect(control, database).await?, fingerprint: String::new(), serial },
    };
    let rows = known.server.ask(Volatility::FINGERPRINT, &[]).await?;
    let fingerprint = rows.into_iter().flatten().next().flatten().unwrap_or_default();
    if fingerprint != known.fingerprint {
        let rows = known.server.ask(Volatility::QUERY, &[]).await?;
        let rows = rows.into_iter().filter_map(|row| match <[_; 3]>::try_from(row) {
            Ok([Some(kind), Some(name), Some(uncertain)]) => Some((kind, name, uncertain == "t")),
            _ => None,
        });
        let catalog = Arc::new(Volatility::from_rows(rows));
        let mut snapshot = (*control.snapshot.load_full()).clone();
        Arc::make_mut(&mut snapshot.catalogs).insert(database.to_owned(), catalog);
        control.publish(snapshot);
        known.fingerprint = fingerprint;
    }
    Ok(known)
}

/// The first server that lets us in, the primary first: what it has, replicas have or will have.
async fn connect(control: &Control, database: &str) -> Result<Server, ServerError> {
    let mut last = ServerError::Io(std::io::ErrorKind::NotConnected.into());
    for target in control.targets() {
        match control.connect(&target, database).await {
            Ok(server) => return Ok(server),
            Err(error) => last = error,
        }
    }
    Err(last)
}
