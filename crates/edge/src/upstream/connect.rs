//! Opens a way to a server: TCP, then TLS, then HTTP/2, as its pool says, all within one time.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::exchange::Scratch;
use super::http2::{self, Shared};
use super::{Secure, Upstream};
use crate::clock::{Elapsed, Timer};
use crate::codec::HeadLimits;
use crate::proxy_protocol::{self, Announced, Route};
use crate::reach::Reach;
use crate::servers::Server;
use crate::worker::{Worker, is_exhaustion};

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Nobody listens there.
    Refused,
    /// Unreachable, no answer in time, or nobody whom TLS believes.
    Failed,
    /// This process has no descriptor or port left: not the server's fault.
    NoResources,
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error {
            refused if refused.kind() == io::ErrorKind::ConnectionRefused => Self::Refused,
            lacking if is_exhaustion(&lacking) => Self::NoResources,
            _ => Self::Failed,
        }
    }
}

/// A way to `server` for one request of `worker`, announced as `route` if the server is told so. Over HTTP/2 it is a
/// stream of a connection that others share, who come by the same route then.
pub async fn connect(
    worker: &Worker,
    server: &Server,
    reach: &Reach,
    route: Option<Route>,
    timer: &Timer,
    within: Duration,
) -> Result<Upstream, ConnectError> {
    let counters = server.counters(worker.index);
    let way = async {
        let announced = route.map(Announced::Client);
        if !reach.http2 {
            counters.connects.add(1);
            return open(server, reach, announced).await.map(Opened::into_upstream);
        }
        let trust = reach.trust();
        let shared = match worker.http2.find(server, trust, route) {
            Some(shared) => shared,
            None => {
                counters.connects.add(1);
                worker.http2.put(server, trust, route, handshake(server, reach, announced).await?)
            }
        };
        let limits = worker.view().head_limits.for_own_text();
        let scratch = Scratch { head: worker.request.clone(), limits };
        Ok(Upstream::Http2(Box::new(shared.exchange(reach.tls.is_some(), scratch).await?)))
    };
    // Boxed, so that a request to a server without TLS, which most are, waits with less.
    let way = Box::pin(way);
    match timer.within(within, way).await {
        Ok(opened) => opened.map_err(ConnectError::from),
        Err(Elapsed) => Err(ConnectError::Failed),
    }
}

/// The same for somebody who is no worker and shares nothing. It may last for ever.
pub async fn alone(server: &Server, reach: &Reach, limits: &HeadLimits) -> io::Result<Upstream> {
    let announced = Some(Announced::Nothing);
    if !reach.http2 {
        return open(server, reach, announced).await.map(Opened::into_upstream);
    }
    let shared = handshake(server, reach, announced).await?;
    let scratch = Scratch { head: Rc::default(), limits: limits.for_own_text() };
    Ok(Upstream::Http2(Box::new(shared.exchange(reach.tls.is_some(), scratch).await?)))
}

enum Opened {
    Plain(TcpStream),
    Tls(Box<Secure>),
}

impl Opened {
    fn into_upstream(self) -> Upstream {
        match self {
            Self::Plain(stream) => Upstream::Plain(stream),
            Self::Tls(stream) => Upstream::Tls(stream),
        }
    }
}

async fn open(server: &Server, reach: &Reach, announced: Option<Announced>) -> io::Result<Opened> {
    let mut stream = TcpStream::connect(server.address).await?;
    // Fails only on a connection that is gone already, which the first write will tell.
    let _ = stream.set_nodelay(true);
    if let (Some(version), Some(announced)) = (server.proxy_protocol, announced) {
        let mut header = Vec::new();
        proxy_protocol::write(&mut header, version, &announced);
        stream.write_all(&header).await?;
    }
    let Some(tls) = &reach.tls else { return Ok(Opened::Plain(stream)) };
    let name = tls.name.clone().unwrap_or_else(|| server.address.ip().into());
    let stream = TlsConnector::from(tls.config.clone()).connect(name, stream).await?;
    Ok(Opened::Tls(Box::new(Secure { stream, trust: tls.trust })))
}

async fn handshake(server: &Server, reach: &Reach, announced: Option<Announced>) -> io::Result<Shared> {
    match open(server, reach, announced).await? {
        Opened::Plain(stream) => http2::begin(stream).await,
        Opened::Tls(secure) if secure.stream.get_ref().1.alpn_protocol() == Some(crate::tls::HTTP2) => {
            http2::begin(secure.stream).await
        }
        Opened::Tls(_) => Err(io::Error::other("the server does not speak HTTP/2")),
    }
}
