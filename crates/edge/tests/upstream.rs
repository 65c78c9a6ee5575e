//! Servers that are reached over TLS, over HTTP/2, or both.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::async_server::{Async, http2_without_tls, reach, speak_http2};
use common::http2::{Http2, run, whole};
use common::tls::certificate;
use common::*;
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use rustls::pki_types::{CertificateDer, ServerName};
use tiebeam_edge::{Config, Reach, ServerTls, State};
use tiebeam_topology::Http2 as Setting;

/// Answers with what it was asked, and trailers.
async fn mirror(
    parts: http::request::Parts,
    mut body: h2::RecvStream,
    mut respond: SendResponse<Bytes>,
) -> Option<()> {
    let mut text = format!("{} {}\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        text += &format!("{name}: {}\n", value.to_str().ok()?);
    }
    text += "\n";
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).ok()?;
        text += &String::from_utf8_lossy(&data);
    }
    let response = match parts.uri.path() {
        "/trailers-only" => {
            let response = Response::builder().header("grpc-status", "5").body(()).ok()?;
            return respond.send_response(response, true).ok().map(drop);
        }
        _ => Response::new(()),
    };
    let mut stream = respond.send_response(response, false).ok()?;
    stream.send_data(text.into(), false).ok()?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().ok()?);
    stream.send_trailers(trailers).ok()
}

fn believing(ca: CertificateDer<'static>, name: Option<&'static str>) -> ServerTls {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca).unwrap();
    ServerTls::new(roots, name.map(|n| n.try_into().unwrap())).unwrap()
}

fn acceptor(key: Arc<rustls::sign::CertifiedKey>, protocols: &[&[u8]]) -> tokio_rustls::TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    Arc::new(config).into()
}

#[test]
fn tls_with_a_server_that_is_believed_and_one_that_is_not() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (ca, key) = certificate("api.internal");
    let (other, _) = certificate("api.internal");
    let acceptor = acceptor(key, &[b"http/1.1"]);
    let server = Async::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut heard = Vec::new();
            while stream.read_buf(&mut heard).await.is_ok_and(|n| n > 0) {
                if heard.ends_with(b"\r\n\r\n") {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret";
                    stream.write_all(answer).await.unwrap();
                    heard.clear();
                }
            }
        }
    });
    let start = |tls| start_with(reach(config(&[server.address]), Reach { tls: Some(tls), http2: false }), 1);
    let edge = start(believing(ca.clone(), Some("api.internal")));
    until("the first check", || server.connections.load(Ordering::SeqCst) == 1);
    for _ in 0..3 {
        assert_eq!(get(&edge, "/").body, "secret");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 2, "the connection was used again");
    // Another name, the address for want of a name, and another authority.
    for tls in [
        believing(ca.clone(), Some("b.internal")),
        believing(ca, None),
        believing(other, Some("api.internal")),
    ] {
        assert_eq!(get(&start(tls), "/").status, 503);
    }
}

/// A server of which every connection says its number. To `/long` it begins an answer that ends when the test says so, to
/// `/silent` none.
struct Numbered {
    server: Async,
    /// Connections that have ended.
    ended: Arc<AtomicUsize>,
    finish: Arc<tokio::sync::Notify>,
}

impl Numbered {
    fn start(acceptor: tokio_rustls::TlsAcceptor) -> Self {
        let (ended, finish) = (Arc::<AtomicUsize>::default(), Arc::<tokio::sync::Notify>::default());
        let (counter, told, number) = (ended.clone(), finish.clone(), AtomicUsize::new(0));
        let server = Async::start(move |stream| {
            let (acceptor, counter, told) = (acceptor.clone(), counter.clone(), told.clone());
            let number = number.fetch_add(1, Ordering::SeqCst).to_string();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    match stream.get_ref().1.alpn_protocol() {
                        Some(b"h2") => Self::two(stream, number, told).await,
                        _ => Self::one(stream, &number, &told).await,
                    }
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { server, ended, finish }
    }

    async fn one(mut stream: Secure, number: &str, finish: &tokio::sync::Notify) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut heard = Vec::new();
        while stream.read_buf(&mut heard).await.is_ok_and(|n| n > 0) {
            if !heard.ends_with(b"\r\n\r\n") {
                continue;
            }
            if heard.starts_with(b"GET /silent") {
                return std::future::pending().await;
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", number.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            if heard.starts_with(b"GET /long") {
                finish.notified().await;
            }
            stream.write_all(number.as_bytes()).await.unwrap();
            heard.clear();
        }
    }

    async fn two(stream: Secure, number: String, finish: Arc<tokio::sync::Notify>) {
        speak_http2(stream, move |parts, _, mut respond| {
            let (number, finish) = (number.clone(), finish.clone());
            async move {
                if parts.uri.path() == "/silent" {
                    return std::future::pending().await;
                }
                let mut stream = respond.send_response(Response::new(()), false).ok()?;
                if parts.uri.path() == "/long" {
                    finish.notified().await;
                }
                stream.send_data(number.into(), true).ok()
            }
        })
        .await;
    }
}

type Secure = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

#[test]
fn another_trust_takes_new_connections_and_running_answers_end() {
    let (ca, key) = certificate("api.internal");
    let (other, _) = certificate("other");
    for http2 in [false, true] {
        let numbered = Numbered::start(acceptor(key.clone(), &[b"h2", b"http/1.1"]));
        let under = |authorities: &[&CertificateDer<'static>], name| {
            let mut roots = rustls::RootCertStore::empty();
            authorities.iter().for_each(|ca| roots.add((*ca).clone()).unwrap());
            let tls = ServerTls::new(roots, Some(ServerName::try_from(name).unwrap())).unwrap();
            reach(config(&[numbered.server.address]), Reach { tls: Some(tls), http2 })
        };
        let edge = start_with(under(&[&ca], "api.internal"), 1);
        until("the first check", || numbered.ended.load(Ordering::SeqCst) == 1);
        let mut client = Client::new(&edge);
        assert_eq!((&*client.get("/").body, &*client.get("/").body), ("1", "1"));
        let mut long = Client::new(&edge);
        long.say("GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
        until("the answer begins", || server_stats(&edge, "s0").responses.successful == 3);
        // HTTP/1.1 has a second connection, idle; over HTTP/2 both are on one.
        assert_eq!(client.get("/").body, if http2 { "1" } else { "2" });
        // The same authorities again change nothing; one more, or another name, does.
        edge.publish(under(&[&ca], "api.internal"));
        assert_eq!(client.get("/").body, if http2 { "1" } else { "2" });
        let before = numbered.server.connections.load(Ordering::SeqCst);
        edge.publish(under(&[&ca, &other], "api.internal"));
        until("the new trust", || client.get("/").body == before.to_string());
        assert_eq!(client.get("/").body, before.to_string());
        assert_eq!(server_stats(&edge, "s0").state, State::Serving);
        // What had begun goes on to its end, on a connection that nothing follows on.
        numbered.finish.notify_one();
        assert_eq!(long.response(false).unwrap().body, "1");
        assert_eq!(long.get("/").body, before.to_string());
        until("the old ones have ended", || numbered.ended.load(Ordering::SeqCst) == before);
        edge.publish(under(&[&other], "api.internal"));
        until("a trust that the server does not have", || client.get("/").status == 503);
    }
}

#[test]
fn http2_to_a_server_for_clients_of_both_versions() {
    let server = Async::start(|stream| speak_http2(stream, mirror));
    let config = reach(config(&[server.address]), http2_without_tls());
    let edge = start_with(Config { http2: Setting::PriorKnowledge, ..config }, 1);
    let mut client = Client::new(&edge);
    let text = client.get("/x?y").body;
    assert!(text.starts_with("GET http://shop.example/x?y\n"), "{text}");
    assert!(text.contains("te: trailers\n") && text.contains("x-forwarded-for: 127.0.0.1\n"), "{text}");
    client.say(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n4\r\n two\r\n0\r\n\r\n",
    );
    assert!(client.response(false).unwrap().body.ends_with("\n\none two"));
    client.say("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nthree");
    let text = client.response(false).unwrap().body;
    assert!(text.ends_with("\n\nthree") && text.contains("content-length: 5\n"), "{text}");
    run(async {
        // As gRPC does: a stream each way, and the outcome behind it.
        let mut client = Http2::plain(edge.addresses().http.unwrap()).await;
        let (answer, mut body) = client.ask(Request::post("http://a/call").body(()).unwrap(), false).await;
        body.send_data(Bytes::from_static(b"ping"), true).unwrap();
        let answer = whole(answer.await.unwrap()).await.unwrap();
        assert!(answer.body.ends_with(b"\n\nping"));
        assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
        let (answer, _) = client.ask(Request::post("http://a/trailers-only").body(()).unwrap(), true).await;
        let answer = answer.await.unwrap();
        assert!(answer.body().is_end_stream(), "nothing follows the head");
        assert_eq!(answer.headers()["grpc-status"], "5");
        let all = (0..50).map(|i| {
            let mut client = Http2(client.0.clone(), tokio::task::spawn_local(async { Ok(()) }));
            async move { client.get(&format!("http://a/{i}")).await.unwrap().status }
        });
        let all: Vec<_> = all.map(tokio::task::spawn_local).collect();
        for one in all {
            assert_eq!(one.await.unwrap(), 200);
        }
    });
    let opened = server.connections.load(Ordering::SeqCst);
    assert!(opened <= 3, "{opened} connections: one of the health check, one or two of the requests");
}

#[test]
fn http2_over_tls_is_asked_for_by_alpn() {
    let (ca, key) = certificate("api.internal");
    for (protocols, status) in [([b"h2".as_slice()], 200), ([b"http/1.1"], 503)] {
        let acceptor = acceptor(key.clone(), &protocols);
        let server = Async::start(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    speak_http2(stream, mirror).await;
                }
            }
        });
        let tls = Some(believing(ca.clone(), Some("api.internal")));
        let edge = start(reach(config(&[server.address]), Reach { tls, http2: true }));
        let answer = get(&edge, "/");
        assert_eq!(answer.status, status);
        assert!(status != 200 || answer.body.starts_with("GET https://shop.example/\n"));
    }
}

#[test]
fn a_second_server_is_asked_over_tls_and_http2() {
    let (ca, key) = certificate("api.internal");
    let acceptor = acceptor(key, &[b"h2", b"http/1.1"]);
    let (slow, fast) = (Numbered::start(acceptor.clone()), echoing(acceptor));
    for http2 in [false, true] {
        let tls = Some(believing(ca.clone(), Some("api.internal")));
        let mut config = reach(config(&[slow.server.address, fast.address]), Reach { tls, http2 });
        let balancing = &mut config.pools.values_mut().next().unwrap().balancing;
        balancing.hedge = Some(Duration::from_millis(50));
        let made = || slow.server.connections.load(Ordering::SeqCst);
        let before = made();
        let edge = start_with(config, 1);
        let mut client = Client::new(&edge);
        assert_eq!(client.get("/silent").body, "/silent");
        let stats = edge.stats().pools[&"web".parse().unwrap()].clone();
        assert_eq!((stats.hedges, stats.out_of_turn), (1, 1));
        until("the slow one is given up", || server_stats(&edge, "s0").in_flight == 0);
        // It still serves: over HTTP/2 on the same connection.
        until("the first check has come, too", || made() == before + 2);
        until("it answers", || !client.get("/").body.starts_with('/'));
        assert_eq!(made() == before + 2, http2);
        assert_eq!(server_stats(&edge, "s0").connects, if http2 { 1 } else { 2 });
        assert_eq!(server_stats(&edge, "s0").state, State::Serving);
    }
}

/// Answers with the path that it was asked for.
fn echoing(acceptor: tokio_rustls::TlsAcceptor) -> Async {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    Async::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let answer = |parts: http::request::Parts, _, mut respond: SendResponse<Bytes>| async move {
                    let mut stream = respond.send_response(Response::new(()), false).ok()?;
                    stream.send_data(parts.uri.path().to_owned().into(), true).ok()
                };
                return speak_http2(stream, answer).await;
            }
            let mut heard = Vec::new();
            while stream.read_buf(&mut heard).await.is_ok_and(|n| n > 0) {
                if !heard.ends_with(b"\r\n\r\n") {
                    continue;
                }
                let text = String::from_utf8_lossy(&heard).into_owned();
                let path = text.split(' ').nth(1).unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
                heard.clear();
            }
        }
    })
}

#[test]
fn what_a_server_has_not_looked_at_is_asked_again() {
    let refused = Arc::new(Mutex::new(Vec::new()));
    let seen = refused.clone();
    let server = Async::start(move |stream| {
        let seen = seen.clone();
        speak_http2(stream, move |parts, body, mut respond| {
            let seen = seen.clone();
            async move {
                let path = parts.uri.path().to_owned();
                let is_first = {
                    let mut seen = seen.lock().unwrap();
                    let is_first = !seen.contains(&path);
                    seen.push(path.clone());
                    is_first
                };
                match path.as_str() {
                    "/refused" if is_first => respond.send_reset(Reason::REFUSED_STREAM),
                    "/broken" => respond.send_reset(Reason::INTERNAL_ERROR),
                    _ => return mirror(parts, body, respond).await,
                }
                None
            }
        })
    });
    let edge = start(reach(config(&[server.address]), http2_without_tls()));
    let mut client = Client::new(&edge);
    for (path, status, asked) in [("/refused", 200, 2), ("/broken", 502, 1)] {
        client.say(&format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(client.response(false).unwrap().status, status, "{path}");
        assert_eq!(refused.lock().unwrap().iter().filter(|p| *p == path).count(), asked, "{path}");
    }
}

#[test]
fn a_server_of_http2_is_checked_too() {
    let server = Async::start(|stream| speak_http2(stream, mirror));
    let mut config = reach(config(&[server.address]), http2_without_tls());
    let pool = config.pools.values_mut().next().unwrap();
    pool.app = true;
    pool.health.path = Some("/healthz".to_owned());
    pool.health.every = Duration::from_millis(50);
    let edge = start(config);
    until("it serves", || server_stats(&edge, "s0").state == State::Serving);
}
