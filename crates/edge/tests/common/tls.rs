//! An edge that speaks HTTPS, and clients that speak it, too.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConnection, StreamOwned};
use tiebeam_edge::{Config, Edge, Listeners, LogSink, SiteConfig};

use tiebeam_topology::SiteRules;

use super::{Server, config, loopback};

pub fn certificate(name: &str) -> (CertificateDer<'static>, Arc<CertifiedKey>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let der = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    (der.clone(), Arc::new(CertifiedKey::new(vec![der], key)))
}

pub fn builder(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap()
}

/// A connection to `at` that asks for the name `sni`; what the handshake says is known with the first bytes.
pub fn connect(at: SocketAddr, config: &Arc<rustls::ClientConfig>, sni: &str) -> Stream {
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), stream)
}

/// Everything that one request on it is answered with; an error if the handshake or the connection fails.
pub fn ask(stream: &mut Stream, host: &str) -> io::Result<String> {
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

pub struct Https {
    pub edge: Edge,
    roots: Arc<rustls::ClientConfig>,
    _server: Option<Server>,
}

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Https {
    /// `one.example`, which plain HTTP is sent to and has HSTS, and `two.example`, which has neither.
    pub fn start() -> Self {
        let server = Server::named("secure");
        let https = Self::with(config(&[server.address]));
        Self { _server: Some(server), ..https }
    }

    /// The routes of the only site of `config`.
    pub fn with(mut config: Config) -> Self {
        let routes = config.sites.pop_first().unwrap().1.routes;
        let mut roots = rustls::RootCertStore::empty();
        for (name, hsts) in [("one.example", true), ("two.example", false)] {
            let (der, key) = certificate(name);
            roots.add(der).unwrap();
            let site = SiteConfig {
                tls: Some(key),
                clients: None,
                redirect: hsts,
                hsts,
                routes: routes.clone(),
                rules: SiteRules::default(),
            };
            config.sites.insert(name.parse().unwrap(), site);
        }
        let listeners = Listeners { http: Some(loopback()), https: Some(loopback()), workers: 2 };
        let edge = Edge::start(listeners, config, LogSink::Off).unwrap();
        let roots = builder(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { edge, roots: Arc::new(roots), _server: None }
    }

    /// A connection that asks for the name `sni`. The kernel buffers little for it, so that the edge notices soon
    /// whether it reads.
    pub fn connect(&self, sni: &str) -> io::Result<Stream> {
        let name = ServerName::try_from(sni.to_owned()).unwrap();
        let connection = ClientConnection::new(self.roots.clone(), name).unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_recv_buffer_size(32 * 1024)?;
        socket.connect(&self.edge.addresses().https.unwrap().into())?;
        let stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(StreamOwned::new(connection, stream))
    }

    /// What a client of HTTP/2 needs to connect: the address, and a configuration that asks for it by ALPN.
    pub fn http2(&self) -> (SocketAddr, rustls::ClientConfig) {
        let mut roots = rustls::ClientConfig::clone(&self.roots);
        roots.alpn_protocols = vec![b"h2".to_vec()];
        (self.edge.addresses().https.unwrap(), roots)
    }

    /// Everything that one request is answered with.
    pub fn get(&self, sni: &str, host: &str) -> io::Result<String> {
        let mut stream = self.connect(sni)?;
        stream
            .write_all(format!("GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}
