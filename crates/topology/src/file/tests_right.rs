//! What right files become, but for their sites and routes.

use std::time::Duration;

use super::tests::{EDGE_ONLY, nodes, notes, parsed};
use crate::{
    Algorithm, Balancing, ClientAuthority, Console, Database, EdgeLimits, Forwarded, HashBy, HostPattern,
    Https, Members, NodeName, PoolTls, Protocol, ProxyVersion, Role, SqlListen, Target, Traces,
};

#[test]
fn the_example_says_what_it_means() {
    let cluster = parsed(include_str!("../../../../tiebeam.toml"));
    let names = |role| cluster.with_role(role).map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ");
    assert_eq!((names(Role::Edge), names(Role::Database)), ("a b".to_owned(), "a b c".to_owned()));
    let site = &cluster.sites[&"shop.example".parse::<HostPattern>().unwrap()];
    assert_eq!(site.https, Https::Acme);
    assert_eq!(site.routes.iter().map(|route| route.path.as_str()).collect::<Vec<_>>(), ["/assets/", "/"]);
    let Some(Database::Managed(database)) = &cluster.database else { panic!("{:?}", cluster.database) };
    assert_eq!((database.lease, database.renew), (Duration::from_secs(3), Duration::from_millis(500)));
    assert_eq!(cluster.sql.as_ref().unwrap().listen, SqlListen::At("127.0.0.1:6432".parse().unwrap()));
    assert_eq!(cluster.ledger.voters.len(), 3);
    let [note] = cluster.notes.as_slice() else { panic!("{:?}", cluster.notes) };
    assert!(note.text.starts_with("certificates by ACME are not there yet"), "{note:?}");
}

#[test]
fn on_one_machine_each_node_listens_on_its_own_address() {
    let text = include_str!("../../../../tiebeam.toml").replace("10.0.0.", "127.0.0.");
    let cluster = parsed(&text);
    let b: NodeName = "b".parse().unwrap();
    assert_eq!(cluster.sql_address(&b), Some("127.0.0.2:6432".parse().unwrap()));
    assert_eq!(cluster.console_address(&b), Some("127.0.0.2:7480".parse().unwrap()));
    assert_eq!(cluster.ledger_address(&b), Some("127.0.0.2:7400".parse().unwrap()));
    let mut notes = notes(&text);
    notes.retain(|note| !note.contains("ACME"));
    assert!(notes.iter().all(|note| note.contains("several nodes are on this machine")), "{notes:?}");
}

#[test]
fn a_node_and_a_pool_are_a_load_balancer() {
    let cluster =
        parsed(&format!("{EDGE_ONLY}[pool.web]\nservers = [\"10.0.0.9:3000\", \"10.0.0.8:3000\"]\n"));
    let edge = cluster.edge.as_ref().unwrap();
    assert_eq!((edge.http.map(|port| port.get()), edge.https), (Some(80), None));
    assert_eq!(edge.limits, EdgeLimits::default());
    let route = &cluster.sites[&HostPattern::Any].routes[0];
    assert_eq!((route.path.as_str(), &route.to), ("/", &Target::Pool("web".parse().unwrap())));
    let pool = cluster.pools.values().next().unwrap();
    assert!(matches!(&pool.members, Members::Servers(servers) if servers.len() == 2));
    assert!(cluster.database.is_none() && cluster.sql.is_none() && cluster.console.is_none());
    assert_eq!(cluster.name.as_str(), "tiebeam");
}

#[test]
fn what_an_edge_says_of_itself_and_what_one_client_may_use() {
    let edge = |more: &str| {
        let text = format!("{EDGE_ONLY}[pool.web]\nservers = [\"10.0.0.9:3000\"]\n[edge]\n{more}");
        parsed(&text).edge.unwrap()
    };
    let plain = edge("");
    assert_eq!((plain.via, plain.traceparent), (true, Traces::On));
    assert_eq!((plain.limits.connections, plain.limits.connections_per_address()), (20_000, 10_000));
    let told = edge(
        "via = false\ntraceparent = \"pass\"\nlimits = { connections = 50, tunnel_idle_time = \"5m\", body_rate = 0, body_grace = \"1s\" }\n",
    );
    assert_eq!((told.via, told.traceparent), (false, Traces::Pass));
    assert_eq!((told.limits.connections_per_address, told.limits.connections_per_address()), (None, 25));
    assert_eq!((told.limits.tunnel_idle_time, told.limits.body_rate), (Duration::from_secs(300), 0));
    assert_eq!(told.limits.body_grace, Duration::from_secs(1));
    let few = edge("limits = { connections = 1 }\n").limits;
    assert_eq!(few.connections_per_address(), 1);
    assert_eq!(edge("limits = { connections_per_address = 7 }\n").limits.connections_per_address(), 7);
}

#[test]
fn a_pool_says_how_it_balances() {
    let balancing = |more: &str| {
        let text = format!("{EDGE_ONLY}[pool.web]\nservers = [\"10.0.0.9:3000\"]\n{more}");
        parsed(&text).pools.into_values().next().unwrap().balancing
    };
    assert_eq!(balancing(""), Balancing::default());
    assert_eq!(balancing("ejection = {}\nretries = {}\n"), Balancing::default());
    assert_eq!(balancing("ejection = \"off\"\n").ejection, None);
    for budget in ["\"7%\"", "7"] {
        assert_eq!(balancing(&format!("retries = {{ budget = {budget} }}\n")).retries.budget, 7);
    }
    let all = balancing(
        "algorithm = \"hash\"\nhash_by = \"header:X-User\"\nin_flight = 3\nqueue = 0\nhedge = \"50ms\"\nejection = { slowness = 3 }\n",
    );
    assert_eq!((all.algorithm, all.hash_by), (Algorithm::Hash, HashBy::Header("x-user".into())));
    assert_eq!((all.in_flight.map(u32::from), all.queue), (Some(3), 0));
    assert_eq!((all.hedge, all.ejection.unwrap().slowness), (Some(Duration::from_millis(50)), Some(3)));
    let text = format!(
        "{EDGE_ONLY}[pool.web]\nalgorithm = \"weighted\"\nservers = [\"10.0.0.9:3000\", {{ address = \"10.0.0.8:3000\", weight = 3, backup = true, drain = true }}]\n"
    );
    let Members::Servers(servers) = parsed(&text).pools.into_values().next().unwrap().members else {
        panic!()
    };
    let shown = servers.iter().map(|s| (s.address.port(), s.weight, s.backup, s.drain)).collect::<Vec<_>>();
    assert_eq!(shown, [(3000, 1, false, false), (3000, 3, true, true)]);
}

#[test]
fn servers_alone_are_a_router() {
    let mut cluster = parsed(
        "[database]\nservers = [\"10.0.0.5:5432\", \"10.0.0.6:5432\"]\nuser = \"watch\"\npassword_file = \"pw\"\n[sql]\nlisten = \"0.0.0.0:6432\"\n",
    );
    assert_eq!(cluster.nodes.keys().map(NodeName::as_str).collect::<Vec<_>>(), ["local"]);
    cluster.rooted(std::path::Path::new("/etc/tiebeam"));
    let Some(Database::Foreign { servers, password_file, .. }) = &cluster.database else { panic!() };
    assert_eq!(servers.len(), 2);
    assert_eq!(password_file.as_deref(), Some(std::path::Path::new("/etc/tiebeam/pw")));
    assert_eq!(cluster.notes, []);
}

/// The smallest file there is.
#[test]
fn a_router_without_a_user_logs_in_as_postgres() {
    let login = |more: &str| {
        let text = format!("[database]\nservers = [\"10.0.0.5:5432\", \"10.0.0.6:5432\"]\n{more}");
        let Some(Database::Foreign { user, password_file, .. }) = parsed(&text).database else { panic!() };
        (user, password_file.is_some(), notes(&text).iter().any(|note| note.contains("without a password")))
    };
    assert_eq!(login(""), ("postgres".to_owned(), false, true));
    assert_eq!(login("password_file = \"pw\"\n"), ("postgres".to_owned(), true, false));
    assert_eq!(login("user = \"watch\"\n"), ("watch".to_owned(), false, false));
}

/// Without a database of Tiebeam's own, nobody else tells an app where its database is.
#[test]
fn an_app_may_name_a_database_that_others_run() {
    for database in ["", "[database]\nservers = [\"10.0.0.5:5432\"]\n"] {
        let text = format!(
            "[node.a]\naddress = \"10.0.0.1\"\nroles = [\"app\"]\n{database}[app.web]\ncommand = [\"x\"]\nuser = \"www-data\"\n[app.web.env]\nDATABASE_URL = \"postgres://x\"\n"
        );
        let app = parsed(&text).apps.into_values().next().unwrap();
        assert_eq!(
            (app.env["DATABASE_URL"].as_str(), app.user.as_deref()),
            ("postgres://x", Some("www-data"))
        );
    }
}

#[test]
fn the_ledger_of_a_node_alone_takes_no_port() {
    let text = format!("{EDGE_ONLY}[pool.web]\nservers = [\"10.0.0.9:3000\"]\n[edge]\nhttp = 7400\n");
    assert_eq!(parsed(&text).edge.unwrap().http.map(|port| port.get()), Some(7400));
}

#[test]
fn paths_are_rooted_unless_absolute() {
    let mut cluster = parsed(&format!(
        "{EDGE_ONLY}[site.\"a.example\"]\nhttps = {{ cert = \"a.pem\", key = \"/keys/a\", clients = \"ca.pem\" }}\nroutes = [{{ path = \"/\", files = \"public\" }}]\n"
    ));
    cluster.rooted(std::path::Path::new("/srv"));
    let site = cluster.sites.values().next().unwrap();
    let (cert, key) = ("/srv/a.pem".into(), "/keys/a".into());
    let clients = Some(ClientAuthority { file: "/srv/ca.pem".into(), required: true });
    assert_eq!(site.https, Https::Files { cert, key, redirect: true, hsts: true, clients });
    assert_eq!(site.routes[0].to, Target::Files("/srv/public".into()));
    assert_eq!(cluster.edge.unwrap().https.map(|port| port.get()), Some(443));
}

#[test]
fn proxies_before_the_edge_and_behind_it() {
    let cluster = parsed(&format!(
        "{EDGE_ONLY}[edge]\nproxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/8\", \"fd00::1\"]\nforwarded = \"both\"\n[pool.web]\nservers = [\"10.0.0.9:3000\"]\nproxy_protocol = \"v2\"\n"
    ));
    let proxies = cluster.edge.unwrap().proxies;
    assert!(proxies.protocol && proxies.forwarded == Forwarded::Both);
    for (address, is_trusted) in [
        ("10.9.9.9", true),
        ("11.0.0.1", false),
        ("fd00::1", true),
        ("fd00::2", false),
        ("::ffff:10.0.0.1", false),
    ] {
        assert_eq!(proxies.trusts(address.parse().unwrap()), is_trusted, "{address}");
    }
    let pool = cluster.pools.into_values().next().unwrap();
    assert_eq!(pool.proxy_protocol, Some(ProxyVersion::V2));
    let said = notes(&format!(
        "{EDGE_ONLY}[pool.web]\nservers = [\"10.0.0.9:3000\"]\n[edge]\ntrusted_proxies = [\"0.0.0.0/0\"]\n"
    ));
    assert!(said[1].starts_with("6 whoever reaches the edges is believed"), "{said:?}");
}

#[test]
fn settings_become_text() {
    let text = format!(
        "{}[database.settings]\nshared_buffers = \"2GB\"\nJIT = false\nmax_connections = 200\nrandom_page_cost = 1.1\n",
        nodes("da db c")
    );
    let Some(Database::Managed(database)) = parsed(&text).database else { panic!() };
    let settings: Vec<String> =
        database.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(settings, ["jit=off", "max_connections=200", "random_page_cost=1.1", "shared_buffers=2GB"]);
}

#[test]
fn a_port_on_each_node_is_written_with_a_colon() {
    let cluster =
        parsed(&format!("{}[sql]\nlisten = \":6432\"\n[console]\nlisten = \"[::1]:7480\"\n", nodes("da")));
    assert_eq!(
        cluster.sql_address(cluster.nodes.keys().next().unwrap()),
        Some("10.0.0.1:6432".parse().unwrap())
    );
    assert_eq!(cluster.console, Some(Console::At("[::1]:7480".parse().unwrap())));
    serde_json::to_string(&cluster).unwrap();
}

#[test]
fn servers_may_be_reached_over_tls() {
    let pool = |tls: &str| {
        let text =
            format!("{EDGE_ONLY}[pool.web]\nservers = [\"10.0.0.9:3000\"]\nprotocol = \"h2\"\ntls = {tls}\n");
        let mut cluster = parsed(&text);
        cluster.rooted(std::path::Path::new("/etc/tiebeam"));
        cluster.pools.pop_first().unwrap().1
    };
    let web = pool("{ ca = \"ca.pem\", name = \"api.internal\" }");
    assert_eq!(web.protocol, Protocol::Http2);
    let tls = web.tls.unwrap();
    assert_eq!(tls.ca.as_deref(), Some(std::path::Path::new("/etc/tiebeam/ca.pem")));
    assert_eq!(tls.name.as_deref(), Some("api.internal"));
    assert_eq!(pool("{}").tls, Some(PoolTls { ca: None, name: None }));
}
