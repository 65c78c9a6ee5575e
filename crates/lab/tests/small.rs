//! The smallest files there are, run as a user would: a load balancer alone, and a router for PostgreSQL servers that
//! others run.
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by ending.

#[path = "../../sql/tests/common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::{Folder, PASSWORD, Postgres, free_port, psql};
use tiebeam_lab::{Node, until};

/// A web server that answers everything with its name; it ends with the test.
fn server(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while let Some(Ok(line)) = lines.next() {
                    if line.is_empty() {
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

fn get(at: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.starts_with("HTTP/1.1 200").then(|| text.rsplit("\r\n").next().unwrap_or_default().to_owned())
}

#[test]
fn a_load_balancer_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (server("one"), server("two"));
    let port = free_port();
    let node = Node::start(
        folder.path(),
        &format!(
            "[node.lb]\naddress = \"127.0.0.1\"\nroles = [\"edge\"]\n[edge]\nhttp = {port}\n[pool.web]\nservers = [\"{one}\", \"{two}\"]\n"
        ),
    );
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let mut seen = Vec::new();
    let both = until(Duration::from_secs(20), || {
        seen.extend(get(at));
        (seen.iter().any(|s| s == "one") && seen.iter().any(|s| s == "two")).then_some(())
    });
    assert!(both.is_some(), "{seen:?}\n{}", node.log());
    let turns: Vec<String> = (0..10).map(|_| get(at).unwrap()).collect();
    assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
    let workers = std::thread::available_parallelism().unwrap().get();
    assert_eq!(
        node.listens_at(),
        workers,
        "only the port of the file is open, once a worker\n{}",
        node.log()
    );
    assert!(node.end() < Duration::from_secs(10));
}

#[test]
fn a_router_for_servers_that_others_run() {
    let postgres = Folder::new();
    let hba = "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n";
    let primary = Postgres::primary(&postgres, "", hba);
    let replica = Postgres::replica(&postgres, &primary, "replica");
    primary.sql(&format!("CREATE ROLE ann LOGIN PASSWORD '{PASSWORD}'"));
    primary.sql("CREATE DATABASE shop OWNER ann");
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let port = free_port();
    let node = Node::start(
        folder.path(),
        &format!(
            "[database]\nservers = [\"{}\", \"{}\"]\npassword_file = \"password\"\n[sql]\nlisten = \"127.0.0.1:{port}\"\n",
            replica.address(),
            primary.address()
        ),
    );
    let listens = until(Duration::from_secs(20), || TcpStream::connect(("127.0.0.1", port)).ok());
    assert!(listens.is_some(), "{}", node.log());
    // Roles are detected: what writes waits until the primary is known, and reaches it.
    psql(port, "ann", "shop", "CREATE TABLE t(n int)");
    psql(port, "ann", "shop", "INSERT INTO t VALUES (1), (2)");
    assert_eq!(psql(port, "ann", "shop", "BEGIN; SELECT count(*) FROM t; COMMIT"), "2");
    let where_read = "SELECT setting FROM (SELECT current_setting('port') AS setting) s";
    let reads = until(Duration::from_secs(20), || {
        (psql(port, "ann", "shop", where_read) == replica.port.to_string()).then_some(())
    });
    assert!(reads.is_some(), "no read went to the replica\n{}", node.log());
    assert!(node.end() < Duration::from_secs(10));
}
