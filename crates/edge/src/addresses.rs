//! Open client connections by the address they come from, over all workers, so that one address cannot take them all.
//!
//! The table holds an entry for each address that has a connection open, and no other: it is bounded by the bound of
//! connections. It is touched when a connection opens or closes, never by a request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tables, so that workers seldom wait for each other.
const SHARDS: usize = 16;

#[derive(Debug, Default)]
pub struct ByAddress {
    shards: [Mutex<HashMap<Origin, usize>>; SHARDS],
}

/// Whom connections are counted for: an IPv4 address, or the first 64 bits of one of IPv6, which are one customer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

impl Origin {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & !u128::from(u64::MAX);
                Self(IpAddr::V6(Ipv6Addr::from(network)))
            }
            v4 => Self(v4),
        }
    }

    fn shard(self) -> usize {
        let bits = match self.0 {
            IpAddr::V4(v4) => u64::from(u32::from(v4)),
            IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
        };
        (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize
    }
}

impl ByAddress {
    /// Counts one more; false: there are `most` already, and nothing was counted.
    pub fn enter(&self, origin: Origin, most: usize) -> bool {
        let mut shard = self.shard(origin);
        let count = shard.entry(origin).or_default();
        if *count >= most.max(1) {
            return false;
        }
        *count += 1;
        true
    }

    /// One less, of those that [`ByAddress::enter`] counted.
    pub fn leave(&self, origin: Origin) {
        if let Entry::Occupied(mut entry) = self.shard(origin).entry(origin) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    fn shard(&self, origin: Origin) -> MutexGuard<'_, HashMap<Origin, usize>> {
        // Nothing that could panic is done while it is held.
        self.shards[origin.shard()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_origin_has_its_own_share() {
        let table = ByAddress::default();
        let of = |text: &str| Origin::of(text.parse().unwrap());
        for (address, is_let_in) in [
            ("192.0.2.1", true),
            ("192.0.2.1", true),
            ("192.0.2.1", false),
            // The same one, as a socket of IPv6 sees it.
            ("::ffff:192.0.2.1", false),
            ("192.0.2.2", true),
            ("2001:db8::1", true),
            ("2001:db8::2", true),
            ("2001:db8::ffff:0:0:3", false),
            ("2001:db8:0:1::1", true),
        ] {
            assert_eq!(table.enter(of(address), 2), is_let_in, "{address}");
        }
        table.leave(of("192.0.2.1"));
        assert!(table.enter(of("192.0.2.1"), 2));
        for (address, times) in
            [("192.0.2.1", 2), ("192.0.2.2", 1), ("2001:db8::9", 2), ("2001:db8:0:1::9", 1)]
        {
            (0..times).for_each(|_| table.leave(of(address)));
        }
        assert!(table.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
