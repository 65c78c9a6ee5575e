//! Which leases are over, by the leader's own boot clock.
//!
//! Pure: `now` is a parameter. A lease counts from the last keep that this node applied, from the moment that it became
//! leader, or from its own last pause, whichever is latest: all doubts extend the lease.

use std::time::Duration;

use tiebeam_topology::Moment;

use crate::LeaseId;
use crate::state::Lease;

/// A leader that did not look for so long was paused, and the keeps of the time may still wait in its sockets.
const PAUSE: Duration = Duration::from_millis(1000);

#[derive(Debug, Default)]
pub(crate) struct Expiry {
    /// The term in which this node leads, and since when leases count.
    leading: Option<(u64, Moment)>,
    looked: Option<Moment>,
}

impl Expiry {
    /// The leases that are over, with how often they had been kept. `term` is `None` while this node does not lead.
    pub fn due<'a>(
        &mut self,
        term: Option<u64>,
        leases: impl Iterator<Item = (LeaseId, &'a Lease)>,
        now: Moment,
    ) -> Vec<(LeaseId, u64)> {
        let paused = self.looked.is_none_or(|looked| now.since(looked) > PAUSE);
        self.looked = Some(now);
        let since = match (term, self.leading) {
            (None, _) => {
                self.leading = None;
                return Vec::new();
            }
            (Some(term), Some((before, since))) if term == before && !paused => since,
            (Some(term), _) => {
                self.leading = Some((term, now));
                now
            }
        };
        leases
            .filter(|(_, lease)| {
                now.since(lease.touched_at.max(since)) >= Duration::from_millis(lease.ttl_ms)
            })
            .map(|(id, lease)| (id, lease.renewals))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_doubts_extend_a_lease() {
        let lease =
            Lease { ttl_ms: 500, renewals: 3, keys: BTreeSet::new(), touched_at: Moment::from_ms(1000) };
        let due = |expiry: &mut Expiry, term, ms| {
            expiry.due(term, std::iter::once((LeaseId(1), &lease)), Moment::from_ms(ms)).len()
        };
        let mut expiry = Expiry::default();
        // (term, now, due): following; leading since 2000; paused until 4000; another term since 4800.
        for (term, ms, expected) in [
            (None, 1900, 0),
            (Some(1), 2000, 0),
            (Some(1), 2499, 0),
            (Some(1), 2500, 1),
            (Some(1), 4000, 0),
            (Some(1), 4499, 0),
            (Some(1), 4500, 1),
            (Some(2), 4800, 0),
            (Some(2), 5299, 0),
            (None, 5400, 0),
            (Some(2), 5500, 0),
            (Some(2), 6000, 1),
        ] {
            assert_eq!(due(&mut expiry, term, ms), expected, "{term:?} at {ms}");
        }
    }
}
