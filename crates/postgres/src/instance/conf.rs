//! The text of PostgreSQL's configuration files. Pure: settings in, text out.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use tiebeam_topology::NodeName;

use super::{Paths, REPLICATION_ROLE, SUPERUSER, slot_name};
use crate::settings::{Peer, Settings};

/// How much log a replica that is away may hold back; beyond it, it is cloned again. The disk of the primary is worth more.
pub const SLOT_WAL_MAX: &str = "4GB";

/// `postgresql.conf`. What the operator set comes after our defaults and before what Tiebeam relies on.
pub fn postgresql_conf(settings: &Settings, paths: &Paths) -> String {
    let mut text = String::from(
        "# Written by Tiebeam at each start; set values in tiebeam.toml, [database.settings].\n",
    );
    let mut set = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} = {}", quoted(value));
    };
    for (name, value) in DEFAULTS {
        set(name, value);
    }
    for (name, value) in &settings.database.settings {
        set(name, value);
    }
    for (name, value) in REQUIRED {
        set(name, value);
    }
    set("max_slot_wal_keep_size", SLOT_WAL_MAX);
    set("listen_addresses", &settings.address.to_string());
    set("port", &settings.database.port.to_string());
    set("cluster_name", settings.node.as_str());
    let places = [
        ("unix_socket_directories", &paths.sockets),
        ("log_directory", &paths.log),
        ("hba_file", &paths.conf.join("pg_hba.conf")),
        ("ident_file", &paths.conf.join("pg_ident.conf")),
        ("ssl_ca_file", &paths.tls.join("ca.pem")),
        ("ssl_cert_file", &paths.tls.join("node.pem")),
        ("ssl_key_file", &paths.tls.join("node.key")),
    ];
    for (name, path) in places {
        set(name, &path.to_string_lossy());
    }
    text.push_str("include 'follow.conf'\ninclude 'sync.conf'\n");
    text
}

/// Good values that the operator may change.
const DEFAULTS: &[(&str, &str)] = &[
    ("max_connections", "200"),
    ("log_checkpoints", "on"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("log_filename", "postgresql-%a.log"),
    ("log_truncate_on_rotation", "on"),
    ("log_rotation_age", "1d"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("wal_keep_size", "256MB"),
];

/// What failover rests on. Each is in the list of names that the file refuses.
const REQUIRED: &[(&str, &str)] = &[
    ("logging_collector", "on"),
    ("ssl", "on"),
    ("ssl_min_protocol_version", "TLSv1.2"),
    ("password_encryption", "scram-sha-256"),
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("wal_level", "replica"),
    ("wal_log_hints", "on"),
    ("hot_standby", "on"),
    ("hot_standby_feedback", "on"),
    ("synchronous_commit", "on"),
    ("max_wal_senders", "24"),
    ("max_replication_slots", "24"),
    // A dead backend ends the server: there is one way back from every death, and replicas are faster than recovery.
    ("restart_after_crash", "off"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_receiver_timeout", "5s"),
    ("wal_sender_timeout", "5s"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("recovery_target_timeline", "latest"),
    ("archive_mode", "off"),
];

/// A value in a configuration file (PostgreSQL documentation, "Parameter Interaction via the Configuration File").
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''").replace(['\n', '\r'], " "))
}

/// `follow.conf`: whom to stream from; nobody, when fenced.
pub fn follow_conf(settings: &Settings, paths: &Paths, primary: Option<&NodeName>) -> String {
    let to = primary
        .and_then(|p| settings.peers.get(p))
        .map(|peer| conninfo(settings, paths, peer, settings.node.as_str()))
        .unwrap_or_default();
    let slot = if to.is_empty() { String::new() } else { slot_name(&settings.node) };
    format!("primary_conninfo = {}\nprimary_slot_name = {}\n", quoted(&to), quoted(&slot))
}

/// `sync.conf`.
pub fn sync_conf(standby_names: &str) -> String {
    format!("synchronous_standby_names = {}\n", quoted(standby_names))
}

/// By what name pg_basebackup and pg_rewind are known to the primary. It is no node's (those have no `_`), because what a
/// copy reports as flushed is neither fsynced nor part of any replica: no commit may be acknowledged by it.
pub const COPYING: &str = "tiebeam_copy";

/// How libpq reaches a peer, under the name of `who`: verified by its name, whatever its address.
pub fn conninfo(settings: &Settings, paths: &Paths, peer: &Peer, who: &str) -> String {
    let file = |name: &str| word(&paths.tls.join(name).to_string_lossy());
    format!(
        "host={} hostaddr={} port={} user={REPLICATION_ROLE} dbname=postgres application_name={who} connect_timeout=3 \
         keepalives_idle=5 keepalives_interval=2 keepalives_count=3 tcp_user_timeout=5000 \
         sslmode=verify-full sslrootcert={} sslcert={} sslkey={}",
        word(&peer.identity),
        peer.address,
        settings.database.port,
        file("ca.pem"),
        file("node.pem"),
        file("node.key"),
    )
}

/// A value in a connection string (PostgreSQL documentation, "Keyword/Value Connection Strings").
fn word(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `pg_hba.conf`: the superuser by socket, everybody else by a certificate of the cluster's CA, nobody by password.
/// Applications log in at the routers, which check their passwords and connect with the node's certificate.
pub fn hba_conf() -> String {
    format!(
        "local   all         {SUPERUSER}           peer map=tiebeam_local\n\
         hostssl replication {REPLICATION_ROLE} all cert map=tiebeam\n\
         hostssl all         all               all cert map=tiebeam\n"
    )
}

/// `pg_ident.conf`: which system users are the superuser, and which roles a node's certificate may act for. PostgreSQL 15
/// has no wildcard for roles, so they are listed; those that could not be written safely are left out.
pub fn ident_conf(
    system_users: &BTreeSet<String>,
    nodes: &BTreeSet<NodeName>,
    roles: &BTreeSet<String>,
) -> String {
    let mut text = String::new();
    for user in system_users {
        let _ = writeln!(text, "tiebeam_local {} {SUPERUSER}", ident_word(user));
    }
    for node in nodes {
        let _ = writeln!(text, "tiebeam {node} {REPLICATION_ROLE}");
    }
    let safe = |r: &&String| !r.is_empty() && !r.starts_with(['/', '+']) && !r.chars().any(char::is_control);
    for role in roles.iter().filter(safe) {
        if role != SUPERUSER && role != REPLICATION_ROLE {
            let _ = writeln!(text, "tiebeam /^[a-z][a-z0-9-]*$ {}", ident_word(role));
        }
    }
    text
}

fn ident_word(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\"\""))
}

/// The names of the numbers 0, our own and PostgreSQL's, from `/etc/passwd`.
pub fn system_users(uids: &[u32], passwd: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(passwd).unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid: u32 = fields.nth(1)?.parse().ok()?;
        uids.contains(&uid).then_some(name)
    };
    text.lines().filter_map(user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes_its_quotes() {
        assert_eq!(quoted("it's \\ a\nb"), "'it''s \\\\ a b'");
        assert_eq!(word("it's"), "'it\\'s'");
        assert_eq!(ident_word("a\"b"), "\"a\"\"b\"");
    }

    #[test]
    fn a_copy_is_no_nodes_replica() {
        assert!(COPYING.parse::<NodeName>().is_err());
    }

    #[test]
    fn a_certificate_is_never_the_superuser() {
        let set = |names: &[&str]| names.iter().map(|s| s.to_string()).collect::<BTreeSet<_>>();
        let nodes = BTreeSet::from(["node-1".parse().unwrap()]);
        let text =
            ident_conf(&set(&["root"]), &nodes, &set(&["tiebeam", "app", "/x", "tiebeam_replication"]));
        assert_eq!(
            text,
            "tiebeam_local \"root\" tiebeam\ntiebeam node-1 tiebeam_replication\ntiebeam /^[a-z][a-z0-9-]*$ \"app\"\n"
        );
    }
}
