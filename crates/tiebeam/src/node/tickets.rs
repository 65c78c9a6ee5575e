//! The secret that all edges make the keys of their session tickets of: one of them puts it into the ledger, and each
//! moves it on by the clock, so that the older one is forgotten. Without a quorum each goes on with what it knows.

use std::time::{Duration, SystemTime};

use tiebeam_certs::tickets::{PERIOD, TicketSecret, TicketSeed};
use tiebeam_edge::{TicketKey, TicketKeys};
use tiebeam_ledger::{Key, Read, Register, Store};

use super::edge_secret::random;

const SEED: &str = "edge/tickets";
/// How long the ledger may take to take it.
const PUT_TIME: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Tickets {
    seed: Option<TicketSeed>,
}

impl Tickets {
    /// The keys of now; `None` while the ledger has none and takes none, or the clock is far off.
    pub async fn keys(&mut self, store: &dyn Store) -> Option<TicketKeys> {
        let now = SystemTime::now();
        if self.seed.as_ref().is_none_or(|seed| seed.moved_on(now).is_some()) {
            self.refresh(store, now).await;
        }
        let secrets = self.seed.as_ref()?.secrets(now)?;
        let key = |of: TicketSecret| TicketKey { name: of.period, secret: of.secret };
        Some(TicketKeys {
            current: key(secrets.current),
            others: secrets.others.into_iter().map(key).collect(),
            lifetime_s: u32::try_from(PERIOD.as_secs()).unwrap_or(u32::MAX),
        })
    }

    /// Reads the ledger's, moves it on, and puts it back. Who is told that another was first reads that one next time.
    async fn refresh(&mut self, store: &dyn Store, now: SystemTime) {
        let Ok(register) = Key::new(SEED).map(Register::<TicketSeed>::new) else { return };
        let held = match register.get(store, Read::Local).await {
            Ok(held) => held,
            Err(error) => return tracing::warn!(%error, "the secret of session tickets cannot be read"),
        };
        let revision = held.as_ref().map(|held| held.revision);
        let (next, is_new) = match held.map(|held| held.value) {
            Some(seed) => match seed.moved_on(now) {
                Some(moved) => (moved, true),
                None => (seed, false),
            },
            None => match random() {
                Some(secret) => (TicketSeed::new(secret, now), true),
                None => return,
            },
        };
        // What was moved on is the same for all; what is new counts only once the ledger has it.
        if revision.is_some() {
            self.seed = Some(next.clone());
        }
        if !is_new {
            return;
        }
        // Without a quorum it waits; the servers of the apps must not.
        let put = tokio::time::timeout(PUT_TIME, register.put_if(store, revision, &next)).await;
        if let Ok(Ok(Ok(_))) = put {
            self.seed = Some(next);
        }
    }
}
