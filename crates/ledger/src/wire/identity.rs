//! Who is at the other end, by the certificate that rustls has verified already against the cluster's CA.

use std::collections::BTreeMap;

use rustls::pki_types::CertificateDer;
use tiebeam_topology::NodeName;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

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
