//! Binds the listeners of a router's workers. An address that is in use is an error here, never a shared port, unless its
//! sockets were inherited.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::StartError;

/// Connections that the kernel holds for a worker that has not accepted them yet.
const BACKLOG: i32 = 1024;

/// At least one listener for each worker, all at one address: the kernel spreads clients over them. All of `inherited` that
/// are at that address are among them; the others are closed.
pub(crate) fn bind(
    address: SocketAddr,
    workers: usize,
    mut inherited: Vec<TcpListener>,
) -> Result<(Vec<Vec<TcpListener>>, SocketAddr), StartError> {
    let fail = |source: io::Error| match source.kind() {
        ErrorKind::AddrInUse => StartError::InUse { listen: address },
        _ => StartError::Listen { listen: address, source },
    };
    inherited.retain(|socket| socket.local_addr().is_ok_and(|at| at == address));
    let mut bound = address;
    if inherited.is_empty() {
        // With SO_REUSEPORT another process of ours would share the port unnoticed; without it the port is taken or not.
        let probe = socket(address, false).map_err(fail)?;
        bound = probe.local_addr().ok().and_then(|a| a.as_socket()).unwrap_or(address);
    }
    let missing = inherited.len()..workers;
    let more = missing.map(|_| listener(bound)).collect::<io::Result<Vec<_>>>().map_err(fail)?;
    let mut all: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for (index, socket) in inherited.into_iter().chain(more).enumerate() {
        all[index % workers].push(socket);
    }
    Ok((all, bound))
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inherited_is_used_whatever_the_number_of_workers() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        for (before, after) in [(3, 1), (1, 3), (2, 2)] {
            let (old, at) = bind(any, before, Vec::new()).unwrap();
            let (elsewhere, _) = bind(any, 1, Vec::new()).unwrap();
            assert!(matches!(bind(at, 1, Vec::new()), Err(StartError::InUse { .. })));
            let inherited = old.into_iter().chain(elsewhere).flatten().collect();
            let (new, bound) = bind(at, after, inherited).unwrap();
            assert_eq!((new.len(), bound), (after, at));
            let sockets: Vec<_> = new.iter().flatten().collect();
            assert_eq!(sockets.len(), before.max(after));
            assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == at));
            assert!(new.iter().all(|worker| !worker.is_empty()));
        }
    }
}
