//! From a new connection to a session: requests, startup, SCRAM, the parameters that servers report.
//!
//! A user that does not exist and a wrong password look the same from outside. No password reaches the router.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rand::Rng as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use crate::ServerLogin;
use crate::control::Lookup;
use crate::scram::{MECHANISM, ProvedKeys, ServerFirst, Verifier};
use crate::server::{Proof, nonce};
use crate::stats::Count;
use crate::wire::error::{SqlError, state};
use crate::wire::front;
use crate::wire::startup::{STARTUP_BYTES_MAX, Start, Startup, startup};
use crate::wire::{HEAD_BYTES, WireError, build, cstr, head};
use crate::worker::{CancelKey, Worker};

/// From the connection to the client's proof.
const LOGIN_TIME: Duration = Duration::from_secs(30);
/// From the connection to the first message, if that will be refused unless it is a CancelRequest.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// Longest message of a client that has not logged in, after the first; bytes.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Requests for encryption that a client may make before it starts.
const REQUESTS_MAX: usize = 4;
/// Between two attempts to find a server that knows the users.
const LOOKUP_EVERY: Duration = Duration::from_millis(100);

/// Why there is no session.
pub(super) enum Refusal {
    /// Nothing to be said: a CancelRequest, or the client went away.
    Silent,
    Tell(SqlError),
}

impl From<std::io::Error> for Refusal {
    fn from(_: std::io::Error) -> Self {
        Self::Silent
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        let code = match error {
            WireError::Version(..) => state::FEATURE_NOT_SUPPORTED,
            _ => state::PROTOCOL_VIOLATION,
        };
        Self::Tell(SqlError::fatal(code, error.to_string()))
    }
}

impl From<SqlError> for Refusal {
    fn from(error: SqlError) -> Self {
        Self::Tell(error)
    }
}

/// A client that has proved who it is.
pub(super) struct LoggedIn {
    /// Startup parameters with `user` and `database`.
    pub params: Vec<(String, String)>,
    pub proof: Proof,
    /// What the client sent after its proof.
    pub input: BytesMut,
}

/// Talks to a new client until it has proved who it is. `refused`: it will be told this as soon as it has said that it
/// wants a session; a CancelRequest is heard in any case.
pub(super) async fn log_in(
    worker: &Rc<Worker>,
    client: &mut TcpStream,
    refused: Option<SqlError>,
) -> Result<LoggedIn, Refusal> {
    let deadline = Instant::now() + if refused.is_some() { REFUSAL_TIME } else { LOGIN_TIME };
    let mut talk = Talk { client, input: BytesMut::new() };
    let start = timeout_at(deadline, talk.start(worker)).await.map_err(|_| Refusal::Silent)??;
    if let Some(error) = refused {
        worker.counters.count(Count::ClientsRefused);
        return Err(error.into());
    }
    let params = checked(start.params)?;
    let user = &params[0].1;
    let mut out = BytesMut::new();
    if start.minor > 0 || !start.extensions.is_empty() {
        build::negotiate(&mut out, &start.extensions);
    }
    build::auth(&mut out, 10, format!("{MECHANISM}\0\0").as_bytes());
    talk.client.write_all(&out).await?;
    let keys = timeout_at(deadline, talk.scram(worker, user)).await.map_err(|_| Refusal::Silent)??;
    let proof = match &worker.shared.settings.login {
        ServerLogin::Certificate(config) => Proof::Certificate(config.clone()),
        ServerLogin::PassThrough { .. } => Proof::Keys(keys),
    };
    Ok(LoggedIn { params, proof, input: talk.input })
}

/// The parameters that go to servers, `user` and `database` first.
fn checked(given: Vec<(String, String)>) -> Result<Vec<(String, String)>, SqlError> {
    let find = |name: &str| given.iter().rfind(|(n, _)| n == name).map(|(_, v)| v.clone());
    let user = find("user").filter(|user| !user.is_empty()).ok_or_else(|| {
        SqlError::fatal(state::INVALID_AUTHORIZATION, "no PostgreSQL user name specified in startup packet")
    })?;
    let database = find("database").filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
    if let Some(replication) = find("replication")
        && !["false", "off", "no", "0"].contains(&&*replication)
    {
        return Err(SqlError::fatal(
            state::FEATURE_NOT_SUPPORTED,
            "replication does not pass through the router",
        )
        .hint("Connect to the PostgreSQL server itself."));
    }
    let own = ["user", "database", "replication"];
    let rest = given.into_iter().filter(|(name, _)| !own.contains(&&**name));
    Ok([("user".into(), user), ("database".into(), database)].into_iter().chain(rest).collect())
}

struct Talk<'a> {
    client: &'a mut TcpStream,
    input: BytesMut,
}

impl Talk<'_> {
    /// The StartupMessage, after any requests for encryption.
    async fn start(&mut self, worker: &Worker) -> Result<Start, Refusal> {
        for _ in 0..=REQUESTS_MAX {
            match self.startup().await? {
                Startup::Ssl | Startup::Gss => {
                    // Bytes behind the request would be unencrypted ones that pretend not to be.
                    if !self.input.is_empty() {
                        return Err(WireError::Startup.into());
                    }
                    self.client.write_all(b"N").await?;
                }
                Startup::Cancel { pid, secret } => {
                    if let Ok(secret) = <[u8; 4]>::try_from(secret) {
                        worker.pass_cancel(CancelKey { pid, secret: u32::from_be_bytes(secret) });
                    }
                    return Err(Refusal::Silent);
                }
                Startup::Start(start) => return Ok(start),
            }
        }
        Err(WireError::Startup.into())
    }

    async fn startup(&mut self) -> Result<Startup, Refusal> {
        loop {
            if let Some((startup, len)) = startup(&self.input)? {
                self.input.advance(len);
                return Ok(startup);
            }
            self.fill(STARTUP_BYTES_MAX).await?;
        }
    }

    async fn fill(&mut self, most: usize) -> Result<(), Refusal> {
        self.input.reserve(512);
        let mut limited = (&mut *self.client).take((most + HEAD_BYTES - self.input.len().min(most)) as u64);
        match limited.read_buf(&mut self.input).await? {
            0 => Err(Refusal::Silent),
            _ => Ok(()),
        }
    }

    /// The next SASL message's body.
    async fn sasl(&mut self) -> Result<BytesMut, Refusal> {
        loop {
            if let Some(head) = head(&self.input)? {
                if head.tag != front::AUTH {
                    return Err(WireError::Tag(head.tag as char).into());
                }
                if head.len > MESSAGE_BYTES_MAX {
                    return Err(WireError::Length(head.len as i64).into());
                }
                if self.input.len() >= head.len {
                    let mut message = self.input.split_to(head.len);
                    message.advance(HEAD_BYTES);
                    return Ok(message);
                }
            }
            self.fill(MESSAGE_BYTES_MAX).await?;
        }
    }

    /// The whole SCRAM exchange.
    async fn scram(&mut self, worker: &Worker, user: &str) -> Result<ProvedKeys, Refusal> {
        let form = || Refusal::from(WireError::Form('p'));
        let body = self.sasl().await?;
        let (mechanism, rest) = cstr(&body).ok_or_else(form)?;
        let (len, first) = rest.split_first_chunk::<4>().ok_or_else(form)?;
        let first = std::str::from_utf8(first).map_err(|_| form())?;
        if mechanism != MECHANISM.as_bytes() || u32::from_be_bytes(*len) as usize != first.len() {
            return Err(form());
        }
        let first = ServerFirst::read(first)
            .map_err(|error| Refusal::Tell(SqlError::fatal(state::PROTOCOL_VIOLATION, error.to_string())))?;
        let found = verifier(worker, user).await?;
        let verifier = found
            .as_deref()
            .and_then(Verifier::parse)
            .unwrap_or_else(|| Verifier::nobody(&worker.shared.secret, user));
        if found.as_ref().is_some_and(|text| Verifier::parse(text).is_none()) {
            tracing::warn!(
                user,
                "the user's password is not stored as SCRAM-SHA-256; set it again with \
                password_encryption = 'scram-sha-256' so that it can log in through the router"
            );
        }
        let exchange = first.answer(verifier, &nonce());
        let mut out = BytesMut::new();
        build::auth(&mut out, 11, exchange.challenge().as_bytes());
        self.client.write_all(&out).await?;
        let body = self.sasl().await?;
        let last = std::str::from_utf8(&body).map_err(|_| form())?;
        match exchange.finish(last) {
            // The keys of a verifier made up for an unknown user would not be found by chance.
            Ok((signature, keys)) => {
                out.clear();
                build::auth(&mut out, 12, signature.as_bytes());
                self.client.write_all(&out).await?;
                Ok(keys)
            }
            Err(error) => {
                worker.counters.count(Count::LoginsRefused);
                tracing::info!(user, %error, "login refused");
                let text = format!("password authentication failed for user \"{user}\"");
                Err(SqlError::fatal(state::INVALID_PASSWORD, text).into())
            }
        }
    }
}

/// The verifier of a user; `None` if there is no such user. Waits up to `hold` for a server that can say.
async fn verifier(worker: &Worker, user: &str) -> Result<Option<String>, SqlError> {
    let ask = async {
        loop {
            let (answer, answered) = oneshot::channel();
            let lookup = Lookup::Verifier { user: user.to_owned(), answer };
            if worker.shared.lookups.send(lookup).await.is_ok()
                && let Ok(Ok(found)) = answered.await
            {
                return found;
            }
            tokio::time::sleep(LOOKUP_EVERY).await;
        }
    };
    timeout(worker.shared.settings.hold, ask).await.map_err(|_| {
        SqlError::fatal(state::CANNOT_CONNECT_NOW, "no database server could be asked who may log in")
            .hint("`tiebeam status` shows which servers are up.")
    })
}

/// The messages that end a login.
pub(super) fn welcome(reported: &[(String, String)], key: CancelKey, out: &mut BytesMut) {
    build::auth(out, 0, &[]);
    for (name, value) in reported {
        // Through the router a session may write, whichever server told these.
        let value = if name == "in_hot_standby" { "off" } else { value };
        build::parameter(out, name, value);
    }
    build::key(out, key.pid, key.secret);
    build::ready(out, b'I');
}

/// The secret of a session, for its CancelRequests.
pub(super) fn secret() -> u32 {
    rand::rng().random()
}
