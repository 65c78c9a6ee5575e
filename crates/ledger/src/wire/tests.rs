//! Tests of the bounds between two nodes: a peer that says nothing, takes nothing, or is asked too much.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tiebeam_topology::NodeName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::frame;
use super::message::{Ask, Hello, PROTOCOL, Reply};
use super::peer::{CallError, PENDING_MAX, Peer, QUEUE_MAX, SILENCE_TIME, Target};
use super::server::{Handler, Server, WORKING_MAX, WRITE_TIME};
use super::testing::tls;

/// What the asked node does.
enum Does {
    /// Never answers.
    Nothing,
    /// Answers with so many bytes.
    Says(usize),
}

struct Desk {
    does: Does,
    working: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Handler for Desk {
    async fn answer(&self, _: &NodeName, _: Ask) -> Reply {
        let working = self.working.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(working, Ordering::SeqCst);
        match self.does {
            Does::Nothing => std::future::pending().await,
            Does::Says(bytes) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                self.working.fetch_sub(1, Ordering::SeqCst);
                Reply::Unable("x".repeat(bytes))
            }
        }
    }
}

/// Node a, which is asked, and what node b needs to ask it.
struct Pair {
    desk: Arc<Desk>,
    target: Target,
    stop: watch::Sender<bool>,
    connected: Arc<Server>,
}

impl Pair {
    async fn new(does: Does) -> Self {
        let (server, client) = tls("a.test", "b.test");
        let name = |text: &str| text.parse::<NodeName>().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer =
            |node: &str| (name(node), crate::Peer { address, identity: format!("{node}.test"), voter: true });
        let desk = Arc::new(Desk { does, working: AtomicUsize::new(0), most: AtomicUsize::new(0) });
        let stop = watch::Sender::new(false);
        let server = Arc::new(Server {
            cluster: "shop".parse().unwrap(),
            node: name("a"),
            peers: BTreeMap::from([peer("a"), peer("b")]),
            tls: server,
            connections_max: 8,
            handler: desk.clone(),
            tally: Arc::default(),
            connected: Mutex::new(Some(HashMap::new())),
            refusals: Mutex::default(),
        });
        tokio::spawn(server.clone().run(listener, stop.subscribe()));
        let hello =
            Hello { protocol: PROTOCOL, cluster: "shop".parse().unwrap(), from: name("b"), to: name("a") };
        let target =
            Target { address, identity: ServerName::try_from("a.test").unwrap(), hello, tls: client };
        Self { desk, target, stop, connected: server }
    }

    /// A peer that is connected.
    async fn peer(&self) -> Peer {
        let peer = Peer::start(self.target.clone(), self.stop.subscribe());
        let served = || self.connected.tally.accepted.load(Ordering::Relaxed) > 0;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !served() {
            assert!(Instant::now() < deadline, "not connected");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Accepted there is connected here as soon as the welcome has been read.
        while let Err(CallError::NotSent(_)) = peer.call(&Ask::Pulse, Duration::from_millis(20)).await {
            assert!(Instant::now() < deadline, "not welcomed");
        }
        peer
    }
}

fn large() -> Ask {
    let value = vec![7; 1 << 20];
    let txn = crate::Txn::put("k".parse().unwrap(), value);
    Ask::Propose(crate::state::Proposal { request: None, command: crate::state::Command::Transact(txn) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_owes_an_answer_and_is_silent_is_connected_to_anew() {
    let pair = Pair::new(Does::Nothing).await;
    let peer = pair.peer().await;
    let begun = Instant::now();
    let error = peer.call(&Ask::Pulse, SILENCE_TIME * 5).await.unwrap_err();
    assert_eq!(error, CallError::Lost("the peer owes an answer and says nothing".into()));
    assert!(begun.elapsed() >= SILENCE_TIME / 2, "{:?}", begun.elapsed());
    let served = || pair.connected.tally.accepted.load(Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(10);
    while served() < 2 {
        assert!(Instant::now() < deadline, "not connected again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_worked_for_at_a_bounded_number_of_asks_at_once() {
    let pair = Pair::new(Does::Says(10)).await;
    let peer = pair.peer().await;
    let asks: Vec<_> = (0..QUEUE_MAX).filter_map(|_| peer.begin(&Ask::Pulse).ok()).collect();
    assert!(asks.len() > WORKING_MAX * 2, "{}", asks.len());
    for mut ask in asks {
        ask.wait().await.unwrap();
    }
    assert_eq!(pair.desk.most.load(Ordering::SeqCst), WORKING_MAX);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_a_peer_without_answers_are_bounded_and_refused_as_not_sent() {
    let pair = Pair::new(Does::Nothing).await;
    let peer = pair.peer().await;
    let mut calls = tokio::task::JoinSet::new();
    while calls.len() < PENDING_MAX + 20 {
        match peer.begin(&Ask::Pulse) {
            Ok(mut answer) => drop(calls.spawn(async move { answer.wait().await })),
            // The queue is full for a moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    // The others are lost later, when the silence has lasted too long.
    let refused = timeout(SILENCE_TIME / 2, calls.join_next()).await.unwrap();
    let refused = refused.unwrap().unwrap().unwrap_err();
    assert_eq!(refused, CallError::NotSent("too many calls to this peer are in flight".into()));
}

/// It reads no further when it has enough to do; then what is sent to it piles up here, and it is given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_nothing_is_given_up_and_the_queue_to_it_is_bounded() {
    let pair = Pair::new(Does::Nothing).await;
    let peer = pair.peer().await;
    let mut waiting = Vec::new();
    for _ in 0..WORKING_MAX + 2 {
        waiting.push(peer.begin(&Ask::Pulse).unwrap());
    }
    // Enough to fill what the connection holds on its way.
    for _ in 0..24 {
        waiting.push(peer.begin(&large()).unwrap());
    }
    let full = loop {
        match peer.begin(&Ask::Pulse) {
            Ok(answer) => waiting.push(answer),
            Err(error) => break error,
        }
        assert!(waiting.len() < PENDING_MAX * 4, "the queue takes everything");
        tokio::task::yield_now().await;
    };
    assert_eq!(full, CallError::NotSent("too many calls wait for this peer".into()));
    let mut first = waiting.swap_remove(0);
    let lost = timeout(SILENCE_TIME * 5, first.wait()).await.unwrap().unwrap_err();
    // Whichever of the two is noticed first.
    let reasons = ["the peer does not take what is sent to it", "the peer owes an answer and says nothing"];
    assert!(reasons.iter().any(|reason| lost == CallError::Lost((*reason).into())), "{lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_no_answers_is_disconnected() {
    let pair = Pair::new(Does::Says(1 << 20)).await;
    let mut stream = connect(&pair.target, pair.target.tls.clone()).await;
    let ask = frame::encode(1, &Ask::Pulse).unwrap();
    for _ in 0..WORKING_MAX {
        stream.write_all(&ask).await.unwrap();
    }
    stream.flush().await.unwrap();
    tokio::time::sleep(WRITE_TIME + Duration::from_secs(2)).await;
    let mut taken = 0;
    let mut piece = vec![0; 1 << 16];
    let ended = timeout(Duration::from_secs(10), async {
        loop {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(read) => taken += read,
            }
        }
    });
    ended.await.unwrap();
    assert!(taken < WORKING_MAX << 20, "all was sent in the end");
}

async fn connect(target: &Target, tls: Arc<ClientConfig>) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(target.address).await.unwrap();
    let mut stream = TlsConnector::from(tls).connect(target.identity.clone(), stream).await.unwrap();
    stream.write_all(&frame::encode(0, &target.hello).unwrap()).await.unwrap();
    let mut welcome = [0; 13];
    stream.read_exact(&mut welcome).await.unwrap();
    assert_eq!(welcome[12], 0, "not welcome");
    stream
}

/// Who was in its handshake while the node ended gets no connection that outlives it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_served_after_the_end() {
    let pair = Pair::new(Does::Says(1)).await;
    let mut stream = connect(&pair.target, pair.target.tls.clone()).await;
    let tcp = TcpStream::connect(pair.target.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    pair.stop.send_replace(true);
    let mut byte = [0; 1];
    let ended = timeout(Duration::from_secs(5), stream.read(&mut byte)).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    // The other comes to the end of its handshake only now.
    let late = async {
        let tls = TlsConnector::from(pair.target.tls.clone());
        let mut stream = tls.connect(pair.target.identity.clone(), tcp).await?;
        stream.write_all(&frame::encode(0, &pair.target.hello)?).await?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await
    };
    // Closed with or without a farewell, and never held.
    let _ = timeout(Duration::from_secs(5), late).await.unwrap();
    assert_eq!(pair.connected.tally.accepted.load(Ordering::Relaxed), 1);
}
