//! Why an edge could not start. What goes wrong later is counted, logged and answered, never returned.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Nothing is left bound or running when one of these is returned.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address} ({which}): {source}. {}", advice(source))]
    Bind {
        address: SocketAddr,
        /// The name in the file: `edge.http` or `edge.https`.
        which: &'static str,
        source: io::Error,
    },
    #[error("cannot open the access log {}: {source}. Give the daemon's user the right to write there, or set edge.access_log = \"off\"", path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("cannot start a thread of the edge: {0}. Raise the limit of tasks of the service")]
    Thread(io::Error),
    #[error("TLS cannot be set up: {0}")]
    Tls(rustls::Error),
    #[error("the edge has nowhere to listen: set edge.http or edge.https to a port")]
    NoListener,
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "Another program listens there: `ss -ltnp` shows which one. Stop it or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            "Ports below 1024 need CAP_NET_BIND_SERVICE: start the daemon with it or choose a higher port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "The address belongs to no interface of this machine: correct the node's address"
        }
        _ => "Correct the address or the port in the file",
    }
}
