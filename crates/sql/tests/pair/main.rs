//! The router before a real primary and its streaming replica, by psql, pgbench and tokio-postgres.
//!
//! One test function, as starting PostgreSQL takes longer than using it; each step names itself before it runs.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod control;
mod failover;
mod statements;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use common::{
    Folder, PASSWORD, Postgres, caught_up, done, eventually, eventually_async, program, psql, psql_command,
    publish,
};
use tiebeam_sql::{Router, Secret, ServerLogin, Settings, Stats, Target, View};
use tiebeam_topology::{Epoch, Reads};
use tokio::sync::watch;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use statements::session;

struct World {
    primary: Postgres,
    replica: Postgres,
    router: Router,
    view: watch::Sender<Arc<View>>,
    folder: Folder,
}

fn settings() -> Settings {
    Settings {
        node: "a".parse().unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        workers: 2,
        hold: Duration::from_secs(4),
        hold_queue: 4,
        fresh_wait: Duration::from_millis(100),
        // pgbench waits for one client's Parse while others of its thread are in transactions: none of its eight may have to
        // wait for a connection, even if they all come to one worker.
        pool_size: 16,
        clients: 100,
        reads: Reads::Replicas,
        login: ServerLogin::PassThrough { user: "postgres".into(), password: Some(Secret::new(PASSWORD)) },
    }
}

fn target(name: &str, address: SocketAddr) -> Target {
    Target { node: name.parse().unwrap(), address, identity: String::new() }
}

impl World {
    fn new() -> Self {
        let folder = Folder::new();
        let hba =
            "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n";
        let primary = Postgres::primary(&folder, "", hba);
        let replica = Postgres::replica(&folder, &primary, "replica");
        primary.sql(&format!("CREATE ROLE ann LOGIN PASSWORD '{PASSWORD}'"));
        primary.sql("CREATE DATABASE shop OWNER ann");
        let (view, seen) = watch::channel(Arc::new(View {
            epoch: Epoch(1),
            primary: Some(target("a", primary.address())),
            replicas: vec![target("b", replica.address())],
        }));
        let router = Router::start(settings(), seen).unwrap();
        Self { primary, replica, router, view, folder }
    }

    fn port(&self) -> u16 {
        self.router.address().port()
    }

    fn ann(&self, sql: &str) -> String {
        psql(self.port(), "ann", "shop", sql)
    }

    fn stats(&self) -> Stats {
        self.router.stats()
    }

    fn runtime(&self) -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    fn hold(&self) -> Duration {
        settings().hold
    }

    fn now(&self) -> View {
        (**self.view.borrow()).clone()
    }

    async fn publish(&self, view: View) {
        publish(&self.router, &self.view, view).await;
    }

    /// What other sessions did is on the replica, too.
    fn caught_up(&self) {
        caught_up(&self.primary, &self.replica);
    }

    /// Begins a READ ONLY transaction that runs on the replica: the router knows it lately, and so it was chosen.
    async fn begin_on_replica(&self, client: &Client) {
        let replica = self.replica.port.to_string();
        eventually_async("a transaction begins on the replica", async || {
            client.batch_execute("BEGIN READ ONLY").await.unwrap();
            if port(client).await == replica {
                return true;
            }
            client.batch_execute("ROLLBACK").await.unwrap();
            false
        })
        .await;
    }

    async fn connect(&self) -> (Client, tokio::task::JoinHandle<()>) {
        let config = format!("host=127.0.0.1 port={} user=ann dbname=shop password={PASSWORD}", self.port());
        let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.unwrap();
        (client, tokio::spawn(async move { drop(connection.await) }))
    }

    /// Runs a step with a client of tokio-postgres.
    fn run(&self, step: impl AsyncFnOnce(&mut Client)) {
        self.runtime().block_on(async {
            let (mut client, _driver) = self.connect().await;
            let within = tokio::time::timeout(Duration::from_secs(30), step(&mut client));
            within.await.expect("the step takes too long");
        });
    }

    fn pgbench(&self, arguments: &[&str]) -> String {
        let mut pgbench = program("pgbench");
        let port = self.port().to_string();
        pgbench.args(["-h", "127.0.0.1", "-p", &port, "-U", "ann"]).args(arguments).arg("shop");
        let output = done(pgbench);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            !text.contains("failed transactions: ") || text.contains("failed transactions: 0 "),
            "{text}"
        );
        text
    }
}

/// The port of the server that answers, by a read.
async fn port(client: &Client) -> String {
    let read = "SELECT setting FROM (SELECT current_setting('port') AS setting) s";
    client.query_one(read, &[]).await.unwrap().get(0)
}

type Step = fn(&World);

#[test]
fn through_the_router() {
    let world = World::new();
    let steps: &[(&str, Step)] = &[
        ("psql", psql_works),
        ("pgbench", pgbench_works),
        ("reads go to the replica", reads_go_to_the_replica),
        ("own writes are read", own_writes_are_read),
        ("a volatile function is not a read", a_volatile_function_is_not_a_read),
        ("tokio-postgres", tokio_postgres_works),
        ("session state pins", session_state_pins),
        ("LISTEN", listen_hears),
        ("DEALLOCATE", statements::deallocate_is_of_the_session),
        ("statements after DDL", statements::a_changed_table_is_prepared_anew),
        ("what replicas refuse", statements::what_a_replica_refuses_the_primary_does),
        ("sequences", statements::sequences_are_read_where_they_are),
        ("READ ONLY", statements::a_pin_in_a_read_only_transaction_is_refused),
        ("cancel", cancel_reaches),
        ("large things", large_things_pass),
        ("logins", logins_are_checked),
        ("a hostile database", control::a_database_is_not_trusted),
        ("a primary that hangs", control::a_primary_that_hangs_holds_no_login_up),
        ("a commit that no replica has", failover::a_commit_that_no_replica_has_is_no_success),
        ("writes are held", failover::writes_are_held),
        ("a full queue refuses", failover::a_full_queue_refuses),
        ("a primary that hangs is left", failover::a_primary_that_hangs_is_left_for_the_next),
        ("a replica that hangs is left", failover::a_replica_that_hangs_is_left),
        ("broken connections", failover::broken_connections_are_told),
        ("reads survive the replica", failover::reads_survive_the_replica),
    ];
    for (name, step) in steps {
        let start = std::time::Instant::now();
        step(&world);
        println!("step: {name}: {} ms", start.elapsed().as_millis());
    }
    failover::draining_ends(world);
}

fn psql_works(w: &World) {
    assert_eq!(w.ann("SELECT 1 + 1"), "2");
    w.ann("CREATE TABLE t(id int PRIMARY KEY, v text)");
    w.ann("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 1000) i");
    assert_eq!(w.ann("BEGIN; SELECT count(*) FROM t; COMMIT"), "1000");
}

fn pgbench_works(w: &World) {
    w.pgbench(&["-i", "-s", "1", "-q"]);
    w.caught_up();
    for mode in ["simple", "extended", "prepared"] {
        w.pgbench(&["-n", "-S", "-M", mode, "-c", "8", "-j", "2", "-T", "2"]);
        w.pgbench(&["-n", "-M", mode, "-c", "8", "-j", "2", "-T", "2"]);
    }
    assert_eq!(w.ann("BEGIN; SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history); COMMIT"), "t");
    let stats = w.stats();
    assert!(stats.reads_replica > 1000, "{stats:#?}");
    assert_eq!(stats.counts["pinned"], 0, "{stats:#?}");
}

fn reads_go_to_the_replica(w: &World) {
    w.run(async |c| {
        let ports = [w.primary.port.to_string(), w.replica.port.to_string()];
        eventually_async("a read goes to the replica", async || port(c).await == ports[1]).await;
        w.begin_on_replica(c).await;
        for _ in 0..5 {
            assert_eq!(port(c).await, ports[1], "a transaction stays where it is");
        }
        c.batch_execute("COMMIT").await.unwrap();
        for _ in 0..5 {
            c.batch_execute("BEGIN").await.unwrap();
            assert_eq!(port(c).await, ports[0]);
            c.batch_execute("ROLLBACK").await.unwrap();
        }
    });
}

fn own_writes_are_read(w: &World) {
    w.run(async |c| {
        c.batch_execute("CREATE TABLE mine(n int)").await.unwrap();
        let insert = c.prepare("INSERT INTO mine VALUES ($1)").await.unwrap();
        let count = c.prepare("SELECT count(*) FROM mine").await.unwrap();
        for n in 1..=200i32 {
            // While the replica stands still nothing new is there, and for a while it is chosen no more.
            match n {
                50 => drop(w.replica.sql("SELECT pg_wal_replay_pause()")),
                100 => drop(w.replica.sql("SELECT pg_wal_replay_resume()")),
                _ => {}
            }
            c.execute(&insert, &[&n]).await.unwrap();
            assert_eq!(c.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), i64::from(n));
        }
        let before = w.stats().reads_replica;
        eventually_async("reads come back to the replica", async || {
            c.query_one(&count, &[]).await.unwrap();
            w.stats().reads_replica > before
        })
        .await;
        assert!(w.stats().reads_primary["behind"] > 0);
    });
}

fn a_volatile_function_is_not_a_read(w: &World) {
    w.ann("CREATE TABLE log(n int); CREATE FUNCTION note() RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES (1) RETURNING n'");
    for _ in 0..5 {
        assert_eq!(w.ann("SELECT note()"), "1");
    }
    // What was certain may become volatile: the replica refuses, and the read is repeated on the primary.
    w.ann("CREATE FUNCTION turn() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'");
    eventually("the catalog knows the function, and the replica has it", || {
        let before = w.stats().reads_replica;
        // A session that has written nothing may be answered by a replica that does not have it yet.
        session(w, "", &["SELECT turn()"]).is_ok_and(|one| one == "1") && w.stats().reads_replica > before
    });
    w.ann("CREATE OR REPLACE FUNCTION turn() RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES (2) RETURNING n'");
    w.caught_up();
    assert_eq!(w.ann("SELECT turn()"), "2");
}

fn tokio_postgres_works(w: &World) {
    w.run(async |c| {
        let c = &mut *c;
        c.batch_execute("CREATE TABLE tx(n int PRIMARY KEY)").await.unwrap();
        let insert = c.prepare("INSERT INTO tx VALUES ($1)").await.unwrap();
        let t = c.transaction().await.unwrap();
        t.execute(&insert, &[&1i32]).await.unwrap();
        t.rollback().await.unwrap();
        let mut t = c.transaction().await.unwrap();
        t.execute(&insert, &[&2i32]).await.unwrap();
        let inner = t.transaction().await.unwrap();
        let error = inner.execute(&insert, &[&2i32]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "23505");
        inner.rollback().await.unwrap();
        t.commit().await.unwrap();
        let rows = c.query("SELECT n FROM tx", &[]).await.unwrap();
        assert_eq!(rows.iter().map(|r| r.get(0)).collect::<Vec<i32>>(), [2]);
        // Pipelined: reads, writes and an error among them, each with its own answer.
        let read = c.prepare("SELECT n FROM tx WHERE n = $1").await.unwrap();
        let (two, three): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 1]) = ([&2i32], [&3i32]);
        let (a, b, d, e) = tokio::join!(
            c.query(&read, &two),
            c.execute(&insert, &three),
            c.execute(&insert, &three),
            c.query(&read, &three),
        );
        assert_eq!(a.unwrap().len(), 1);
        assert_eq!(b.unwrap(), 1);
        assert_eq!(d.unwrap_err().code().unwrap().code(), "23505");
        assert_eq!(e.unwrap().len(), 1);
        // A statement that cannot be parsed leaves no name behind.
        assert_eq!(
            c.prepare("SELECT nothing FROM nowhere").await.unwrap_err().code().unwrap().code(),
            "42P01"
        );
        assert_eq!(c.query(&read, &[&2i32]).await.unwrap().len(), 1);
        // More statements than one server connection keeps.
        let mut all = Vec::new();
        for i in 0..300 {
            all.push(c.prepare(&format!("SELECT {i}")).await.unwrap());
        }
        for (i, statement) in all.iter().enumerate() {
            assert_eq!(c.query_one(statement, &[]).await.unwrap().get::<_, i32>(0), i as i32);
        }
    });
}

fn session_state_pins(w: &World) {
    let pinned = w.stats().counts["pinned"];
    w.run(async |c| {
        c.batch_execute("CREATE TEMP TABLE mine_alone(n int)").await.unwrap();
        c.batch_execute("INSERT INTO mine_alone VALUES (1)").await.unwrap();
        c.batch_execute("SET statement_timeout = '77s'").await.unwrap();
        let backend = "SELECT pg_backend_pid()";
        let mine: i32 = c.query_one(backend, &[]).await.unwrap().get(0);
        for _ in 0..20 {
            assert_eq!(c.query_one("SELECT n FROM mine_alone", &[]).await.unwrap().get::<_, i32>(0), 1);
            let row = c.query_one("SHOW statement_timeout", &[]).await.unwrap();
            assert_eq!(row.get::<_, String>(0), "77s");
            // In a transaction that may write others are on the primary, as this one is.
            let other = w.ann(&format!("BEGIN; SHOW statement_timeout; {backend} <> {mine}; COMMIT"));
            assert_eq!(other, "0\nt", "no session gets the connection of a pinned one");
        }
    });
    assert_eq!(w.stats().counts["pinned"], pinned + 1);
    let other = || w.ann("BEGIN; SHOW statement_timeout; SHOW work_mem; COMMIT");
    for _ in 0..10 {
        assert_eq!(other(), "0\n4MB", "nor does one get it afterwards");
    }
    w.run(async |c| {
        c.batch_execute("SET work_mem = '5MB'").await.unwrap();
        c.batch_execute("DISCARD ALL").await.unwrap();
        for _ in 0..10 {
            c.batch_execute("BEGIN").await.unwrap();
            let row = c.query_one("SHOW work_mem", &[]).await.unwrap();
            assert_eq!(row.get::<_, String>(0), "4MB");
            c.batch_execute("COMMIT").await.unwrap();
            assert_eq!(other(), "0\n4MB");
        }
    });
}

fn listen_hears(w: &World) {
    let mut listener = psql_command(w.port(), "ann", "shop");
    let mut child = listener.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut say, mut hear) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    say.write_all(b"LISTEN door;\nSELECT 'listening';\n").unwrap();
    let mut text = String::new();
    hear.read_line(&mut text).unwrap();
    assert_eq!(text, "listening\n");
    w.ann("NOTIFY door, 'knock'");
    say.write_all(b"SELECT 1;\n").unwrap();
    drop(say);
    hear.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success() && text.contains("knock"), "{text}");
}

fn cancel_reaches(w: &World) {
    w.run(async |c| {
        let token = c.cancel_token();
        let sleep = c.batch_execute("SELECT pg_sleep(20)");
        let cancel = async {
            let runs = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ann' AND state = 'active' AND query LIKE 'SELECT pg_sleep%'";
            eventually_async("it sleeps", async || w.primary.sql(runs) == "1").await;
            token.cancel_query(tokio_postgres::NoTls).await.unwrap();
        };
        let (slept, ()) = tokio::join!(sleep, cancel);
        assert_eq!(slept.unwrap_err().code().unwrap().code(), "57014");
        assert_eq!(c.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
    });
}

fn large_things_pass(w: &World) {
    // 60 MB of rows, one row of 20 MB, a statement of 3 MB, COPY out and in.
    assert_eq!(w.ann("SELECT repeat('x', 600) FROM generate_series(1, 100000)").len(), 601 * 100_000 - 1);
    assert_eq!(w.ann("SELECT repeat('x', 20000000)").len(), 20_000_000);
    let long = format!("SELECT length('{}')", "y".repeat(3_000_000));
    let file = w.folder.path().join("long.sql");
    std::fs::write(&file, long).unwrap();
    let mut psql = psql_command(w.port(), "ann", "shop");
    psql.arg("-f").arg(&file);
    assert_eq!(String::from_utf8(done(psql).stdout).unwrap().trim(), "3000000");
    w.run(async |c| {
        let big = "z".repeat(30_000_000);
        let row = c.query_one("SELECT length($1::text)", &[&big]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 30_000_000);
    });
    let data = w.folder.path().join("data.copy");
    let copy = |what: &str| {
        let mut psql = psql_command(w.port(), "ann", "shop");
        psql.arg("-c").arg(format!("\\copy {what} '{}'", data.display()));
        done(psql);
    };
    w.ann("CREATE TABLE copied(a int, b text)");
    copy("(SELECT i, repeat('c', 100) FROM generate_series(1, 50000) i) TO");
    copy("copied FROM");
    assert_eq!(w.ann("BEGIN; SELECT count(*) FROM copied; COMMIT"), "50000");
}

fn logins_are_checked(w: &World) {
    let fail = |user: &str, database: &str, password: &str| {
        let mut psql = psql_command(w.port(), user, database);
        let output = psql.env("PGPASSWORD", password).args(["-c", "SELECT 1"]).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(fail("ann", "shop", "wrong").contains("password authentication failed for user \"ann\""));
    assert!(fail("nobody", "shop", PASSWORD).contains("password authentication failed for user \"nobody\""));
    assert!(fail("ann", "nowhere", PASSWORD).contains("database \"nowhere\" does not exist"));
    w.primary.sql("ALTER ROLE ann PASSWORD 'other'");
    assert!(fail("ann", "shop", PASSWORD).contains("password authentication failed"));
    w.primary.sql(&format!("ALTER ROLE ann PASSWORD '{PASSWORD}'"));
    w.ann("SELECT 1");
}
