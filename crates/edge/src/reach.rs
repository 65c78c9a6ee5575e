//! How the servers of a pool are reached: in which protocol, and if over TLS, by whose word they are believed.
//!
//! Plain values. The control side makes them, [`crate::upstream`] opens connections by them, and none that was opened
//! otherwise serves a request.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::{ServerName, TrustAnchor};
use sha2::{Digest, Sha256};

/// How the servers of a pool are reached.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// `None`: without TLS.
    pub tls: Option<ServerTls>,
    /// By HTTP/2, and nothing else: WebSockets cannot be opened there.
    pub http2: bool,
}

/// Whom to believe to be a server. What it is asked to speak (ALPN) is filled in by [`Reach::with_alpn`].
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub(crate) config: Arc<rustls::ClientConfig>,
    /// The name in its certificate; `None`: the address that it is reached at.
    pub(crate) name: Option<ServerName<'static>>,
    pub(crate) trust: Trust,
}

impl ServerTls {
    /// A server must show a certificate of `name`, or of its address, by one of `authorities`.
    ///
    /// # Errors
    /// What rustls says of its own versions and algorithms; none is known.
    pub fn new(authorities: RootCertStore, name: Option<ServerName<'static>>) -> Result<Self, rustls::Error> {
        let trust = Trust::of(&authorities);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(authorities)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), name, trust })
    }
}

/// By whose word a server is believed: equal for the same authorities, in whatever order a file has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust([u8; 32]);

impl Trust {
    fn of(authorities: &RootCertStore) -> Self {
        let code = |anchor: &TrustAnchor<'_>| {
            let constraints = anchor.name_constraints.as_deref().unwrap_or_default();
            let mut hash = Sha256::new();
            for part in [&anchor.subject, &anchor.subject_public_key_info, constraints] {
                hash.update(part.len().to_be_bytes());
                hash.update(part);
            }
            <[u8; 32]>::from(hash.finalize())
        };
        let mut codes: Vec<_> = authorities.roots.iter().map(code).collect();
        codes.sort_unstable();
        codes.dedup();
        Self(Sha256::digest(codes.concat()).into())
    }
}

/// What of a [`Reach`] tells one connection from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    http2: bool,
    /// Within TLS, and as whom.
    tls: Option<Option<ServerName<'static>>>,
}

impl Reach {
    pub fn way(&self) -> Way {
        Way { http2: self.http2, tls: self.tls.as_ref().map(|tls| tls.name.clone()) }
    }

    /// By whose word a connection is believed; `None`: without TLS nobody's is asked.
    pub fn trust(&self) -> Option<Trust> {
        self.tls.as_ref().map(|tls| tls.trust)
    }

    /// With the protocol to ask for.
    pub fn with_alpn(mut self) -> Self {
        if let Some(tls) = &mut self.tls {
            let protocol: &[u8] = if self.http2 { crate::tls::HTTP2 } else { b"http/1.1" };
            let mut config = rustls::ClientConfig::clone(&tls.config);
            config.alpn_protocols = vec![protocol.to_vec()];
            tls.config = Arc::new(config);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_in_authorities_and_not_in_their_order() {
        let made = || rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.der().clone();
        let (one, two) = (made(), made());
        let trust = |authorities: &[&rustls::pki_types::CertificateDer<'static>]| {
            let mut roots = RootCertStore::empty();
            authorities.iter().for_each(|der| roots.add((*der).clone()).unwrap());
            ServerTls::new(roots, None).unwrap().trust
        };
        assert_eq!(trust(&[&one, &two]), trust(&[&two, &one, &two]));
        assert_ne!(trust(&[&one, &two]), trust(&[&one]));
        assert_ne!(trust(&[&one]), trust(&[&two]));
    }
}
