//! A connection to PostgreSQL as bytes: plain or TLS. Opened by `server`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::wire::startup::ssl_request;

/// A peer that acknowledges nothing for so long is gone, whether bytes are under way or the connection is idle.
const PEER_SILENT_MAX: Duration = Duration::from_secs(6);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);

/// One read asks for this many bytes at least.
pub(crate) const READ_BYTES: usize = 16 * 1024;

pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub async fn plain(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let socket = SockRef::from(&tcp);
        let keepalive =
            TcpKeepalive::new().with_time(KEEPALIVE_EVERY).with_interval(KEEPALIVE_EVERY).with_retries(2);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(PEER_SILENT_MAX))?;
        Ok(Self::Plain(tcp))
    }

    /// Asks PostgreSQL for TLS (SSLRequest) and verifies that it is `identity`.
    pub async fn tls(
        address: SocketAddr,
        identity: &str,
        config: &Arc<rustls::ClientConfig>,
    ) -> io::Result<Self> {
        let Self::Plain(mut tcp) = Self::plain(address).await? else {
            return Err(io::Error::other("a plain connection is not plain"));
        };
        tcp.write_all(&ssl_request()).await?;
        // One byte and no more: what a man in the middle adds behind it must not count as the server's word.
        let mut answer = [0];
        tcp.read_exact(&mut answer).await?;
        if answer != *b"S" {
            return Err(io::Error::other("the server does not offer TLS (is `ssl` on?)"));
        }
        let name = ServerName::try_from(identity.to_owned()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(config.clone()).connect(name, tcp).await?;
        Ok(Self::Tls(Box::new(tls)))
    }

    /// False if bytes or the end have arrived at a connection that should be quiet. No system call if nothing has.
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(self).poll_read(&mut cx, &mut buf).is_pending()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// Reads what is there into `buf`; 0 is the end.
pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buf: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    if buf.capacity() - buf.len() < READ_BYTES / 2 {
        buf.reserve(READ_BYTES);
    }
    tokio_util::io::poll_read_buf(Pin::new(stream), cx, buf)
}

/// Writes what `buf` holds until it is empty or the peer takes no more. `Ready` means empty and flushed.
pub(crate) fn poll_drain<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buf: &mut BytesMut,
) -> Poll<io::Result<()>> {
    let mut written = 0;
    let result = loop {
        if written == buf.len() {
            break Poll::Ready(Ok(()));
        }
        match Pin::new(&mut *stream).poll_write(cx, &buf[written..]) {
            Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(n)) => written += n,
            Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
            Poll::Pending => break Poll::Pending,
        }
    };
    if written == buf.len() {
        buf.clear();
    } else {
        bytes::Buf::advance(buf, written);
    }
    match result {
        // TLS keeps records of its own; for a plain socket this does nothing.
        Poll::Ready(Ok(())) => Pin::new(stream).poll_flush(cx),
        other => other,
    }
}
