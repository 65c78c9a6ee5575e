//! Certificates and keys read from PEM text, and what is asked of a certificate: whose it is, and since and until when.
//!
//! Never touches a file and never trusts: a certificate is checked against the authority where it is used.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::PublicKeyData;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::*;

use crate::Error;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The subject's common name: the node.
    pub name: String,
    /// The subject's organization: the cluster.
    pub cluster: String,
    /// The host names and addresses that it is for.
    pub names: BTreeSet<String>,
    pub begins: SystemTime,
    pub ends: SystemTime,
}

/// The first certificate of a PEM text; `path` is for the error.
pub fn certificate(pem: &[u8], path: &Path) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem).map_err(|e| Error::Malformed {
        path: path.to_owned(),
        what: "certificate",
        why: e.to_string(),
    })
}

/// The first private key of a PEM text. The error never quotes the text.
pub fn private_key(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|e| Error::Malformed {
        path: path.to_owned(),
        what: "private key",
        why: match e {
            rustls_pki_types::pem::Error::NoItemsFound => "no private key found".to_owned(),
            _ => "the text is damaged".to_owned(),
        },
    })
}

pub fn facts(cert: &CertificateDer<'_>, path: &Path) -> Result<Facts, Error> {
    let x509 = parse(cert, path)?;
    let text = |found: Option<&AttributeTypeAndValue<'_>>| {
        found.and_then(|a| a.as_str().ok()).unwrap_or_default().to_owned()
    };
    Ok(Facts {
        name: text(x509.subject().iter_common_name().next()),
        cluster: text(x509.subject().iter_organization().next()),
        names: names(&x509),
        begins: moment(&x509.validity().not_before),
        ends: moment(&x509.validity().not_after),
    })
}

fn names(x509: &X509Certificate<'_>) -> BTreeSet<String> {
    let extension = x509.subject_alternative_name().ok().flatten();
    let all = extension.iter().flat_map(|found| &found.value.general_names);
    let name = |name: &GeneralName<'_>| match *name {
        GeneralName::DNSName(name) => Some(name.to_owned()),
        // Four bytes or sixteen (RFC 5280, section 4.2.1.6).
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(bytes)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
            .map(|ip| ip.to_string())
            .ok(),
        _ => None,
    };
    all.filter_map(name).collect()
}

/// Is `cert` signed with the key of `ca`?
pub fn signed_by(cert: &CertificateDer<'_>, ca: &CertificateDer<'_>, path: &Path) -> Result<bool, Error> {
    let ca = parse(ca, path)?;
    Ok(parse(cert, path)?.verify_signature(Some(ca.public_key())).is_ok())
}

/// Does `key` belong to `cert`?
pub fn has_key(cert: &CertificateDer<'_>, key: &rcgen::KeyPair, path: &Path) -> Result<bool, Error> {
    Ok(parse(cert, path)?.public_key().raw == key.subject_public_key_info())
}

/// `Nov 23 08:00:00 2026 +00:00`, for people.
pub fn date(at: SystemTime) -> String {
    let seconds = unix_seconds(at);
    ASN1Time::from_timestamp(seconds).map_or_else(|_| format!("second {seconds} of 1970"), |t| t.to_string())
}

/// Seconds since 1970; times before it count as 1970.
pub fn unix_seconds(at: SystemTime) -> i64 {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn moment(at: &ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or(0))
}

fn parse<'a>(cert: &'a CertificateDer<'_>, path: &Path) -> Result<X509Certificate<'a>, Error> {
    let malformed = |why: String| Error::Malformed { path: path.to_owned(), what: "certificate", why };
    match X509Certificate::from_der(cert) {
        Ok((_, x509)) => Ok(x509),
        Err(e) => Err(malformed(e.to_string())),
    }
}
