//! One line for each request, rendered into the worker's own batch and written by a thread that nobody waits for.
//!
//! A worker hands its batch over when it is large or at the next tick, so a line is on its way within 100 ms. When the
//! writer is behind, batches are dropped and their lines counted; a request never waits. Queries, bodies and fields
//! are never logged: they may hold secrets.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tiebeam_topology::{AccessLog, LogSample, Share};

use crate::codec::Version;
use crate::config::{LogFile, LogSink};
use crate::counters::{Count, Counters};
use crate::error::StartError;
use crate::log_file::{self, Appender};
use crate::snapshot::Snapshot;

/// A batch of this size goes to the writer at once, bytes.
const BATCH_BYTES: usize = 16 * 1024;
/// Batches that may wait for the writer, of all workers.
const WAITING_BATCHES: usize = 256;

/// What one line says.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    pub id: &'a str,
    pub client: IpAddr,
    pub scheme: &'a str,
    /// The id of its trace; empty if it was no request.
    pub trace: &'a [u8],
    pub method: &'a [u8],
    pub host: &'a [u8],
    /// Without the query.
    pub path: &'a [u8],
    /// Site and route, as in the file.
    pub place: (Option<&'a str>, Option<&'a str>),
    /// `None`: it was no request.
    pub version: Option<Version>,
    pub status: u16,
    pub bytes: u64,
    /// What the client sent into a tunnel, bytes; `bytes` is what it was sent through it.
    pub received: Option<u64>,
    pub server: Option<&'a str>,
    pub tries: u32,
    pub tried: &'a [Tried<'a>],
    pub total: Duration,
    pub connect: Duration,
    pub first_byte: Duration,
    /// What went wrong, by the name of its counter.
    pub why: Option<&'a str>,
}

/// A try that brought no answer.
#[derive(Clone, Debug)]
pub struct Tried<'a> {
    pub server: &'a str,
    pub result: Outcome,
    pub took: Duration,
}

/// How such a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody listens there.
    Refused,
    /// No connection within `edge.limits.connect_time`, or none at all.
    NotConnected,
    /// The edge had no descriptor or port left.
    NoResources,
    /// It closed before it answered.
    Closed,
    /// The same on a connection that had been idle: it says nothing about the server.
    IdleClosed,
    /// What it said is not HTTP, or ambiguous.
    BadResponse,
    /// It said nothing for `edge.limits.response_time`.
    Silent,
    /// Another server, asked beside it, was faster.
    Slower,
}

impl Outcome {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::NotConnected => "not_connected",
            Self::NoResources => "no_resources",
            Self::Closed => "closed",
            Self::IdleClosed => "idle_closed",
            Self::BadResponse => "bad_response",
            Self::Silent => "silent",
            Self::Slower => "slower",
        }
    }
}

impl<'a> Line<'a> {
    /// For what was no request.
    pub fn refused(id: &'a str, client: IpAddr, scheme: &'a str) -> Self {
        let zero = Duration::ZERO;
        Self {
            id,
            client,
            scheme,
            trace: b"",
            method: b"",
            host: b"",
            path: b"",
            place: (None, None),
            version: None,
            status: 0,
            bytes: 0,
            received: None,
            server: None,
            tries: 0,
            tried: &[],
            total: zero,
            connect: zero,
            first_byte: zero,
            why: None,
        }
    }
}

/// A worker's end of the log.
pub struct Log {
    batch: RefCell<String>,
    lines: Cell<u64>,
    /// `None`: the sink is off.
    writer: Option<SyncSender<String>>,
}

/// The writer's thread; it ends when the last worker has.
pub struct Writer {
    sender: Option<SyncSender<String>>,
    thread: Option<JoinHandle<()>>,
    lost: Arc<Count>,
}

impl LogSink {
    /// Whether it can be opened now, if it would be; an empty file may be left of that.
    ///
    /// # Errors
    /// [`StartError::Log`].
    pub fn check(&self) -> Result<(), StartError> {
        match self {
            Self::File(to) => opened(to.clone()).map(|_| ()),
            Self::Later(_) | Self::Off => Ok(()),
        }
    }
}

fn opened(to: LogFile) -> Result<Appender, StartError> {
    let path = to.path.clone();
    Appender::open(to).map_err(|source| StartError::Log { path, source })
}

impl Writer {
    pub fn start(sink: LogSink) -> Result<Self, StartError> {
        let lost = Arc::<Count>::default();
        let file = match sink {
            LogSink::Off => return Ok(Self { sender: None, thread: None, lost }),
            LogSink::Later(to) => Appender::closed(to),
            LogSink::File(to) => opened(to)?,
        };
        let (sender, receiver) = sync_channel(WAITING_BATCHES);
        let counted = lost.clone();
        let thread = std::thread::Builder::new()
            .name("edge-log".to_owned())
            .spawn(move || log_file::write_all(file, &receiver, &counted))
            .map_err(StartError::Thread)?;
        Ok(Self { sender: Some(sender), thread: Some(thread), lost })
    }

    /// Lines that were handed over and could not be written.
    pub fn lost(&self) -> Arc<Count> {
        self.lost.clone()
    }

    pub fn log(&self) -> Log {
        Log { batch: RefCell::default(), lines: Cell::new(0), writer: self.sender.clone() }
    }

    /// Waits until everything that workers handed over is written. All of them must have ended.
    pub fn finish(mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has been reported by the panic itself.
            let _ = thread.join();
        }
    }
}

impl Log {
    /// Is there a log at all?
    pub fn is_kept(&self, snapshot: &Snapshot) -> bool {
        self.writer.is_some() && snapshot.access_log != AccessLog::Off
    }

    pub fn write(&self, snapshot: &Snapshot, counters: &Counters, line: &Line<'_>) {
        if !self.is_kept(snapshot) {
            return;
        }
        let Some(sample) = sampled(&snapshot.log_sample, line) else {
            return counters.log_lines_left_out.add(1);
        };
        let mut batch = self.batch.borrow_mut();
        match snapshot.access_log {
            AccessLog::Json => json(&mut batch, snapshot.node.as_str(), jiff::Timestamp::now(), line, sample),
            _ => common(&mut batch, jiff::Timestamp::now(), line),
        }
        self.lines.set(self.lines.get() + 1);
        let is_large = batch.len() >= BATCH_BYTES;
        drop(batch);
        if is_large {
            self.flush(counters);
        }
    }

    /// Hands the batch over, or drops it if the writer is too far behind.
    pub fn flush(&self, counters: &Counters) {
        let lines = self.lines.take();
        let Some(writer) = self.writer.as_ref().filter(|_| lines > 0) else { return };
        let next = String::with_capacity(BATCH_BYTES + 1024);
        if writer.try_send(self.batch.replace(next)).is_err() {
            counters.log_lines_dropped.add(lines);
        }
    }
}

/// Whether a request is logged: `None` if not; [`Share::ALL`] if it is in any case, else the share that it stands for.
///
/// An error, a repetition and a slow answer are always logged; the others by their id, which is random.
fn sampled(sample: &LogSample, line: &Line<'_>) -> Option<Share> {
    let is_error = line.status >= 500 || line.status < 400 && line.why.is_some();
    if sample.share == Share::ALL || is_error || line.tries > 1 || line.total >= sample.slow {
        return Some(Share::ALL);
    }
    let random = line.id.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
    sample.share.holds(random).then_some(sample.share)
}

// Writing to a `String` cannot fail, so the results of `write!` below are not looked at.

fn json(out: &mut String, node: &str, now: jiff::Timestamp, line: &Line<'_>, sample: Share) {
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    let _ = write!(
        out,
        "{{\"time\":\"{now:.3}\",\"id\":\"{}\",\"edge\":\"{node}\",\"client\":\"{}\"",
        line.id, line.client
    );
    for (name, value) in [("method", line.method), ("host", line.host), ("path", line.path)] {
        let _ = write!(out, ",\"{name}\":\"");
        escape(out, value);
        out.push('"');
    }
    let _ =
        write!(out, ",\"scheme\":\"{}\",\"status\":{},\"bytes\":{}", line.scheme, line.status, line.bytes);
    if !line.trace.is_empty() {
        out.push_str(",\"trace\":\"");
        escape(out, line.trace);
        out.push('"');
    }
    if let Some(received) = line.received {
        let _ = write!(out, ",\"received\":{received}");
    }
    if let Some(server) = line.server {
        out.push_str(",\"server\":\"");
        escape(out, server.as_bytes());
        let _ = write!(out, "\",\"tries\":{}", line.tries);
    }
    for (name, value) in [("site", line.place.0), ("route", line.place.1)] {
        if let Some(value) = value {
            let _ = write!(out, ",\"{name}\":\"");
            escape(out, value.as_bytes());
            out.push('"');
        }
    }
    for (i, tried) in line.tried.iter().enumerate() {
        let _ = write!(out, "{}{{\"server\":\"", if i == 0 { ",\"tried\":[" } else { "," });
        escape(out, tried.server.as_bytes());
        let _ = write!(out, "\",\"result\":\"{}\",\"ms\":{:.3}}}", tried.result.label(), ms(tried.took));
    }
    if !line.tried.is_empty() {
        out.push(']');
    }
    let _ = write!(
        out,
        ",\"time_ms\":{{\"total\":{:.3},\"connect\":{:.3},\"first_byte\":{:.3}}}",
        ms(line.total),
        ms(line.connect),
        ms(line.first_byte)
    );
    if let Some(why) = line.why {
        let _ = write!(out, ",\"why\":\"{why}\"");
    }
    if sample < Share::ALL {
        let _ = write!(out, ",\"sample\":\"{sample}\"");
    }
    out.push_str("}\n");
}

/// The Common Log Format, with server, milliseconds and reason behind it, and what came in through a tunnel.
fn common(out: &mut String, now: jiff::Timestamp, line: &Line<'_>) {
    let time = now.to_zoned(jiff::tz::TimeZone::UTC).strftime("%d/%b/%Y:%H:%M:%S +0000");
    let _ = write!(out, "{} - - [{time}] \"", line.client);
    if let Some(version) = line.version {
        escape(out, line.method);
        out.push(' ');
        escape(out, line.path);
        out.push_str(match version {
            Version::Http10 => " HTTP/1.0",
            Version::Http11 => " HTTP/1.1",
            Version::Http2 => " HTTP/2.0",
        });
    } else {
        out.push('-');
    }
    let server = line.server.unwrap_or("-");
    let ms = line.total.as_secs_f64() * 1000.0;
    let _ = write!(out, "\" {} {} {server} {ms:.3} {}", line.status, line.bytes, line.why.unwrap_or("-"));
    if let Some(received) = line.received {
        let _ = write!(out, " received={received}");
    }
    out.push('\n');
}

/// Bytes of a checked head as the inside of a JSON string: printable ASCII, of which two need an escape.
fn escape(out: &mut String, text: &[u8]) {
    for &b in text {
        match b {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(b));
            }
            b' '..=b'~' => out.push(char::from(b)),
            _ => {
                let _ = write!(out, "\\u{b:04x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn lines() {
        let line = Line {
            method: b"GET",
            host: b"shop.example",
            path: b"/a\"b\x01",
            version: Some(Version::Http10),
            status: 200,
            bytes: 5,
            received: Some(7),
            place: (Some("shop.example"), Some("/")),
            tried: &[Tried { server: "b/web.1", result: Outcome::Refused, took: Duration::from_micros(250) }],
            server: Some("a/web.1"),
            tries: 2,
            total: Duration::from_micros(1500),
            why: Some("no_server"),
            ..Line::refused("00ff", IpAddr::V4(Ipv4Addr::UNSPECIFIED), "http")
        };
        let mut text = String::new();
        json(&mut text, "a", jiff::Timestamp::UNIX_EPOCH, &line, Share::of_a_million(10_000).unwrap());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["time"], "1970-01-01T00:00:00.000Z");
        assert_eq!(value["path"], "/a\"b\u{1}");
        assert_eq!(value["time_ms"]["total"], 1.5);
        assert_eq!((&value["server"], &value["tries"]), (&"a/web.1".into(), &2.into()));
        assert_eq!(value["received"], 7);
        assert_eq!((&value["site"], &value["route"]), (&"shop.example".into(), &"/".into()));
        assert_eq!(
            value["tried"],
            serde_json::json!([{"server": "b/web.1", "result": "refused", "ms": 0.25}])
        );
        assert_eq!(value["sample"], "1%");
        text.clear();
        common(&mut text, jiff::Timestamp::UNIX_EPOCH, &line);
        assert_eq!(
            text,
            "0.0.0.0 - - [01/Jan/1970:00:00:00 +0000] \"GET /a\\\"b\\u0001 HTTP/1.0\" 200 5 a/web.1 1.500 no_server received=7\n"
        );
        text.clear();
        let refused =
            Line { status: 400, ..Line::refused("00ff", IpAddr::V4(Ipv4Addr::UNSPECIFIED), "http") };
        common(&mut text, jiff::Timestamp::UNIX_EPOCH, &refused);
        assert!(text.contains("] \"-\" 400 0 - "), "{text}");
    }

    #[test]
    fn a_sample_holds_what_went_wrong_and_a_share_of_the_rest() {
        let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let line = |id| Line { status: 200, tries: 1, ..Line::refused(id, address, "http") };
        let sample = LogSample { share: Share::of_a_million(10_000).unwrap(), ..LogSample::default() };
        let (low, high) = (line("00ffffff00"), line("03ffffff00"));
        assert_eq!(sampled(&sample, &low), Some(sample.share));
        assert_eq!(sampled(&sample, &high), None);
        assert_eq!(sampled(&LogSample::default(), &high), Some(Share::ALL));
        for always in [
            Line { status: 502, ..high.clone() },
            Line { status: 0, why: Some("client_gone"), ..high.clone() },
            Line { tries: 2, ..high.clone() },
            Line { total: Duration::from_secs(1), ..high.clone() },
        ] {
            assert_eq!(sampled(&sample, &always), Some(Share::ALL), "{always:?}");
        }
        assert_eq!(sampled(&sample, &Line { status: 404, why: Some("no_route"), ..high }), None);
    }
}
