//! A route's directory of files: GET and HEAD, whole or one range, with validators; no way out, no listing.
//!
//! Opening is left to the kernel: `openat2` with `RESOLVE_BENEATH` refuses every path and link that leads out of the
//! directory. Hidden files (a segment that starts with a dot) do not exist. The disk is read on blocking threads, never
//! on a worker.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::answer::{self, Answered, End};
use crate::buffer::LONG_BUFFER_BYTES;
use crate::codec::{BodyLength, Method};
use crate::connection::{Connection, Request};
use crate::counters::Reason;
use crate::wire::Io;

/// What a directory answers with.
struct Opened {
    file: File,
    bytes: u64,
    modified: SystemTime,
    kind: &'static str,
}

enum Missing {
    NotThere,
    /// A directory was asked for without its final slash.
    NeedsSlash,
    Failed(io::Error),
}

/// Answers with a file of `directory`; the first `prefix` bytes of the path are the route's own.
pub async fn answer<'a, S: Io>(
    connection: &mut Connection<S>,
    request: &Request,
    directory: Arc<PathBuf>,
    prefix: usize,
) -> Answered<'a> {
    if !matches!(request.method, Method::Get | Method::Head) {
        connection.worker.counters.reason(Reason::NoFile);
        let why = Some(Reason::NoFile.label());
        return answer::reply(connection, request, 405, answer::words(405), why, "Allow: GET, HEAD\r\n")
            .await;
    }
    let path = request.spans.path.of(&request.head);
    let Some(inside) = path.get(prefix..).and_then(decoded) else {
        return answer::fail(connection, request, 404, Reason::NoFile).await;
    };
    let opened = tokio::task::spawn_blocking(move || open(&directory, &inside)).await;
    match opened.unwrap_or_else(|e| Err(Missing::Failed(io::Error::other(e)))) {
        Ok(opened) => send(connection, request, opened).await,
        Err(Missing::NeedsSlash) => {
            let location = format!("Location: {}\r\n", with_slash(request.target()));
            answer::reply(
                connection,
                request,
                301,
                "This folder's address ends with a slash.",
                None,
                &location,
            )
            .await
        }
        Err(Missing::NotThere) => answer::fail(connection, request, 404, Reason::NoFile).await,
        Err(Missing::Failed(error)) => {
            tracing::warn!(%error, id = request.id.as_str(), "a file could not be opened");
            answer::fail(connection, request, 500, Reason::NoFile).await
        }
    }
}

/// The target with a slash behind its path, and its query. One slash leads: `//x/` would be the host `x`
/// (RFC 3986 section 4.2).
fn with_slash(target: &[u8]) -> String {
    let target = String::from_utf8_lossy(target);
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    format!("/{}/{query}", path.trim_start_matches('/'))
}

/// Percent-decoded and checked; relative. `None`: no file has such a name here.
fn decoded(path: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len() + 10);
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
        let byte = u8::from_str_radix(hex, 16).ok()?;
        // An encoded slash is not a separator, and no name holds one.
        if byte == b'/' || byte == 0 {
            return None;
        }
        bytes.push(byte);
        rest = &tail[2..];
    }
    let text = String::from_utf8(bytes).ok()?;
    let inside = text.strip_prefix('/').unwrap_or(&text);
    let last = inside.split('/').count() - 1;
    let is_fine =
        inside.split('/').enumerate().all(|(i, s)| !s.starts_with('.') && (!s.is_empty() || i == last));
    (is_fine && !text.contains(['\\', '\0'])).then(|| inside.to_owned())
}

fn open(directory: &Path, inside: &str) -> Result<Opened, Missing> {
    let is_directory = inside.is_empty() || inside.ends_with('/');
    let name = if is_directory { format!("{inside}index.html") } else { inside.to_owned() };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty()).map_err(|e| Missing::Failed(e.into()))?;
    // NONBLOCK: a pipe with that name must not hold the thread.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    use rustix::io::Errno;
    let file = match rustix::fs::openat2(&root, &name, flags, Mode::empty(), resolve) {
        Ok(file) => File::from(file),
        Err(Errno::NOSYS) => {
            return Err(Missing::Failed(io::Error::other(
                "the kernel has no openat2: Linux 5.6 or newer is needed",
            )));
        }
        Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO)) => {
            return Err(Missing::Failed(error.into()));
        }
        Err(_) => return Err(Missing::NotThere),
    };
    let metadata = file.metadata().map_err(Missing::Failed)?;
    if metadata.is_dir() {
        return Err(Missing::NeedsSlash);
    }
    if !metadata.is_file() {
        return Err(Missing::NotThere);
    }
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(Opened { file, bytes: metadata.len(), modified, kind: kind(&name) })
}

async fn send<'a, S: Io>(connection: &mut Connection<S>, request: &Request, opened: Opened) -> Answered<'a> {
    let since = opened.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let tag = format!("\"{:x}-{:x}\"", since.as_nanos(), opened.bytes);
    let seconds = jiff::Timestamp::from_second(since.as_secs() as i64).unwrap_or_default();
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let modified = printer.timestamp_to_rfc9110_string(&seconds).unwrap_or_default();
    let part = Part::of(request, &tag, &modified, opened.bytes);
    if let Part::Beyond = part {
        let extra = format!("Content-Range: bytes */{}\r\n", opened.bytes);
        return answer::reply(connection, request, 416, answer::words(416), None, &extra).await;
    }
    let (status, start, length) = match part {
        Part::Unchanged => (304, 0, 0),
        Part::Range { start, length } => (206, start, length),
        _ => (200, 0, opened.bytes),
    };
    let keeps = request.persists && request.body == BodyLength::None && !connection.worker.draining.get();
    let mut head = format!(
        "HTTP/1.1 {status} {}\r\nETag: {tag}\r\nLast-Modified: {modified}\r\nAccept-Ranges: bytes\r\nDate: {}\r\n\
         X-Content-Type-Options: nosniff\r\nX-Request-Id: {}\r\n{}",
        answer::title(status),
        connection.worker.with_date(str::to_owned),
        request.id.as_str(),
        request.connection_line(keeps),
    );
    if request.hsts {
        head.push_str("Strict-Transport-Security: max-age=31536000\r\n");
    }
    if status != 304 {
        head.push_str(&format!("Content-Type: {}\r\nContent-Length: {length}\r\n", opened.kind));
    }
    if status == 206 {
        head.push_str(&format!("Content-Range: bytes {start}-{}/{}\r\n", start + length - 1, opened.bytes));
    }
    head.push_str("\r\n");
    let length = if request.method == Method::Head { 0 } else { length };
    match stream(connection, head.into_bytes(), opened.file, start, length).await {
        Ok(()) => {
            let end = if keeps { End::Keep } else { End::Close };
            Answered { bytes: length, ..Answered::own(status, None, end) }
        }
        Err((bytes, reason)) => Answered { bytes, ..Answered::own(status, Some(reason.label()), End::Reset) },
    }
}

/// The head with the file's first bytes in one write, then the rest as fast as the client reads. An error has been
/// counted, and comes with how much of the file was sent at least.
async fn stream<S: Io>(
    connection: &mut Connection<S>,
    mut chunk: Vec<u8>,
    mut file: File,
    start: u64,
    length: u64,
) -> Result<(), (u64, Reason)> {
    let mut sent = 0;
    loop {
        let wanted = (length - sent).min(LONG_BUFFER_BYTES as u64);
        if wanted > 0 {
            let read = tokio::task::spawn_blocking(move || {
                if sent == 0 {
                    file.seek(SeekFrom::Start(start))?;
                }
                let read = (&mut file).take(wanted).read_to_end(&mut chunk)?;
                // The file was cut short after its length was told: the client must not take this for the end.
                if read as u64 != wanted {
                    Err(io::ErrorKind::UnexpectedEof.into())
                } else {
                    io::Result::Ok((file, chunk))
                }
            });
            (file, chunk) = read.await.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(|error| {
                tracing::warn!(%error, "a file could not be read to its end");
                connection.worker.counters.reason(Reason::AnswerCut);
                (sent, Reason::AnswerCut)
            })?;
        }
        chunk = connection.send(chunk).await.map_err(|reason| (sent, reason))?;
        chunk.clear();
        sent += wanted;
        if sent == length {
            return Ok(());
        }
    }
}

/// Which part of a file a request is for (RFC 9110 sections 13 and 14).
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Unchanged,
    Range { start: u64, length: u64 },
    Beyond,
}

impl Part {
    fn of(request: &Request, tag: &str, modified: &str, bytes: u64) -> Self {
        let field = |name: &str| request.field(name);
        match field("If-None-Match") {
            Some(tags)
                if tags == "*" || tags.split(',').any(|t| t.trim().trim_start_matches("W/") == tag) =>
            {
                return Self::Unchanged;
            }
            None if field("If-Modified-Since").is_some_and(|since| since == modified) => {
                return Self::Unchanged;
            }
            _ => {}
        }
        let is_valid = field("If-Range").is_none_or(|validator| validator == tag || validator == modified);
        match field("Range") {
            Some(range) if request.method == Method::Get && is_valid => Self::range(range, bytes),
            _ => Self::Whole,
        }
    }

    /// One range of bytes; what is not understood is answered with the whole file.
    fn range(range: &str, bytes: u64) -> Self {
        let number = |text: &str| {
            (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
                .then(|| text.parse::<u64>().ok())
                .flatten()
        };
        let Some((first, last)) = range.strip_prefix("bytes=").and_then(|r| r.split_once('-')) else {
            return Self::Whole;
        };
        let (start, end) = match (number(first), number(last)) {
            (Some(start), None) if last.is_empty() => (start, bytes),
            (Some(start), Some(last)) if last >= start => (start, last.saturating_add(1).min(bytes)),
            (None, Some(0)) if first.is_empty() => return Self::Beyond,
            (None, Some(suffix)) if first.is_empty() => (bytes.saturating_sub(suffix), bytes),
            _ => return Self::Whole,
        };
        if start >= end { Self::Beyond } else { Self::Range { start, length: end - start } }
    }
}

impl Request {
    /// A field of the request as it is sent on; the first of that name.
    fn field(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.head).ok()?;
        let mut lines = head.split("\r\n").skip(1).take_while(|line| !line.is_empty());
        lines.find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "txt" | "md" => "text/plain; charset=utf-8",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_do_not_exist() {
        for bad in [
            "../x",
            "a/../../x",
            "%2e%2e/x",
            "a/%2E%2e/x",
            ".git/config",
            "a/.env",
            "a%2fb",
            "a%00",
            "a//b",
            "%ff",
            "a\\b",
            "%5c..",
            "%",
        ] {
            assert_eq!(decoded(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(decoded(b"/a%20b.txt").as_deref(), Some("a b.txt"));
        assert_eq!(decoded(b"a/").as_deref(), Some("a/"));
        assert_eq!(decoded(b"").as_deref(), Some(""));
    }

    #[test]
    fn a_slash_leads_to_no_other_host() {
        for (target, expected) in
            [("/docs", "/docs/"), ("//docs", "/docs/"), ("///docs?a=/b?c", "/docs/?a=/b?c"), ("/a?", "/a/?")]
        {
            assert_eq!(with_slash(target.as_bytes()), expected, "{target}");
        }
    }

    #[test]
    fn ranges() {
        let range = |text| Part::range(text, 10);
        assert_eq!(range("bytes=0-3"), Part::Range { start: 0, length: 4 });
        assert_eq!(range("bytes=4-"), Part::Range { start: 4, length: 6 });
        assert_eq!(range("bytes=-3"), Part::Range { start: 7, length: 3 });
        assert_eq!(range("bytes=8-99"), Part::Range { start: 8, length: 2 });
        for beyond in ["bytes=10-", "bytes=-0", "bytes=10-12"] {
            assert_eq!(range(beyond), Part::Beyond, "{beyond}");
        }
        for whole in ["bytes=3-1", "bytes=a-", "bytes=1-2,4-5", "lines=1-2", "bytes=-", "bytes=+1-2"] {
            assert_eq!(range(whole), Part::Whole, "{whole}");
        }
    }
}
