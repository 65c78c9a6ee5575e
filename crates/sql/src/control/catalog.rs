//! Keeps what is known of the functions of each database that sessions use: looked at every few seconds and at each
//! new view, loaded again when its fingerprint has changed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::Control;
use crate::classify::Volatility;
use crate::server::{Server, ServerError};
use crate::wire::error::state;

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

/// What is kept of one database.
#[derive(Default)]
struct Entry {
    known: Option<Known>,
    /// Since when it cannot be read.
    unread: Option<Instant>,
    /// Nothing is certain in it; that was told.
    doubted: bool,
}

pub(super) async fn keep(control: &Control) {
    let mut entries: HashMap<String, Entry> = HashMap::new();
    let mut views = control.shared.views.clone();
    loop {
        let databases: Vec<String> = control.databases.borrow().iter().take(CATALOGS_MAX).cloned().collect();
        entries.retain(|name, _| databases.contains(name));
        let serial = control.snapshot.load().serial;
        for database in databases {
            let entry = entries.entry(database.clone()).or_default();
            let looked = timeout(ANSWER_TIME, look(control, entry.known.take(), &database, serial)).await;
            match looked.unwrap_or(Err(ServerError::Timeout(ANSWER_TIME))) {
                Ok(known) => *entry = Entry { known: Some(known), ..Entry::default() },
                Err(error) if is_gone(&error) => control.forget_database(&database),
                Err(error) => entry.unread(control, &database, &error),
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

impl Entry {
    /// What was known stays for as long as a statement waits for a server; then it may be wrong in anything, and all is
    /// sent to the primary.
    fn unread(&mut self, control: &Control, database: &str, error: &ServerError) {
        let since = *self.unread.get_or_insert_with(Instant::now);
        if self.doubted || since.elapsed() < control.shared.settings.hold {
            tracing::debug!(database, %error, "cannot read the catalog");
            return;
        }
        self.doubted = true;
        tracing::warn!(
            database, %error,
            "cannot read the catalog of this database, so none of its statements is sent to a replica"
        );
        control.publish_catalog(database, Volatility::unknown());
    }
}

fn is_gone(error: &ServerError) -> bool {
    matches!(error, ServerError::Refused(refused) if refused.code == state::UNDEFINED_DATABASE)
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
        control.publish_catalog(database, Volatility::from_rows(rows));
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
            // The first one asked knows best whether there is such a database.
            Err(error) if is_gone(&error) => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}
