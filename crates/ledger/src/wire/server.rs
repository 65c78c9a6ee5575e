//! Takes the peers' connections. Who has no certificate of the cluster, is no node of it, or means another cluster is
//! refused, with the reason; nothing is allocated for it beyond a handshake of bounded number and time.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tiebeam_topology::{ClusterName, NodeName};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::frame::{self, FRAME_MAX_BYTES, HELLO_MAX_BYTES};
use super::identity::node_of;
use super::message::{Ask, Hello, PROTOCOL, Reply, Welcome};
use crate::Peer;
use crate::status::Tally;

/// From the accepted connection to the peer's first message.
const HANDSHAKE_TIME: Duration = Duration::from_secs(2);
/// Asks of one peer that are worked on at once; more wait in its connection.
pub(super) const WORKING_MAX: usize = 64;
/// A peer that does not take an answer for so long is disconnected.
pub(super) const WRITE_TIME: Duration = Duration::from_secs(5);

/// Handshakes beyond `Server::connections_max` for each address that a peer has in the file, so that a crowd of strangers
/// cannot keep the peers out.
const RESERVED_PER_ADDRESS: usize = 4;
/// Refusals are told at most so often; those between are counted.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What answers the peers.
#[async_trait]
pub(crate) trait Handler: Send + Sync + 'static {
    async fn answer(&self, from: &NodeName, ask: Ask) -> Reply;
}

/// See the module.
pub(crate) struct Server {
    pub cluster: ClusterName,
    pub node: NodeName,
    pub peers: BTreeMap<NodeName, Peer>,
    pub tls: Arc<rustls::ServerConfig>,
    pub connections_max: usize,
    pub handler: Arc<dyn Handler>,
    pub tally: Arc<Tally>,
    /// The one connection of each peer that is connected. `None` after the end.
    pub connected: Mutex<Option<HashMap<NodeName, AbortHandle>>>,
    pub refusals: Mutex<Refusals>,
}

impl Server {
    /// Accepts until `stop` says true, then ends every connection.
    pub async fn run(self: Arc<Self>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.accept(&listener) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        // Who is still in its handshake is turned away after it: `attach`.
        for connection in self.connected().take().into_iter().flat_map(HashMap::into_values) {
            connection.abort();
        }
    }

    async fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let anyone = Arc::new(Semaphore::new(self.connections_max));
        let others = self.peers.iter().filter(|(name, _)| **name != self.node);
        let reserved: HashMap<IpAddr, Arc<Semaphore>> = others
            .map(|(_, peer)| (peer.address.ip(), Arc::new(Semaphore::new(RESERVED_PER_ADDRESS))))
            .collect();
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Such as too many open files: waiting is all that helps.
                    tracing::warn!("the ledger cannot accept a connection: {error}; it goes on in 100 ms");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let free = |room: &Arc<Semaphore>| room.clone().try_acquire_owned().ok();
            let Some(permit) = free(&anyone).or_else(|| reserved.get(&from.ip()).and_then(free)) else {
                self.tally.crowded.fetch_add(1, Ordering::Relaxed);
                self.tell_refusal(from, "there are too many that have not said who they are");
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                let greeted = timeout(HANDSHAKE_TIME, server.greet(stream)).await;
                drop(permit);
                match greeted.unwrap_or_else(|_| Err("it took longer than 2 s to say who it is".into())) {
                    Ok((node, stream)) => server.attach(node, stream),
                    Err(reason) => {
                        server.tally.refused.fetch_add(1, Ordering::Relaxed);
                        server.tell_refusal(from, &reason);
                    }
                }
            });
        }
    }

    async fn greet(&self, stream: TcpStream) -> Result<(NodeName, TlsStream<TcpStream>), String> {
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let acceptor = TlsAcceptor::from(self.tls.clone());
        let mut stream =
            acceptor.accept(stream).await.map_err(|e| format!("its TLS handshake failed: {e}"))?;
        let node = node_of(stream.get_ref().1.peer_certificates(), &self.peers);
        let hello = frame::read::<Hello>(&mut stream, HELLO_MAX_BYTES).await;
        let hello = hello.map(|(_, hello)| hello).map_err(|e| format!("it did not say who it is: {e}"));
        let verdict = node.and_then(|node| hello.and_then(|hello| self.judge(&node, &hello)).map(|()| node));
        let welcome: Welcome =
            verdict.as_ref().map(|_| ()).map_err(|reason| format!("{} refuses: {reason}", self.node));
        let frame = frame::encode(0, &welcome).map_err(|e| e.to_string())?;
        let answered = async {
            stream.write_all(&frame).await?;
            stream.flush().await
        };
        let answered: io::Result<()> = answered.await;
        let node = verdict?;
        answered.map_err(|e| e.to_string())?;
        Ok((node, stream))
    }

    fn judge(&self, node: &NodeName, hello: &Hello) -> Result<(), String> {
        if hello.cluster != self.cluster {
            return Err(format!("it belongs to cluster {}, this is cluster {}", hello.cluster, self.cluster));
        }
        if hello.protocol != PROTOCOL {
            return Err(format!("it speaks protocol {}, this node speaks {PROTOCOL}", hello.protocol));
        }
        if hello.from != *node {
            return Err(format!("it calls itself {}, its certificate is for {node}", hello.from));
        }
        if hello.to != self.node {
            return Err(format!("it looks for node {}, this is node {}", hello.to, self.node));
        }
        Ok(())
    }

    /// Serves the connection; the node's former one, which it has given up, is ended.
    fn attach(self: &Arc<Self>, node: NodeName, stream: TlsStream<TcpStream>) {
        let mut connected = self.connected();
        let Some(connected) = connected.as_mut() else { return };
        self.tally.accepted.fetch_add(1, Ordering::Relaxed);
        let handler = self.handler.clone();
        let from = node.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = serve(handler, &from, stream).await {
                tracing::debug!(peer = %from, "the connection of a peer ended: {error}");
            }
        });
        if let Some(former) = connected.insert(node, task.abort_handle()) {
            former.abort();
        }
    }

    fn tell_refusal(&self, from: SocketAddr, reason: &str) {
        let untold = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).tell(Instant::now());
        match untold {
            None => {}
            Some(0) => tracing::warn!(address = %from, "the ledger refused a connection: {reason}"),
            Some(untold) => {
                tracing::warn!(address = %from, "the ledger refused a connection: {reason}; {untold} more since the last line");
            }
        }
    }

    fn connected(&self) -> MutexGuard<'_, Option<HashMap<NodeName, AbortHandle>>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which refusals are told.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told: Option<Instant>,
    untold: u64,
}

impl Refusals {
    /// Of one more: how many were not told since the last that was, if this one is to be told.
    fn tell(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < TELL_EVERY) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

async fn serve(handler: Arc<dyn Handler>, from: &NodeName, stream: TlsStream<TcpStream>) -> io::Result<()> {
    let (asks, to) = tokio::io::split(stream);
    let (answers, outgoing) = mpsc::channel(WORKING_MAX);
    tokio::select! {
        ended = read_asks(handler, from, asks, answers) => ended,
        ended = write_answers(to, outgoing) => ended,
    }
}

async fn read_asks(
    handler: Arc<dyn Handler>,
    from: &NodeName,
    mut asks: ReadHalf<TlsStream<TcpStream>>,
    answers: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let working = Arc::new(Semaphore::new(WORKING_MAX));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let (number, ask) = frame::read::<Ask>(&mut asks, FRAME_MAX_BYTES).await?;
        // The semaphore is never closed; should it be, the connection ends.
        let permit = working.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (handler, from, answers) = (handler.clone(), from.clone(), answers.clone());
        tasks.spawn(async move {
            let reply = handler.answer(&from, ask).await;
            let frame = frame::encode(number, &reply).or_else(|e| {
                frame::encode(number, &Reply::Unable(format!("the answer cannot be sent: {e}")))
            });
            if let Ok(frame) = frame {
                // Fails when the connection has ended.
                let _ = answers.send(frame).await;
            }
            drop(permit);
        });
        while tasks.try_join_next().is_some() {}
    }
}

async fn write_answers(
    mut to: WriteHalf<TlsStream<TcpStream>>,
    mut outgoing: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(frame) = outgoing.recv().await {
        let write = async {
            to.write_all(&frame).await?;
            to.flush().await
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the peer does not take its answers");
        timeout(WRITE_TIME, write).await.map_err(|_| late())??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_told_in_one_line() {
        let mut refusals = Refusals::default();
        let begun = Instant::now();
        // (seconds, is told with so many more)
        for (seconds, told) in
            [(0, Some(0)), (1, None), (9, None), (10, Some(2)), (19, None), (40, Some(1)), (90, Some(0))]
        {
            assert_eq!(refusals.tell(begun + Duration::from_secs(seconds)), told, "{seconds}");
        }
    }
}
