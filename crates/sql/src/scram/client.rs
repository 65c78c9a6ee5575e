//! The client's side: the router proves itself to a server, with a password or with a key that a client has proved.

use base64::Engine as _;
use subtle::ConstantTimeEq as _;

use super::{BASE64, ITERATIONS_MAX, Key, ProvedKeys, ScramError, attribute, hmac, sha256, xor};

enum With {
    Password(String),
    Keys(ProvedKeys),
}

/// An exchange with a server.
pub(crate) struct ClientExchange {
    with: With,
    bare: String,
    nonce: String,
    /// What the server must answer to the proof.
    expected: Option<Key>,
}

impl ClientExchange {
    /// Proves a password; also the first message. The password is prepared by SASLprep where that is possible, as
    /// PostgreSQL does.
    pub fn password(password: &str, nonce: &str) -> (Self, String) {
        let prepared = stringprep::saslprep(password).map_or_else(|_| password.to_owned(), Into::into);
        Self::new(With::Password(prepared), nonce)
    }

    /// Proves a key; also the first message.
    pub fn keys(keys: ProvedKeys, nonce: &str) -> (Self, String) {
        Self::new(With::Keys(keys), nonce)
    }

    fn new(with: With, nonce: &str) -> (Self, String) {
        let bare = format!("n=,r={nonce}");
        let first = format!("n,,{bare}");
        (Self { with, bare, nonce: nonce.into(), expected: None }, first)
    }

    /// Answers the server's challenge.
    pub fn prove(&mut self, challenge: &str) -> Result<String, ScramError> {
        let (nonce, rest) = attribute(challenge, "r=")?;
        let (salt, rest) = attribute(rest, "s=")?;
        let (iterations, _) = attribute(rest, "i=")?;
        if !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Malformed);
        }
        let salt = BASE64.decode(salt).map_err(|_| ScramError::Malformed)?;
        let iterations: u32 = iterations.parse().map_err(|_| ScramError::Malformed)?;
        if !(1..=ITERATIONS_MAX).contains(&iterations) {
            return Err(ScramError::Iterations(iterations));
        }
        let keys = match &self.with {
            With::Keys(keys) => keys.clone(),
            With::Password(password) => {
                let salted = salted_password(password, &salt, iterations);
                ProvedKeys {
                    client_key: hmac(&salted, &[b"Client Key"]),
                    server_key: hmac(&salted, &[b"Server Key"]),
                }
            }
        };
        let without_proof = format!("c=biws,r={nonce}");
        let auth = [&*self.bare, challenge, &*without_proof].join(",");
        let signature = hmac(&sha256(&keys.client_key), &[auth.as_bytes()]);
        self.expected = Some(hmac(&keys.server_key, &[auth.as_bytes()]));
        Ok(format!("{without_proof},p={}", BASE64.encode(xor(&keys.client_key, &signature))))
    }

    /// Checks that the server knows the verifier.
    pub fn check(&self, message: &str) -> Result<(), ScramError> {
        let signature = message.strip_prefix("v=").and_then(|v| BASE64.decode(v).ok());
        match (signature, self.expected) {
            (Some(given), Some(expected)) if bool::from(given[..].ct_eq(&expected[..])) => Ok(()),
            _ => Err(ScramError::Server),
        }
    }
}

/// `Hi()` of RFC 5802, section 2.2: PBKDF2 with one block.
fn salted_password(password: &str, salt: &[u8], iterations: u32) -> Key {
    let mut last = hmac(password.as_bytes(), &[salt, &1u32.to_be_bytes()]);
    let mut sum = last;
    for _ in 1..iterations {
        last = hmac(password.as_bytes(), &[&last]);
        sum = xor(&sum, &last);
    }
    sum
}
