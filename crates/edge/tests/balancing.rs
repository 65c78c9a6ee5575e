//! How a pool spreads requests, between real sockets: algorithms, ejection, budgets, queues, cookies, drains.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::http2::{Http2, run, whole};
use common::*;
use http::Request;
use tiebeam_edge::{Config, Edge, PoolStats, State};
use tiebeam_topology::{Algorithm, Balancing, Ejection, HashBy, Http2 as Http2Mode, Retries};

/// The configuration of these servers, balanced as `change` says.
fn balanced(servers: &[SocketAddr], change: impl FnOnce(&mut Balancing)) -> Config {
    let mut config = config(servers);
    change(&mut config.pools.values_mut().next().unwrap().balancing);
    config
}

fn pool(edge: &Edge) -> PoolStats {
    edge.stats().pools[&"web".parse().unwrap()].clone()
}

/// Who answers `times` requests, each by a new client.
fn answers(edge: &Edge, path: &str, times: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        *counts.entry(get(edge, path).body).or_default() += 1;
    }
    counts
}

fn counts<const N: usize>(expected: [(&str, usize); N]) -> BTreeMap<String, usize> {
    BTreeMap::from(expected.map(|(name, count)| (name.to_owned(), count)))
}

/// Closed until somebody opens it.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(open, Duration::from_secs(20), |open| !*open).unwrap());
    }
}

/// Answers with its name, and requests for `/hold` only when the gate is open.
fn holding(name: &'static str, gate: &Gate) -> Server {
    let gate = gate.clone();
    Server::start(move |mut peer| {
        while let Some((head, _)) = peer.request() {
            if head.contains(" /hold") {
                gate.wait();
            }
            peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()));
        }
    })
}

/// A client whose request for `/hold` is under way.
fn held(edge: &Edge, server: &Server) -> Client {
    let mut client = Client::new(edge);
    client.say("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it is asked", || server.asked("GET /hold") == 1);
    client
}

#[test]
fn weights_are_exact() {
    let servers = [Server::named("s0"), Server::named("s1"), Server::named("s2")];
    let mut config = balanced(&servers.each_ref().map(|s| s.address), |b| b.algorithm = Algorithm::Weighted);
    for (server, weight) in config.pools.values_mut().next().unwrap().servers.iter_mut().zip([3, 2, 1]) {
        server.weight = weight;
    }
    let edge = start(config);
    assert_eq!(answers(&edge, "/", 60), counts([("s0", 30), ("s1", 20), ("s2", 10)]));
}

#[test]
fn who_has_fewer_requests_is_asked() {
    for algorithm in [Algorithm::LeastConnections, Algorithm::TwoChoices] {
        let gate = Gate::default();
        let servers = [holding("s0", &gate), holding("s1", &gate)];
        let edge = start(balanced(&servers.each_ref().map(|s| s.address), |b| b.algorithm = algorithm));
        let mut client = Client::new(&edge);
        client.say("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
        let busy = |id: &str| server_stats(&edge, id).in_flight == 1;
        until("it is asked", || busy("s0") || busy("s1"));
        let free = if busy("s0") { "s1" } else { "s0" };
        // On one connection each request begins when the one before it has wholly ended.
        let mut other = Client::new(&edge);
        assert!((0..10).all(|_| other.get("/").body == free), "{algorithm:?}");
        gate.open();
        assert_ne!(client.response(false).unwrap().body, free);
    }
}

#[test]
fn a_key_has_its_server() {
    let servers = [Server::named("s0"), Server::named("s1"), Server::named("s2")];
    let addresses = servers.each_ref().map(|s| s.address);
    let edge = start(balanced(&addresses, |b| {
        (b.algorithm, b.hash_by) = (Algorithm::Hash, HashBy::Path);
    }));
    let home = |n: usize| {
        let of_path = answers(&edge, &format!("/{n}?query={n}"), 2);
        assert_eq!(of_path.len(), 1, "{of_path:?}");
        of_path.into_keys().next().unwrap()
    };
    let homes: Vec<String> = (0..20).map(home).collect();
    assert!(addresses.iter().enumerate().all(|(i, _)| homes.contains(&format!("s{i}"))), "{homes:?}");
    let edge = start(balanced(&addresses, |b| {
        (b.algorithm, b.hash_by) = (Algorithm::Hash, HashBy::Header("x-user".into()));
    }));
    let asked = |n: usize, user: &str| {
        let mut client = Client::new(&edge);
        client.say(&format!("GET /{n} HTTP/1.1\r\nHost: a\r\nX-User: {user}\r\n\r\n"));
        client.response(false).unwrap().body
    };
    for user in ["bob", "eve", ""] {
        let home = asked(0, user);
        assert!((1..8).all(|n| asked(n, user) == home), "{user}");
    }
}

/// The answers of two servers whose configuration `change` made, before and after one of them has died.
fn before_and_after(died: usize, change: impl Fn(&mut Config)) -> [BTreeMap<String, usize>; 2] {
    let mut servers = vec![Server::named("s0"), Server::named("s1")];
    let mut config = config(&[servers[0].address, servers[1].address]);
    change(&mut config);
    let before = answers(&start(config.clone()), "/", 4);
    // An edge that has no connection to it yet.
    let edge = start(config);
    end_after_first_check(servers.remove(died));
    [before, answers(&edge, "/", 4)]
}

#[test]
fn a_backup_waits_and_the_same_node_comes_first() {
    let backup = |config: &mut Config| {
        config.pools.values_mut().next().unwrap().servers[1].is_backup = true;
    };
    assert_eq!(before_and_after(0, backup), [counts([("s0", 4)]), counts([("s1", 4)])]);
    let local = |config: &mut Config| {
        let pool = config.pools.values_mut().next().unwrap();
        (pool.servers[1].is_local, pool.balancing.same_node) = (true, true);
    };
    assert_eq!(before_and_after(1, local), [counts([("s1", 4)]), counts([("s0", 4)])]);
}

/// Answers with a status that may change.
fn moody(status: &Arc<AtomicU16>) -> Server {
    let status = status.clone();
    Server::start(move |mut peer| {
        while peer.request().is_some() {
            let status = status.load(Ordering::SeqCst);
            peer.say(&format!("HTTP/1.1 {status} Mood\r\nContent-Length: 5\r\n\r\nmoody"));
        }
    })
}

#[test]
fn a_server_that_fails_its_clients_is_out_for_a_while_and_comes_back() {
    let status = Arc::new(AtomicU16::new(503));
    let (moody, good) = (moody(&status), Server::named("good"));
    let edge = start(balanced(&[moody.address, good.address], |b| {
        let time = Duration::from_millis(300);
        b.ejection = Some(Ejection { errors: 3, time, ..Ejection::default() });
    }));
    assert_eq!(answers(&edge, "/", 6), counts([("moody", 3), ("good", 3)]));
    assert_eq!((server_stats(&edge, "s0").state, pool(&edge).ejections), (State::Ejected, 1));
    assert_eq!(answers(&edge, "/", 4), counts([("good", 4)]));
    // Its one request fails, too: it is out for longer.
    until("its time is over", || server_stats(&edge, "s0").state == State::Probing);
    assert_eq!(answers(&edge, "/", 3), counts([("moody", 1), ("good", 2)]));
    assert_eq!(server_stats(&edge, "s0").state, State::Ejected);
    status.store(200, Ordering::SeqCst);
    until("its time is over", || server_stats(&edge, "s0").state == State::Probing);
    get(&edge, "/");
    assert_eq!(server_stats(&edge, "s0").state, State::Serving);
    // A 500 is the application's own answer.
    status.store(500, Ordering::SeqCst);
    assert_eq!(answers(&edge, "/", 20), counts([("moody", 10), ("good", 10)]));
    assert_eq!(server_stats(&edge, "s0").state, State::Serving);
}

#[test]
fn a_server_that_stands_out_over_ten_seconds_is_out() {
    let failing = moody(&Arc::new(AtomicU16::new(503)));
    let slow = Server::start(|mut peer| {
        while peer.request().is_some() {
            slow_step(Duration::from_millis(400));
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow");
        }
    });
    let good = Server::named("good");
    let edge = |other: &Server, rates: Ejection| {
        // Whatever fails in a row.
        let rates = Ejection { errors: 0, requests: 5, time: Duration::from_secs(600), ..rates };
        start(balanced(&[other.address, good.address], |b| b.ejection = Some(rates)))
    };
    let by_success = edge(&failing, Ejection { success_rate: Some(80), ..Ejection::default() });
    let by_latency = edge(&slow, Ejection { slowness: Some(2), ..Ejection::default() });
    assert_eq!(answers(&by_success, "/", 12), counts([("moody", 6), ("good", 6)]));
    assert_eq!(answers(&by_latency, "/", 12), counts([("slow", 6), ("good", 6)]));
    for edge in [&by_success, &by_latency] {
        until("it is judged", || server_stats(edge, "s0").state == State::Ejected);
        assert_eq!(answers(edge, "/", 3), counts([("good", 3)]));
        assert_eq!((server_stats(edge, "s1").state, pool(edge).ejections), (State::Serving, 1));
    }
}

#[test]
fn the_last_that_serves_is_never_ejected() {
    let status = Arc::new(AtomicU16::new(503));
    let servers = [moody(&status), moody(&status)];
    let edge = start(balanced(&servers.each_ref().map(|s| s.address), |b| {
        b.ejection = Some(Ejection { errors: 1, share: 100, ..Ejection::default() });
    }));
    (0..10).for_each(|_| assert_eq!(get(&edge, "/").status, 503));
    let states = ["s0", "s1"].map(|id| server_stats(&edge, id).state);
    assert_eq!(states.iter().filter(|state| **state == State::Serving).count(), 1, "{states:?}");
}

#[test]
fn repeats_end_with_their_budget() {
    let dying = || Server::start(|mut peer| drop(peer.request()));
    let servers = [dying(), dying()];
    let edge = start(balanced(&servers.each_ref().map(|s| s.address), |b| {
        b.retries = Retries { budget: 0, floor: 0 };
        b.ejection = None;
    }));
    (0..3).for_each(|_| assert_eq!(get(&edge, "/").status, 502));
    assert_eq!((pool(&edge).over_budget, edge.stats().retries), (3, 0));
    assert_eq!(servers.iter().map(|server| server.asked("GET")).sum::<usize>(), 3);
}

#[test]
fn requests_in_flight_are_bounded_and_the_rest_waits_in_a_bounded_queue() {
    let gate = Gate::default();
    let server = holding("s0", &gate);
    let edge = start(balanced(&[server.address], |b| {
        (b.in_flight, b.queue, b.queue_time) = (NonZeroU32::new(1), 2, Duration::from_secs(20));
    }));
    let mut first = held(&edge, &server);
    let mut waiting: Vec<Client> = (0..2).map(|_| Client::new(&edge)).collect();
    for (n, client) in waiting.iter_mut().enumerate() {
        client.say(&format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"));
        until("it waits", || pool(&edge).waiting == n as u64 + 1);
    }
    let refused = get(&edge, "/");
    assert_eq!((refused.status, field(&refused.head, "retry-after")), (503, Some("1")));
    assert_eq!((server.heads().len(), edge.stats().refused["queue_full"]), (1, 1));
    gate.open();
    for client in std::iter::once(&mut first).chain(&mut waiting) {
        assert_eq!(client.response(false).unwrap().body, "s0");
    }
    assert!(server.heads()[1].starts_with("GET /0 "), "in the order in which they came");
    assert_eq!((pool(&edge).waiting, pool(&edge).waited), (0, 2));
}

#[test]
fn who_waits_too_long_is_told_so() {
    let gate = Gate::default();
    let server = holding("s0", &gate);
    let edge = start(balanced(&[server.address], |b| {
        (b.in_flight, b.queue_time) = (NonZeroU32::new(1), Duration::from_millis(100));
    }));
    let mut first = held(&edge, &server);
    let refused = get(&edge, "/");
    assert_eq!((refused.status, field(&refused.head, "retry-after")), (503, Some("1")));
    assert_eq!((pool(&edge).waiting, edge.stats().refused["queue_time"]), (0, 1));
    gate.open();
    assert_eq!(first.response(false).unwrap().status, 200);
    assert_eq!(get(&edge, "/").status, 200);
}

/// A request with a cookie: who answers, and the cookie that the client is told to keep.
fn with_cookie(edge: &Edge, cookie: &str) -> (String, Option<String>) {
    let mut client = Client::new(edge);
    client.say(&format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: x=y; {cookie}\r\n\r\n"));
    let response = client.response(false).unwrap();
    let set = field(&response.head, "set-cookie").map(|set| set.split(';').next().unwrap().to_owned());
    (response.body, set)
}

#[test]
fn a_client_comes_back_to_its_server_by_any_edge() {
    let servers = [Server::named("s0"), Server::named("s1"), Server::named("s2")];
    let config = || balanced(&servers.each_ref().map(|s| s.address), |b| b.sticky = true);
    let (edge, other) = (start(config()), start(config()));
    let (home, cookie) = with_cookie(&edge, "tiebeam-web=0123456789abcdef0123456789abcdef");
    let cookie = cookie.expect("a made-up cookie is none");
    for edge in [&edge, &other, &edge, &other] {
        assert_eq!(with_cookie(edge, &cookie), (home.clone(), None));
    }
    let mut drained = config();
    let servers = &mut drained.pools.values_mut().next().unwrap().servers;
    servers.iter_mut().find(|server| server.id.as_str() == home).unwrap().drain = true;
    edge.publish(drained);
    let (next, moved) = with_cookie(&edge, &cookie);
    assert!(next != home && moved.is_some_and(|moved| moved != cookie));
}

#[test]
fn rules_about_cookies_are_about_those_of_servers() {
    let servers = [Server::named("s0"), Server::named("s1")];
    let mut config = balanced(&servers.each_ref().map(|s| s.address), |b| b.sticky = true);
    let routes = &mut config.sites.values_mut().next().unwrap().routes;
    routes[0].rules.response_headers.remove.push("set-cookie".to_owned());
    let mut set = routes[0].clone();
    set.path = "/set".to_owned();
    set.rules.response_headers.remove.clear();
    set.rules.response_headers.set.insert("Set-Cookie".to_owned(), "a=b".to_owned());
    routes.insert(0, set);
    let edge = start(config);
    let (home, cookie) = with_cookie(&edge, "c=d");
    let cookie = cookie.expect("the edge's own is not removed");
    assert_eq!(with_cookie(&edge, &cookie), (home, None));
    let set = get(&edge, "/set");
    let cookies = set.head.lines().filter_map(|line| line.strip_prefix("Set-Cookie: "));
    let names: Vec<_> = cookies.map(|cookie| cookie.split('=').next().unwrap()).collect();
    assert_eq!(names, ["a", "tiebeam-web"]);
}

#[test]
fn servers_see_no_cookie_that_binds_a_client() {
    let servers = [Server::named("s0"), Server::named("s1")];
    let mut config = balanced(&servers.each_ref().map(|s| s.address), |b| b.sticky = true);
    config.http2 = Http2Mode::PriorKnowledge;
    let routes = &mut config.sites.values_mut().next().unwrap().routes;
    let mut bare = routes[0].clone();
    bare.path = "/bare".to_owned();
    bare.rules.request_headers.remove.push("Cookie".to_owned());
    routes.insert(0, bare);
    let edge = start(config);
    let (home, cookie) = with_cookie(&edge, "c=d");
    let cookie = cookie.unwrap();
    assert_eq!(with_cookie(&edge, &format!("{cookie}; \"c\"=\"d\"")), (home.clone(), None));
    run(async {
        let mut client = Http2::plain(edge.addresses().http.unwrap()).await;
        // Without any cookie at all a client still comes back to its server.
        for path in ["/two", "/bare"] {
            let request =
                Request::get(format!("http://a{path}")).header("cookie", "a=b").header("cookie", &cookie);
            let (answer, _) = client.ask(request.body(()).unwrap(), true).await;
            assert_eq!(whole(answer.await.unwrap()).await.unwrap().body, home.as_bytes());
        }
    });
    let heads: Vec<String> = servers.iter().flat_map(Server::heads).collect();
    let mut cookies: Vec<_> = heads.iter().map(|head| field(head, "cookie")).collect();
    cookies.sort_unstable();
    assert_eq!(cookies, [None, Some("a=b"), Some("x=y; \"c\"=\"d\""), Some("x=y; c=d")]);
    assert!(heads.iter().all(|head| !head.contains("tiebeam-web")), "{heads:?}");
}

#[test]
fn a_slow_get_is_sent_to_a_second_server_and_a_post_is_not() {
    let gate = Gate::default();
    let (slow, fast) = (holding("slow", &gate), Server::named("fast"));
    let edge = start(balanced(&[slow.address, fast.address], |b| {
        b.hedge = Some(Duration::from_millis(50));
    }));
    let mut client = Client::new(&edge);
    assert_eq!(client.get("/hold").body, "fast");
    assert_eq!((slow.asked("GET"), fast.asked("GET"), pool(&edge).hedges), (1, 1, 1));
    until("the slow one is given up", || server_stats(&edge, "s0").in_flight == 0);
    // Its turn, the other's, and its own again.
    client.get("/");
    let mut posts: Vec<Client> = (0..2).map(|_| Client::new(&edge)).collect();
    for client in &mut posts {
        client.say("POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    }
    gate.open();
    let mut bodies: Vec<String> = posts.iter_mut().map(|c| c.response(false).unwrap().body).collect();
    bodies.sort();
    assert_eq!((bodies, pool(&edge).hedges), (vec!["fast".to_owned(), "slow".to_owned()], 1));
}

#[test]
fn a_drained_server_ends_what_it_has() {
    let gate = Gate::default();
    let servers = [holding("s0", &gate), holding("s1", &gate)];
    let addresses = servers.each_ref().map(|s| s.address);
    let edge = start(config(&addresses));
    let mut client = held(&edge, &servers[0]);
    let mut drained = config(&addresses);
    drained.pools.values_mut().next().unwrap().servers[0].drain = true;
    edge.publish(drained.clone());
    assert_eq!(answers(&edge, "/", 4), counts([("s1", 4)]));
    let s0 = server_stats(&edge, "s0");
    assert_eq!((s0.state, s0.in_flight), (State::Draining, 1));
    // Even one that is listed no longer is shown until it has ended.
    drained.pools.values_mut().next().unwrap().servers.remove(0);
    edge.publish(drained);
    let s0 = server_stats(&edge, "s0");
    assert_eq!((s0.state, s0.in_flight), (State::Draining, 1));
    gate.open();
    assert_eq!(client.response(false).unwrap().body, "s0");
    until("it is gone", || !pool(&edge).servers.contains_key(&tiebeam_edge::ServerId::new("s0")));
}
