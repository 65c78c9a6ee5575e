//! What can be wrong with certificates and their files, in words for who has to repair it. Never holds key material.

use std::io;
use std::path::PathBuf;

use tiebeam_topology::{ClusterName, HostPattern, NodeName};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{path} does not exist; `tiebeam init` makes the authority and a folder for each node: copy this node's here"
    )]
    Missing { path: PathBuf },
    #[error("{path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} cannot be written: {source}")]
    Unwritable { path: PathBuf, source: io::Error },
    #[error(
        "{path} may be read by others than its owner (mode {mode:04o}); a key that others know is no identity: if nobody has read it, `chmod 600` it"
    )]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("{path} holds no {what} in PEM format: {why}")]
    Malformed { path: PathBuf, what: &'static str, why: String },
    #[error(
        "{key} does not belong to the certificate {cert}; they were not made together: take both from one backup, or from one `tiebeam init`"
    )]
    KeyMismatch { key: PathBuf, cert: PathBuf },
    #[error(
        "the certificate {cert} was not signed by the authority in {ca}; take both from one backup, or from one `tiebeam init`"
    )]
    OtherAuthority { cert: PathBuf, ca: PathBuf },
    #[error(
        "the certificate {path} ended on {ended}, and it is {now} here; `tiebeam init` where the authority is makes a new one: copy this node's folder here, or set the clock if it is wrong"
    )]
    Expired { path: PathBuf, ended: String, now: String },
    #[error(
        "the certificate {path} is valid from {begins} on, and it is {now} here; the clock of this machine seems to be wrong"
    )]
    NotYetValid { path: PathBuf, begins: String, now: String },
    #[error(
        "the certificate {path} belongs to the cluster {found:?}, and the configuration is of the cluster \"{expected}\"; is this the data folder of another cluster?"
    )]
    OtherCluster { path: PathBuf, found: String, expected: ClusterName },
    #[error(
        "the certificate {path} belongs to the node {found:?}, and this is node \"{expected}\"; is this the data folder of another node?"
    )]
    OtherNode { path: PathBuf, found: String, expected: NodeName },
    #[error(
        "{path} exists already; an authority is never overwritten, since every node trusts it: move it away first if it is really to be replaced"
    )]
    Exists { path: PathBuf },
    #[error(
        "no certificate is made for the site {site}: names under tiebeam.internal belong to the nodes themselves"
    )]
    ReservedName { site: HostPattern },
    #[error(
        "the authority in {path} ended on {ended}; move its folder away, run `tiebeam init` for a new one, and give every node its new folder"
    )]
    AuthorityEnded { path: PathBuf, ended: String },
    #[error("the certificate could not be made: {0}")]
    Sign(#[from] rcgen::Error),
    #[error("TLS cannot be set up with the certificate {path}: {why}")]
    Tls { path: PathBuf, why: String },
}
