//! What the demo knows of its cluster: each node's own view, asked of its console a few times a second.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use tiebeam_topology::{Cluster, NodeName, Role};
use tiebeam_watch::{DatabaseView, ServerState, View};
use tokio::sync::watch;

use super::http::Client;

const EVERY: Duration = Duration::from_millis(200);
const ANSWER_TIME: Duration = Duration::from_millis(700);

/// The newest view of an answering node, and what must be summed over the lives of the edges.
#[derive(Clone, Default)]
pub struct Seen {
    pub view: Option<Arc<View>>,
    /// Summed over all edges and their restarts.
    pub out_of_turn: u64,
    /// Each edge's count when it was last seen.
    last_out_of_turn: BTreeMap<NodeName, u64>,
}

impl Seen {
    /// Takes the count of a node's own edge from the view of that node: what others know of it is older, and an older
    /// count after a newer one would look like a restart. A counter that went down began anew.
    fn count_out_of_turn(&mut self, node: &NodeName, own: &View) {
        let Some(edge) = own.nodes.get(node).and_then(|n| n.edge.as_ref()) else { return };
        let now: u64 = edge.pools.iter().map(|p| p.out_of_turn_total).sum();
        let before = self.last_out_of_turn.insert(node.clone(), now).unwrap_or(0);
        self.out_of_turn += if now >= before { now - before } else { now };
    }
}

/// Asks forever; end it by aborting its task.
pub async fn observe(cluster: Cluster, seen: watch::Sender<Seen>) {
    let addresses = cluster.nodes.keys().filter_map(|n| Some((n.clone(), cluster.console_address(n)?)));
    let mut clients: Vec<(NodeName, Client)> =
        addresses.map(|(n, at): (_, SocketAddr)| (n, Client::new(at))).collect();
    loop {
        let mut newest: Option<View> = None;
        for (node, client) in &mut clients {
            let answer = client.ask(Method::GET, "/view.json", ANSWER_TIME).await;
            let Ok((StatusCode::OK, body)) = answer else { continue };
            let Ok(view) = serde_json::from_slice::<View>(&body) else { continue };
            seen.send_modify(|s| s.count_out_of_turn(node, &view));
            // A node without a quorum knows less than one with it.
            let better = newest.as_ref().is_none_or(|n| {
                (view.ledger.quorum, view.ledger.revision) > (n.ledger.quorum, n.ledger.revision)
            });
            if better {
                newest = Some(view);
            }
        }
        if let Some(view) = newest {
            seen.send_modify(|s| s.view = Some(Arc::new(view)));
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Everything that the file asks for is there: so a fault now hits a whole cluster. Otherwise, the first thing missing.
pub fn missing(view: Option<&View>) -> Option<String> {
    let Some(view) = view else { return Some("no node answers yet".into()) };
    if !view.ledger.quorum {
        return Some("the ledger has no quorum".into());
    }
    let waits_for_nobody = view.database.as_ref().is_some_and(|d| d.durability.starts_with("async"));
    for (name, node) in &view.nodes {
        if !node.alive {
            return Some(format!("node {name} does not report"));
        }
        if node.roles.contains(&Role::App) && !node.apps.iter().any(|i| i.ready) {
            return Some(format!("no application server is ready on {name}"));
        }
        let database = node.database.as_ref();
        let primary = view.database.as_ref().and_then(|d| d.primary.as_ref());
        let counts = |d: &DatabaseView| d.streaming && (d.sync || waits_for_nobody);
        let replica = node.roles.contains(&Role::Database) && primary != Some(name);
        if replica && !database.is_some_and(counts) {
            return Some(format!("the replica on {name} does not stream, or commits do not count on it yet"));
        }
    }
    if view.database.as_ref().is_some_and(|d| d.primary.is_none()) {
        return Some("there is no primary".into());
    }
    let apps = view.with_role(Role::App).count();
    for (name, edge) in view.edges_alive() {
        for pool in &edge.pools {
            let serving = pool.servers.iter().filter(|s| s.state == ServerState::Serving).count();
            if serving < apps {
                return Some(format!("the edge on {name} has {serving} of {apps} servers of {}", pool.name));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use tiebeam_watch::{EdgeView, NodeView, PoolView};

    use super::*;

    #[test]
    fn counts_go_on_over_a_restart() {
        let mut seen = Seen::default();
        let a: NodeName = "a".parse().unwrap();
        let mut own = View::new("demo".parse().unwrap(), a.clone(), 0);
        own.nodes.insert(a.clone(), NodeView::silent([127, 0, 0, 1].into(), [Role::Edge].into()));
        seen.count_out_of_turn(&a, &own);
        for count in [2, 5, 1, 1] {
            let pool = PoolView { name: "web".into(), out_of_turn_total: count, ..PoolView::default() };
            let edge = EdgeView { pools: vec![pool], ..EdgeView::default() };
            own.nodes.get_mut(&a).unwrap().edge = Some(edge);
            seen.count_out_of_turn(&a, &own);
        }
        assert_eq!(seen.out_of_turn, 6);
    }
}
