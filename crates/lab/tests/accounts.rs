//! What a person is told of a node under way: `status --edge`, `why`, and the metrics behind them.
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by ending.

#[path = "reload/bench.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod bench;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bench::{Server, free_port, get};
use tiebeam_lab::{Node, run, until};

const TIME: Duration = Duration::from_secs(20);

fn said(words: &[&str]) -> (Option<i32>, String, String) {
    let output = run(words);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_request_is_explained_and_its_server_shown() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::named("one");
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").map(|l| l.local_addr().unwrap()).unwrap();
    let (http, console) = (free_port(), free_port());
    let node = Node::start(
        folder.path(),
        &format!(
            "[node.lb]\naddress = \"127.0.0.1\"\nroles = [\"edge\"]\n[edge]\nhttp = {http}\n[console]\nlisten = \"127.0.0.1:{console}\"\n\
             [site.\"shop.example\"]\nroutes = [{{ path = \"/\", pool = \"web\" }}, {{ path = \"/gone/\", pool = \"gone\" }}]\n\
             [pool.web]\nservers = [\"{}\"]\n[pool.gone]\nservers = [\"{gone}\"]\nhealth = {{ every = \"1h\" }}\n",
            server.address
        ),
    );
    assert!(until(TIME, || get(http)).is_some(), "{}", node.log());
    let id = failed(http);
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let why =
        until(TIME, || Some(said(&["why", &id[..10], "--data", data])).filter(|(code, ..)| *code == Some(0)));
    let (_, story, _) =
        why.unwrap_or_else(|| panic!("{:?}\n{}", said(&["why", &id, "--data", data]), node.log()));
    for part in [&format!("request   {id}"), "site      shop.example, route /gone/", "503", "next      "] {
        assert!(story.contains(part), "{part}\n{story}");
    }
    let (_, json, _) = said(&["why", &id, "--data", data, "--json"]);
    let line: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(line["edge"], "lb");
    let (code, _, complaint) = said(&["why", "0123456789abcdef", "--data", data]);
    assert!(code == Some(1) && complaint.contains("ask on the other nodes"), "{complaint}");
    assert_eq!(said(&["why", "not-an-id", "--data", data]).0, Some(2));

    let at = format!("127.0.0.1:{console}");
    let status = until(TIME, || {
        let (_, text, _) = said(&["status", "--edge", "--console", &at]);
        (text.contains("pool web") && text.contains("ejected")).then_some(text)
    });
    let text = status.unwrap_or_else(|| panic!("{:?}", said(&["status", "--edge", "--console", &at])));
    for part in
        ["EDGE lb  http 127.0.0.1:", "shop.example", "SERVER", &server.address.to_string(), "    ejected: "]
    {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let (_, json, _) = said(&["status", "--edge", "--json", "--console", &at]);
    let edges: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(edges["lb"]["pools"][1]["servers"][0]["id"], server.address.to_string());

    let at: SocketAddr = at.parse().unwrap();
    let samples = [
        "tiebeam_edge_route_answers_total{node=\"lb\",site=\"shop.example\",route=\"/gone/\",class=\"5xx\"} 1",
        "tiebeam_edge_route_request_seconds_count{node=\"lb\",site=\"shop.example\",route=\"/gone/\"} 1",
        &format!(
            "tiebeam_server_response_seconds_bucket{{le=\"+Inf\",node=\"lb\",pool=\"web\",server=\"{}\"}}",
            server.address
        ),
        "tiebeam_server_faults_total{node=\"lb\",pool=\"gone\"",
    ];
    // The node looks at its numbers twice a second.
    let metrics = || tiebeam_lab::get(at, "/metrics").unwrap_or_default();
    let missing = |text: &str| samples.iter().find(|sample| !text.contains(**sample)).map(|s| s.to_string());
    let told = until(TIME, || missing(&metrics()).is_none().then_some(()));
    assert!(told.is_some(), "{:?}\n{}", missing(&metrics()), metrics());
    assert!(node.end() < Duration::from_secs(10));
}

/// Asks what no server can answer, and returns the id on the answer.
fn failed(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(TIME)).unwrap();
    stream.write_all(b"GET /gone/x HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    let id = text.split("X-Request-Id: ").nth(1).unwrap();
    id.split("\r\n").next().unwrap().to_owned()
}
