//! A plain HTTP client over hyper, for the demo's load and for what it asks the nodes: one kept connection, and errors
//! that say whether the request was ever sent.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

const CONNECT_TIME: Duration = Duration::from_secs(1);
/// Largest answer that is read: a page of the checker's list, or a node's view.
const ANSWER_BYTES: usize = 8 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing was sent: trying elsewhere is safe.
    #[error("{0} does not take connections: {1}")]
    Unsent(SocketAddr, io::Error),
    /// The request was sent, or may have been.
    #[error("{0} did not answer: {1}")]
    Broken(SocketAddr, String),
}

impl NoAnswer {
    /// The reason without the address.
    pub fn why(&self) -> String {
        match self {
            Self::Unsent(_, error) => format!("no connection: {error}"),
            Self::Broken(_, why) => why.clone(),
        }
    }
}

/// A client of one address, with at most one connection.
pub struct Client {
    address: SocketAddr,
    host: String,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, host: address.to_string(), connection: None }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// One request and its whole answer, within `time`.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        time: Duration,
    ) -> Result<(StatusCode, Bytes), NoAnswer> {
        let mut connection = match self.connection.take().filter(|c| !c.is_closed()) {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let broken = |why: String| NoAnswer::Broken(self.address, why);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .body(Empty::new())
            .map_err(|e| broken(e.to_string()))?;
        let exchange = async {
            // A kept connection that the other side has just closed gives the request back: then it was never sent.
            let answer = connection.try_send_request(request).await.map_err(|mut failed| {
                let unsent = failed.take_message().is_some();
                let error = failed.into_error();
                if unsent {
                    NoAnswer::Unsent(self.address, io::Error::other(error))
                } else {
                    broken(error.to_string())
                }
            })?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
            Ok((status, body.map_err(|e| broken(e.to_string()))?.to_bytes()))
        };
        let answer = timeout(time, exchange)
            .await
            .map_err(|_| broken(format!("no answer within {} s", time.as_secs_f32())))??;
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, NoAnswer> {
        let unsent = |e| NoAnswer::Unsent(self.address, e);
        let stream = timeout(CONNECT_TIME, TcpStream::connect(self.address))
            .await
            .map_err(|_| unsent(io::ErrorKind::TimedOut.into()))?
            .map_err(unsent)?;
        stream.set_nodelay(true).map_err(unsent)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| unsent(io::Error::other(e)))?;
        // It ends by itself when the sender is dropped or the peer closes.
        tokio::spawn(connection);
        Ok(sender)
    }
}
