//! The database as a node without one sees it: from the ledger alone, for that node's router and pages. It decides and
//! changes nothing.

use std::sync::Arc;
use std::time::Duration;

use tiebeam_ledger::{Read, Store, WatchError};
use tiebeam_topology::{Moment, NodeName};
use tokio::sync::watch;

use crate::observe::{Memory, read_ledger};
use crate::registers::keys;
use crate::report::{publish, state};
use crate::state::{MemberStatus, State};

/// A lease ends without a change of the ledger: so it is looked at this often besides.
const EVERY: Duration = Duration::from_millis(200);

/// The state as the ledger tells it, for the node `me`, which has no database. Ends when nobody listens any more.
pub fn follow(me: NodeName, store: Arc<dyn Store>) -> watch::Receiver<Arc<State>> {
    let (show, seen) = watch::channel(Arc::default());
    tokio::spawn(async move {
        let mut changes = store.watch(keys::PREFIX);
        let mut memory = Memory::default();
        while !show.is_closed() {
            // What this node has applied is all it needs: a router that is behind is corrected by PostgreSQL itself.
            if let Ok(ledger) = read_ledger(&*store, Read::Local).await {
                let now = Moment::now();
                let lease = memory.lease(&me, &ledger, now);
                let members = ledger.members.iter().map(|(n, m)| (n.clone(), m.status.clone())).collect();
                publish(&show, state(lease.as_ref(), MemberStatus::default(), members, None, now));
            }
            // A change, missed changes or the time: the list is read whole in each case.
            if let Ok(Err(WatchError::Closed)) = tokio::time::timeout(EVERY, changes.next()).await {
                return;
            }
        }
    });
    seen
}
