//! The settings of PostgreSQL that a file may not give, each with the reason.

/// Why Tiebeam decides about a setting itself, or nothing if the file may.
pub(crate) fn reserved(name: &str) -> Option<&'static str> {
    let found = RESERVED.iter().find(|(names, _)| names.contains(&name)).map(|(_, why)| *why);
    found.or_else(|| PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, why)| *why))
}

/// Whether PostgreSQL could have a setting of this name (its documentation, "Parameter Names and Values").
pub(crate) fn is_name(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    starts
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.".contains(&b))
}

const RESERVED: &[(&[&str], &str)] = &[
    (
        &["synchronous_standby_names", "synchronous_commit"],
        "it decides whether an acknowledged commit survives: write `durability` instead",
    ),
    (
        &[
            "primary_conninfo",
            "primary_slot_name",
            "restore_command",
            "archive_cleanup_command",
            "promote_trigger_file",
        ],
        "Tiebeam says whom a replica follows, and changes it at each failover",
    ),
    (
        &["hot_standby", "wal_level", "wal_log_hints", "max_wal_senders", "max_replication_slots"],
        "replicas, and the rewinding of an old primary, need Tiebeam's value",
    ),
    (
        &["fsync", "full_page_writes", "data_checksums"],
        "without it a crash can lose or damage what was acknowledged",
    ),
    (&["listen_addresses"], "PostgreSQL listens on the node's `address`"),
    (&["port"], "write `[database] port` instead"),
    (
        &["data_directory", "config_file", "hba_file", "ident_file", "external_pid_file"],
        "these files are in the node's data folder, where Tiebeam writes them",
    ),
    (
        &["unix_socket_directories", "unix_socket_group", "unix_socket_permissions"],
        "Tiebeam reaches PostgreSQL by its unix socket",
    ),
    (&["cluster_name"], "replicas are recognised by it: it is the name of the node"),
    (&["default_transaction_read_only"], "Tiebeam recognises the primary by it"),
    (&["password_encryption"], "the router logs clients in with SCRAM only"),
    (&["include", "include_dir", "include_if_exists"], "every setting stands in this file"),
];

const PREFIXES: &[(&str, &str)] = &[
    ("ssl", "nodes speak TLS with certificates of the cluster's own CA"),
    ("recovery_", "Tiebeam says how a server recovers, and changes it at each failover"),
];
