//! The agent's own connection to its PostgreSQL: by the unix socket, as superuser, every statement bounded in time.
//!
//! It reads what the plan needs and does what `act.rs` says. It never carries a client's statement.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use tiebeam_topology::{Lsn, NodeName, Timeline};
use tokio_postgres::{Client, Config, NoTls};

use crate::error::Error;
use crate::instance::SUPERUSER;

/// A statement on system views that takes longer means that the server hangs.
pub const STATEMENT_TIME: Duration = Duration::from_secs(1);

/// What one PostgreSQL says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerView {
    pub in_recovery: bool,
    /// Primary only: flushed, and on which timeline.
    pub current: Option<(Timeline, Lsn)>,
    /// Standby only.
    pub received: Option<Lsn>,
    pub replayed: Option<Lsn>,
    /// Standby only: the startup process has read all the log there is and waits for more.
    pub drained: bool,
    /// The walreceiver, whatever it is doing; while it connects only its process is known.
    pub receiver: Option<Receiver>,
    /// As in force in the postmaster.
    pub primary_conninfo: String,
    pub standby_names: String,
    pub replay_lag_ms: Option<u64>,
    /// Primary only.
    pub standbys: BTreeMap<String, Standby>,
    /// Our slots.
    pub slots: BTreeSet<String>,
    /// Those of them whose log is gone: nobody can stream from one again.
    pub lost_slots: BTreeSet<String>,
    /// Roles that may log in.
    pub login_roles: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    pub pid: u32,
    pub streaming: bool,
    pub timeline: Option<Timeline>,
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq)]
pub struct Standby {
    pub streaming: bool,
    pub flushed: Option<Lsn>,
    pub replayed: Option<Lsn>,
    /// Its walsender counts it as synchronous: it has read the configuration in force.
    pub sync: bool,
    pub lag_ms: Option<u64>,
}

/// Asked before the positions: what has drained once, with its stream closed, stays drained, and positions that are read
/// afterwards are the last ones. Read together, a position could be older than the answer that it is final.
const DRAINED: &str = "
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup'
               AND wait_event IN ('RecoveryRetrieveRetryInterval', 'RecoveryWalStream')) AS drained";

const VIEW: &str = "
SELECT pg_is_in_recovery() AS in_recovery,
  CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_flush_lsn()::text END AS current,
  CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END AS tli,
  pg_last_wal_receive_lsn()::text AS received, pg_last_wal_replay_lsn()::text AS replayed,
  coalesce(r.pid, w.pid) AS r_pid, r.status AS r_status, r.received_tli AS r_tli,
  current_setting('primary_conninfo') AS conninfo, current_setting('synchronous_standby_names') AS names,
  CASE WHEN pg_last_wal_receive_lsn() IS NOT DISTINCT FROM pg_last_wal_replay_lsn() THEN 0
       ELSE greatest(0, extract(epoch FROM now() - pg_last_xact_replay_timestamp()) * 1000) END::bigint AS lag_ms,
  ARRAY(SELECT slot_name::text FROM pg_replication_slots WHERE slot_name LIKE 'tiebeam\\_%') AS slots,
  ARRAY(SELECT slot_name::text FROM pg_replication_slots
        WHERE slot_name LIKE 'tiebeam\\_%' AND wal_status = 'lost') AS lost_slots,
  ARRAY(SELECT rolname::text FROM pg_roles WHERE rolcanlogin) AS roles
FROM (SELECT) one LEFT JOIN pg_stat_wal_receiver r ON true
  LEFT JOIN pg_stat_activity w ON w.backend_type = 'walreceiver'";

const STANDBYS: &str = "
SELECT application_name, state, flush_lsn::text, replay_lsn::text, sync_state IN ('sync', 'quorum') AS sync,
  (extract(epoch FROM replay_lag) * 1000)::bigint AS lag_ms
FROM pg_stat_replication WHERE application_name <> '' ORDER BY state = 'streaming'";

/// An open connection.
#[derive(Debug)]
pub struct Control {
    client: Client,
}

impl Control {
    /// Connects.
    ///
    /// # Errors
    /// When PostgreSQL does not run, is not ready to answer yet, or hangs.
    pub async fn connect(sockets: &Path, port: u16, limit: Duration) -> Result<Self, Error> {
        let mut config = Config::new();
        config
            .host_path(sockets)
            .port(port)
            .user(SUPERUSER)
            .dbname("postgres")
            .application_name("tiebeam agent");
        // A statement of ours must wait for no replica, and outlive no agent.
        // Nor may one be what a user of the database has put into a schema that is searched first.
        config.options(
            "-c synchronous_commit=local -c lock_timeout=1s -c statement_timeout=0 -c client_min_messages=error \
             -c search_path=pg_catalog",
        );
        let (client, connection) = bounded(limit, config.connect(NoTls)).await?;
        tokio::spawn(connection);
        Ok(Self { client })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// All that the plan wants to know.
    pub async fn view(&self) -> Result<ServerView, Error> {
        let drained = bounded(STATEMENT_TIME, self.client.query_one(DRAINED, &[])).await?.get("drained");
        let row = bounded(STATEMENT_TIME, self.client.query_one(VIEW, &[])).await?;
        let mut view = ServerView {
            in_recovery: row.get("in_recovery"),
            received: lsn(row.get("received")),
            replayed: lsn(row.get("replayed")),
            drained,
            primary_conninfo: row.get("conninfo"),
            standby_names: row.get("names"),
            replay_lag_ms: row.get::<_, Option<i64>>("lag_ms").map(|ms| ms.max(0) as u64),
            slots: row.get::<_, Vec<String>>("slots").into_iter().collect(),
            lost_slots: row.get::<_, Vec<String>>("lost_slots").into_iter().collect(),
            login_roles: row.get::<_, Vec<String>>("roles").into_iter().collect(),
            ..ServerView::default()
        };
        let tli = row.get::<_, Option<&str>>("tli").and_then(|t| u32::from_str_radix(t, 16).ok());
        view.current = tli.map(Timeline).zip(lsn(row.get("current")));
        view.receiver = row.get::<_, Option<i32>>("r_pid").map(|pid| Receiver {
            pid: pid as u32,
            streaming: row.get::<_, Option<&str>>("r_status") == Some("streaming"),
            timeline: row.get::<_, Option<i32>>("r_tli").map(|t| Timeline(t as u32)),
        });
        for row in bounded(STATEMENT_TIME, self.client.query(STANDBYS, &[])).await? {
            let standby = Standby {
                streaming: row.get::<_, Option<&str>>("state") == Some("streaming"),
                flushed: lsn(row.get("flush_lsn")),
                replayed: lsn(row.get("replay_lsn")),
                sync: row.get::<_, Option<bool>>("sync").unwrap_or(false),
                lag_ms: row.get::<_, Option<i64>>("lag_ms").map(|ms| ms.max(0) as u64),
            };
            view.standbys.insert(row.get("application_name"), standby);
        }
        Ok(view)
    }

    /// Runs one statement that gives nothing.
    pub async fn run(&self, sql: &str) -> Result<(), Error> {
        bounded(STATEMENT_TIME, self.client.batch_execute(sql)).await
    }

    /// Makes the postmaster read its files again.
    pub async fn reload(&self) -> Result<(), Error> {
        self.run("SELECT pg_reload_conf()").await
    }

    /// Makes and drops our slots so that they are exactly those of `nodes`. Slots are names that we made: no quoting.
    pub async fn set_slots(&self, make: &BTreeSet<String>, drop: &BTreeSet<String>) -> Result<(), Error> {
        for slot in make {
            self.run(&format!("SELECT pg_create_physical_replication_slot('{slot}', true)")).await?;
        }
        for slot in drop {
            self.run(&format!("SELECT pg_drop_replication_slot('{slot}')")).await?;
        }
        Ok(())
    }
}

/// The name under which a node's walreceiver is known.
pub fn standby<'a>(view: &'a ServerView, node: &NodeName) -> Option<&'a Standby> {
    view.standbys.get(node.as_str())
}

fn lsn(text: Option<&str>) -> Option<Lsn> {
    text.and_then(|t| t.parse().ok())
}

async fn bounded<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Error::Sql(format!("no answer within {} ms", limit.as_millis()))),
    }
}
