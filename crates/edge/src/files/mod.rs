//! A route's directory of files: GET and HEAD, by condition and by part, compressed where that helps; no way out, no
//! listing.
//!
//! `path`, `kind`, `encoding`, `conditions` and `ranges` decide and touch nothing; `open`, `find`, `forms` and `body`
//! read the disk, on blocking threads, never on a worker; `send` writes. Nothing here knows of servers or caches.

mod asked;
mod body;
mod compress;
mod conditions;
mod encoding;
mod find;
mod forms;
mod kind;
mod open;
pub mod path;
pub mod ranges;
mod send;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

pub use self::forms::Forms;
pub use self::kind::kind;

use self::asked::Asked;
use self::find::{Lookup, Outcome, find};
use self::open::Missing;
use self::path::Inside;
use crate::answer::{self, Answered};
use crate::codec::Method;
use crate::connection::{Connection, Request};
use crate::counters::Reason;
use crate::wire::Io;

const ALLOW: &str = "Allow: GET, HEAD, OPTIONS\r\n";

/// Answers with a file of `directory`, by what follows the route's own path.
pub async fn answer<'a, S: Io>(
    connection: &mut Connection<S>,
    request: &Request,
    directory: Arc<PathBuf>,
) -> Answered<'a> {
    match request.method {
        Method::Get | Method::Head => {}
        // Of one file or of the server as a whole, `*`: it is the same.
        Method::Options => return answer::by_route(connection, request, 204, ALLOW).await,
        Method::Trace | Method::Other => {
            connection.worker.counters.reason(Reason::NoFile);
            let why = Some(Reason::NoFile.label());
            return answer::reply(connection, request, 405, answer::words(405), why, ALLOW).await;
        }
    }
    let path = request.spans.path.of(&request.head);
    let found = match path::inside(path, request.rules().map_or(0, |rules| rules.taken(path))) {
        Some(Inside::Name(name)) => look(connection, request, directory, name).await,
        Some(Inside::NeedsSlash) => Err(Missing::NeedsSlash),
        None => Err(Missing::NotThere),
    };
    let reason = Reason::NoFile;
    match found {
        Ok((Outcome::Reply(reply), first)) => send::send(connection, request, reply, &first).await,
        Ok((Outcome::Failed, _)) => {
            answer::reply(connection, request, 412, answer::words(412), None, "").await
        }
        Ok((Outcome::Beyond(bytes), _)) => {
            let extra = format!("Content-Range: bytes */{bytes}\r\n");
            answer::reply(connection, request, 416, answer::words(416), None, &extra).await
        }
        Err(Missing::NeedsSlash) => {
            let extra = format!("Location: {}\r\n", path::with_slash(request.target()));
            answer::by_route(connection, request, 301, &extra).await
        }
        Err(Missing::NotThere) => answer::fail(connection, request, 404, reason).await,
        Err(Missing::NoResources) => answer::fail(connection, request, 503, Reason::NoResources).await,
        Err(Missing::Failed(error)) => {
            tracing::warn!(%error, id = request.id.as_str(), "a file could not be opened or read");
            answer::fail(connection, request, 500, reason).await
        }
    }
}

/// One stay on a blocking thread: finds the file, and reads what the first write will take of it.
async fn look<S: Io>(
    connection: &Connection<S>,
    request: &Request,
    directory: Arc<PathBuf>,
    name: String,
) -> Result<(Outcome, Vec<u8>), Missing> {
    let limits = &request.view.limits;
    let lookup = Lookup {
        directory,
        name,
        compress_bytes: limits.compress_bytes,
        compressed_bytes: limits.compressed_bytes,
        now: SystemTime::now(),
        boundary: request.id.as_str().to_owned(),
    };
    let asked = Asked::of(request);
    let has_body = request.method == Method::Get;
    let shared = connection.worker.shared.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let mut outcome = find(&lookup, &asked, &shared.forms)?;
        let mut first = Vec::new();
        if let (Outcome::Reply(reply), true) = (&mut outcome, has_body) {
            reply.body.fill(&mut first).map_err(Missing::Failed)?;
        }
        Ok((outcome, first))
    });
    looked.await.unwrap_or_else(|gone| Err(Missing::Failed(io::Error::other(gone))))
}
