//! The router before a managed server: TLS with the node's certificate, `pg_ident`, `tiebeam.verifier`.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use common::{Folder, PASSWORD, Postgres, eventually, own, psql, psql_command, publish};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore};
use tiebeam_sql::{Router, ServerLogin, Settings, StartError, Target, View};
use tiebeam_topology::{Epoch, Reads};
use tokio::sync::watch;

const IDENTITY: &str = "a.shop.tiebeam.internal";

/// Writes the server's certificate files; gives the client's side.
fn certificates(folder: &Folder) -> Arc<ClientConfig> {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new([IDENTITY.to_owned()]).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, IDENTITY);
    let cert = leaf.signed_by(&key, &issuer).unwrap();
    for (name, text) in
        [("ca.pem", ca_cert.pem()), ("cert.pem", cert.pem()), ("key.pem", key.serialize_pem())]
    {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        own(&path);
    }
    let mut roots = RootCertStore::empty();
    roots.add(ca_cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_root_certificates(roots);
    Arc::new(config.with_client_auth_cert(vec![cert.der().clone()], key).unwrap())
}

fn settings(config: Arc<ClientConfig>) -> Settings {
    Settings {
        node: "a".parse().unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        workers: 1,
        // The first login, too, waits no longer for a server.
        hold: Duration::from_secs(2),
        hold_queue: 4,
        fresh_wait: Duration::from_millis(10),
        pool_size: 3,
        clients: 5,
        reads: Reads::Replicas,
        login: ServerLogin::Certificate(config),
    }
}

#[test]
fn a_managed_server() {
    let folder = Folder::new();
    let config = certificates(&folder);
    let at = folder.path().display();
    let tls = format!(
        "ssl = on\nssl_ca_file = '{at}/ca.pem'\nssl_cert_file = '{at}/cert.pem'\nssl_key_file = '{at}/key.pem'"
    );
    let hba =
        "hostssl all,replication postgres 127.0.0.1/32 scram-sha-256\nhostssl all all all cert map=tiebeam\n";
    let mut server = Postgres::primary(&folder, &tls, hba);
    let ident = format!("tiebeam {IDENTITY} ann\ntiebeam {IDENTITY} tiebeam_router\n");
    fs::write(server.data.join("pg_ident.conf"), ident).unwrap();
    server.sql("SELECT pg_reload_conf()");
    server.sql(&format!(
        "CREATE ROLE tiebeam_router LOGIN; GRANT pg_read_all_stats TO tiebeam_router; CREATE ROLE ann LOGIN PASSWORD '{PASSWORD}'; CREATE SCHEMA tiebeam; \
         CREATE FUNCTION tiebeam.verifier(role name) RETURNS text LANGUAGE sql SECURITY DEFINER AS \
         'SELECT rolpassword FROM pg_authid WHERE rolname = role AND rolcanlogin'; \
         GRANT USAGE ON SCHEMA tiebeam TO tiebeam_router; GRANT CREATE ON DATABASE postgres TO ann; \
         GRANT CREATE ON SCHEMA public TO ann"
    ));
    let replica = Postgres::replica(&folder, &server, "replica");
    let (here, there) = (server.address(), replica.address());
    let target = |identity: &str| {
        Some(Target { node: "a".parse().unwrap(), address: here, identity: identity.into() })
    };
    let first = View { epoch: Epoch(1), primary: target(IDENTITY), replicas: Vec::new() };
    let (view, seen) = watch::channel(Arc::new(first));
    let router = Router::start(settings(config.clone()), seen.clone()).unwrap();
    let port = router.address().port();

    // The port is taken now, and that is said.
    let again = Settings { listen: router.address(), ..settings(config) };
    let error = Router::start(again, seen).err().unwrap();
    assert!(matches!(error, StartError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("`sql.listen` = 127.0.0.1:"), "{error}");

    assert_eq!(psql(port, "ann", "postgres", "SELECT current_user"), "ann");
    psql(port, "ann", "postgres", "CREATE TABLE t AS SELECT i FROM generate_series(1, 200000) i");
    assert_eq!(psql(port, "ann", "postgres", "SELECT i FROM t ORDER BY i").lines().count(), 200_000);
    let stats = router.stats();
    assert!(stats.reads_primary["no_replica"] >= 2, "{stats:#?}");

    // Without a primary a statement is held for so long and no longer; the session goes on.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let config = format!("host=127.0.0.1 port={port} user=ann dbname=postgres password={PASSWORD}");
        let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let whole = (*view.borrow().clone()).clone();
        publish(&router, &view, View { primary: None, ..whole.clone() }).await;
        let held = client.batch_execute("DELETE FROM t").await.unwrap_err();
        assert_eq!(held.code().unwrap().code(), "57P03");
        publish(&router, &view, whole).await;
        let count = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
        assert_eq!(count.get::<_, i64>(0), 200_000);
    });
    assert_eq!(router.stats().counts["hold_timeouts"], 1);

    // A primary on another timeline: its replica is read from as soon as it follows, not when it has a checkpoint there.
    let replicas = vec![Target { node: "b".parse().unwrap(), address: there, identity: IDENTITY.into() }];
    let replicated = |epoch| View { epoch, primary: target(IDENTITY), replicas: replicas.clone() };
    let read_by_replica = |when: &str| {
        eventually(when, || {
            // Both have told where they are: until then nothing speaks against the replica.
            let stats = router.stats();
            let known = stats.servers.get(&replicas[0].node).is_some_and(|b| b.lag_bytes.is_some());
            let before = stats.reads_replica;
            known && psql(port, "ann", "postgres", "SELECT 1") == "1" && router.stats().reads_replica > before
        });
    };
    runtime.block_on(publish(&router, &view, replicated(Epoch(1))));
    read_by_replica("the replica is read from");
    server.promote_anew();
    runtime.block_on(publish(&router, &view, replicated(Epoch(2))));
    read_by_replica("the replica is read from on the next timeline");
    assert_eq!(server.sql("SELECT timeline_id FROM pg_control_checkpoint()"), "2");
    let of_replica = replica.sql("SELECT timeline_id FROM pg_control_checkpoint()");
    assert_eq!(of_replica, "1", "the test is of use only before its checkpoint");

    // A server with another name in its certificate is not our primary, whatever its address.
    let wrong = View { epoch: Epoch(3), primary: target("b.shop.tiebeam.internal"), replicas: Vec::new() };
    runtime.block_on(publish(&router, &view, wrong));
    let mut psql = psql_command(port, "ann", "postgres");
    let output = psql.args(["-c", "DROP TABLE t"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("no database server could be asked"), "{text}");
}
