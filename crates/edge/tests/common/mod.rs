//! Clients, servers and configurations for tests over real sockets.
#![allow(dead_code, clippy::unwrap_used, reason = "test code; each file uses a part of it")]

pub mod async_server;
pub mod http2;
pub mod tls;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tiebeam_edge::*;
use tiebeam_topology::{
    AccessLog, Balancing, EdgeLimits, HealthCheck, Http2, LogSample, Proxies, Route, SiteRules, Target,
    Traces,
};

/// A free port of a loopback address that no other test process uses: a port that was given up stays unused.
pub fn loopback() -> SocketAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    ([127, 64, high, low.max(1)], 0).into()
}

/// A server that a closure plays: it gets each connection on a thread of its own.
pub struct Server {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    /// The heads of all requests.
    pub heads: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// One connection to a test server.
pub struct Peer {
    pub stream: BufReader<TcpStream>,
    heads: Arc<Mutex<Vec<String>>>,
    /// Of the server, from 1.
    pub number: usize,
}

impl Peer {
    /// Reads one request with its body; `None` at the end of the connection.
    pub fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = read_head(&mut self.stream)?;
        self.heads.lock().unwrap().push(head.clone());
        let body = read_body(&mut self.stream, &head, false)?;
        Some((head, body))
    }

    /// Reads the head alone.
    pub fn head(&mut self) -> Option<String> {
        let head = read_head(&mut self.stream)?;
        self.heads.lock().unwrap().push(head.clone());
        Some(head)
    }

    pub fn say(&mut self, text: &str) -> bool {
        self.bytes(text.as_bytes())
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    pub fn reset(self) {
        socket2::SockRef::from(self.stream.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl Server {
    pub fn start(play: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        Self::start_at(loopback(), play)
    }

    pub fn start_at(address: SocketAddr, play: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(128).unwrap();
        let listener: TcpListener = socket.into();
        let address = listener.local_addr().unwrap();
        let (connections, heads, is_over) =
            (Arc::default(), Arc::default(), Arc::new(AtomicBool::new(false)));
        let (counter, seen, over) =
            (Arc::clone(&connections), Arc::<Mutex<Vec<String>>>::clone(&heads), is_over.clone());
        let play = Arc::new(play);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let number = AtomicUsize::fetch_add(&counter, 1, Ordering::SeqCst) + 1;
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                stream.set_nodelay(true).unwrap();
                let peer = Peer { stream: BufReader::new(stream), heads: seen.clone(), number };
                let play = play.clone();
                std::thread::spawn(move || play(peer));
            }
        });
        Self { address, connections, heads, is_over, thread: Some(thread) }
    }

    /// Answers every request with 200 and `name`.
    pub fn named(name: &'static str) -> Self {
        Self::start(move |peer| serve_name(peer, name))
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Requests whose line starts so.
    pub fn asked(&self, start: &str) -> usize {
        self.heads().iter().filter(|h| h.starts_with(start)).count()
    }
}

pub fn serve_name(mut peer: Peer, name: &str) {
    while let Some((head, _)) = peer.request() {
        let body = if head.starts_with("HEAD") { "" } else { name };
        if !peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", name.len())) {
            return;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

pub fn limits() -> EdgeLimits {
    EdgeLimits::default()
}

pub fn health() -> HealthCheck {
    // A path would show up among the requests that tests count; long enough not to interfere.
    HealthCheck {
        path: None,
        every: Duration::from_secs(600),
        timeout: Duration::from_secs(1),
        fall: 2,
        rise: 1,
    }
}

/// Ends `server` once the edge's first check has found it alive, so that a request finds out that it is gone.
pub fn end_after_first_check(server: Server) {
    until("the first check", || server.connections.load(Ordering::SeqCst) > 0);
    drop(server);
}

/// One site for all names; one pool `web` of these servers, named `s0`, `s1` and so on.
pub fn config(servers: &[SocketAddr]) -> Config {
    let servers = servers
        .iter()
        .enumerate()
        .map(|(i, address)| ServerConfig::new(ServerId::new(format!("s{i}")), *address));
    let pool = PoolConfig {
        servers: servers.collect(),
        health: health(),
        reach: Reach::default(),
        app: false,
        proxy_protocol: None,
        balancing: Balancing::default(),
    };
    let route = Route::new("/", Target::Pool("web".parse().unwrap()));
    let site = SiteConfig {
        tls: None,
        clients: None,
        redirect: false,
        hsts: false,
        routes: vec![route],
        rules: SiteRules::default(),
    };
    Config {
        node: "a".parse().unwrap(),
        limits: limits(),
        http2: Http2::On,
        access_log: AccessLog::Json,
        log_sample: LogSample::default(),
        proxies: Proxies::default(),
        ticket_keys: None,
        via: true,
        traces: Traces::On,
        pages: Pages::new(),
        sites: BTreeMap::from([("*".parse().unwrap(), site)]),
        pools: BTreeMap::from([("web".parse().unwrap(), pool)]),
        secret: Some(Secret::new([7; 32])),
    }
}

pub fn start(config: Config) -> Edge {
    start_with(config, 2)
}

pub fn start_with(config: Config, workers: usize) -> Edge {
    let listeners = Listeners { http: Some(loopback()), https: None, workers };
    Edge::start(listeners, config, LogSink::Off).unwrap()
}

pub struct Client(pub BufReader<TcpStream>);

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Client {
    pub fn new(edge: &Edge) -> Self {
        let stream = TcpStream::connect(edge.addresses().http.unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next response; `None` if the connection ended before it was whole.
    pub fn response(&mut self, to_head: bool) -> Option<Response> {
        let head = read_head(&mut self.0)?;
        let body = read_body(&mut self.0, &head, to_head)?;
        let status = head[9..12].parse().unwrap();
        Some(Response { status, head, body: String::from_utf8_lossy(&body).into_owned(), bytes: body })
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.say(&format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
        self.response(false).expect("a whole response")
    }

    /// Has the edge closed the connection, with nothing more said?
    pub fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

pub fn get(edge: &Edge, path: &str) -> Response {
    Client::new(edge).get(path)
}

fn read_head(stream: &mut impl BufRead) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head).ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

pub fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (n, v) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then_some(v.trim())
    })
}

fn read_body(stream: &mut impl BufRead, head: &str, to_head: bool) -> Option<Vec<u8>> {
    let is_response = head.starts_with("HTTP/");
    if to_head
        || head.starts_with("HTTP/1.1 204")
        || head.starts_with("HTTP/1.1 304")
        || head.starts_with("HTTP/1.1 1")
    {
        return Some(Vec::new());
    }
    let mut body = Vec::new();
    if let Some(length) = field(head, "content-length") {
        body.resize(length.parse().unwrap(), 0);
        stream.read_exact(&mut body).ok()?;
    } else if field(head, "transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    } else if is_response {
        stream.read_to_end(&mut body).ok()?;
    }
    Some(body)
}

/// Waits until something is so; a test that waits in vain fails with its words.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One step of a peer that is slow on purpose.
pub fn slow_step(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until a number has not changed for a while, and returns it.
pub fn steady(number: impl Fn() -> usize) -> usize {
    let (mut last, mut since) = (number(), Instant::now());
    while since.elapsed() < Duration::from_millis(200) {
        std::thread::sleep(Duration::from_millis(5));
        if number() != last {
            (last, since) = (number(), Instant::now());
        }
    }
    last
}

pub fn server_stats(edge: &Edge, id: &str) -> ServerStats {
    edge.stats().pools[&"web".parse().unwrap()].servers[&ServerId::new(id)].clone()
}

/// Summed over the pools.
pub fn out_of_turn(stats: &Stats) -> u64 {
    stats.pools.values().map(|pool| pool.out_of_turn).sum()
}

pub fn drain(edge: &Edge, within: Duration) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(edge.drain(within));
}
