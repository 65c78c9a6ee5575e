//! TLS 1.2 and 1.3 for clients: the certificate by the name they ask for, from the configuration of now.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tiebeam_topology::Http2;
use tokio_rustls::TlsAcceptor;

use crate::worker::Shared;

/// As ALPN calls it (RFC 9113 section 3.2).
pub const HTTP2: &[u8] = b"h2";

/// What the edge offers, with and without HTTP/2.
#[derive(Clone)]
pub struct Tls {
    with_http2: Arc<rustls::ServerConfig>,
    http1_only: Arc<rustls::ServerConfig>,
}

impl Tls {
    pub fn acceptor(&self, http2: Http2) -> TlsAcceptor {
        let config = if http2 == Http2::Off { &self.http1_only } else { &self.with_http2 };
        TlsAcceptor::from(config.clone())
    }
}

/// One for all workers: they share the keys of its tickets, so that a client may come back to any of them without a
/// whole handshake. The keys change every six hours; no session is kept here.
pub fn server_config(shared: Arc<Shared>) -> Result<Tls, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(BySite(shared)));
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut with_http2 = config.clone();
    with_http2.alpn_protocols.insert(0, HTTP2.to_vec());
    Ok(Tls { with_http2: Arc::new(with_http2), http1_only: Arc::new(config) })
}

struct BySite(Arc<Shared>);

impl ResolvesServerCert for BySite {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.snapshot.load().certificate(hello.server_name())
    }
}

impl std::fmt::Debug for BySite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BySite")
    }
}
