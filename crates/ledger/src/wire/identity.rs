//! Who is at the other end, by the certificate that rustls has verified already against the cluster's CA.

use std::collections::BTreeMap;
use std::fmt::Write;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, SignatureScheme};
use tiebeam_topology::NodeName;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::Peer;

/// The node whose identity is among the certificate's DNS names (RFC 5280 section 4.2.1.6). The text says why there is none.
pub(crate) fn node_of(
    certificates: Option<&[CertificateDer<'_>]>,
    peers: &BTreeMap<NodeName, Peer>,
) -> Result<NodeName, String> {
    let leaf = certificates.and_then(|chain| chain.first()).ok_or("it showed no certificate")?;
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|e| format!("its certificate cannot be read: {e}"))?;
    let names =
        parsed.subject_alternative_name().map_err(|e| format!("its certificate cannot be read: {e}"))?;
    let names: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(text) => Some(*text),
            _ => None,
        })
        .collect();
    let known =
        peers.iter().find(|(_, peer)| names.iter().any(|name| name.eq_ignore_ascii_case(&peer.identity)));
    known.map(|(node, _)| node.clone()).ok_or_else(|| {
        let shown: Vec<_> = names.iter().take(4).collect();
        format!("its certificate is for {shown:?}, which is no node of this cluster")
    })
}

/// The identifier of a key has 20 bytes (RFC 5280 section 4.2.1.2); longer ones are told apart by their beginning.
const KEY_ID_BYTES: usize = 20;

/// The key of the authority that signed what `client` shows of itself, in hexadecimal, if its certificate says it
/// (RFC 5280 section 4.2.1.1).
pub(crate) fn authority_of(client: &ClientConfig) -> Option<String> {
    let schemes =
        [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519, SignatureScheme::RSA_PSS_SHA256];
    let shown = client.client_auth_cert_resolver.resolve(&[], &schemes)?;
    let (_, parsed) = X509Certificate::from_der(shown.cert.first()?).ok()?;
    let id = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref(),
        _ => None,
    })?;
    let mut text = String::new();
    for byte in id.0.iter().take(KEY_ID_BYTES) {
        // Writing into a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}
