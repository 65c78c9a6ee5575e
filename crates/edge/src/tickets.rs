//! Session tickets of TLS that every edge of a cluster can read: sealed with keys that the control side gives and changes.
//!
//! A ticket says by which key it was sealed, and ends with that key: nothing in it has a date. Without keys from
//! outside, tickets are this process's own.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;

/// What seals and opens tickets now. The next keys replace them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketKeys {
    /// Seals, and opens.
    pub current: TicketKey,
    /// Open only: keys that were current, or are so where a clock is ahead.
    pub others: Vec<TicketKey>,
    /// How long a ticket that is sealed now can be opened at least, seconds.
    pub lifetime_s: u32,
}

#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey {
    /// Sent with each ticket, for all to see. No two keys have the same.
    pub name: u64,
    pub secret: [u8; 32],
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Of one edge, for all its workers and configurations.
#[derive(Debug)]
pub struct Tickets {
    shared: ArcSwapOption<Shared>,
    own: Arc<dyn ProducesTickets>,
}

#[derive(Debug)]
struct Shared {
    keys: TicketKeys,
    sealing: Key,
    opening: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    name: [u8; NAME_BYTES],
    /// AES-256-GCM, whose random nonces serve 2^32 tickets of one key: far more than all edges give in its time.
    aead: RandomizedNonceKey,
}

const NAME_BYTES: usize = 8;

impl Tickets {
    /// With keys of its own until [`Tickets::replace`].
    pub fn new() -> Result<Self, rustls::Error> {
        let own = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Self { shared: ArcSwapOption::empty(), own })
    }

    /// Tickets that are open with neither the old keys nor the new cost a whole handshake, nothing else.
    pub fn replace(&self, keys: Option<&TicketKeys>) {
        let shared = self.shared.load();
        if shared.as_ref().map(|shared| &shared.keys) == keys {
            return;
        }
        let compiled = keys.and_then(|keys| {
            let opening = keys.others.iter().filter_map(Key::new).collect();
            Some(Shared { keys: keys.clone(), sealing: Key::new(&keys.current)?, opening })
        });
        self.shared.store(compiled.map(Arc::new));
    }
}

impl Key {
    /// `None` never happens: every secret of that length is a key.
    fn new(key: &TicketKey) -> Option<Self> {
        let aead = RandomizedNonceKey::new(&AES_256_GCM, &key.secret).ok()?;
        Some(Self { name: key.name.to_be_bytes(), aead })
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self.aead.seal_in_place_append_tag(Aad::from(self.name), &mut sealed).ok()?;
        Some([&self.name[..], nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, nonce: [u8; NONCE_LEN], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut text = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let bytes = self.aead.open_in_place(nonce, Aad::from(self.name), &mut text).ok()?.len();
        text.truncate(bytes);
        Some(text)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.shared.load().as_ref().map_or_else(|| self.own.lifetime(), |shared| shared.keys.lifetime_s)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        match &*self.shared.load() {
            Some(shared) => shared.sealing.seal(plain),
            None => self.own.encrypt(plain),
        }
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let shared = self.shared.load();
        let Some(shared) = &*shared else { return self.own.decrypt(ticket) };
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut keys = std::iter::once(&shared.sealing).chain(&shared.opening);
        keys.find(|key| key.name == *name)?.open(*nonce, sealed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(names: &[u64]) -> TicketKeys {
        let key = |name: &u64| TicketKey { name: *name, secret: [*name as u8; 32] };
        TicketKeys { current: key(&names[0]), others: names[1..].iter().map(key).collect(), lifetime_s: 9 }
    }

    fn with(names: &[u64]) -> Tickets {
        let tickets = Tickets::new().unwrap();
        tickets.replace(Some(&keys(names)));
        tickets
    }

    #[test]
    fn who_has_the_key_opens_a_ticket() {
        let ticket = with(&[5]).encrypt(b"session").unwrap();
        assert_eq!(with(&[5]).lifetime(), 9);
        for (names, opens) in [(&[5][..], true), (&[6, 5, 7], true), (&[4, 5, 3], true), (&[7, 6], false)] {
            assert_eq!(with(names).decrypt(&ticket).is_some(), opens, "{names:?}");
        }
        // A key of that name that is another.
        let other = Tickets::new().unwrap();
        other.replace(Some(&TicketKeys { current: TicketKey { name: 5, secret: [9; 32] }, ..keys(&[1]) }));
        assert_eq!(other.decrypt(&ticket), None);
    }

    #[test]
    fn without_keys_tickets_are_its_own() {
        let (one, other) = (Tickets::new().unwrap(), Tickets::new().unwrap());
        let ticket = one.encrypt(b"session").unwrap();
        assert_eq!(one.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(other.decrypt(&ticket), None);
        one.replace(Some(&keys(&[1])));
        assert_eq!(one.decrypt(&ticket), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", keys(&[1]).current), "TicketKey { name: 1, .. }");
        assert!(!format!("{:?}", with(&[7])).contains("7, 7"));
    }

    proptest! {
        #[test]
        fn a_ticket_that_was_touched_is_none(plain in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, with_bits in 1u8..) {
            let tickets = with(&[5, 4]);
            let mut ticket = tickets.encrypt(&plain).unwrap();
            prop_assert_eq!(tickets.decrypt(&ticket), Some(plain));
            let end = at.index(ticket.len());
            prop_assert_eq!(tickets.decrypt(&ticket[..end]), None);
            ticket[end] ^= with_bits;
            prop_assert_eq!(tickets.decrypt(&ticket), None);
        }
    }
}
