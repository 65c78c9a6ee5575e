//! One connection to PostgreSQL: opened, logged in, and asked small questions of the router's own.
//!
//! It never decides where to connect, and never repeats anything. `pool` opens those of sessions, `control` its own.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rand::Rng as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::Target;
use crate::prepared::Kept;
use crate::scram::{self, ClientExchange, ProvedKeys, ScramError};
use crate::settings::Secret;
use crate::stream::{READ_BYTES, Stream, poll_drain};
use crate::wire::back::{self, Auth};
use crate::wire::error::SqlError;
use crate::wire::startup::{cancel_request, start_message};
use crate::wire::{HEAD_BYTES, WireError, build, head};

/// Until TCP (and TLS) stands.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// From there until ReadyForQuery.
const LOGIN_TIME: Duration = Duration::from_secs(5);
/// Longest message at login and in answers to the router's own questions, bytes.
const OWN_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How this connection proves who it is.
#[derive(Clone)]
pub(crate) enum Proof {
    /// TLS with the node's certificate.
    Certificate(Arc<rustls::ClientConfig>),
    Keys(ProvedKeys),
    Password(Option<Secret>),
}

/// Why a connection was not opened or broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer in {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("it answered: {0}")]
    Refused(SqlError),
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("login: {0}")]
    Scram(#[from] ScramError),
    #[error(
        "it asks for a password, but this router logs in with its certificate: is the line `hostssl all all all cert map=tiebeam` first in its pg_hba.conf?"
    )]
    WantsPassword,
    #[error(
        "it asks for the login method {0}, which the router does not have: let its pg_hba.conf say scram-sha-256"
    )]
    Method(&'static str),
}

/// The process at the other end, for CancelRequest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process {
    pub pid: u32,
    pub secret: Vec<u8>,
}

/// A connection that is logged in.
pub(crate) struct Server {
    pub stream: Stream,
    /// Bytes that arrived and were not looked at yet.
    pub input: BytesMut,
    /// Bytes to be sent.
    pub output: BytesMut,
    /// The stream itself still holds bytes to be sent.
    unflushed: bool,
    pub process: Process,
    /// What it reported at login, in its order.
    pub parameters: Vec<(String, String)>,
    pub kept: Kept,
}

impl Server {
    /// Connects and logs in; `params` hold `user` and `database`.
    pub async fn connect(
        target: &Target,
        proof: &Proof,
        params: &[(String, String)],
    ) -> Result<Self, ServerError> {
        let opening = async {
            match proof {
                Proof::Certificate(config) => Stream::tls(target.address, &target.identity, config).await,
                Proof::Keys(_) | Proof::Password(_) => Stream::plain(target.address).await,
            }
        };
        let stream =
            timeout(CONNECT_TIME, opening).await.map_err(|_| ServerError::Timeout(CONNECT_TIME))??;
        let mut server = Self {
            stream,
            input: BytesMut::with_capacity(READ_BYTES),
            output: BytesMut::new(),
            unflushed: false,
            process: Process::default(),
            parameters: Vec::new(),
            kept: Kept::default(),
        };
        timeout(LOGIN_TIME, server.login(proof, params))
            .await
            .map_err(|_| ServerError::Timeout(LOGIN_TIME))??;
        Ok(server)
    }

    async fn login(&mut self, proof: &Proof, params: &[(String, String)]) -> Result<(), ServerError> {
        let message = start_message(params.iter().map(|(n, v)| (&**n, &**v)));
        self.stream.write_all(&message).await?;
        let mut exchange = None;
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                back::AUTH => self.prove(proof, &body, &mut exchange).await?,
                back::PARAMETER => {
                    let (name, value) = back::parameter(&body)?;
                    self.parameters.push((name.into(), value.into()));
                }
                back::KEY => {
                    let (pid, secret) = back::key(&body)?;
                    self.process = Process { pid, secret: secret.to_vec() };
                }
                back::ERROR => return Err(ServerError::Refused(SqlError::read(&body))),
                back::READY => return Ok(()),
                _ => {}
            }
        }
    }

    async fn prove(
        &mut self,
        proof: &Proof,
        body: &[u8],
        exchange: &mut Option<ClientExchange>,
    ) -> Result<(), ServerError> {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| WireError::Text);
        let mut out = BytesMut::new();
        match back::auth(body)? {
            Auth::Ok => return Ok(()),
            Auth::Sasl(mechanisms) => {
                if !mechanisms.split(|&b| b == 0).any(|m| m == scram::MECHANISM.as_bytes()) {
                    return Err(ServerError::Method("SASL without SCRAM-SHA-256"));
                }
                let nonce = nonce();
                let (started, first) = match proof {
                    Proof::Certificate(_) | Proof::Password(None) => return Err(ServerError::WantsPassword),
                    Proof::Keys(keys) => ClientExchange::keys(keys.clone(), &nonce),
                    Proof::Password(Some(secret)) => ClientExchange::password(secret.reveal(), &nonce),
                };
                *exchange = Some(started);
                build::sasl_initial(&mut out, scram::MECHANISM, first.as_bytes());
            }
            Auth::SaslContinue(challenge) => {
                let exchange = exchange.as_mut().ok_or(WireError::Form('R'))?;
                build::password(&mut out, exchange.prove(text(challenge)?)?.as_bytes());
            }
            Auth::SaslFinal(last) => {
                let exchange = exchange.as_ref().ok_or(WireError::Form('R'))?;
                return Ok(exchange.check(text(last)?)?);
            }
            Auth::Cleartext => return Err(ServerError::Method("password (in clear text)")),
            Auth::Md5 => return Err(ServerError::Method("md5")),
            Auth::Other(_) => return Err(ServerError::Method("of GSSAPI, SSPI or another kind")),
        }
        Ok(self.stream.write_all(&out).await?)
    }

    /// The next whole message: its tag and its body.
    async fn message(&mut self) -> Result<(u8, BytesMut), ServerError> {
        loop {
            if let Some(head) = head(&self.input)? {
                if head.len > OWN_MESSAGE_BYTES_MAX {
                    return Err(WireError::Length(head.len as i64).into());
                }
                if self.input.len() >= head.len {
                    let mut message = self.input.split_to(head.len);
                    message.advance(HEAD_BYTES);
                    return Ok((head.tag, message));
                }
            }
            self.input.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Not all of the output has left.
    pub fn is_sending(&self) -> bool {
        self.unflushed || !self.output.is_empty()
    }

    /// Sends the output. `Ready` means that all has left; after an error nothing more ever will.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = poll_drain(&mut self.stream, cx, &mut self.output);
        self.unflushed = sent.is_pending();
        if matches!(sent, Poll::Ready(Err(_))) {
            self.output.clear();
        }
        sent
    }

    /// Asks a question of the router's own and reads all rows. After an error of any kind but [`ServerError::Refused`]
    /// the connection is of no use.
    pub async fn ask(&mut self, sql: &str, params: &[&str]) -> Result<Vec<Vec<Option<String>>>, ServerError> {
        let mut out = BytesMut::new();
        if params.is_empty() {
            build::query(&mut out, sql);
        } else {
            build::parameterized(&mut out, sql, params);
        }
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                back::DATA_ROW => rows.push(back::row(&body)?),
                back::ERROR => refused = Some(SqlError::read(&body)),
                back::READY => return refused.map_or(Ok(rows), |error| Err(ServerError::Refused(error))),
                _ => {}
            }
        }
    }

    /// What it reported at login under this name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| &**v)
    }

    /// It was a standby when it logged this connection in (PostgreSQL 14 and later report it).
    pub fn was_standby(&self) -> bool {
        self.parameter("in_hot_standby") == Some("on")
    }

    /// Says goodbye, if that is possible without waiting. A TLS connection just ends.
    pub fn part(&mut self) {
        if let Stream::Plain(tcp) = &self.stream {
            // Best effort: without it PostgreSQL finds the end of the connection instead.
            let _ = tcp.try_write(build::TERMINATE);
        }
    }
}

/// Sends a CancelRequest and waits until the server has taken it, which it shows by closing.
pub(crate) async fn cancel(target: &Target, proof: &Proof, process: &Process) -> Result<(), ServerError> {
    let sending = async {
        let mut stream = match proof {
            Proof::Certificate(config) => Stream::tls(target.address, &target.identity, config).await?,
            Proof::Keys(_) | Proof::Password(_) => Stream::plain(target.address).await?,
        };
        stream.write_all(&cancel_request(process.pid, &process.secret)).await?;
        stream.flush().await?;
        // The end may come as a reset or without a TLS farewell; either is the end.
        let _ = stream.read(&mut [0]).await;
        Ok(())
    };
    timeout(CONNECT_TIME, sending).await.map_err(|_| ServerError::Timeout(CONNECT_TIME))?
}

/// A fresh printable nonce.
pub(crate) fn nonce() -> String {
    use base64::Engine as _;
    let bytes: [u8; scram::NONCE_BYTES] = rand::rng().random();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
