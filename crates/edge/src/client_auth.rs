//! Client certificates, for a site that asks for them: whom it trusts, and how it tells its policy from another's.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;

/// Whose certificates a site takes from its clients.
#[derive(Clone)]
pub struct ClientAuth {
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
    /// A client without one is refused in the handshake.
    pub(crate) required: bool,
    pub(crate) policy: Policy,
}

/// Tells policies apart: what a connection was verified by is compared with what a request's site asks for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy([u8; 32]);

/// The authorities cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("no authority can be made of its certificates: {0}")]
pub struct ClientAuthError(String);

impl ClientAuth {
    /// # Errors
    /// If there is no authority, or one that is malformed.
    pub fn new(authorities: &[CertificateDer<'static>], required: bool) -> Result<Self, ClientAuthError> {
        let wrong = |error: &dyn fmt::Display| ClientAuthError(error.to_string());
        let (mut roots, mut digest) = (RootCertStore::empty(), Context::new(&SHA256));
        digest.update(&[u8::from(required)]);
        for authority in authorities {
            digest.update(&(authority.len() as u64).to_be_bytes());
            digest.update(authority);
            roots.add(authority.clone()).map_err(|e| wrong(&e))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        let mut policy = [0; 32];
        policy.copy_from_slice(digest.finish().as_ref());
        Ok(Self { verifier: builder.build().map_err(|e| wrong(&e))?, required, policy: Policy(policy) })
    }
}

/// The same authorities, asked in the same way.
impl PartialEq for ClientAuth {
    fn eq(&self, other: &Self) -> bool {
        self.policy == other.policy
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuth").field("required", &self.required).finish_non_exhaustive()
    }
}
