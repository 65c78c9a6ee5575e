//! Connections to servers: opened in bounded time, plain, over TLS, or as a stream of HTTP/2; whoever has one writes and
//! reads HTTP/1.1, whatever it is.

mod connect;
mod exchange;
mod http2;
mod idle;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

pub use self::connect::{ConnectError, alone, connect};
pub use self::exchange::Exchange;
pub use self::http2::Http2Servers;
pub use self::idle::IdleServers;
use crate::codec::Fault;
use crate::reach::Trust;

/// One way to one server, for one request at a time.
pub enum Upstream {
    Plain(TcpStream),
    Tls(Box<Secure>),
    Http2(Box<Exchange>),
}

/// Whoever is at the other end of `stream` was believed by this `trust`.
pub struct Secure {
    stream: TlsStream<TcpStream>,
    trust: Trust,
}

impl Upstream {
    /// May another request follow? Not after the server has closed, or said something that nobody asked for.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            // Costs no system call while epoll has reported nothing.
            Self::Plain(stream) => {
                matches!(stream.try_read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
            }
            // Tickets come when the server likes; what they are made of is not for whoever reads.
            Self::Tls(stream) => {
                let (mut space, mut cx) = ([0], Context::from_waker(Waker::noop()));
                Pin::new(&mut stream.stream).poll_read(&mut cx, &mut ReadBuf::new(&mut space)).is_pending()
            }
            Self::Http2(_) => false,
        }
    }

    /// By whose word it was opened. A stream of HTTP/2 is for one request and has no need to say so.
    fn trust(&self) -> Option<Trust> {
        match self {
            Self::Tls(secure) => Some(secure.trust),
            Self::Plain(_) | Self::Http2(_) => None,
        }
    }

    /// The request is wholly written.
    pub fn end_request(&mut self) {
        if let Self::Http2(exchange) = self {
            exchange.end_request();
        }
    }

    /// Did the server say that it has not looked at the request, so that it may be sent again whatever it is?
    pub fn is_unprocessed(&self) -> bool {
        matches!(self, Self::Http2(exchange) if exchange.is_unprocessed())
    }

    /// Why the request could not be said to the server: that is its client's fault.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Http2(exchange) => exchange.fault(),
            Self::Plain(_) | Self::Tls(_) => None,
        }
    }

    /// Nothing more is asked on the connection: it was silent for too long, and may lead nowhere.
    pub fn leave(&self) {
        if let Self::Http2(exchange) = self {
            exchange.leave();
        }
    }

    /// What followed the answer's body.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Http2(exchange) => exchange.take_trailers(),
            Self::Plain(_) | Self::Tls(_) => None,
        }
    }

    /// The next close is a reset.
    pub fn reset(&self) {
        // Best effort: without it the close is an ordinary one. A stream that is dropped is reset in any case.
        let _ = match self {
            Self::Plain(stream) => stream.set_zero_linger(),
            Self::Tls(stream) => stream.stream.get_ref().0.set_zero_linger(),
            Self::Http2(_) => Ok(()),
        };
    }
}

/// The same call on whatever it is.
macro_rules! on_each {
    ($upstream:expr, $stream:ident => $call:expr) => {
        match $upstream.get_mut() {
            Upstream::Plain($stream) => $call,
            Upstream::Tls(secure) => {
                let $stream = &mut secure.stream;
                $call
            }
            Upstream::Http2(stream) => {
                let $stream = &mut **stream;
                $call
            }
        }
    };
}

impl AsyncRead for Upstream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_each!(self, stream => Pin::new(stream).poll_read(cx, space))
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_each!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_each!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
