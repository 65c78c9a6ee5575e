//! The demo's client: keeps reading and writing numbered rows through all edges, as browsers would that know several
//! addresses of one name: half of them began with the first; a refused connection is tried at the next address, a read
//! may be sent again, a write never.
//!
//! It notes only what it saw itself; nothing here looks inside the cluster.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use tiebeam_topology::NodeName;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::http::{Client, NoAnswer};
use super::receipt::Tally;
use crate::cli::demo_app::{Count, Reader, Written};

/// The longest that the client waits for one answer: more than the routers hold a write.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// Writers and readers, each with one request under way at a time.
const WRITERS: usize = 4;
const READERS: usize = 4;
/// Between two requests of one of them, so that a small machine has time for the cluster itself.
const PAUSE: Duration = Duration::from_millis(10);

/// Between two tries to see the first page.
const PAGE_EVERY: Duration = Duration::from_millis(200);

/// An answer with status 200 that is not what the application says.
const NOT_THE_APP: &str = "an answer that is not the application's";

/// What all clients saw, and the clock that they share.
pub struct Notes {
    tally: Mutex<Tally>,
    started: Instant,
}

impl Notes {
    pub fn new() -> Self {
        Self { tally: Mutex::default(), started: Instant::now() }
    }

    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut Tally) -> T) -> T {
        // A panic elsewhere leaves whole numbers behind: each note is one short step.
        f(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn answered(&self, app: String) {
        self.with(|t| {
            t.requests.ok += 1;
            *t.answered_by.entry(app).or_default() += 1;
        });
    }

    fn read_by(&self, reader: &Reader) {
        self.with(|t| match reader.name.parse::<NodeName>() {
            Ok(node) if reader.replica => *t.reads.entry(node).or_default() += 1,
            _ => t.primary_reads += 1,
        });
    }
}

/// The running load. Dropping it stops it at once; [`Load::stop`] lets each client finish its request.
pub struct Load {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Load {
    /// Starts the writers and readers; rows are numbered from `first_row`.
    pub fn start(edges: Vec<SocketAddr>, first_row: i64, notes: Arc<Notes>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let next_row = Arc::new(AtomicI64::new(first_row));
        let mut tasks = JoinSet::new();
        for n in 0..WRITERS + READERS {
            let mut session = Session {
                clients: edges.iter().map(|&e| Client::new(e)).collect(),
                home: n % edges.len().max(1),
                notes: notes.clone(),
            };
            let (stopped, next_row) = (stopped.clone(), next_row.clone());
            tasks.spawn(async move {
                while !*stopped.borrow() {
                    if n < WRITERS {
                        session.write(next_row.fetch_add(1, Ordering::Relaxed)).await;
                    } else {
                        session.read().await;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self { tasks, stop }
    }

    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// One client: as a browser does, it stays with the edge that it found first, as long as that answers.
struct Session {
    clients: Vec<Client>,
    home: usize,
    notes: Arc<Notes>,
}

impl Session {
    async fn write(&mut self, row: i64) {
        let answer = self.ask(Method::POST, &format!("/rows?n={row}")).await;
        let written = match answer {
            Ok(body) => serde_json::from_slice::<Written>(&body).map_err(|_| NOT_THE_APP.to_owned()),
            Err(error) => {
                if let NoAnswer::Broken(..) = error {
                    self.notes.with(|t| t.unknown += 1);
                }
                Err(error.why())
            }
        };
        let now_ms = self.notes.now_ms();
        match written {
            Ok(written) => {
                self.notes.with(|t| {
                    t.stale_reads += u64::from(!written.seen);
                    t.acknowledge(row, now_ms);
                });
                if let Some(reader) = &written.reader {
                    self.notes.read_by(reader);
                }
                self.notes.answered(written.app);
            }
            Err(why) => self.notes.with(|t| t.fail(now_ms, format!("write: {why}"))),
        }
    }

    async fn read(&mut self) {
        let answer = self.ask(Method::GET, "/count").await.map_err(|e| e.why());
        let count = answer
            .and_then(|body| serde_json::from_slice::<Count>(&body).map_err(|_| NOT_THE_APP.to_owned()));
        match count {
            Ok(count) => {
                self.notes.read_by(&count.reader);
                self.notes.answered(count.app);
            }
            Err(why) => self.notes.with(|t| t.fail(self.notes.now_ms(), format!("read: {why}"))),
        }
    }

    /// One request through the client's edge, or through the next ones as long as that is safe. An answer that is not
    /// 200 is [`NoAnswer::Broken`]: it proves nothing.
    async fn ask(&mut self, method: Method, path: &str) -> Result<Bytes, NoAnswer> {
        self.notes.with(|t| t.requests.sent += 1);
        let (first, edges) = (self.home, self.clients.len());
        let mut last = None;
        for n in 0..edges {
            let client = &mut self.clients[(first + n) % edges];
            match client.ask(method.clone(), path, ANSWER_TIME).await {
                Ok((StatusCode::OK, body)) => return Ok(body),
                Ok((status, body)) => {
                    let words =
                        String::from_utf8_lossy(&body[..body.len().min(80)]).replace(char::is_control, " ");
                    return Err(NoAnswer::Broken(client.address(), format!("{status}: {words}")));
                }
                Err(error) => {
                    let again = matches!(error, NoAnswer::Unsent(..)) || method == Method::GET;
                    last = Some(error);
                    if !again {
                        break;
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            NoAnswer::Unsent(([127, 0, 0, 1], 0).into(), std::io::ErrorKind::AddrNotAvailable.into())
        }))
    }
}

/// Asks until some edge answers with the application's page.
pub async fn first_page(edges: &[SocketAddr]) {
    loop {
        for &edge in edges {
            let answer = Client::new(edge).ask(Method::GET, "/", Duration::from_secs(1)).await;
            if answer.is_ok_and(|(status, _)| status == StatusCode::OK) {
                return;
            }
        }
        tokio::time::sleep(PAGE_EVERY).await;
    }
}

/// Every row that is there, read through the first edge that answers, patiently: this is the proof.
pub async fn read_back(edges: &[SocketAddr], patience: Duration) -> anyhow::Result<BTreeSet<i64>> {
    let until = Instant::now() + patience;
    let mut last = anyhow::anyhow!("there is no edge");
    while Instant::now() < until {
        for &edge in edges {
            match rows_between(edge, i64::MIN, i64::MAX).await {
                Ok(rows) => return Ok(rows),
                Err(error) => last = error,
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Err(last.context("the rows could not be read back"))
}

/// Every row with a number above `after`, a page at a time, through one edge, and none beyond the page that reaches `last`:
/// whoever asks while rows are written would never come to their end.
pub async fn rows_between(edge: SocketAddr, after: i64, last: i64) -> anyhow::Result<BTreeSet<i64>> {
    let client = &mut Client::new(edge);
    let mut rows = BTreeSet::new();
    loop {
        let after = rows.last().copied().unwrap_or(after);
        let (status, body) = client.ask(Method::GET, &format!("/rows?after={after}"), ANSWER_TIME).await?;
        if status != StatusCode::OK {
            bail!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(200)]));
        }
        let page: Vec<i64> = serde_json::from_slice(&body).context("the list of rows")?;
        let is_last = page.last().is_none_or(|&row| row >= last);
        rows.extend(page);
        if is_last {
            return Ok(rows);
        }
    }
}
