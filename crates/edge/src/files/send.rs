//! Sends what was found: one head, then the body piece by piece as fast as the client reads.
//!
//! All that files send, other than short pages, goes through [`head`] and [`Connection::send`].

use std::io;

use super::body::Body;
use super::find::Reply;
use crate::answer::{self, Answered, End};
use crate::codec::{BodyLength, Method};
use crate::connection::{Connection, Request};
use crate::counters::Reason;
use crate::wire::Io;

/// `first` is what the body began with, read already.
pub async fn send<'a, S: Io>(
    connection: &mut Connection<S>,
    request: &Request,
    reply: Reply,
    first: &[u8],
) -> Answered<'a> {
    // A body that is not read would be taken for the next request.
    let keeps = request.persists && request.body == BodyLength::None && !connection.worker.draining.get();
    if let Some(bound) = reply.reached {
        connection.worker.counters.reason(bound);
    }
    let status = reply.status;
    let length = if request.method == Method::Head { 0 } else { reply.body.length };
    let mut begun = head(connection, request, &reply, keeps);
    begun.extend_from_slice(first);
    match stream(connection, begun, first.len() as u64, length, reply.body).await {
        Ok(()) => {
            let end = if keeps { End::Keep } else { End::Close };
            Answered { bytes: length, ..Answered::own(status, None, end) }
        }
        Err((bytes, reason)) => Answered { bytes, ..Answered::own(status, Some(reason.label()), End::Reset) },
    }
}

fn head<S: Io>(connection: &Connection<S>, request: &Request, reply: &Reply, keeps: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", reply.status, answer::title(reply.status));
    let mut add = |name: &str, value: &str| {
        for part in [name, ": ", value, "\r\n"] {
            head.push_str(part);
        }
    };
    for (name, value) in &reply.fields {
        add(name, value);
    }
    if reply.status != 304 {
        add("Content-Length", &reply.body.length.to_string());
    }
    // The type is known from the name: a browser must not find another one in the bytes.
    add("X-Content-Type-Options", "nosniff");
    connection.worker.with_date(|date| add("Date", date));
    add("X-Request-Id", request.id.as_str());
    if request.hsts {
        add("Strict-Transport-Security", "max-age=31536000");
    }
    head.push_str(request.connection_line(keeps));
    head.push_str("\r\n");
    let mut head = head.into_bytes();
    if let Some(edits) = request.rules().map(|rules| &rules.response).filter(|edits| !edits.is_empty()) {
        edits.apply(&mut head, 0);
    }
    head
}

/// Sends `chunk`, which ends with the first `sent` bytes of the body, then the rest of `length`. An error has been
/// counted, and comes with how much of the body was sent at least.
async fn stream<S: Io>(
    connection: &mut Connection<S>,
    mut chunk: Vec<u8>,
    mut sent: u64,
    length: u64,
    mut body: Body,
) -> Result<(), (u64, Reason)> {
    let mut told = 0;
    loop {
        chunk = connection.send(chunk).await.map_err(|reason| (told, reason))?;
        told = sent;
        if sent >= length {
            return Ok(());
        }
        chunk.clear();
        (body, chunk) = filled(body, chunk).await.map_err(|error| {
            // The client must not take what there was for the whole.
            tracing::warn!(%error, "a file could not be read to its end");
            connection.worker.counters.reason(Reason::AnswerCut);
            (told, Reason::AnswerCut)
        })?;
        sent += chunk.len() as u64;
    }
}

/// With the next piece in `chunk`; from the disk by way of a thread that may wait for it.
async fn filled(mut body: Body, mut chunk: Vec<u8>) -> io::Result<(Body, Vec<u8>)> {
    if !body.is_on_disk() {
        body.fill(&mut chunk)?;
        return Ok((body, chunk));
    }
    let read = tokio::task::spawn_blocking(move || body.fill(&mut chunk).map(|()| (body, chunk)));
    read.await.unwrap_or_else(|gone| Err(io::Error::other(gone)))
}
