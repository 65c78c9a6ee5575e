//! Who may not take part: without a certificate, of another authority, unknown, of another cluster, silent, too many.

#![allow(clippy::unwrap_used)] // A test may panic.

mod support;

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use support::{Authority, Cluster, identity, name, status};
use tiebeam_ledger::{Embedded, OpenError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// The first frame of a peer, as bytes: the protocol, then three names behind their lengths.
fn hello(protocol: u8, names: [&str; 3]) -> Vec<u8> {
    let mut message = vec![protocol];
    for name in names {
        message.push(name.len() as u8);
        message.extend_from_slice(name.as_bytes());
    }
    let mut frame = (message.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&[0; 8]);
    frame.extend(message);
    frame
}

/// Connects as somebody; gives all that the node said, or how the connection broke.
async fn knock(cluster: &Cluster, tls: ClientConfig, hello: &[u8]) -> Result<String, String> {
    let stream = TcpStream::connect(cluster.address("a")).await.unwrap();
    knock_on(stream, tls, hello).await
}

async fn knock_on(stream: TcpStream, tls: ClientConfig, hello: &[u8]) -> Result<String, String> {
    let server = ServerName::try_from(identity(&name("a"))).unwrap();
    let talk = async {
        let mut stream = TlsConnector::from(Arc::new(tls)).connect(server, stream).await?;
        stream.write_all(hello).await?;
        // An accepted connection stays open: the welcome is 12 + 1 bytes, a refusal is longer and ends.
        let mut said = vec![0; 13];
        stream.read_exact(&mut said).await?;
        if said[12] != 0 {
            let mut rest = Vec::new();
            // The node closes the connection after the reason, with or without a farewell.
            let _ = stream.read_to_end(&mut rest).await;
            said.extend(rest);
        }
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&said[12..]).into_owned())
    };
    tokio::time::timeout(Duration::from_secs(5), talk).await.unwrap().map_err(|e| e.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_nodes_of_the_cluster_are_let_in() {
    let mut cluster = Cluster::new(&["a", "b"], 1, |_| {}).await;
    cluster.start("a").await;
    let node = cluster.node("a").clone();
    let known = |who: &str| ClientConfig::clone(&cluster.authority.tls(&identity(&name(who))).client);
    let stranger = ClientConfig::clone(&cluster.authority.tls("z.shop.tiebeam.internal").client);
    let right = hello(1, ["shop", "b", "a"]);

    // Another authority's certificate, shown by somebody who trusts ours.
    let mut forged = cluster.authority.anonymous();
    forged.client_auth_cert_resolver =
        Authority::new().tls(&identity(&name("b"))).client.client_auth_cert_resolver.clone();

    for (refused, (what, tls, hello, reason)) in [
        ("no certificate", cluster.authority.anonymous(), right.clone(), None),
        ("another authority", forged, right.clone(), None),
        ("unknown identity", stranger, right.clone(), Some("z.shop.tiebeam.internal")),
        (
            "wrong cluster",
            known("b"),
            hello(1, ["market", "b", "a"]),
            Some("it belongs to cluster market, this is cluster shop"),
        ),
        ("another name", known("b"), hello(1, ["shop", "a", "a"]), Some("its certificate is for b")),
        (
            "another target",
            known("b"),
            hello(1, ["shop", "b", "c"]),
            Some("it looks for node c, this is node a"),
        ),
        ("another protocol", known("b"), hello(9, ["shop", "b", "a"]), Some("protocol 9")),
        ("too long a hello", known("b"), vec![0xff; 12], Some("4294967295 is announced")),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = knock(&cluster, tls, &hello).await;
        match reason {
            Some(text) => {
                let said = answer.unwrap();
                assert!(
                    said.contains(text) || what == "too long a hello" && said.contains("4294967295"),
                    "{what}: {said}"
                );
            }
            None => assert!(answer.is_err(), "{what}: {answer:?}"),
        }
        status(&node, what, |s| s.counters.refused == refused as u64 + 1).await;
    }
    assert_eq!(knock(&cluster, known("b"), &right).await.unwrap(), "\0");
    // It is welcomed before it is served.
    status(&node, "it is served", |s| s.counters.accepted == 1).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_silent_are_disconnected_and_the_many_are_not_let_in() {
    let mut cluster = Cluster::new(&["a"], 1, |s| s.limits.connections = 4).await;
    cluster.start("a").await;
    let node = cluster.node("a").clone();
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(TcpStream::connect(cluster.address("a")).await.unwrap());
    }
    status(&node, "six are too many", |s| s.counters.crowded == 6).await;
    status(&node, "four were silent for too long", |s| s.counters.refused == 4).await;
    for mut stream in held {
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 16])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    }
    cluster.stop_all().await;
}

/// Room is kept for the addresses that the file names, however many strangers hold a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_strangers_does_not_keep_a_peer_out() {
    let mut cluster = Cluster::new(&["a", "b"], 1, |s| {
        s.limits.connections = 4;
        // The wires are at 127.0.0.1, where the strangers are too.
        s.peers.get_mut(&name("b")).unwrap().address = ([127, 0, 0, 2], 1).into();
    })
    .await;
    cluster.start("a").await;
    let node = cluster.node("a").clone();
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(TcpStream::connect(cluster.address("a")).await.unwrap());
    }
    status(&node, "no stranger is let in any more", |s| s.counters.crowded == 1).await;
    let from_the_peer = || async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        socket.connect(cluster.address("a")).await.unwrap()
    };
    let stream = from_the_peer().await;
    let known = ClientConfig::clone(&cluster.authority.tls(&identity(&name("b"))).client);
    assert_eq!(knock_on(stream, known, &hello(1, ["shop", "b", "a"])).await.unwrap(), "\0");
    status(&node, "the peer is served", |s| s.counters.accepted == 1).await;

    // Its room is bounded too. The strangers are sent away meanwhile, so there may be theirs to fill first.
    for _ in 0..4 + 4 + 1 {
        held.push(from_the_peer().await);
    }
    status(&node, "nobody from its address is let in any more", |s| s.counters.crowded >= 2).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_and_directories_that_cannot_be_are_refused() {
    let cluster = Cluster::new(&["a", "b"], 1, |_| {}).await;
    let mut settings = cluster.settings("a");
    settings.peers.remove(&name("a"));
    let error = Embedded::open(settings).await.unwrap_err();
    assert!(matches!(error, OpenError::Settings(_)), "{error}");

    let mut settings = cluster.settings("a");
    settings.limits.txn_bytes = 9 << 20;
    let error = Embedded::open(settings).await.unwrap_err().to_string();
    assert!(error.contains("cannot be sent"), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut taken = cluster.settings("a");
    taken.listen = listener.local_addr().unwrap();
    let error = Embedded::open(taken).await.unwrap_err();
    assert!(matches!(error, OpenError::Listen { .. }), "{error}");
    let first = Embedded::open_on(cluster.settings("a"), listener).await.unwrap();
    let error = Embedded::open(cluster.settings("a")).await.unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    first.shutdown().await;

    let mut foreign = cluster.settings("b");
    foreign.data = cluster.settings("a").data;
    let error = Embedded::open(foreign).await.unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}
