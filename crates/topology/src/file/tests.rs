//! What is said about wrong files, what right ones become, and that schema and parser know the same keys.

use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    Algorithm, Balancing, ClientAuthority, Console, Database, EdgeLimits, Forwarded, HashBy, HostPattern,
    Https, Members, NodeName, PROBLEMS_MAX, PoolTls, Protocol, ProxyVersion, Role, SqlListen, Target, Traces,
    schema,
};

fn parsed(text: &str) -> Cluster {
    Cluster::parse("tiebeam.toml", text).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

fn shown(text: &str) -> String {
    let problems = Cluster::parse("tiebeam.toml", text).map(|_| text).expect_err("a wrong file");
    let lines: Vec<String> = problems.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

fn notes(text: &str) -> Vec<String> {
    parsed(text).notes.iter().map(|note| format!("{} {}", note.line, note.text)).collect()
}

/// One text file holds every rule's wrong file and the words about it.
#[test]
fn wrong_files() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/file/wrong.txt");
    let golden = std::fs::read_to_string(&path).unwrap();
    let mut now = String::new();
    let mut cases = 0;
    for part in golden.split_inclusive("\n--- said\n") {
        let rest = part.find("--- file\n").filter(|_| part.ends_with("--- said\n"));
        let (before, case) = part.split_at(rest.unwrap_or(part.len()));
        let comments = before.lines().filter(|line| line.starts_with('#'));
        let comments: String = comments.fold(String::new(), |all, line| all + line + "\n");
        if !comments.is_empty() {
            let _ = write!(now, "{}{comments}", if now.is_empty() { "" } else { "\n" });
        }
        if case.is_empty() {
            continue;
        }
        cases += 1;
        let text = case.trim_start_matches("--- file\n").trim_end_matches("--- said\n");
        let Err(problems) = Cluster::parse("tiebeam.toml", text) else { panic!("accepted:\n{text}") };
        let _ = write!(now, "\n{case}");
        for p in problems.items() {
            let help = p.help.as_deref().unwrap_or("");
            let _ = writeln!(now, "{}:{} {} | {help}", p.line, p.column, p.message);
        }
    }
    assert!(cases > 50, "{cases} cases are read");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
    } else {
        pretty(&golden, &now);
    }
}

/// Equal, or the first line that is not.
#[track_caller]
fn pretty(expected: &str, found: &str) {
    for (number, (a, b)) in expected.lines().zip(found.lines()).enumerate() {
        assert_eq!(a, b, "line {} of wrong.txt", number + 1);
    }
    assert_eq!(expected.lines().count(), found.lines().count());
}

#[test]
fn a_problem_is_shown_at_its_place() {
    let text = "[node.a]\naddress = \"10.0.0.1\"\nroles = [\"edge\"]\n\n[pool.web]\nservers = [\"10.0.0.9:3000\"]\n\talgoritm = \"round-robin\"\n";
    let expected = r#"error: unknown key `algoritm`
 --> tiebeam.toml:7:2
  |
7 |     algoritm = "round-robin"
  |     ^^^^^^^^
  = help: did you mean `algorithm`?"#;
    assert_eq!(shown(text), expected);
}

#[test]
fn all_problems_are_shown_in_the_order_of_the_file() {
    let expected = r#"error: `port` must be a port from 1 to 65535, not 70000
 --> tiebeam.toml:2:8
  |
2 | port = 70000
  |        ^^^^^
  = help: write a number within these bounds

error: `address` is missing
 --> tiebeam.toml:3:7
  |
3 | [node.b]
  |       ^
  = help: write `address` in [node.NAME]: the IP address by which the other nodes reach it; addresses such as 127.0.0.2 make a cluster on one machine"#;
    assert_eq!(shown("[ledger]\nport = 70000\n[node.b]\n"), expected);
    assert!(shown("").ends_with("roles = [\"edge\"]"), "{}", shown(""));
}

#[test]
fn broken_syntax_is_shown_alone() {
    let expected = r#"error: this is not TOML: unclosed table, expected `]`
 --> tiebeam.toml:1:8
  |
1 | [node.a
  |        ^
  = help: a section is `[name]` or `[kind.name]`; a key is `name = value`; text stands in "quotes""#;
    assert_eq!(shown("[node.a\ncolour = 1\n"), expected);
    let twice = shown("[node.a]\naddress = \"10.0.0.1\"\naddress = \"10.0.0.2\"\n[edgy]\n");
    assert!(
        twice.contains("`address` is written twice") && twice.contains("unknown section `edgy`"),
        "{twice}"
    );
}

#[test]
fn a_file_cannot_steer_the_terminal() {
    let raw = "# \u{1b}[31m\u{9b}2J \u{202e}\n\"\u{1b}]0;x\u{7}\" = \"\u{1b}[2J\"\r\n";
    let escaped = "\"\\u001b[2J\" = 1 # \u{202e}\u{9b}2J\r\n\"\\u202e\" = 2";
    for text in [raw, escaped] {
        let problems = Cluster::parse("a\u{1b}[1mb", text).unwrap_err();
        let fancy = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
        let mut rendered = problems.to_string();
        fancy.render_report(&mut rendered, &problems).unwrap();
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!rendered.contains(bad), "{rendered:?}");
        assert!(rendered.contains("a?[1mb:"), "{rendered}");
    }
}

#[test]
fn long_lines_are_cut_around_the_caret() {
    let text = format!("[node.a]\naddress = \"{}\" # {}\n", "1".repeat(500), "x".repeat(500));
    let middle = format!("x = [{} 'caret', {}]\n[x.y]\n", "'a',".repeat(300), "'b',".repeat(300));
    for text in [text, middle, format!("{}x = 1\n", " ".repeat(4000))] {
        for line in shown(&text).lines() {
            assert!(line.chars().count() < 300, "{line}");
            assert!(
                line.starts_with("error") || line.contains("help:") || line.chars().count() < 140,
                "{line}"
            );
        }
        assert!(shown(&text).contains('^'));
    }
}

#[test]
fn wide_letters_keep_the_caret_in_place() {
    let said = shown("[site.\"見\"]\n[node.a]\naddress = \"見る\" # 見\n\n");
    assert!(said.contains("\n3 | address = \"見る\" # 見\n  |           ^^^^^^\n"), "{said}");
}

#[test]
fn too_much_is_refused_unread() {
    let at_bound = format!("#{}", "x".repeat(FILE_MAX_BYTES - 1));
    assert!(shown(&at_bound).contains("no node"));
    assert!(shown(&format!("{at_bound}x")).contains("the file has 1048577 bytes; at most 1048576 are read"));
    assert!(shown(&format!("a{}", ".a".repeat(400_000))).contains("more than 1000 dots"));
    assert!(shown(&format!("a{} = 1", ".a".repeat(900))).starts_with("error: "));
    assert!(shown(&format!("a = {}", "[".repeat(500_000))).starts_with("error: "));
    assert!(shown(&format!("a = {}", "{a=".repeat(300_000))).starts_with("error: "));
}

/// Large files, each the worst for one rule: what grows faster than the file would not end in time.
#[test]
fn large_files_are_read_quickly() {
    let filled = |head: &str, piece: &dyn Fn(usize) -> String, tail: &str| {
        let mut text = head.to_owned();
        for n in 0.. {
            let next = piece(n);
            if text.len() + next.len() + tail.len() > FILE_MAX_BYTES / 4 {
                return text + tail;
            }
            text += &next;
        }
        text
    };
    let one_line = filled("x = [", &|_| "'',".to_owned(), "]\n");
    let unknown = filled("", &|n| format!("k{n}=1\n"), "");
    let nodes = filled("", &|n| format!("[node.n{n}]\naddress=\"127.{}.{}.1\"\n", n / 250, n % 250), "");
    let servers = filled("[pool.a]\nservers = [", &|_| "\"10.0.0.1:80\",\n".to_owned(), "]\n");
    let routes =
        filled("[site.a]\nroutes = [", &|n| format!("{{path=\"/{n}\",pool=\"b\"}},"), "]\n[pool.a]\n");
    let wrong = filled("[node.a]\nroles = [", &|_| "1,".to_owned(), "]\n");
    for text in [one_line, unknown, nodes, servers, routes, wrong] {
        assert!(shown(&text).starts_with("error: "));
    }
}

#[test]
fn beyond_a_bound_problems_are_only_counted() {
    let mut text = String::new();
    for n in 0..PROBLEMS_MAX * 6 {
        let _ = writeln!(text, "key{n} = 1");
    }
    let problems = Cluster::parse("tiebeam.toml", &text).unwrap_err();
    assert_eq!(problems.items().len(), PROBLEMS_MAX);
    assert_eq!(problems.count(), PROBLEMS_MAX * 6 + 1);
    assert!(problems.to_string().ends_with("and 251 more"), "{problems}");
    assert!(problems.items()[0].message.contains("`key0`"));
}

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

const EDGE_ONLY: &str = "[node.a]\naddress = \"127.0.0.1\"\nroles = [\"edge\"]\n";

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
fn whom_an_app_of_root_runs_as_is_said() {
    let text = "[node.a]\naddress = \"10.0.0.1\"\nroles = [\"app\"]\n[app.web]\ncommand = [\"x\"]\n";
    let said = notes(text);
    assert!(said[0].starts_with("4 where Tiebeam runs as root, `web` runs as nobody"), "{said:?}");
    assert_eq!(notes(&format!("{text}user = \"root\"\n")), Vec::<String>::new());
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

/// A file of nodes: their names, and `d` for those with a database.
fn nodes(names: &str) -> String {
    let mut text = String::new();
    for (n, name) in names.split(' ').enumerate() {
        let (name, roles) = match name.strip_prefix('d') {
            Some(name) => (name, "\"database\""),
            None => (name, ""),
        };
        let _ = write!(text, "[node.{name}]\naddress = \"10.0.0.{}\"\nroles = [{roles}]\n", n + 1);
    }
    text
}

#[test]
fn an_odd_number_votes_and_databases_first() {
    for (names, voters) in [
        ("da", "a"),
        ("da db", "a"),
        ("a db", "b"),
        ("da db c", "a b c"),
        ("a db c dd", "a b d"),
        ("a b c f de dg", "a b c e g"),
        ("da db dc dd de df dg", "a b c d e"),
    ] {
        let found: Vec<String> =
            parsed(&nodes(names)).ledger.voters.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), voters, "{names}");
    }
    let chosen = parsed(&format!("{}[ledger]\nvoters = [\"c\"]\n", nodes("da db c")));
    assert_eq!(chosen.ledger.voters.iter().map(NodeName::as_str).collect::<Vec<_>>(), ["c"]);
}

#[test]
fn what_is_not_highly_available_is_named() {
    let one = notes(&nodes("da b c"));
    assert!(one[0].starts_with("3 not highly available: the database is on `a` alone"), "{one:?}");
    let two = notes(&nodes("da db"));
    assert!(two[0].starts_with("3 not highly available: `a` alone votes on who is primary"), "{two:?}");
    let chosen = notes(&format!("{}[ledger]\nvoters = [\"c\"]\n", nodes("da db c")));
    assert!(chosen[0].starts_with("11 not highly available: `c` alone votes"), "{chosen:?}");
    assert_eq!(notes(&nodes("da db c")), Vec::<String>::new());
}

#[test]
fn what_is_not_there_yet_is_said() {
    let two = "[node.a]\naddress = \"10.0.0.1\"\nroles = [\"edge\"]\n[node.b]\naddress = \"10.0.0.2\"\nroles = [\"edge\"]\n";
    let said = notes(&format!(
        "{two}[edge]\nmode = \"active-passive\"\n[site.\"shop.example\"]\nhttps = \"acme\"\nroutes = [{{ path = \"/\", files = \"x\" }}]\n"
    ));
    assert!(said[0].starts_with("8 active-passive is not there yet"), "{said:?}");
    assert!(said[1].starts_with("10 certificates by ACME are not there yet"), "{said:?}");
    assert_eq!(said.len(), 2);
}

#[test]
fn a_node_that_only_runs_the_router_is_no_witness() {
    let router =
        "[node.a]\naddress = \"10.0.0.1\"\n[database]\nservers = [\"10.0.0.5:5432\"]\nuser = \"watch\"\n";
    assert_eq!(notes(router), Vec::<String>::new());
}

#[test]
fn what_may_surprise_is_noted() {
    let pool = "[pool.web]\nservers = [\"10.0.0.9:3000\"]\n";
    let said = notes(&format!(
        "{EDGE_ONLY}{pool}[edge]\nmode = \"active-passive\"\n[console]\nlisten = \"0.0.0.0:7480\"\n"
    ));
    assert_eq!(
        said,
        [
            "4 there is no site, so the pool `web` serves every host name, without https",
            "7 active-passive, but `a` is the only edge: nobody waits to take over",
            "9 [console] listens on 0.0.0.0:7480: whoever reaches it can read it",
        ]
    );
    let said = notes(&format!(
        "[node.a]\naddress = \"10.0.0.1\"\n[node.b]\naddress = \"10.0.0.2\"\nroles = [\"app\"]\n{pool}[console]\nlisten = \":7480\"\n"
    ));
    assert_eq!(
        said,
        [
            "1 `a` has no roles: it is a witness, which only votes",
            "5 `b` has the role `app`, but no app is named: it runs nothing",
            "6 no route sends to the pool `web`",
            "9 [console] listens on each node's address: whoever reaches one can read it",
        ]
    );
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

/// Every path to a key of the schema, with the schema of its value.
fn keys_of(schema: &Value, path: &str, out: &mut Vec<String>) {
    for inner in schema["oneOf"].as_array().into_iter().flatten() {
        keys_of(inner, path, out);
    }
    if let Some(items) = schema.get("items").filter(|items| items["type"] == "object") {
        keys_of(items, &format!("{path}[]"), out);
    }
    for named in schema["patternProperties"].as_object().into_iter().flat_map(|tables| tables.values()) {
        keys_of(named, &format!("{path}.NAME"), out);
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        keys_of(inner, &path, out);
        out.push(path);
    }
}

/// A document with `value` at a path, in the dotted and inline forms that TOML has for it.
fn document(path: &str, value: &str) -> String {
    let path = path.trim_start_matches('.').replace("site.NAME", "site.\"a.example\"").replace("NAME", "a");
    match path.split_once("[].") {
        Some((list, key)) => format!("{list} = [{{ {key} = {value} }}]\n"),
        None => format!("{path} = {value}\n"),
    }
}

/// No key takes a date: one that is read complains, one that is unknown is named so, and silence would be drift.
#[test]
fn schema_and_parser_know_the_same_keys() {
    let mut keys = Vec::new();
    keys_of(&schema(), "", &mut keys);
    assert!(keys.len() > 65, "{keys:?}");
    for key in &keys {
        let said = Cluster::parse("tiebeam.toml", &document(key, "2000-01-01")).unwrap_err();
        assert!(said.items().iter().any(|p| p.message.contains("not a date or time")), "{key}: {said}");
        assert!(said.items().iter().all(|p| !p.message.contains("unknown")), "{key}: {said}");
        let sibling = format!("{}.zzz", key.rsplit_once('.').unwrap().0);
        if !sibling.ends_with("NAME.zzz") || key.matches('.').count() > 2 {
            let said = Cluster::parse("tiebeam.toml", &document(&sibling, "1")).unwrap_err();
            assert!(said.items().iter().any(|p| p.message.contains("unknown")), "{sibling}: {said}");
        }
    }
}

/// The other half of the proof in `Reader::get`, which reads the same defaults.
#[test]
fn every_default_reads() {
    fn defaults(section: &Section, count: &mut usize) {
        for key in section.keys {
            if let Need::Default(text) = key.need() {
                let document = format!("v = {text}");
                let value: toml::Table = toml::from_str(&document).unwrap();
                assert!(value.contains_key("v"), "{}", key.name());
                *count += 1;
            }
        }
    }
    let mut count = 0;
    for section in keys::SECTIONS {
        defaults(section, &mut count);
    }
    assert!(count > 25, "{count}");
    // Reads each default of every section, nested ones too.
    let full = format!(
        "{EDGE_ONLY}[node.b]\naddress = \"127.0.0.2\"\nroles = [\"app\", \"database\"]\n[cluster]\n[edge.limits]\n[site.\"a\"]\nhttps = {{ cert = \"a\", key = \"b\" }}\nroutes = [{{ path = \"/\", pool = \"web\" }}]\n[pool.web]\napp = \"web\"\nhealth = {{}}\nretries = {{}}\nejection = {{}}\n[pool.b]\nservers = [{{ address = \"10.0.0.9:3000\" }}]\n[app.web]\ncommand = [\"x\"]\n[database]\n[sql]\n[ledger]\n[console]\n"
    );
    parsed(&full);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}|[\\x00-\\x7f]{0,200}") {
        check_total(&text)?;
    }

    /// Pieces of right files put together wrongly reach much further than arbitrary text.
    #[test]
    fn no_mixture_of_right_lines_panics(picks in prop::collection::vec(0usize..1000, 0..40)) {
        let example = include_str!("../../../../tiebeam.toml");
        let wrong = include_str!("wrong.txt");
        let lines: Vec<&str> = example.lines().chain(wrong.lines()).collect();
        let text: String = picks.iter().map(|pick| format!("{}\n", lines[pick % lines.len()])).collect();
        check_total(&text)?;
    }

    /// One changed byte of a right file is either still right or said to be wrong somewhere.
    #[test]
    fn no_damaged_example_panics(at in 0usize..4000, with in 0u8..128) {
        let mut bytes = include_bytes!("../../../../tiebeam.toml").to_vec();
        let at = at % bytes.len();
        bytes[at] = with;
        if let Ok(text) = String::from_utf8(bytes) {
            check_total(&text)?;
        }
    }
}

fn check_total(text: &str) -> Result<(), TestCaseError> {
    if let Err(problems) = Cluster::parse("tiebeam.toml", text) {
        prop_assert!(problems.count() > 0);
        prop_assert!(problems.to_string().starts_with("error: "));
        for problem in problems.items() {
            prop_assert!(problem.span.is_none_or(|span| text.get(span.start..span.end).is_some()));
        }
    }
    Ok(())
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
