//! Servers that are futures, of HTTP/2 or of anything else.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use tiebeam_edge::{Config, Reach};

use super::loopback;

/// A server on a thread of its own, whose connections a future serves.
pub struct Async {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Async {
    pub fn start<F>(serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind(loopback()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let connections = Arc::<AtomicUsize>::default();
        let counter = connections.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let all = async {
                    while let Ok((stream, _)) = listener.accept().await {
                        stream.set_nodelay(true).unwrap();
                        counter.fetch_add(1, Ordering::SeqCst);
                        tokio::task::spawn_local(serve(stream));
                    }
                };
                tokio::select! { () = all => {}, _ = stopped => {} }
            });
        });
        Self { address, connections, _stop: stop }
    }
}

/// Speaks HTTP/2 on `io`; each request is answered by `answer`.
pub async fn speak_http2<S, F>(
    io: S,
    answer: impl Fn(http::request::Parts, h2::RecvStream, SendResponse<Bytes>) -> F + Clone + 'static,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    F: Future<Output = Option<()>> + 'static,
{
    let Ok(mut connection) = h2::server::handshake(io).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (parts, body) = request.into_parts();
        tokio::task::spawn_local(answer(parts, body, respond));
    }
}

pub fn reach(config: Config, reach: Reach) -> Config {
    let mut config = config;
    config.pools.values_mut().for_each(|pool| pool.reach = reach.clone());
    config
}

pub fn http2_without_tls() -> Reach {
    Reach { tls: None, http2: true }
}
