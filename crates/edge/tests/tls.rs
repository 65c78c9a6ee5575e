//! TLS toward clients: versions and groups, tickets that all edges know, certificates that change, and those of clients.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::tls::{Stream, ask, builder, certificate, connect};
use common::*;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, RootCertStore};
use tiebeam_edge::{ClientAuth, Config, Edge, Listeners, LogSink, TicketKey, TicketKeys};

/// The site `one.example`, and the certificate by which clients know it.
fn secure(server: &Server) -> (Config, CertificateDer<'static>) {
    let mut config = config(&[server.address]);
    let mut site = config.sites.pop_first().unwrap().1;
    let (der, key) = certificate("one.example");
    site.tls = Some(key);
    config.sites.insert("one.example".parse().unwrap(), site);
    (config, der)
}

fn start_secure(config: Config) -> Edge {
    let listeners = Listeners { http: Some(loopback()), https: Some(loopback()), workers: 2 };
    Edge::start(listeners, config, LogSink::Off).unwrap()
}

fn at(edge: &Edge) -> SocketAddr {
    edge.addresses().https.unwrap()
}

fn roots(of: &[&CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    of.iter().for_each(|der| roots.add((*der).clone()).unwrap());
    roots
}

fn client(of: &[&CertificateDer<'static>]) -> Arc<ClientConfig> {
    Arc::new(builder(&[&TLS13, &TLS12]).with_root_certificates(roots(of)).with_no_client_auth())
}

fn failures(edge: &Edge, why: &str) -> u64 {
    edge.stats().tls_failures[why]
}

#[test]
fn two_versions_and_a_group_that_quantum_computers_do_not_break() {
    let server = Server::named("x");
    let (config, der) = secure(&server);
    let edge = start_secure(config);
    for version in [&TLS12, &TLS13] {
        let only = builder(&[version]).with_root_certificates(roots(&[&der])).with_no_client_auth();
        let mut stream = connect(at(&edge), &Arc::new(only), "one.example");
        assert!(ask(&mut stream, "one.example").unwrap().ends_with("\r\n\r\nx"));
        assert_eq!(stream.conn.protocol_version(), Some(version.version));
        let group = stream.conn.negotiated_key_exchange_group().map(|group| group.name());
        assert_eq!(group == Some(NamedGroup::X25519MLKEM768), version.version == TLS13.version, "{group:?}");
    }
}

#[test]
fn older_versions_are_refused() {
    let server = Server::named("x");
    let edge = start_secure(secure(&server).0);
    let mut stream = TcpStream::connect(at(&edge)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A ClientHello of TLS 1.1 with one cipher suite and nothing else (RFC 4346 section 7.4.1.2).
    let mut hello = b"\x16\x03\x01\0\x2d\x01\0\0\x29\x03\x02".to_vec();
    hello.extend_from_slice(&[7; 32]);
    hello.extend_from_slice(b"\0\0\x02\xc0\x14\x01\0");
    stream.write_all(&hello).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    // A fatal alert: handshake_failure or protocol_version (RFC 8446 section 6.2).
    assert!(matches!(answer[..], [21, .., 2, 40 | 70]), "{answer:?}");
    until("it is counted", || failures(&edge, "incompatible") == 1);
}

#[test]
fn failed_handshakes_are_counted_by_why() {
    let server = Server::named("x");
    let (mut config, der) = secure(&server);
    let edge = start_secure(config.clone());
    let mut plain = TcpStream::connect(at(&edge)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    until("no TLS", || failures(&edge, "malformed") == 1);
    drop(TcpStream::connect(at(&edge)).unwrap());
    until("it left", || failures(&edge, "closed") == 1);
    assert!(ask(&mut connect(at(&edge), &client(&[&der]), "two.example"), "two.example").is_err());
    until("no such site", || failures(&edge, "no_site") == 1);
    let stranger = certificate("one.example").0;
    assert!(ask(&mut connect(at(&edge), &client(&[&stranger]), "one.example"), "one.example").is_err());
    until("it is not trusted", || failures(&edge, "alert") == 1);
    let mut other = ClientConfig::clone(&client(&[&der]));
    other.alpn_protocols = vec![b"gopher".to_vec()];
    assert!(ask(&mut connect(at(&edge), &Arc::new(other), "one.example"), "one.example").is_err());
    until("another protocol", || failures(&edge, "no_protocol") == 1);
    config.limits.header_time = Duration::from_millis(100);
    edge.publish(config);
    let _silent = TcpStream::connect(at(&edge)).unwrap();
    until("nothing came", || failures(&edge, "header_time") == 1);
    let stats = edge.stats();
    assert_eq!(stats.connections.tls_handshakes_failed, stats.tls_failures.values().sum::<u64>());
}

fn keys(names: [u64; 3]) -> Option<TicketKeys> {
    let [current, others @ ..] = names.map(|name| TicketKey { name, secret: [name as u8; 32] });
    Some(TicketKeys { current, others: others.into(), lifetime_s: 3600 })
}

#[test]
fn a_ticket_of_one_edge_is_known_to_the_other_for_two_periods() {
    let server = Server::named("x");
    let (config, der) = secure(&server);
    let with = |keys| Config { ticket_keys: keys, ..config.clone() };
    let (one, other) = (start_secure(with(keys([5, 4, 6]))), start_secure(with(keys([5, 4, 6]))));
    let stranger = start_secure(with(keys([15, 14, 16])));
    for version in [&TLS13, &TLS12] {
        let kind = |client: &Arc<ClientConfig>, edge: &Edge| {
            let mut stream = connect(at(edge), client, "one.example");
            assert!(ask(&mut stream, "one.example").unwrap().ends_with("\r\n\r\nx"));
            stream.conn.handshake_kind().unwrap()
        };
        let new =
            || Arc::new(builder(&[version]).with_root_certificates(roots(&[&der])).with_no_client_auth());
        let client = new();
        assert_eq!(kind(&client, &one), HandshakeKind::Full);
        assert_eq!(kind(&client, &other), HandshakeKind::Resumed);
        assert_ne!(kind(&client, &stranger), HandshakeKind::Resumed);
        // One period later, and two.
        for (later, is_resumed) in [(1, true), (2, false)] {
            other.publish(with(keys([5, 4, 6])));
            let client = new();
            assert_eq!(kind(&client, &one), HandshakeKind::Full);
            other.publish(with(keys([5 + later, 4 + later, 6 + later])));
            assert_eq!(kind(&client, &other) == HandshakeKind::Resumed, is_resumed, "{later} later");
        }
        other.publish(with(keys([5, 4, 6])));
    }
}

/// One request on a connection that stays.
fn ask_and_stay(stream: &mut BufReader<Stream>) -> String {
    stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: one.example\r\n\r\n").unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\nx") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn a_certificate_changes_under_a_running_connection() {
    let server = Server::named("x");
    let (config, old) = secure(&server);
    let (again, new) = secure(&server);
    let edge = start_secure(config);
    let mut running = BufReader::new(connect(at(&edge), &client(&[&old]), "one.example"));
    assert!(ask_and_stay(&mut running).starts_with("HTTP/1.1 200 "));
    edge.publish(again);
    assert!(ask_and_stay(&mut running).starts_with("HTTP/1.1 200 "));
    assert!(ask(&mut connect(at(&edge), &client(&[&new]), "one.example"), "one.example").is_ok());
    assert!(ask(&mut connect(at(&edge), &client(&[&old]), "one.example"), "one.example").is_err());
    assert!(ask_and_stay(&mut running).starts_with("HTTP/1.1 200 "));
}

/// An authority, and clients with certificates of it.
struct Authority {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key) }
    }

    fn client(&self, of: &[&CertificateDer<'static>]) -> (Arc<ClientConfig>, CertificateDer<'static>) {
        let mut params = CertificateParams::new(vec!["alice".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder(&[&TLS13, &TLS12])
            .with_root_certificates(roots(of))
            .with_client_auth_cert(vec![der.clone()], key)
            .unwrap();
        (Arc::new(config), der)
    }

    fn asked(&self, required: bool) -> Option<ClientAuth> {
        Some(ClientAuth::new(std::slice::from_ref(&self.der), required).unwrap())
    }
}

#[test]
fn a_site_may_require_a_certificate_of_its_clients() {
    let server = Server::named("x");
    let (mut config, der) = secure(&server);
    let (authority, other) = (Authority::new(), Authority::new());
    config.sites.values_mut().for_each(|site| site.clients = authority.asked(true));
    let mut open = config.sites.values().next().unwrap().clone();
    let (open_der, open_key) = certificate("open.example");
    (open.clients, open.tls) = (None, Some(open_key));
    config.sites.insert("open.example".parse().unwrap(), open);
    let edge = start_secure(config);
    let known = [&der, &open_der];
    let (alice, cert) = authority.client(&known);
    // Each time a whole handshake: a ticket would outlive the certificate.
    for _ in 0..2 {
        let mut stream = connect(at(&edge), &alice, "one.example");
        assert!(ask(&mut stream, "one.example").unwrap().starts_with("HTTP/1.1 200 "));
        assert_ne!(stream.conn.handshake_kind(), Some(HandshakeKind::Resumed));
        let head = server.heads().pop().unwrap();
        let told = field(&head, "client-cert").unwrap();
        assert_eq!(told.trim_matches(':'), BASE64.encode(&cert));
    }
    assert!(ask(&mut connect(at(&edge), &client(&known), "one.example"), "one.example").is_err());
    until("it is counted", || failures(&edge, "client_certificate_missing") == 1);
    let stranger = other.client(&known).0;
    assert!(ask(&mut connect(at(&edge), &stranger, "one.example"), "one.example").is_err());
    until("it is counted", || failures(&edge, "client_certificate_invalid") == 1);

    // No way around: by another site's connection, by one that names none, without TLS.
    let mut around = connect(at(&edge), &alice, "open.example");
    assert!(ask(&mut around, "one.example").unwrap().starts_with("HTTP/1.1 421 "));
    let mut nameless = ClientConfig::clone(&client(&known));
    nameless.enable_sni = false;
    let nameless = Arc::new(nameless);
    let answer = ask(&mut connect(at(&edge), &nameless, "open.example"), "one.example");
    assert!(answer.is_err() || answer.unwrap().starts_with("HTTP/1.1 421 "));
    let mut plain = Client::new(&edge);
    plain.say("GET / HTTP/1.1\r\nHost: one.example\r\nClient-Cert: :AAAA:\r\n\r\n");
    assert_eq!(plain.response(false).unwrap().status, 421);
    // Who asks for nothing of the kind is told nothing of it.
    let mut fine = connect(at(&edge), &alice, "open.example");
    assert!(ask(&mut fine, "open.example").unwrap().starts_with("HTTP/1.1 200 "));
    let head = server.heads().pop().unwrap();
    assert_eq!((server.heads().len(), field(&head, "client-cert")), (3, None));
}

#[test]
fn a_policy_that_changes_counts_for_connections_that_are_open() {
    let server = Server::named("x");
    let (config, der) = secure(&server);
    let edge = start_secure(config.clone());
    let mut before = connect(at(&edge), &client(&[&der]), "one.example");
    before.write_all(b"GET / HTTP/1.1\r\nHost: one.example\r\n\r\n").unwrap();
    until("it is served", || server.heads().len() == 1);
    let mut strict = config;
    strict.sites.values_mut().for_each(|site| site.clients = Authority::new().asked(true));
    edge.publish(strict);
    let text = ask(&mut before, "one.example").unwrap();
    assert!(text.contains("HTTP/1.1 421 "), "{text}");
    assert_eq!(server.heads().len(), 1);
}

#[test]
fn a_certificate_may_be_asked_for_and_not_required() {
    let server = Server::named("x");
    let (mut config, der) = secure(&server);
    let authority = Authority::new();
    config.sites.values_mut().for_each(|site| site.clients = authority.asked(false));
    let edge = start_secure(config);
    let told = |client: &Arc<ClientConfig>| {
        let mut stream = connect(at(&edge), client, "one.example");
        assert!(ask(&mut stream, "one.example").unwrap().starts_with("HTTP/1.1 200 "));
        field(&server.heads().pop().unwrap(), "client-cert").map(str::to_owned)
    };
    assert_eq!(told(&client(&[&der])), None);
    assert!(told(&authority.client(&[&der]).0).is_some());
    let mut plain = Client::new(&edge);
    plain.say("GET / HTTP/1.1\r\nHost: one.example\r\n\r\n");
    assert_eq!(plain.response(false).unwrap().status, 200);
}
