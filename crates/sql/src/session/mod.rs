//! One client from its connection to its end: batch after batch, each on the server connection that suits it.
//!
//! Started by `worker`, one task a client. What it decides is in `route`, `batch`, `exchange` and `aborted`, which do
//! no I/O; `acquire` and `pump` wait and move bytes.

mod aborted;
mod acquire;
mod batch;
mod deallocate;
mod exchange;
mod feed;
mod goodbye;
mod login;
mod lost;
mod pump;
mod read;
mod sequences;

use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use self::acquire::Stop;
use self::batch::{Batch, ReadError, Traits};
use self::exchange::Exchange;
use self::goodbye::Parting;
use self::login::{LoggedIn, Refusal};
use self::pump::End;
use self::sequences::SEQUENCE_STATE;
use crate::control::Lookup;
use crate::fresh::Floor;
use crate::pool::{Conn, Key};
use crate::prepared::Names;
use crate::route::Tried;
use crate::stats::Count;
use crate::wire::error::{SqlError, state};
use crate::worker::{Handle, LATE_MAX, LOGGING_IN_MAX, Signal, Worker};

/// A client that does not read its answers is not read from.
const UNREAD_BYTES_MAX: usize = 64 * 1024;
/// A client that says nothing for so long is asked, by TCP keepalive, whether it is there.
const CLIENT_SILENT_MAX: Duration = Duration::from_secs(30);
const CLIENT_PROBE_EVERY: Duration = Duration::from_secs(10);
/// Questions without an answer until it is gone.
const CLIENT_PROBES: u32 = 3;

struct Session {
    worker: Rc<Worker>,
    client: TcpStream,
    handle: Rc<Handle>,
    key: Rc<Key>,
    /// The client's encoding is UTF-8.
    utf8: bool,
    /// From the client.
    input: BytesMut,
    /// To the client.
    output: BytesMut,
    names: Names,
    floor: Floor,
    exchange: Exchange,
    /// What was read while no connection was attached.
    batch: Batch,
    /// What may be under way on the connection.
    flight: Traits,
    /// Bytes at the front of `input` that were sent but could be sent again elsewhere.
    sent: usize,
    /// All of the batch is still in `input`, and the client has seen nothing that came of it.
    repeatable: bool,
    /// Bytes of a large message that are still to be sent on.
    streaming: usize,
    /// Bytes of a message that must all be here before it can be sent on.
    wanted: usize,
    pinned: bool,
    /// The connection is to a replica that left the view: when it was last seen to live, and so much longer.
    left: Option<Pin<Box<Sleep>>>,
    /// The client's transaction was lost; it has not ended it yet.
    aborted: bool,
    /// The client was not told yet why: the connection broke while it asked for nothing.
    untold: Option<SqlError>,
    /// After an error: all is dropped until Sync.
    skipping: bool,
    /// Bytes of a message that is dropped.
    dropping: usize,
    /// The client said goodbye: what it sent before is still done.
    parting: Option<Parting>,
}

/// Serves one client to its end.
pub(crate) async fn run(worker: Rc<Worker>, client: TcpStream) {
    if let Err(error) = serve(worker, client).await {
        tracing::debug!(%error, "a client's connection ended");
    }
}

/// Counts a session as long as it lives.
struct Entered(Rc<Worker>);

impl Entered {
    /// `None`: there are as many as there may be.
    fn new(worker: Rc<Worker>) -> Option<Self> {
        let fits = worker.enter();
        let entered = Self(worker);
        fits.then_some(entered)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Unregisters the session at its end.
struct Registered(Rc<Worker>, Rc<Handle>);

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.unregister(&self.1);
    }
}

async fn serve(worker: Rc<Worker>, mut client: TcpStream) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    watch_client(&client)?;
    let logging_in = LoggingIn::new(worker.clone());
    if logging_in.place >= LOGGING_IN_MAX + LATE_MAX {
        worker.counters.count(Count::ClientsRefused);
        return tell(&mut client, &busy()).await;
    }
    // Who is one too many is heard before it is refused: a CancelRequest counts, and the others understand the answer.
    let refused = match logging_in.place < LOGGING_IN_MAX {
        true => worker.is_full().then(full),
        false => Some(busy()),
    };
    let logged_in = match login::log_in(&worker, &mut client, refused).await {
        Ok(logged_in) => logged_in,
        Err(Refusal::Silent) => return Ok(()),
        Err(Refusal::Tell(error)) => return tell(&mut client, &error).await,
    };
    drop(logging_in);
    let Some(_entered) = Entered::new(worker.clone()) else {
        worker.counters.count(Count::ClientsRefused);
        return tell(&mut client, &full()).await;
    };
    let Some(handle) = worker.register(login::secret()) else {
        let error = SqlError::fatal(state::TOO_MANY_CONNECTIONS, "too many sessions in one worker");
        return tell(&mut client, &error).await;
    };
    let _registered = Registered(worker.clone(), handle.clone());
    let LoggedIn { params, proof, input } = logged_in;
    let mut session = Session {
        key: worker.key(params, proof),
        worker,
        client,
        handle,
        utf8: true,
        input,
        output: BytesMut::new(),
        names: Names::default(),
        floor: Floor::Free,
        exchange: Exchange::default(),
        batch: Batch::default(),
        flight: Traits::default(),
        sent: 0,
        repeatable: false,
        streaming: 0,
        wanted: 0,
        pinned: false,
        left: None,
        aborted: false,
        untold: None,
        skipping: false,
        dropping: 0,
        parting: None,
    };
    if let Err(error) = session.welcome().await {
        return tell(&mut session.client, &error).await;
    }
    if session.key.reported.borrow().is_some() {
        // A server has let it in. If the control thread is behind, the next session of this database tells it.
        let database = Lookup::Database(session.key.database.clone());
        let _ = session.worker.shared.lookups.try_send(database);
    }
    session.batches().await
}

/// Lets the system find out that a client's machine is gone, which would otherwise keep its connections.
fn watch_client(client: &TcpStream) -> std::io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(CLIENT_SILENT_MAX)
        .with_interval(CLIENT_PROBE_EVERY)
        .with_retries(CLIENT_PROBES);
    SockRef::from(client).set_tcp_keepalive(&keepalive)
}

fn full() -> SqlError {
    SqlError::fatal(state::TOO_MANY_CONNECTIONS, "the router has as many clients as it may")
        .hint("The bound is `clients` in [sql].")
}

fn busy() -> SqlError {
    SqlError::fatal(state::TOO_MANY_CONNECTIONS, "too many clients are logging in")
        .detail(format!("A worker of the router talks to {LOGGING_IN_MAX} that have not logged in yet."))
        .hint("Try again in a moment.")
}

/// Counts a login under way.
struct LoggingIn {
    worker: Rc<Worker>,
    /// How many there were before it.
    place: usize,
}

impl LoggingIn {
    fn new(worker: Rc<Worker>) -> Self {
        let place = worker.logging_in.get();
        worker.logging_in.set(place + 1);
        Self { worker, place }
    }
}

impl Drop for LoggingIn {
    fn drop(&mut self) {
        self.worker.logging_in.set(self.worker.logging_in.get() - 1);
    }
}

/// Ends a client's connection with an error.
async fn tell(client: &mut TcpStream, error: &SqlError) -> std::io::Result<()> {
    let mut out = BytesMut::new();
    error.write(&mut out);
    client.write_all(&out).await?;
    client.shutdown().await
}

/// What the client wants next.
enum Next {
    Batch,
    Gone,
    Unreadable(ReadError),
    Drained,
}

impl Session {
    /// Tells the client what servers report at login, which also finds out whether they let this user in.
    async fn welcome(&mut self) -> Result<(), SqlError> {
        if self.key.reported.borrow().is_none() {
            match self.acquire(true, &mut Tried::default()).await {
                Ok(conn) => conn.release(Instant::now()),
                Err(Stop::Gone) => return Ok(()),
                Err(Stop::Error(error)) => return Err(SqlError { fatal: true, ..error }),
            }
        }
        let reported = self.key.reported.borrow().clone().unwrap_or_default();
        self.utf8 = reported.iter().any(|(name, value)| name == "client_encoding" && value == "UTF8");
        login::welcome(&reported, self.handle.key, &mut self.output);
        Ok(())
    }

    async fn batches(mut self) -> std::io::Result<()> {
        loop {
            match self.next_batch().await {
                Next::Batch => {}
                Next::Gone => return Ok(()),
                Next::Unreadable(error) => {
                    let error = self.unreadable(&error);
                    return self.end(&error).await;
                }
                Next::Drained => return self.end(&stopping()).await,
            }
            if self.answer_here() {
                self.input.advance(self.batch.len);
                self.batch.clear();
                continue;
            }
            if let Err(error) = self.batch_on_server().await {
                return match error {
                    Some(error) => self.end(&error).await,
                    None => Ok(()),
                };
            }
            self.batch.clear();
        }
    }

    /// Does a batch on a server, and all that follows while its connection is in use. `Err`: the session ends, with
    /// these words.
    async fn batch_on_server(&mut self) -> Result<(), Option<SqlError>> {
        let mut tried = Tried::default();
        let mut repeated = false;
        // Connections that could not be made ready are left for others, as long as a statement is held.
        let mut failing_since = None;
        // A cancel that came while nothing ran means nothing that comes now.
        self.handle.take(Signal::Cancel);
        loop {
            let read = !self.batch.traits.uncertain && self.batch.complete && !repeated;
            let mut conn = match self.acquire(read, &mut tried).await {
                Ok(conn) => conn,
                Err(Stop::Gone) => return Err(None),
                Err(Stop::Error(error)) => {
                    self.refuse_batch(&error);
                    return Ok(());
                }
            };
            if self.batch.traits.pins == Some(SEQUENCE_STATE) {
                // What other sessions took from sequences on this connection is not for this one.
                match self.forget_sequences(&mut conn).await {
                    Ok(Ok(())) => {}
                    Ok(Err(cause)) => {
                        let since = *failing_since.get_or_insert_with(Instant::now);
                        if since.elapsed() < self.worker.shared.settings.hold {
                            continue;
                        }
                        let text = format!("{}: {cause}", conn.pool().target.node);
                        let error = SqlError::error(state::CONNECTION_FAILURE, text);
                        self.refuse_batch(&error.hint("Nothing of it was done; try again."));
                        return Ok(());
                    }
                    Err(Stop::Gone) => return Err(None),
                    Err(Stop::Error(error)) => {
                        self.refuse_batch(&error);
                        return Ok(());
                    }
                }
            }
            self.flight.writes = repeated;
            match self.on_connection(&mut conn).await {
                End::Done => {
                    // One whose server said goodbye would break under its next user.
                    if self.exchange.farewell.is_none() {
                        conn.release(Instant::now());
                    }
                    return Ok(());
                }
                End::Unsent => continue,
                End::Elsewhere(error) if !repeated => {
                    tracing::debug!(%error, "a read is repeated on the primary");
                    repeated = true;
                }
                End::Broken(cause) if self.repeatable && !repeated && !self.pinned => {
                    tracing::debug!(cause, "a read is repeated on the primary");
                    conn.pool().counters.errors.add(1);
                    repeated = true;
                }
                End::Elsewhere(error) => {
                    self.forget_sent();
                    return self.lost(&conn, error.to_string());
                }
                End::Broken(cause) => {
                    conn.pool().counters.errors.add(1);
                    self.forget_sent();
                    return self.lost(&conn, cause);
                }
                End::Refuse(error) => {
                    self.forget_sent();
                    self.fail(&error, true);
                    return Ok(());
                }
                End::Gone => {
                    if self.exchange.is_idle() {
                        conn.server.part();
                    }
                    return Err(None);
                }
                End::Unreadable(error) => return Err(Some(self.unreadable(&error))),
                End::Drained => return Err(Some(stopping())),
            }
            self.worker.counters.count(Count::ReadsRepeated);
            self.output.clear();
            self.sent = 0;
            self.batch.start_again();
        }
    }

    async fn on_connection(&mut self, conn: &mut Conn) -> End {
        self.exchange.reset();
        self.left = self.has_left(conn).then(|| self.patience());
        // What came while the connection was waited for counts now; later, something is under way.
        self.handle.take(Signal::View);
        if self.is_stranded(conn) {
            return End::Unsent;
        }
        if let Some(what) = self.batch.traits.pins {
            // Not before: a session that then gets no connection has nothing it could be pinned to.
            self.pin(what);
        }
        if self.output.capacity() == 0 {
            self.output = self.worker.buffer();
        }
        self.handle.attached.replace(Some(conn.info.clone()));
        self.flight.and(self.batch.traits);
        // Only what a replica was asked, as it cannot have written: a function on the primary may, whatever its label
        // says. What the client has not read yet must not be dropped with a batch that is sent elsewhere.
        let may_repeat = conn.pool().replica && !self.batch.traits.uncertain;
        self.repeatable = may_repeat && self.batch.complete && self.output.is_empty();
        let end = match self.feed(conn) {
            Ok(_) => self.pump(conn).await,
            Err(end) => end,
        };
        self.handle.attached.replace(None);
        end
    }

    fn pin(&mut self, what: &'static str) {
        if !self.pinned {
            self.pinned = true;
            self.worker.counters.count(Count::Pinned);
            tracing::debug!(what, "a session is pinned to its server connection");
        }
    }

    fn unreadable(&self, error: &ReadError) -> SqlError {
        if matches!(error, ReadError::Names) {
            self.worker.counters.count(Count::NamesRefused);
        }
        error.to_sql()
    }

    /// The last words to the client.
    async fn end(mut self, error: &SqlError) -> std::io::Result<()> {
        error.write(&mut self.output);
        self.client.write_all(&self.output).await?;
        self.client.shutdown().await
    }
}

fn stopping() -> SqlError {
    SqlError::fatal(state::ADMIN_SHUTDOWN, "the router is stopping").hint("Connect again.")
}
