//! The cluster's own certificate authority: made once by `tiebeam init`, kept in `ca.pem` and `ca.key` (0600), asked
//! by whoever admits a node.
//!
//! It signs only what it names itself: it takes no requests of others, and nothing it signs may sign again.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::CertificateDer;
use tiebeam_topology::{ClusterName, HostPattern, NodeName, identity};
use x509_parser::prelude::ASN1Time;

use crate::files::{self, Access, CA_CERT, CA_KEY, Existing};
use crate::identity::Identity;
use crate::{Error, read};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long an authority signs and is trusted.
pub const AUTHORITY_VALID: Duration = DAY.saturating_mul(3650);
/// How long a node's identity is valid; never longer than the authority.
pub const NODE_VALID: Duration = DAY.saturating_mul(3650);
/// How long the certificate of a site is valid; never longer than the authority.
pub const SITE_VALID: Duration = DAY.saturating_mul(397);
/// Certificates are valid from a little before they are made: the clocks of nodes differ.
const BACKDATED: Duration = Duration::from_secs(3600);

/// A certificate authority: a certificate and the key that signs.
pub struct Authority {
    pub(crate) pem: String,
    cert: CertificateDer<'static>,
    key: KeyPair,
    ends: SystemTime,
}

impl Authority {
    /// A new authority of `cluster`, in memory: save it at once.
    pub fn create(cluster: &ClusterName, now: SystemTime) -> Result<Self, Error> {
        let ends = now + AUTHORITY_VALID;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(&format!("{cluster} authority"), cluster.as_str(), now, ends);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key)?;
        Ok(Self { pem: cert.pem(), cert: cert.into(), key, ends })
    }

    /// Reads the authority of `cluster` from `ca.pem` and `ca.key` of a folder.
    pub fn load(dir: &Path, cluster: &ClusterName, now: SystemTime) -> Result<Self, Error> {
        let (cert_path, key_path) = (dir.join(CA_CERT), dir.join(CA_KEY));
        let pem = files::read(&cert_path, Access::Public)?;
        let cert = read::certificate(&pem, &cert_path)?;
        let key = read::private_key(&files::read(&key_path, Access::Secret)?, &key_path)?;
        let key = KeyPair::try_from(&key)?;
        let facts = read::facts(&cert, &cert_path)?;
        if !read::has_key(&cert, &key, &cert_path)? {
            return Err(Error::KeyMismatch { key: key_path, cert: cert_path });
        }
        if facts.cluster != cluster.as_str() {
            let (path, found) = (cert_path, facts.cluster);
            return Err(Error::OtherCluster { path, found, expected: cluster.clone() });
        }
        if now >= facts.ends {
            return Err(Error::AuthorityEnded { path: cert_path, ended: read::date(facts.ends) });
        }
        // The certificate was parsed out of it, but the text around it may be anything.
        let pem = String::from_utf8_lossy(&pem).into_owned();
        Ok(Self { pem, cert, key, ends: facts.ends })
    }

    /// Makes a folder (0700) with `ca.key` and `ca.pem`: both or, after a crash too, neither.
    ///
    /// # Errors
    /// [`Error::Exists`] if the folder is there and holds anything; nothing is overwritten.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        files::place(dir, Existing::Refuse, |new| {
            files::write(new, CA_KEY, self.key.serialize_pem().as_bytes())?;
            files::write(new, CA_CERT, self.pem.as_bytes())
        })
    }

    /// The first moment at which it neither signs nor is trusted.
    pub fn expires(&self) -> SystemTime {
        self.ends
    }

    /// A new identity for a node, with a new key.
    ///
    /// Subject: CN the node's name (PostgreSQL's `cert` authentication compares it with the user, PostgreSQL docs
    /// "Certificate Authentication"), O the cluster's. Names: [`identity`] and the node's address, and no other:
    /// a name that all nodes shared would let one pass for another. For both ends of a connection.
    pub fn node(
        &self,
        cluster: &ClusterName,
        node: &NodeName,
        address: &IpAddr,
        now: SystemTime,
    ) -> Result<Identity, Error> {
        let mut params = params(node.as_str(), cluster.as_str(), now, self.ends.min(now + NODE_VALID));
        params.subject_alt_names =
            vec![SanType::DnsName(identity(cluster, node).try_into()?), SanType::IpAddress(*address)];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, now)
    }

    /// A certificate for sites with `https = "internal"`: for their names (an address among them as an address), for
    /// `localhost` and the loopback addresses, and for the addresses of the edges. [`HostPattern::Any`] adds no name.
    ///
    /// It is for servers only: with it nobody gets in where nodes talk among themselves.
    ///
    /// # Errors
    /// [`Error::ReservedName`] for a name under `tiebeam.internal`: it could pass for a node.
    pub fn site(
        &self,
        cluster: &ClusterName,
        names: &[HostPattern],
        addresses: &[IpAddr],
        now: SystemTime,
    ) -> Result<Identity, Error> {
        let mut params = params("sites", cluster.as_str(), now, self.ends.min(now + SITE_VALID));
        let mut dns = BTreeSet::from(["localhost".to_owned()]);
        let mut ips = BTreeSet::from([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        ips.extend(addresses);
        for site in names {
            match site {
                HostPattern::Any => continue,
                HostPattern::Exact(host) | HostPattern::Below(host) if is_reserved(host) => {
                    return Err(Error::ReservedName { site: site.clone() });
                }
                HostPattern::Exact(_) | HostPattern::Below(_) => {}
            }
            // Clients compare an address with addresses only (RFC 9110, section 4.3.5).
            let name = site.to_string();
            match name.parse() {
                Ok(ip) => ips.insert(ip),
                Err(_) => dns.insert(name),
            };
        }
        for name in dns {
            params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
        }
        params.subject_alt_names.extend(ips.into_iter().map(SanType::IpAddress));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, now)
    }

    fn sign(&self, mut params: CertificateParams, now: SystemTime) -> Result<Identity, Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let issuer = Issuer::from_ca_cert_der(&self.cert, &self.key)?;
        let cert = params.signed_by(&key, &issuer)?;
        Identity::new(&self.pem, &cert.pem(), &key.serialize_pem(), now)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("ends", &read::date(self.ends)).finish_non_exhaustive()
    }
}

fn params(name: &str, cluster: &str, now: SystemTime, ends: SystemTime) -> CertificateParams {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, cluster);
    subject.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    // A clock beyond the year 9999 keeps the library's own limits.
    if let Ok(at) = ASN1Time::from_timestamp(read::unix_seconds(now - BACKDATED)) {
        params.not_before = at.to_datetime();
    }
    if let Ok(at) = ASN1Time::from_timestamp(read::unix_seconds(ends)) {
        params.not_after = at.to_datetime();
    }
    params
}

fn is_reserved(host: &str) -> bool {
    host == "tiebeam.internal" || host.ends_with(".tiebeam.internal")
}
