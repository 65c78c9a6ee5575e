//! The key that all edges of the cluster share, for cookies that say which server a client had. The first edge that needs
//! it writes it to the ledger; it never leaves the nodes, and no log or page shows it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tiebeam_edge::Secret;
use tiebeam_ledger::{Key, Read, Register};
use tiebeam_topology::Cluster;

use super::Here;

const SECRET: &str = "edge/secret";
/// Writing it waits no longer for a quorum; the edge asks again.
const WRITE_TIME: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
struct Held {
    key: [u8; 32],
}

/// The key, if some pool needs it and it is known or can be made.
pub async fn shared(here: &Here, cluster: &Cluster) -> Option<Secret> {
    if !cluster.pools.values().any(|pool| pool.balancing.sticky) {
        return None;
    }
    match tokio::time::timeout(WRITE_TIME, held_or_made(here)).await {
        Ok(Ok(secret)) => Some(secret),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the edges' key is not known yet: no pool is sticky");
            None
        }
        Err(_) => None,
    }
}

async fn held_or_made(here: &Here) -> anyhow::Result<Secret> {
    let register = Register::<Held>::new(Key::new(SECRET)?);
    let ledger = &*here.ledger;
    if let Some(held) = register.get(ledger, Read::Local).await? {
        return Ok(Secret::new(held.value.key));
    }
    let key = random().ok_or_else(|| anyhow::anyhow!("the system gives no random bytes"))?;
    // Whoever wrote it first is right.
    let _ = register.put_if(ledger, None, &Held { key }).await?;
    let held = register.get(ledger, Read::Linear).await?;
    held.map(|held| Secret::new(held.value.key)).ok_or_else(|| anyhow::anyhow!("it was not kept"))
}

/// Bytes that nobody can guess; `None`: the system has none.
pub fn random() -> Option<[u8; 32]> {
    let mut secret = [0; 32];
    rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut secret).ok()?;
    Some(secret)
}
