//! One request's way to a server: what it asks the pool for, whom it has tried, and its wait if all are full.

use std::net::IpAddr;
use std::time::Instant;

use tiebeam_balance::{Ask, NotPicked, number};
use tiebeam_topology::{Algorithm, HashBy};

use crate::clock::Timer;
use crate::connection::Request;
use crate::counters::Reason;
use crate::fields;
use crate::queue::NoPlace;
use crate::servers::{Place, Pool};
use crate::wire::{Io, Leaving, unless_left};

/// So many of the servers that were tried are remembered; among more, one may be tried again.
const TRIED: usize = 8;

pub struct Choice<'p> {
    pool: &'p Pool,
    key: u64,
    /// The server that the client's cookie names.
    stuck_to: Option<usize>,
    is_repeatable: bool,
    tried: [usize; TRIED],
    tries: usize,
}

impl<'p> Choice<'p> {
    pub fn new(pool: &'p Pool, request: &Request, is_repeatable: bool) -> Self {
        let client = || match request.client {
            IpAddr::V4(address) => number(&address.octets()),
            IpAddr::V6(address) => number(&address.octets()),
        };
        let key = match (pool.balancing.algorithm, &pool.balancing.hash_by) {
            (Algorithm::Hash, HashBy::Client) => client(),
            (Algorithm::Hash, HashBy::Path) => number(request.spans.path.of(&request.head)),
            (Algorithm::Hash, HashBy::Header(name)) => {
                fields::first(&request.head, name.as_bytes()).map_or_else(client, number)
            }
            _ => 0,
        };
        let stuck_to = pool.sticky.as_ref().and_then(|sticky| sticky.server(&request.head));
        Self { pool, key, stuck_to, is_repeatable, tried: [0; TRIED], tries: 0 }
    }

    /// May it be sent twice?
    pub fn is_repeatable(&self) -> bool {
        self.is_repeatable
    }

    /// The next server; waits for a place if all are full, as long as the client of `io` does.
    ///
    /// # Errors
    /// Why there is none: the client is told 503, if it is still there.
    pub async fn next<S: Io>(
        &mut self,
        random: u64,
        now: Instant,
        timer: &Timer,
        io: &mut S,
    ) -> Result<Place<'p>, Option<Reason>> {
        let (pool, queue) = (self.pool, &self.pool.shared.queue);
        // Whoever waits comes first.
        let is_queued = pool.balancing.in_flight.is_some() && queue.waiting() > 0;
        let picked = if is_queued { Err(NotPicked::Full) } else { pool.pick(&self.ask(random, now)) };
        let place = match picked {
            Ok(place) => place,
            Err(NotPicked::Nobody) => return Err(None),
            Err(NotPicked::Full) => {
                let look = || match pool.pick(&self.ask(random, Instant::now())) {
                    Err(NotPicked::Full) => None,
                    other => Some(other),
                };
                let balancing = &pool.balancing;
                let place = queue.wait(timer, balancing.queue, balancing.queue_time, look);
                match unless_left(io, Leaving::End, place).await {
                    None => return Err(Some(Reason::ClientGone)),
                    Some(Ok(Ok(place))) => place,
                    Some(Ok(Err(_))) => return Err(None),
                    Some(Err(NoPlace::Full)) => return Err(Some(Reason::QueueFull)),
                    Some(Err(NoPlace::TimeUp)) => return Err(Some(Reason::QueueTime)),
                }
            }
        };
        self.tried[self.tries % TRIED] = place.index();
        self.tries += 1;
        Ok(place)
    }

    /// A second server beside the one that is asked, at once or not at all.
    pub fn other(&mut self, random: u64, now: Instant) -> Option<Place<'p>> {
        if !self.pool.has_other(self.tried()) {
            return None;
        }
        let place = self.pool.pick(&Ask { stuck_to: None, ..self.ask(random, now) }).ok()?;
        self.tried[self.tries % TRIED] = place.index();
        self.tries += 1;
        Some(place)
    }

    /// The field that binds the client to the server that answers, unless it is bound to it already, or to one that is
    /// only passed over this once.
    pub fn set_cookie(&self, index: usize, is_https: bool) -> Option<String> {
        let sticky = self.pool.sticky.as_ref()?;
        let stays = self.stuck_to.is_some_and(|stuck| {
            stuck == index || self.pool.servers[stuck].state() == tiebeam_balance::health::State::Serving
        });
        (!stays).then(|| sticky.set_cookie(index, is_https))
    }

    fn tried(&self) -> &[usize] {
        &self.tried[..self.tries.min(TRIED)]
    }

    fn ask(&self, random: u64, now: Instant) -> Ask<'_> {
        Ask {
            now: self.pool.moment(now),
            random,
            key: self.key,
            stuck_to: self.stuck_to,
            tried: self.tried(),
            is_repeatable: self.is_repeatable,
        }
    }
}
