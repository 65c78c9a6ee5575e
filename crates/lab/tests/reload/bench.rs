//! Servers behind the node, and clients before it that notice every failure.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, StreamOwned};
use tiebeam_lab::until;

const TIME: Duration = Duration::from_secs(20);

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Answers everything with its name, and echoes what comes through a WebSocket.
pub struct Server {
    pub address: SocketAddr,
}

impl Server {
    pub fn named(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream, name));
            }
        });
        Self { address }
    }
}

fn serve(mut stream: TcpStream, name: &str) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    while let Some(head) = head(&mut reader) {
        if head.contains("websocket") {
            let switch =
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.write_all(switch.as_bytes()).ok()?;
            std::io::copy(&mut reader, &mut stream).ok()?;
            return Some(());
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        stream.write_all(answer.as_bytes()).ok()?;
    }
    Some(())
}

fn head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn connect(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(TIME)).unwrap();
    stream.set_nodelay(true).unwrap();
    Some(stream)
}

fn ask<S: Read + Write>(stream: &mut BufReader<S>, close: &str) -> Option<(String, String)> {
    let request = format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{close}\r\n");
    stream.get_mut().write_all(request.as_bytes()).ok()?;
    let head = head(stream)?;
    let length = head.split("ontent-Length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).ok()?))
}

/// The body of an answer with 200.
pub fn get(port: u16) -> Option<String> {
    let (head, body) = ask(&mut BufReader::new(connect(port)?), "Connection: close\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then_some(body)
}

/// Clients that ask again and again: some keep their connection, some make a new one each time.
pub struct Load {
    shared: Arc<Shared>,
    /// Each ends when its sender is gone.
    threads: Vec<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Default)]
struct Shared {
    /// Whoever would make a new connection ends.
    closed: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    seen: Mutex<BTreeSet<String>>,
}

impl Load {
    pub fn start(port: u16) -> Self {
        let shared = Arc::<Shared>::default();
        let spawn = |keeps: bool| {
            let (shared, (sender, over)) = (shared.clone(), channel());
            (sender, std::thread::spawn(move || shared.run(port, keeps, &over)))
        };
        let threads = [true, true, false].map(spawn).into();
        Self { shared, threads }
    }

    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// The bodies so far, in their order, by spaces.
    pub fn seen(&self) -> String {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    pub fn forget(&self) {
        // What is under way may have been picked before.
        let answered = self.answered();
        assert!(until(TIME, || (self.answered() > answered + 10).then_some(())).is_some());
        self.shared.seen.lock().unwrap().clear();
        self.shared.answered.store(0, Ordering::SeqCst);
    }

    /// No new connections from now on: the port is about to close.
    pub fn keep_only(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        let answered = self.answered();
        assert!(until(TIME, || (self.answered() > answered + 10).then_some(())).is_some());
    }

    /// How many requests failed.
    pub fn end(self) -> u64 {
        for (sender, thread) in self.threads {
            drop(sender);
            thread.join().unwrap();
        }
        self.shared.failed.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn run(&self, port: u16, keeps: bool, over: &Receiver<()>) {
        let mut kept = None;
        // A moment between two requests: the node has as much to do as its clients.
        while over.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
            if !keeps && self.closed.load(Ordering::SeqCst) {
                return;
            }
            let stream = kept.take().or_else(|| connect(port).map(BufReader::new));
            let Some(mut stream) = stream else {
                self.failed.fetch_add(1, Ordering::SeqCst);
                continue;
            };
            let close = if keeps { "" } else { "Connection: close\r\n" };
            match ask(&mut stream, close) {
                Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => {
                    self.seen.lock().unwrap().insert(body);
                    self.answered.fetch_add(1, Ordering::SeqCst);
                    kept = Some(stream).filter(|_| keeps && !head.contains("Connection: close"));
                }
                _ => drop(self.failed.fetch_add(1, Ordering::SeqCst)),
            }
        }
    }
}

/// One that is open all the time.
pub struct WebSocket(TcpStream);

impl WebSocket {
    pub fn open(port: u16) -> Self {
        let mut stream = connect(port).unwrap();
        let request = "GET /live HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = head(&mut reader).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 ") && reader.buffer().is_empty(), "{head}");
        let mut socket = Self(stream);
        socket.echo("hello");
        socket
    }

    /// Says it and hears it again.
    pub fn echo(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
        let mut back = vec![0; text.len()];
        self.0.read_exact(&mut back).unwrap();
        assert_eq!(back, text.as_bytes());
    }
}

/// A client that knows one certificate.
pub struct Tls(Arc<rustls::ClientConfig>);

impl Tls {
    /// Makes a certificate for `shop.example`, in `cert.pem` and `key.pem` of the folder.
    pub fn write(folder: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
        std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(Arc::new(config))
    }

    pub fn connect(&self, port: u16) -> Secure {
        let name = ServerName::try_from("shop.example").unwrap();
        let client = ClientConnection::new(self.0.clone(), name).unwrap();
        let mut secure = Secure(BufReader::new(StreamOwned::new(client, connect(port).unwrap())));
        assert!(secure.get().contains("200 OK"));
        secure
    }
}

pub struct Secure(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Secure {
    pub fn get(&mut self) -> String {
        ask(&mut self.0, "").unwrap().0
    }

    /// That the server showed.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.get_ref().conn.peer_certificates().unwrap()[0].clone().into_owned()
    }
}
