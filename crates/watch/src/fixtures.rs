//! Made-up clusters that tests and the preview of the pages share. Only built for tests and with the feature
//! `fixtures`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tiebeam_topology::{Epoch, Lsn, NodeName, Role, Timeline};

use crate::*;

/// 2026-11-23 08:11:18.250 UTC.
pub const NOW_MS: u64 = 1_795_421_478_250;

/// Three nodes, two edges, one app, one primary and two replicas: everything answers.
pub fn healthy() -> View {
    cluster(&["a", "b", "c"], 2, 1)
}

/// The same while node `a`, which was an edge and the primary, is dead and no one has taken over yet.
pub fn failover() -> View {
    let mut view = cluster(&["a", "b", "c"], 2, 1);
    let dead = view.nodes.get_mut(&node("a")).expect("the fixture has an a");
    (dead.alive, dead.report_age_ms) = (false, Some(4_200));
    view.this_node = node("b");
    view.ledger.leader = Some(node("b"));
    view.ledger.term += 1;
    for name in ["b", "c"] {
        let n = view.nodes.get_mut(&node(name)).expect("the fixture has b and c");
        if let Some(edge) = &mut n.edge {
            let server = edge.pools[0].servers.iter_mut().find(|s| s.id == "a/web.1").expect("a serves");
            (server.state, server.failures_total) = (ServerState::Ejected, 3);
            (edge.requests_per_s, edge.server_errors_total) = (1198.0, 2);
        }
        let d = n.database.as_mut().expect("all have a database");
        (d.streaming, d.lag_bytes, d.lag_ms) = (false, None, None);
        n.sql.as_mut().expect("all have a router").held = 7;
    }
    let database = view.database.as_mut().expect("the fixture has a database");
    (database.holder, database.primary) = (Some(node("a")), None);
    let happened = |ago_ms, at: &str, level, text: &str| Event {
        unix_ms: NOW_MS - ago_ms,
        node: Some(node(at)),
        level,
        text: text.into(),
    };
    view.events.splice(
        0..0,
        [
            happened(200, "b", Level::Info, "b asks the replicas for their last received position"),
            happened(1_300, "b", Level::Warning, "Writes wait in the routers: 14 sessions"),
            happened(3_100, "b", Level::Warning, "Server a/web.1 is ejected: 3 failures in a row"),
            happened(4_000, "b", Level::Alarm, "Node a does not answer: its lease runs out in 3 s"),
        ],
    );
    view.judged()
}

/// `count` nodes (1 to 20): all run the app, the first four are edges, the first three databases.
pub fn many(count: usize) -> View {
    let names: Vec<String> = (0..count).map(|i| format!("n{}", i + 1)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster(&names, 4, 2)
}

/// A name that is known to be one.
pub fn node(name: &str) -> NodeName {
    name.parse().expect("fixtures use good names")
}

fn cluster(names: &[&str], edges: usize, instances: u16) -> View {
    let mut view = View::new("shop".parse().expect("a good name"), node(names[0]), NOW_MS);
    let databases = names.len().min(3);
    let all: Vec<String> =
        names.iter().flat_map(|n| (1..=instances).map(move |i| format!("{n}/web.{i}"))).collect();
    for (i, name) in names.iter().enumerate() {
        let mut roles = BTreeSet::from([Role::App]);
        if i < edges {
            roles.insert(Role::Edge);
        }
        if i < databases {
            roles.insert(Role::Database);
        }
        let ip = Ipv4Addr::new(10, 0, 0, i as u8 + 1);
        let mut state = NodeView::silent(IpAddr::V4(ip), roles);
        (state.alive, state.report_age_ms) = (true, Some(180 + 40 * i as u64));
        state.version = "0.1.0".into();
        (state.uptime_s, state.memory_bytes) = (273_600 + 60 * i as u64, 24_300_000 + 1_100_000 * i as u64);
        state.edge = (i < edges).then(|| edge(ip, i as u64, &all));
        state.apps = (1..=instances).map(|k| instance(name, k)).collect();
        state.sql = Some(sql(ip, i as u64, &names[..databases]));
        state.database = (i < databases).then(|| database(i as u64));
        view.nodes.insert(node(name), state);
    }
    let voters = if names.len() < 3 { 1 } else { 3 };
    view.ledger = LedgerView {
        leader: Some(node(names[(voters - 1).min(1)])),
        quorum: true,
        term: 7,
        revision: 18_204,
        voters: names[..voters].iter().map(|n| node(n)).collect(),
    };
    view.database = Some(ClusterDatabaseView {
        epoch: Epoch(4),
        holder: Some(node(names[0])),
        primary: Some(node(names[0])),
        durability: match databases {
            1 => "quorum: no replica, commits are on the primary only".into(),
            _ => format!(
                "quorum: a commit is on the primary and on one of {}",
                words::list(&names[1..databases], "or")
            ),
        },
        stopped_because: None,
    });
    view.events = vec![
        Event {
            unix_ms: NOW_MS - 3_605_000,
            node: Some(node(names[0])),
            level: Level::Info,
            text: format!("{} is primary in epoch 4", names[0]),
        },
        Event {
            unix_ms: NOW_MS - 3_610_000,
            node: None,
            level: Level::Info,
            text: "The cluster is formed".into(),
        },
    ];
    view.judged()
}

fn edge(ip: Ipv4Addr, i: u64, servers: &[String]) -> EdgeView {
    let server = |id: &String| ServerView {
        id: id.clone(),
        state: ServerState::Serving,
        in_flight: 2 + i,
        requests_total: 1_402_113 + i,
        failures_total: 0,
        figures: ServerFigures::default(),
    };
    EdgeView {
        http: Some(SocketAddr::from((ip, 80))),
        https: Some(SocketAddr::from((ip, 443))),
        connections: 38 + 3 * i,
        requests_total: 4_206_339 + 12 * i,
        ok_total: 4_205_911 + 12 * i,
        client_errors_total: 428,
        server_errors_total: 0,
        requests_per_s: 612.4 - 20.0 * i as f64,
        p50_ms: Some(1.2),
        p99_ms: Some(4.1 + 0.2 * i as f64),
        pools: vec![PoolView {
            name: "web".into(),
            servers: servers.iter().map(server).collect(),
            ..PoolView::default()
        }],
        sites: Vec::new(),
    }
}

fn instance(node: &str, number: u16) -> InstanceView {
    InstanceView {
        id: format!("{node}/web.{number}"),
        state: InstanceState::Running,
        pid: Some(4100 + u32::from(number)),
        port: 20_000 + number,
        restarts_total: 0,
        ready: true,
    }
}

fn sql(ip: Ipv4Addr, i: u64, databases: &[&str]) -> SqlView {
    SqlView {
        address: SocketAddr::from((ip, 6432)),
        clients: 12 + i,
        held: 0,
        reads_primary_total: 91,
        reads_replica_total: 80_411 * databases.len().saturating_sub(1) as u64,
        reads_by_server_total: databases
            .iter()
            .enumerate()
            .map(|(k, n)| (node(n), if k == 0 { 91 } else { 80_411 }))
            .collect::<BTreeMap<_, _>>(),
        writes_total: 16_040 + i,
        statements_per_s: 402.0 + i as f64,
    }
}

fn database(i: u64) -> DatabaseView {
    let replica = i > 0;
    DatabaseView {
        role: if replica { DatabaseRole::Replica } else { DatabaseRole::Primary },
        timeline: Timeline(3),
        lsn: Lsn::new(0x16_B374_D848 - 328 * i),
        lag_bytes: replica.then_some(328 * i),
        lag_ms: replica.then_some(i),
        streaming: replica,
        sync: replica,
        accepting_writes: !replica,
        stopped_because: None,
    }
}
