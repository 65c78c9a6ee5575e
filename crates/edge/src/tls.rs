//! TLS 1.2 and 1.3 for clients: what a site offers is one configuration of rustls, chosen by the name that a client
//! asks for before anything is answered.

use std::io;
use std::sync::Arc;

use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ConfigBuilder, Error, ServerConfig, WantsVerifier};
use tiebeam_topology::Http2;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::client_auth::{ClientAuth, Policy};
use crate::snapshot::Snapshot;
use crate::tickets::Tickets;
use crate::wire::Wire;

/// As ALPN calls it (RFC 9113 section 3.2).
pub const HTTP2: &[u8] = b"h2";

/// Makes the configurations of sites.
pub struct Offers {
    base: ConfigBuilder<ServerConfig, WantsVerifier>,
    tickets: Arc<Tickets>,
}

/// What one site offers.
#[derive(Clone)]
pub struct Offer {
    config: Arc<ServerConfig>,
    policy: Option<Policy>,
}

impl Offers {
    pub fn new(tickets: Arc<Tickets>) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = &[&rustls::version::TLS13, &rustls::version::TLS12];
        Ok(Self {
            base: ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?,
            tickets,
        })
    }

    /// `key`: without one every handshake fails, with an alert that says so.
    pub fn offer(&self, key: Option<Arc<CertifiedKey>>, clients: Option<&ClientAuth>, http2: Http2) -> Offer {
        let base = self.base.clone();
        let base = match clients {
            None => base.with_no_client_auth(),
            Some(auth) => base.with_client_cert_verifier(auth.verifier.clone()),
        };
        let mut config = base.with_cert_resolver(Arc::new(Always(key)));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // A ticket vouches for whom it was given to for as long as it is renewed, whatever became of that certificate: a
        // site that asks for one sees it in each handshake.
        match clients {
            None => config.ticketer = self.tickets.clone(),
            Some(_) => config.send_tls13_tickets = 0,
        }
        config.alpn_protocols = match http2 {
            Http2::Off => vec![b"http/1.1".to_vec()],
            Http2::On | Http2::PriorKnowledge => vec![HTTP2.to_vec(), b"http/1.1".to_vec()],
        };
        Offer { config: Arc::new(config), policy: clients.map(|auth| auth.policy) }
    }
}

#[derive(Debug)]
struct Always(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

/// A handshake from its first byte to its last. With the stream comes the policy by which the client was verified.
pub async fn accept(
    stream: Wire,
    view: impl FnOnce() -> Arc<Snapshot>,
) -> Result<(Box<TlsStream<Wire>>, Option<Policy>), Failure> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(|e| Failure::of(&e))?;
    let Offer { config, policy } = view().offer(start.client_hello().server_name());
    let stream = start.into_stream(config).await.map_err(|e| Failure::of(&e))?;
    Ok((Box::new(stream), policy))
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was not over in `edge.limits.header_time`.
    HeaderTime,
    /// The client left.
    Closed,
    /// No site of that name has a certificate.
    NoSite,
    /// No version, cipher or group that both know.
    Incompatible,
    /// The client speaks neither HTTP/1.1 nor HTTP/2.
    NoProtocol,
    /// The site requires a client certificate.
    ClientCertificateMissing,
    /// One that the site's authorities did not sign, or that is over.
    ClientCertificateInvalid,
    /// The client did not like what it was offered, such as the certificate.
    Alert,
    /// What came is no TLS, or breaks it.
    Malformed,
    Other,
}

impl Failure {
    pub const ALL: [Self; 10] = {
        use Failure::*;
        [
            HeaderTime,
            Closed,
            NoSite,
            Incompatible,
            NoProtocol,
            ClientCertificateMissing,
            ClientCertificateInvalid,
            Alert,
            Malformed,
            Other,
        ]
    };

    pub const fn label(self) -> &'static str {
        match self {
            Self::HeaderTime => "header_time",
            Self::Closed => "closed",
            Self::NoSite => "no_site",
            Self::Incompatible => "incompatible",
            Self::NoProtocol => "no_protocol",
            Self::ClientCertificateMissing => "client_certificate_missing",
            Self::ClientCertificateInvalid => "client_certificate_invalid",
            Self::Alert => "alert",
            Self::Malformed => "malformed",
            Self::Other => "other",
        }
    }

    fn of(error: &io::Error) -> Self {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return Self::Closed;
        };
        match error {
            // What rustls says when a resolver has no certificate.
            Error::General(_) => Self::NoSite,
            Error::PeerIncompatible(_) => Self::Incompatible,
            Error::NoApplicationProtocol => Self::NoProtocol,
            Error::NoCertificatesPresented => Self::ClientCertificateMissing,
            Error::InvalidCertificate(_) => Self::ClientCertificateInvalid,
            Error::AlertReceived(_) => Self::Alert,
            Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerSentOversizedRecord
            | Error::DecryptError => Self::Malformed,
            _ => Self::Other,
        }
    }
}
