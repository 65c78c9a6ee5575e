//! Certificates: real handshakes, wrong files and what is said about them, PostgreSQL and openssl as judges.

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use tiebeam_topology::{ClusterName, HostPattern, NodeName};

use super::*;
use crate::files::{CA_CERT, CA_KEY, NODE_CERT, NODE_KEY};

const HOUR: Duration = Duration::from_secs(3600);

/// TLS checks the real time, so certificates of handshakes are made now.
fn now() -> SystemTime {
    SystemTime::now()
}

fn shop() -> ClusterName {
    "shop".parse().unwrap()
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn address() -> IpAddr {
    "10.0.0.1".parse().unwrap()
}

fn authority() -> Authority {
    Authority::create(&shop(), now()).unwrap()
}

fn identity(authority: &Authority, name: &str) -> Identity {
    authority.node(&shop(), &node(name), &address(), now()).unwrap()
}

/// Moves bytes between the two until both are done or one refuses.
fn handshake(client: Arc<ClientConfig>, server: Arc<ServerConfig>, name: &str) -> Result<(), String> {
    let mut client = ClientConnection::new(client, name.to_owned().try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets().map_err(|e| format!("server: {e}"))?;
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets().map_err(|e| format!("client: {e}"))?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    Err("no end".to_owned())
}

#[test]
fn nodes_of_one_cluster_talk_and_nobody_else_does() {
    let (ours, theirs) = (authority(), authority());
    let (a, b, stranger) = (identity(&ours, "a"), identity(&ours, "b"), identity(&theirs, "a"));
    let b_name = tiebeam_topology::identity(&shop(), &node("b"));

    assert_eq!(handshake(a.client_config(), b.server_config(), &b_name), Ok(()));
    assert_eq!(handshake(a.client_config(), b.server_config(), "10.0.0.1"), Ok(()));

    let refused = |client: &Arc<ClientConfig>, server: &Identity, name: &str, why: &str| {
        let error = handshake(client.clone(), server.server_config(), name).unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    refused(&a.client_config(), &b, "a.shop.tiebeam.internal", "client: invalid peer certificate");
    refused(&a.client_config(), &b, "localhost", "client: invalid peer certificate");
    refused(&a.client_config(), &stranger, "a.shop.tiebeam.internal", "client: invalid peer certificate");

    let mut roots = RootCertStore::empty();
    roots.add(read::certificate(ours.pem.as_bytes(), Path::new("")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = |version: &'static rustls::SupportedProtocolVersion| {
        ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
    };
    let nobody = Arc::new(client(&rustls::version::TLS13).with_no_client_auth());
    refused(&nobody, &b, &b_name, "server: peer sent no certificates");
    let old = Arc::new(client(&rustls::version::TLS12).with_no_client_auth());
    refused(&old, &b, &b_name, "server: peer is incompatible");

    // What a site is known by opens no door between nodes.
    let site = ours.site(&shop(), &[HostPattern::Any], &[], now()).unwrap();
    let site_key = Arc::new(rustls::sign::SingleCertAndKey::from(site.certified_key()));
    let as_site = Arc::new(client(&rustls::version::TLS13).with_client_cert_resolver(site_key));
    refused(&as_site, &b, &b_name, "server: invalid peer certificate");
    let mut foreign = client(&rustls::version::TLS13).with_no_client_auth();
    let key = rustls::sign::SingleCertAndKey::from(stranger.certified_key());
    foreign.client_auth_cert_resolver = Arc::new(key);
    refused(&Arc::new(foreign), &b, &b_name, "server: invalid peer certificate");
}

#[test]
fn sites_are_known_by_their_names_and_never_by_a_nodes() {
    let ca = authority();
    let site = |names: &[&str]| {
        let names: Vec<HostPattern> = names.iter().map(|n| n.parse().unwrap()).collect();
        ca.site(&shop(), &names, &[address()], now())
    };
    let served = site(&["shop.example", "*.shop.example", "*", "localhost", "10.0.0.7"]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(served.certified_key())));
    let server = Arc::new(server);
    let client = identity(&ca, "a").client_config();
    for (name, right) in [
        ("shop.example", true),
        ("www.shop.example", true),
        ("localhost", true),
        ("127.0.0.1", true),
        ("10.0.0.1", true),
        ("10.0.0.7", true),
        ("a.b.shop.example", false),
        ("10.0.0.2", false),
    ] {
        assert_eq!(handshake(client.clone(), server.clone(), name).is_ok(), right, "{name}");
    }
    for (host, covered) in [
        ("shop.example", true),
        ("*.shop.example", true),
        ("*", true),
        ("10.0.0.7", true),
        ("b.example", false),
    ] {
        assert_eq!(served.covers(&host.parse().unwrap()), covered, "{host}");
    }
    assert!(served.expires() < now() + SITE_VALID + HOUR);
    for name in ["a.shop.tiebeam.internal", "*.shop.tiebeam.internal", "tiebeam.internal"] {
        assert!(matches!(site(&[name]), Err(Error::ReservedName { .. })), "{name}");
    }
}

#[test]
fn what_is_saved_is_loaded_and_keys_are_for_the_owner_alone() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("certs");
    let ca = authority();
    ca.save(&dir).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert!(matches!(ca.save(&dir), Err(Error::Exists { .. })));

    let ca = Authority::load(&dir, &shop(), now()).unwrap();
    let a = identity(&ca, "a");
    a.save(&dir).unwrap();
    a.save(&dir).unwrap();
    assert!(matches!(identity(&authority(), "a").save(&dir), Err(Error::Exists { .. })));
    let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|f| f.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, [CA_KEY, CA_CERT, NODE_KEY, NODE_CERT], "no temporary file is left");
    assert!(files.iter().all(|file| mode(&dir.join(file)) == 0o600));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "no temporary folder is left");

    let loaded = Identity::load(&dir, &shop(), &node("a"), now()).unwrap();
    assert_eq!((&loaded.facts, &loaded.key_pem), (&a.facts, &a.key_pem));
    assert_eq!((loaded.facts.name.as_str(), loaded.facts.cluster.as_str()), ("a", "shop"));
    let b = identity(&ca, "b");
    assert_eq!(handshake(loaded.client_config(), b.server_config(), "b.shop.tiebeam.internal"), Ok(()));
    assert!(!format!("{ca:?} {loaded:?}").contains("PRIVATE"));
}

/// A crash at any step of the replacement leaves something that the next call mends, and never half a folder.
#[test]
fn a_folder_is_replaced_as_a_whole() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("a");
    let fill = |text: &'static str| move |new: &Path| files::write(new, "x", text.as_bytes());
    let now = || fs::read_to_string(dir.join("x")).ok();
    replace_folder(&dir, fill("one")).unwrap();
    let torn = replace_folder(&dir, |new| {
        fill("half")(new)?;
        Err(Error::Missing { path: new.to_owned() })
    });
    assert!(torn.is_err());
    assert_eq!(now().as_deref(), Some("one"));
    // As after a crash between the two renames: the old one is put aside, the new one is not there yet.
    fs::rename(&dir, temp.path().join(".a.old")).unwrap();
    fs::create_dir_all(temp.path().join(".a.new/left")).unwrap();
    replace_folder(&dir, fill("two")).unwrap();
    assert_eq!(now().as_deref(), Some("two"));
    replace_folder(&dir, fill("three")).unwrap();
    assert_eq!(now().as_deref(), Some("three"));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
}

/// Each thing that can be wrong with the files, and what is said of it.
#[test]
fn what_is_wrong_is_said() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let ca = authority();
    let other = identity(&ca, "a");
    let chmod = |name: &str, mode| fs::set_permissions(dir.join(name), Permissions::from_mode(mode)).unwrap();
    let put = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    let remove = |name: &str| fs::remove_file(dir.join(name)).unwrap();
    type Break<'a> = &'a dyn Fn();
    let cases: [(Break<'_>, &str); 9] = [
        (&|| remove(NODE_CERT), "/node.pem does not exist; `tiebeam init`"),
        (&|| remove(NODE_KEY), "/node.key does not exist"),
        (&|| chmod(NODE_KEY, 0o640), "/node.key may be read by others than its owner (mode 0640)"),
        (
            &|| {
                remove(NODE_KEY);
                fs::create_dir(dir.join(NODE_KEY)).unwrap();
                chmod(NODE_KEY, 0o700)
            },
            "/node.key cannot be read: Is a directory",
        ),
        (&|| put(NODE_CERT, "hello"), "/node.pem holds no certificate in PEM format"),
        (&|| put(NODE_KEY, "hello"), "/node.key holds no private key in PEM format: no private key found"),
        (&|| put(NODE_KEY, &other.key_pem), "/node.key does not belong to the certificate"),
        (&|| put(CA_CERT, &authority().pem), "/node.pem was not signed by the authority in"),
        (&|| put(CA_CERT, &"x".repeat(300_000)), "/ca.pem cannot be read: it is larger than"),
    ];
    for (break_it, text) in cases {
        let _ = fs::remove_dir(dir.join(NODE_KEY));
        identity(&ca, "a").save(dir).unwrap();
        break_it();
        let error = Identity::load(dir, &shop(), &node("a"), now()).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    identity(&ca, "a").save(dir).unwrap();
    let load = |cluster: &str, name: &str, at| {
        Identity::load(dir, &cluster.parse().unwrap(), &node(name), at).unwrap_err().to_string()
    };
    for (error, text) in [
        (load("shop", "a", now() + NODE_VALID + HOUR), "/node.pem ended on "),
        (load("shop", "a", now() - 24 * HOUR), "the clock of this machine seems to be wrong"),
        (
            load("bank", "a", now()),
            "belongs to the cluster \"shop\", and the configuration is of the cluster \"bank\"",
        ),
        (load("shop", "b", now()), "belongs to the node \"a\", and this is node \"b\""),
    ] {
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn an_authority_that_is_not_whole_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let load = |at| Authority::load(dir, &shop(), at).unwrap_err().to_string();
    assert!(load(now()).contains("/ca.pem does not exist"));
    authority().save(dir).unwrap();
    assert!(load(now() + AUTHORITY_VALID + HOUR).contains("ended on"));
    let other = Authority::load(dir, &"bank".parse().unwrap(), now()).unwrap_err().to_string();
    assert!(other.contains("belongs to the cluster \"shop\""), "{other}");
    fs::write(dir.join(CA_CERT), &authority().pem).unwrap();
    assert!(load(now()).contains("/ca.key does not belong to the certificate"));
    fs::set_permissions(dir.join(CA_KEY), Permissions::from_mode(0o604)).unwrap();
    assert!(load(now()).contains("(mode 0604)"));
}

#[test]
fn nothing_outlives_the_authority() {
    let made = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let ca = Authority::create(&shop(), made).unwrap();
    let late = made + AUTHORITY_VALID - HOUR;
    let last = ca.node(&shop(), &node("a"), &address(), late).unwrap();
    assert_eq!(last.expires(), made + AUTHORITY_VALID);
    let early = ca.site(&shop(), &[], &[], made).unwrap();
    assert_eq!(early.expires(), made + SITE_VALID);
}

/// OpenSSL, and so PostgreSQL, reads the certificates as we mean them. Skipped where OpenSSL is not installed.
#[test]
fn openssl_agrees() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    identity(&authority(), "a").save(dir).unwrap();
    let openssl = |args: &[&str]| {
        let out = Command::new("openssl").args(args).current_dir(dir).output().ok()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{args:?}: {text}");
        Some(text)
    };
    for purpose in ["sslserver", "sslclient"] {
        let name = "a.shop.tiebeam.internal";
        let args =
            ["verify", "-x509_strict", "-purpose", purpose, "-verify_hostname", name, "-CAfile", CA_CERT];
        if openssl(&[&args[..], &[NODE_CERT]].concat()).is_none() {
            return;
        }
    }
    let text = openssl(&["x509", "-in", NODE_CERT, "-noout", "-subject"]).unwrap();
    // Until version 3.2 with blanks around the signs.
    assert!(text.replace(' ', "").contains("O=shop,CN=a"), "{text}");
}

mod postgresql;
