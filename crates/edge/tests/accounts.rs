//! What an edge says about its requests afterwards: the line of the log with each try, and the counts by route and server.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::path::Path;

use common::*;
use serde_json::{Value, json};
use tiebeam_edge::{Config, Edge, Listeners, LogFile, LogSink};
use tiebeam_topology::{LogSample, Share};

fn logged(config: Config, path: &Path) -> Edge {
    let listeners = Listeners { http: Some(loopback()), https: None, workers: 1 };
    Edge::start(listeners, config, LogSink::Later(LogFile::at(path.to_owned()))).unwrap()
}

/// Every line of the log, once there are so many.
fn lines(path: &Path, count: usize) -> Vec<Value> {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    until("the lines of the log", || read().lines().count() >= count);
    read().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_try_is_told_with_its_result() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (gone, there) = (Server::named("gone"), Server::named("there"));
    let edge = logged(config(&[gone.address, there.address]), &path);
    end_after_first_check(gone);
    assert_eq!(get(&edge, "/cart?secret=1").body, "there");
    let line = lines(&path, 1).remove(0);
    assert_eq!((&line["site"], &line["route"], &line["path"]), (&json!("*"), &json!("/"), &json!("/cart")));
    assert_eq!((&line["server"], &line["tries"], &line["status"]), (&json!("s1"), &json!(2), &json!(200)));
    let tried = line["tried"].as_array().unwrap();
    assert_eq!(tried.len(), 1);
    assert_eq!((&tried[0]["server"], &tried[0]["result"]), (&json!("s0"), &json!("refused")));
    assert!(line.get("sample").is_none());

    let (s0, s1) = (server_stats(&edge, "s0"), server_stats(&edge, "s1"));
    assert_eq!((s0.failures.connect, s0.retries, s1.retries), (1, 0, 1));
    assert!(s0.since.is_some() && s0.why.is_some_and(|why| why.contains("refused")), "{s0:?}");
    assert_eq!((s1.responses.successful, s1.response_time.counts.iter().sum::<u64>()), (1, 1));
    assert!(s1.sent > 40 && s1.received > 40, "{s1:?}");
}

#[test]
fn a_server_that_closes_is_the_reason_of_the_502() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let server = Server::start(|mut peer| drop(peer.head()));
    let edge = logged(config(&[server.address]), &path);
    let mut client = Client::new(&edge);
    client.say("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response(false).unwrap().status, 502);
    let line = lines(&path, 1).remove(0);
    assert_eq!((&line["why"], &line["tries"]), (&json!("server_closed"), &json!(1)));
    assert_eq!(line["tried"][0]["result"], "closed");
}

#[test]
fn counts_by_site_and_route_outlive_another_configuration() {
    let server = Server::named("x");
    let config = || {
        let mut config = config(&[server.address]);
        let mut site = config.sites.pop_first().unwrap().1;
        let api = tiebeam_topology::Route { path: "/api/".into(), ..site.routes[0].clone() };
        site.routes = vec![api];
        config.sites.insert("shop.example".parse().unwrap(), site);
        config
    };
    let edge = start_with(config(), 2);
    let counts = |site: &str, route: &str| {
        let routes = edge.stats().routes;
        let found = routes.iter().find(|r| r.site == site && r.route == route).cloned();
        found
            .map(|r| (r.responses.successful, r.responses.client_error, r.latency.counts.iter().sum::<u64>()))
    };
    assert_eq!(get(&edge, "/api/x").status, 200);
    assert_eq!(get(&edge, "/other").status, 404);
    let mut stranger = Client::new(&edge);
    stranger.say("GET / HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n");
    assert_eq!(stranger.response(false).unwrap().status, 421);
    let all = || (counts("shop.example", "/api/"), counts("shop.example", "-"), counts("-", "-"));
    let expected = (Some((1, 0, 1)), Some((0, 1, 1)), Some((0, 1, 1)));
    until("they are counted", || all() == expected);
    edge.publish(config());
    assert_eq!(get(&edge, "/api/x").status, 200);
    until("they go on", || all() == (Some((2, 0, 2)), expected.1, expected.2));
}

#[test]
fn a_sample_leaves_out_what_went_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let server = Server::start(|mut peer| {
        while let Some((head, _)) = peer.request() {
            let status = if head.contains("/bad") { "500 No" } else { "200 OK" };
            if !peer.say(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")) {
                return;
            }
        }
    });
    let share = Share::of_a_million(0).unwrap();
    let sample = LogSample { share, slow: std::time::Duration::from_secs(600) };
    let edge = logged(Config { log_sample: sample, ..config(&[server.address]) }, &path);
    let mut client = Client::new(&edge);
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(client.get("/bad").status, 500);
    let lines = lines(&path, 1);
    assert_eq!((lines.len(), &lines[0]["path"]), (1, &json!("/bad")));
    assert_eq!(edge.stats().log_lines_left_out, 20);
}
