//! Steps about a cluster that changes: no primary, another one, broken connections, the end of the router.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tiebeam_sql::View;

use super::{World, target};
use crate::common::eventually_async;

pub fn writes_are_held(w: &World) {
    let now = w.now();
    w.run(async |c| {
        c.batch_execute("CREATE TABLE held(n int)").await.unwrap();
        w.publish(View { primary: None, ..now.clone() }).await;
        let back = async {
            eventually_async("the write waits", async || w.stats().waiting == 1).await;
            w.publish(View { epoch: now.epoch.next(), ..now.clone() }).await;
        };
        let (held, ()) = tokio::join!(c.batch_execute("INSERT INTO held VALUES (1)"), back);
        held.unwrap();
        assert_eq!(c.query_one("SELECT count(*) FROM held", &[]).await.unwrap().get::<_, i64>(0), 1);
    });
}

pub fn a_full_queue_refuses(w: &World) {
    let now = w.now();
    w.runtime().block_on(async {
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(w.connect().await.0);
        }
        w.publish(View { primary: None, ..now.clone() }).await;
        let mut writers = Vec::new();
        for client in clients.split_off(1) {
            writers
                .push(tokio::spawn(async move { client.batch_execute("INSERT INTO held VALUES (2)").await }));
        }
        eventually_async("four wait", async || w.stats().waiting == 4).await;
        let refused = clients[0].batch_execute("INSERT INTO held VALUES (3)").await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "53300");
        w.publish(View { epoch: now.epoch.next(), ..now }).await;
        for writer in writers {
            writer.await.unwrap().unwrap();
        }
    });
    assert_eq!(w.ann("BEGIN; SELECT count(*) FROM held; COMMIT"), "5");
}

/// A server that lets everyone connect and never answers; it tells what clients of ours it had.
struct Deaf {
    address: SocketAddr,
    heard: mpsc::Receiver<()>,
}

impl Deaf {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (say, heard) = mpsc::channel();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut start = [0; 64];
                let n = stream.read(&mut start).unwrap_or(0);
                kept.push(stream);
                let ours = start[..n].windows(9).any(|part| part == b"user\0ann\0");
                if ours && say.send(()).is_err() {
                    return;
                }
            }
        });
        Self { address, heard }
    }
}

pub fn a_primary_that_hangs_is_left_for_the_next(w: &World) {
    let now = w.now();
    let deaf = Deaf::new();
    w.run(async |c| {
        c.batch_execute("CREATE TABLE waited(n int)").await.unwrap();
        let hung = View { epoch: now.epoch.next(), primary: Some(target("c", deaf.address)), ..now.clone() };
        w.publish(hung).await;
        let start = Instant::now();
        let back = async {
            eventually_async("the router is at the door", async || deaf.heard.try_recv().is_ok()).await;
            w.publish(View { epoch: now.epoch.next().next(), ..now.clone() }).await;
            start.elapsed()
        };
        let (written, back) = tokio::join!(c.batch_execute("INSERT INTO waited VALUES (1)"), back);
        written.unwrap();
        let late = start.elapsed() - back;
        assert!(late < Duration::from_secs(1), "{late:?} after the primary came back");
        assert_eq!(c.query_one("SELECT count(*) FROM waited", &[]).await.unwrap().get::<_, i64>(0), 1);
    });
}

pub fn a_replica_that_hangs_is_left(w: &World) {
    let now = w.now();
    w.run(async |c| {
        // One that only lost its stream goes on to be used.
        w.begin_on_replica(c).await;
        w.publish(View { replicas: Vec::new(), epoch: now.epoch.next(), ..now.clone() }).await;
        tokio::time::sleep(w.hold() + Duration::from_secs(1)).await;
        c.batch_execute("SELECT 1").await.unwrap();
        c.batch_execute("COMMIT").await.unwrap();
        w.publish(View { epoch: now.epoch.next(), ..now.clone() }).await;

        w.begin_on_replica(c).await;
        // The client closes its statement by itself; that is over before the server hangs.
        c.batch_execute("SELECT 1").await.unwrap();
        w.replica.signal_all(Signal::STOP);
        let gone = async {
            eventually_async("the read is under way", async || {
                w.stats().servers[&now.replicas[0].node].active > 0
            })
            .await;
            w.publish(View { replicas: Vec::new(), epoch: now.epoch.next().next(), ..now.clone() }).await;
        };
        let (read, ()) = tokio::join!(c.batch_execute("SELECT 1"), gone);
        w.replica.signal_all(Signal::CONT);
        assert_eq!(read.unwrap_err().code().unwrap().code(), "08006");
        c.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(c.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
        w.publish(View { epoch: now.epoch.next().next().next(), ..now }).await;
    });
}

/// Ends the server processes of the user on the primary that run `query` or are in a transaction after it, once there
/// are any.
async fn end_backends(w: &World, query: &str) {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ann' AND state <> 'idle' AND query LIKE '{query}%' AND pg_terminate_backend(pid)"
    );
    eventually_async("the backend was ended", async || w.primary.sql(&sql) != "0").await;
}

pub fn broken_connections_are_told(w: &World) {
    w.ann("CREATE TABLE once(n int)");
    let before = w.stats().counts;
    let since = |name: &str| w.stats().counts[name] - before[name];
    w.run(async |c| {
        let write = "INSERT INTO once SELECT 1 FROM pg_sleep(20)";
        let (written, ()) = tokio::join!(c.batch_execute(write), end_backends(w, "INSERT INTO once"));
        assert_eq!(written.unwrap_err().code().unwrap().code(), "08007");
        assert_eq!(c.query_one("SELECT count(*) FROM once", &[]).await.unwrap().get::<_, i64>(0), 0);

        c.batch_execute("BEGIN").await.unwrap();
        c.batch_execute("INSERT INTO once VALUES (2)").await.unwrap();
        let (slept, ()) =
            tokio::join!(c.batch_execute("SELECT pg_sleep(20)"), end_backends(w, "SELECT pg_sleep"));
        assert_eq!(slept.unwrap_err().code().unwrap().code(), "08006");
        let late = c.batch_execute("INSERT INTO once VALUES (3)").await.unwrap_err();
        assert_eq!(late.code().unwrap().code(), "25P02", "nothing runs outside of the lost transaction");
        let late = c.execute("INSERT INTO once VALUES ($1)", &[&4i32]).await.unwrap_err();
        assert_eq!(late.code().unwrap().code(), "25P02");
        c.batch_execute("COMMIT").await.unwrap();

        // The connection breaks between two statements: a COMMIT must not look as if it had worked.
        c.batch_execute("BEGIN").await.unwrap();
        c.batch_execute("INSERT INTO once VALUES (5)").await.unwrap();
        end_backends(w, "INSERT INTO once VALUES (5").await;
        eventually_async("the router saw the break", async || since("broken_statements") == 2).await;
        let late = c.batch_execute("COMMIT").await.unwrap_err();
        assert_eq!(late.code().unwrap().code(), "08006");
        assert_eq!(c.query_one("SELECT count(*) FROM once", &[]).await.unwrap().get::<_, i64>(0), 0);
    });
    assert_eq!((since("unknown_outcomes"), since("broken_statements")), (1, 2));
}

/// Last, as the replica is gone then.
pub fn reads_survive_the_replica(w: &World) {
    let pid = std::fs::read_to_string(w.replica.data.join("postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap().parse().unwrap();
    w.caught_up();
    w.run(async |c| {
        let statement = c.prepare("SELECT n FROM tx").await.unwrap();
        for n in 0..200 {
            if n == 50 {
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                rustix::process::kill_process(pid, Signal::QUIT).unwrap();
            }
            assert_eq!(c.query(&statement, &[]).await.unwrap().len(), 2);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

pub fn draining_ends(w: World) {
    let address = w.router.address();
    let runtime = w.runtime();
    runtime.block_on(async {
        let (client, driver) = w.connect().await;
        let (idle, _) = w.connect().await;
        client.batch_execute("BEGIN").await.unwrap();
        let World { router, .. } = w;
        let drained = router.drain(Duration::from_secs(5));
        let finish = async {
            // Who is in no transaction is sent away at once, who is in one may end it.
            eventually_async("it drains", async || idle.is_closed()).await;
            client.batch_execute("COMMIT").await.unwrap();
        };
        tokio::join!(drained, finish);
        let _ = driver.await;
        assert!(client.is_closed());
    });
    assert!(std::net::TcpStream::connect(address).is_err());
}

/// PostgreSQL takes a cancelled wait for a replica for a success with a warning; a failover could lose that commit.
pub fn a_commit_that_no_replica_has_is_no_success(w: &World) {
    w.ann("CREATE TABLE alone(n int)");
    w.primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    w.primary.sql("SELECT pg_reload_conf()");
    let unknown = w.stats().counts["unknown_outcomes"];
    w.run(async |c| {
        let token = c.cancel_token();
        let cancel = async || {
            let waits =
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ann' AND wait_event = 'SyncRep'";
            eventually_async("the commit waits", async || w.primary.sql(waits) == "1").await;
            token.cancel_query(tokio_postgres::NoTls).await.unwrap();
        };
        let (simple, ()) = tokio::join!(c.batch_execute("INSERT INTO alone VALUES (1)"), cancel());
        assert_eq!(simple.unwrap_err().code().unwrap().code(), "08007");
        let (extended, ()) = tokio::join!(c.execute("INSERT INTO alone VALUES ($1)", &[&2i32]), cancel());
        assert_eq!(extended.unwrap_err().code().unwrap().code(), "08007");
        // A client that was told so sends no data for what follows.
        let copy = "BEGIN; INSERT INTO alone VALUES (3); COMMIT; COPY alone FROM STDIN";
        let (copied, ()) = tokio::join!(c.batch_execute(copy), cancel());
        assert_eq!(copied.unwrap_err().code().unwrap().code(), "08007");
        w.primary.sql("ALTER SYSTEM RESET synchronous_standby_names");
        w.primary.sql("SELECT pg_reload_conf()");
        c.batch_execute("INSERT INTO alone VALUES (4)").await.unwrap();
        assert_eq!(c.query_one("SELECT count(*) FROM alone", &[]).await.unwrap().get::<_, i64>(0), 4);
    });
    assert_eq!(w.stats().counts["unknown_outcomes"], unknown + 3);
}
