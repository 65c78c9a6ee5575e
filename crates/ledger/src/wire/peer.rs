//! The connection to one peer: kept up by one task, used by everyone at once.
//!
//! A call that was not sent says so, because it may safely be made again; a call that was sent and has no answer is
//! [`CallError::Lost`]: it may have been carried out.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::frame::{self, FRAME_MAX_BYTES, HELLO_MAX_BYTES};
use super::message::{Ask, Hello, Reply, Welcome};

/// Calls that wait to be sent to a peer.
pub(super) const QUEUE_MAX: usize = 256;
/// Calls that were sent to a peer and have no answer.
pub(super) const PENDING_MAX: usize = 512;
/// From the first packet to the peer's welcome.
const CONNECT_TIME: Duration = Duration::from_secs(1);
/// Between two attempts: doubled from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A peer that owes an answer and says nothing at all for so long is connected to anew.
pub(super) const SILENCE_TIME: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(250);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("not sent: {0}")]
    NotSent(String),
    #[error("sent, but without an answer: {0}")]
    Lost(String),
}

/// Whom to connect to, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub address: SocketAddr,
    /// The DNS name that the peer's certificate must have.
    pub identity: ServerName<'static>,
    pub hello: Hello,
    pub tls: Arc<rustls::ClientConfig>,
}

/// A handle to the connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    calls: mpsc::Sender<Call>,
}

#[derive(Debug)]
struct Call {
    frame: Vec<u8>,
    reply: oneshot::Sender<Result<Reply, CallError>>,
}

impl Peer {
    /// Starts connecting, until `stop` says true.
    pub fn start(target: Target, mut stop: watch::Receiver<bool>) -> Self {
        let (calls, queue) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(async move {
            tokio::select! {
                () = keep_connected(target, queue) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
        Self { calls }
    }

    /// Asks the peer and waits for its answer, at most for `time`.
    pub async fn call(&self, ask: &Ask, time: Duration) -> Result<Reply, CallError> {
        let mut answer = self.begin(ask)?;
        let late = || Err(CallError::Lost(format!("no answer within {} ms", time.as_millis())));
        timeout(time, answer.wait()).await.unwrap_or_else(|_| late())
    }

    /// Asks the peer; the answer may be waited for later.
    pub fn begin(&self, ask: &Ask) -> Result<Awaited, CallError> {
        let frame = frame::encode(0, ask).map_err(|e| CallError::NotSent(e.to_string()))?;
        let (reply, answer) = oneshot::channel();
        let full = || CallError::NotSent("too many calls wait for this peer".into());
        self.calls.try_send(Call { frame, reply }).map_err(|_| full())?;
        Ok(Awaited(answer))
    }
}

/// The answer to a call that is under way.
#[derive(Debug)]
pub(crate) struct Awaited(oneshot::Receiver<Result<Reply, CallError>>);

impl Awaited {
    /// May be given up and begun again, until it has answered.
    pub async fn wait(&mut self) -> Result<Reply, CallError> {
        let stopped = || CallError::Lost("this node is shutting down".into());
        (&mut self.0).await.unwrap_or_else(|_| Err(stopped()))
    }
}

async fn keep_connected(target: Target, mut queue: mpsc::Receiver<Call>) {
    let mut wait = BACKOFF.0;
    let mut told = false;
    loop {
        let connecting = timeout(CONNECT_TIME, connect(&target));
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection within a second");
        let connected = refusing(&mut queue, connecting).await.unwrap_or_else(|_| Err(late()));
        let ended = match connected {
            Ok(stream) => {
                wait = BACKOFF.0;
                told = false;
                tracing::debug!(peer = %target.hello.to, "connected to the ledger of a peer");
                serve(stream, &mut queue).await
            }
            Err(error) => error,
        };
        // Once for each time that a peer goes away: a peer that is down for a day is one line.
        if !told {
            told = true;
            let (peer, address) = (&target.hello.to, target.address);
            tracing::warn!(%peer, %address, "no connection to the ledger of a peer: {ended}; it is tried again");
        }
        refusing(&mut queue, tokio::time::sleep(wait)).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Waits for `work` and meanwhile refuses all calls at once: whoever calls has other ways.
async fn refusing<T>(queue: &mut mpsc::Receiver<Call>, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(call) = queue.recv() => {
                let _ = call.reply.send(Err(CallError::NotSent("there is no connection to this peer".into())));
            }
        }
    }
}

async fn connect(target: &Target) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(target.tls.clone());
    let mut stream = connector.connect(target.identity.clone(), stream).await?;
    stream.write_all(&frame::encode(0, &target.hello)?).await?;
    stream.flush().await?;
    let (_, welcome): (u64, Welcome) = frame::read(&mut stream, HELLO_MAX_BYTES).await?;
    welcome.map_err(|reason| io::Error::new(io::ErrorKind::PermissionDenied, reason))?;
    Ok(stream)
}

struct Pending {
    reply: oneshot::Sender<Result<Reply, CallError>>,
    sent: Instant,
}

/// Carries calls and answers until the connection ends; gives the reason.
async fn serve(stream: TlsStream<TcpStream>, queue: &mut mpsc::Receiver<Call>) -> io::Error {
    let (from, mut to) = tokio::io::split(stream);
    let (heard, mut replies) = mpsc::channel(16);
    let reader = tokio::spawn(read_replies(from, heard));
    let mut pending: HashMap<u64, Pending> = HashMap::new();
    let mut number = 0;
    let mut last_heard = Instant::now();
    let mut tick = tokio::time::interval(TICK);
    let ended = loop {
        tokio::select! {
            reply = replies.recv() => match reply {
                Some(Ok((number, reply))) => {
                    last_heard = Instant::now();
                    if let Some(waiting) = pending.remove(&number) {
                        let _ = waiting.reply.send(Ok(reply));
                    }
                }
                Some(Err(error)) => break error,
                None => break io::ErrorKind::UnexpectedEof.into(),
            },
            Some(mut call) = queue.recv() => {
                if pending.len() >= PENDING_MAX {
                    let _ = call.reply.send(Err(CallError::NotSent("too many calls to this peer are in flight".into())));
                    continue;
                }
                number += 1;
                call.frame[4..12].copy_from_slice(&u64::to_le_bytes(number));
                pending.insert(number, Pending { reply: call.reply, sent: Instant::now() });
                if let Err(error) = send(&mut to, &call.frame).await {
                    break error;
                }
            }
            _ = tick.tick() => {
                pending.retain(|_, waiting| !waiting.reply.is_closed() || waiting.sent.elapsed() < SILENCE_TIME);
                let owed = pending.values().map(|waiting| waiting.sent.elapsed()).max().unwrap_or_default();
                if owed > SILENCE_TIME && last_heard.elapsed() > SILENCE_TIME {
                    break io::Error::new(io::ErrorKind::TimedOut, "the peer owes an answer and says nothing");
                }
            }
        }
    };
    reader.abort();
    for waiting in pending.into_values() {
        let _ = waiting.reply.send(Err(CallError::Lost(ended.to_string())));
    }
    ended
}

async fn send(to: &mut WriteHalf<TlsStream<TcpStream>>, frame: &[u8]) -> io::Result<()> {
    let write = async {
        to.write_all(frame).await?;
        to.flush().await
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the peer does not take what is sent to it");
    timeout(SILENCE_TIME, write).await.map_err(|_| late())?
}

async fn read_replies(
    mut from: ReadHalf<TlsStream<TcpStream>>,
    heard: mpsc::Sender<io::Result<(u64, Reply)>>,
) {
    loop {
        let reply = frame::read(&mut from, FRAME_MAX_BYTES).await;
        let last = reply.is_err();
        if heard.send(reply).await.is_err() || last {
            return;
        }
    }
}
