//! The cluster's own certificate authority, and the identities that it gives to nodes and to sites with
//! `https = "internal"`.
//!
//! [`Authority`] signs, [`Identity`] is a signed certificate with its key and the TLS configurations made of it. The
//! cryptography is aws-lc-rs, named explicitly everywhere: the process-wide default of rustls is neither read nor set.
//! Keys come from the operating system's randomness; the time of day is always a parameter.
//!
//! How long things are valid: the authority and the nodes ten years ([`AUTHORITY_VALID`], [`NODE_VALID`]), since an
//! identity that ends unnoticed stops a cluster, and renewal is not automatic; sites 397 days ([`SITE_VALID`]), the
//! most that common clients accept of a server. [`Identity::expires`] tells how long is left.

mod authority;
mod error;
mod files;
mod identity;
mod read;
pub mod tickets;

pub use authority::{AUTHORITY_VALID, Authority, NODE_VALID, SITE_VALID};
pub use error::Error;
pub use identity::Identity;

use std::path::Path;

/// Fills a folder that is whole or not there, in the place of the one that is there: `fill` is given a new folder to
/// write into. A crash leaves the old folder, the new one, or none; calling it again mends that.
///
/// # Errors
/// Those of `fill`, which leave the old folder as it was, and [`Error::Unwritable`].
pub fn replace_folder(dir: &Path, fill: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    files::place(dir, files::Existing::Replace, fill)
}

#[cfg(test)]
mod tests;
