//! Binds the listeners of all workers. An address that is in use is an error here, never a shared port, unless its sockets
//! were inherited.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::StartError;

/// Connections that the kernel may hold for each worker.
const BACKLOG: i32 = 4096;

/// One listener for each worker, all at the same address; the address with the port that the kernel chose. All that are
/// `inherited` are among them, as the kernel gives each of them its share of the connections.
pub fn bind(
    address: SocketAddr,
    which: &'static str,
    workers: usize,
    inherited: Vec<TcpListener>,
) -> Result<(SocketAddr, Vec<TcpListener>), StartError> {
    let failed = |source| StartError::Bind { address, which, source };
    if !inherited.is_empty() {
        let missing = (inherited.len()..workers).map(|_| listener(address));
        let listeners = inherited.into_iter().map(Ok).chain(missing).collect::<Result<_, _>>();
        return Ok((address, listeners.map_err(failed)?));
    }
    // SO_REUSEPORT would let a second daemon take half of the connections in silence: the first socket asks without
    // it whether the address is free, and holds the port while it does.
    let probe = socket(address).map_err(failed)?;
    probe.bind(&address.into()).map_err(failed)?;
    probe.listen(1).map_err(failed)?;
    let bound = probe.local_addr().map_err(failed)?.as_socket().unwrap_or(address);
    drop(probe);
    let listeners = (0..workers).map(|_| listener(bound)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    Ok((bound, listeners))
}

/// A listener that holds `address` for an edge that is prepared with it later; the kernel keeps who comes until then.
///
/// # Errors
/// [`StartError::Bind`].
pub fn hold(address: SocketAddr, which: &'static str) -> Result<Vec<TcpListener>, StartError> {
    bind(address, which, 1, Vec::new()).map(|(_, sockets)| sockets)
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of the edge before, still in TIME_WAIT, must not keep this one from starting.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
