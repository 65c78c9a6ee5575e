//! Many connections that have had one answer each and then say nothing, until stdin ends: what such a connection costs
//! is for the caller to see.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, Stream};
use serde_json::json;

use crate::report::{self, Failure};
use crate::{answer, tls};

/// An answer that takes this long does not come.
const SILENCE: Duration = Duration::from_secs(5);

/// Prints `{"open": N}` when all are open, and `{"closed": N}` at the end: those that the balancer did not keep.
pub fn run(
    at: SocketAddr,
    path: &str,
    connections: usize,
    config: Option<Arc<ClientConfig>>,
) -> Result<(), Failure> {
    let request = answer::request(path);
    let open = (0..connections)
        .map(|_| one(at, config.as_ref(), &request))
        .collect::<Result<Vec<TcpStream>, Failure>>()?;
    report::print_line(&json!({ "open": open.len() }))?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    let closed = open.iter().filter(|stream| !is_open(stream)).count();
    report::print_line(&json!({ "closed": closed }))
}

/// A connection after its first answer. Of TLS only the socket is kept: nothing is said on it any more.
fn one(at: SocketAddr, config: Option<&Arc<ClientConfig>>, request: &[u8]) -> Result<TcpStream, Failure> {
    let mut scratch = [0; 8192];
    let mut socket = TcpStream::connect(at)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SILENCE))?;
    match config {
        None => {
            socket.write_all(request)?;
            answer::read(&mut socket, &mut scratch)?;
        }
        Some(config) => {
            let mut connection = ClientConnection::new(config.clone(), tls::server_name()?)?;
            let mut stream = Stream::new(&mut connection, &mut socket);
            stream.write_all(request)?;
            answer::read(&mut stream, &mut scratch)?;
        }
    }
    Ok(socket)
}

fn is_open(mut stream: &TcpStream) -> bool {
    let silent = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
    stream.set_nonblocking(true).is_ok() && stream.read(&mut [0]).is_err_and(silent)
}
