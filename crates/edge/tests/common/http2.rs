//! A client of HTTP/2, which does what it is told to on one thread.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = async { tokio::time::timeout(Duration::from_secs(30), test).await.expect("it hangs") };
    tokio::task::LocalSet::new().block_on(&runtime, all)
}

/// One connection; its frames move while the test waits for anything.
pub struct Http2(pub SendRequest<Bytes>, pub tokio::task::JoinHandle<Result<(), h2::Error>>);

pub struct Answer {
    pub status: u16,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Http2 {
    /// Without TLS, by prior knowledge.
    pub async fn plain(at: SocketAddr) -> Self {
        Self::over(TcpStream::connect(at).await.unwrap(), &mut h2::client::Builder::new()).await
    }

    pub async fn secure((at, config): (SocketAddr, rustls::ClientConfig), name: &str) -> Self {
        let stream = TcpStream::connect(at).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(stream, &mut h2::client::Builder::new()).await
    }

    pub async fn over<S>(io: S, builder: &mut h2::client::Builder) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (sender, connection) = builder.handshake(io).await.unwrap();
        Self(sender, tokio::task::spawn_local(connection))
    }

    /// Begins a request; `is_end`: it has no body.
    pub async fn ask(
        &mut self,
        request: Request<()>,
        is_end: bool,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let mut ready = self.0.clone().ready().await.unwrap();
        ready.send_request(request, is_end).unwrap()
    }

    pub async fn get(&mut self, url: &str) -> Result<Answer, h2::Error> {
        let (response, _) = self.ask(Request::get(url).body(()).unwrap(), true).await;
        whole(response.await?).await
    }
}

pub async fn whole(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (parts, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?;
    Ok(Answer { status: parts.status.as_u16(), fields: parts.headers, body, trailers })
}
