//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it: the server's side against a stored verifier, and the
//! client's side with the key that a client has proved, or with a password. Sans I/O; nonces are parameters.
//!
//! It never sees a client's password and offers no channel binding. Used by `session::login` and `server`.

mod client;
mod server;

pub(crate) use client::ClientExchange;
pub(crate) use server::ServerFirst;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

pub(crate) const MECHANISM: &str = "SCRAM-SHA-256";
/// PostgreSQL's default, which the exchange with an unknown user shows.
pub(crate) const ITERATIONS_DEFAULT: u32 = 4096;
/// A verifier or server that asks for more would stop a worker for too long.
pub(crate) const ITERATIONS_MAX: u32 = 1_000_000;
/// Random bytes in a nonce.
pub(crate) const NONCE_BYTES: usize = 18;

pub(crate) type Key = [u8; 32];

/// What `pg_authid.rolpassword` holds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Verifier {
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub stored_key: Key,
    pub server_key: Key,
}

/// What proves a user to a server, and the server to us: as secret as a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ProvedKeys {
    pub client_key: Key,
    pub server_key: Key,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScramError {
    #[error("malformed SCRAM message")]
    Malformed,
    #[error("channel binding is not offered here")]
    ChannelBinding,
    #[error("the proof is wrong")]
    Proof,
    #[error("the server's signature is wrong: it does not know the password")]
    Server,
    #[error("the server asks for {0} iterations, more than {ITERATIONS_MAX}")]
    Iterations(u32),
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`; `None` for any other form, such as md5.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (parameters, keys) = rest.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| Key::try_from(BASE64.decode(text).ok()?).ok();
        Some(Self {
            iterations: iterations.parse().ok().filter(|n| (1..=ITERATIONS_MAX).contains(n))?,
            salt: BASE64.decode(salt).ok()?,
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }

    /// A verifier that nobody can satisfy, for a user that does not exist: the same salt each time for the same
    /// name, so that the exchange does not tell that the user is unknown.
    pub fn nobody(secret: &Key, user: &str) -> Self {
        let salt = hmac(secret, &[user.as_bytes()]);
        Self {
            iterations: ITERATIONS_DEFAULT,
            salt: salt[..16].to_vec(),
            stored_key: hmac(secret, &[b"stored", user.as_bytes()]),
            server_key: hmac(secret, &[b"server", user.as_bytes()]),
        }
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        // HMAC takes a key of any length.
        Err(_) => unreachable!("HMAC refused a key"),
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn sha256(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

fn xor(a: &Key, b: &Key) -> Key {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// The `key=value` attribute at the front of `text`: its value, and the rest.
fn attribute<'a>(text: &'a str, key: &str) -> Result<(&'a str, &'a str), ScramError> {
    let rest = text.strip_prefix(key).ok_or(ScramError::Malformed)?;
    Ok(rest.split_once(',').unwrap_or((rest, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3: user "user", password "pencil".
    const RFC: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn verifiers() {
        let v = Verifier::parse(RFC).unwrap();
        assert_eq!((v.iterations, v.salt.len()), (4096, 16));
        for wrong in ["", "md5abc", "SCRAM-SHA-256$0:AAAA$AAAA:AAAA", "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA"] {
            assert!(Verifier::parse(wrong).is_none(), "{wrong}");
        }
        assert!(Verifier::nobody(&[1; 32], "ann") == Verifier::nobody(&[1; 32], "ann"));
        assert!(Verifier::nobody(&[1; 32], "ann").salt != Verifier::nobody(&[1; 32], "bob").salt);
    }

    #[test]
    fn the_exchange_of_the_rfc() {
        let v = Verifier::parse(RFC).unwrap();
        let first = ServerFirst::read("n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        let exchange = first.answer(v, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        assert_eq!(
            exchange.challenge(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let client_final = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let (signature, _) = exchange.finish(client_final).unwrap();
        assert_eq!(signature, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_key_that_was_proved_opens_the_next_door() {
        let v = Verifier::parse(RFC).unwrap();
        let (mut client, first) = ClientExchange::password("pencil", "abc");
        let exchange = ServerFirst::read(&first).unwrap().answer(v.clone(), "xyz");
        let proof = client.prove(exchange.challenge()).unwrap();
        let (signature, keys) = exchange.finish(&proof).unwrap();
        client.check(&signature).unwrap();

        let (mut again, first) = ClientExchange::keys(keys, "def");
        let exchange = ServerFirst::read(&first).unwrap().answer(v, "uvw");
        let proof = again.prove(exchange.challenge()).unwrap();
        let (signature, _) = exchange.finish(&proof).unwrap();
        again.check(&signature).unwrap();
    }

    #[test]
    fn wrong_passwords_and_wrong_servers_are_found() {
        let v = Verifier::parse(RFC).unwrap();
        let (mut client, first) = ClientExchange::password("pen", "abc");
        let exchange = ServerFirst::read(&first).unwrap().answer(v.clone(), "xyz");
        let proof = client.prove(exchange.challenge()).unwrap();
        assert_eq!(exchange.finish(&proof).map(|_| ()), Err(ScramError::Proof));

        let (mut client, first) = ClientExchange::password("pencil", "abc");
        let exchange = ServerFirst::read(&first).unwrap().answer(v, "xyz");
        client.prove(exchange.challenge()).unwrap();
        assert_eq!(client.check("v=AAAA"), Err(ScramError::Server));
        assert_eq!(client.prove("r=other,s=AAAA,i=1").map(|_| ()), Err(ScramError::Malformed));
        assert_eq!(
            ClientExchange::password("x", "abc").0.prove("r=abcd,s=AAAA,i=999999999").map(|_| ()),
            Err(ScramError::Iterations(999_999_999))
        );
    }

    #[test]
    fn bad_messages() {
        assert_eq!(ServerFirst::read("p=tls-unique,,n=,r=a").map(|_| ()), Err(ScramError::ChannelBinding));
        for bad in ["", "n", "n,,", "n,,n=a", "n,,n=a,r=", "x,,n=a,r=b", "n,,m=x,n=a,r=b", "n,a=x,n=a,r=b"] {
            assert_eq!(ServerFirst::read(bad).map(|_| ()), Err(ScramError::Malformed), "{bad}");
        }
    }
}
