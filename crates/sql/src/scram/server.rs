//! The server's side: a client proves that it knows the password behind a verifier.

use base64::Engine as _;
use subtle::ConstantTimeEq as _;

use super::{BASE64, Key, ProvedKeys, ScramError, Verifier, attribute, hmac, sha256, xor};

/// A client's first message.
pub(crate) struct ServerFirst {
    /// The header that the client repeats, in base64, in its last message.
    gs2_base64: String,
    bare: String,
    nonce: String,
}

impl ServerFirst {
    /// Reads `n,,n=,r=NONCE`. The user named in it is not looked at, as PostgreSQL does not: the startup message has it.
    pub fn read(message: &str) -> Result<Self, ScramError> {
        let (flag, rest) = message.split_once(',').ok_or(ScramError::Malformed)?;
        match flag {
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Malformed),
        }
        // An authorization identity would stand before this comma; PostgreSQL takes none.
        let bare = rest.strip_prefix(',').ok_or(ScramError::Malformed)?;
        let (_, after) = attribute(bare, "n=")?;
        let (nonce, _) = attribute(after, "r=")?;
        if nonce.is_empty() || !nonce.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ScramError::Malformed);
        }
        Ok(Self { gs2_base64: BASE64.encode(format!("{flag},,")), bare: bare.into(), nonce: nonce.into() })
    }

    /// Challenges the client; `nonce` is fresh and printable, without a comma.
    pub fn answer(self, verifier: Verifier, nonce: &str) -> Exchange {
        let nonce = format!("{}{nonce}", self.nonce);
        let challenge = format!("r={nonce},s={},i={}", BASE64.encode(&verifier.salt), verifier.iterations);
        Exchange { first: self, verifier, nonce, challenge }
    }
}

/// An exchange that waits for the client's proof.
pub(crate) struct Exchange {
    first: ServerFirst,
    verifier: Verifier,
    nonce: String,
    challenge: String,
}

impl Exchange {
    /// The message for the client.
    pub fn challenge(&self) -> &str {
        &self.challenge
    }

    /// Checks the client's last message: the server's signature for the client, and the keys that open this user's
    /// connections elsewhere.
    pub fn finish(&self, message: &str) -> Result<(String, ProvedKeys), ScramError> {
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let (binding, rest) = attribute(without_proof, "c=")?;
        let (nonce, _) = attribute(rest, "r=")?;
        if binding != self.first.gs2_base64 || nonce != self.nonce {
            return Err(ScramError::Malformed);
        }
        let proof: Key =
            BASE64.decode(proof).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(ScramError::Malformed)?;
        let auth = [&*self.first.bare, &*self.challenge, without_proof].join(",");
        let signature = hmac(&self.verifier.stored_key, &[auth.as_bytes()]);
        let client_key = xor(&proof, &signature);
        if !bool::from(sha256(&client_key).ct_eq(&self.verifier.stored_key)) {
            return Err(ScramError::Proof);
        }
        let server_key = self.verifier.server_key;
        let answer = format!("v={}", BASE64.encode(hmac(&server_key, &[auth.as_bytes()])));
        Ok((answer, ProvedKeys { client_key, server_key }))
    }
}
