//! Steps about prepared statements and about what only the primary can answer.

use super::{World, psql_command};
use crate::common::{PASSWORD, eventually_async};

/// Runs SQL in one session by psql with this environment; the unaligned answers.
pub fn session(w: &World, options: &str, statements: &[&str]) -> Result<String, String> {
    let mut psql = psql_command(w.port(), "ann", "shop");
    psql.env("PGOPTIONS", options);
    for statement in statements {
        psql.args(["-c", statement]);
    }
    let output = psql.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn code(error: tokio_postgres::Error) -> String {
    error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned())
}

pub fn deallocate_is_of_the_session(w: &World) {
    let pinned = w.stats().counts["pinned"];
    w.run(async |c| {
        // tokio-postgres names its statements itself: s0, s1 and so on.
        let kept = c.prepare("SELECT 10").await.unwrap();
        assert_eq!(c.query_one(&kept, &[]).await.unwrap().get::<_, i32>(0), 10);
        c.batch_execute("BEGIN").await.unwrap();
        c.batch_execute("DEALLOCATE ALL").await.unwrap();
        assert_eq!(code(c.query_one(&kept, &[]).await.unwrap_err()), "26000");
        assert_eq!(code(c.batch_execute("DEALLOCATE ALL").await.unwrap_err()), "25P02");
        c.batch_execute("ROLLBACK").await.unwrap();
        for begin in ["", "BEGIN"] {
            c.batch_execute(begin).await.unwrap();
            let error = c.batch_execute("DEALLOCATE nothing").await.unwrap_err();
            assert_eq!(code(error), "26000");
        }
        c.batch_execute("ROLLBACK").await.unwrap();
        // On the connections of the pool all is as before.
        for begin in ["", "BEGIN"] {
            c.batch_execute(begin).await.unwrap();
            let again = c.prepare("SELECT 10").await.unwrap();
            assert_eq!(c.query_one(&again, &[]).await.unwrap().get::<_, i32>(0), 10);
        }
        c.batch_execute("COMMIT").await.unwrap();
    });
    assert_eq!(w.stats().counts["pinned"], pinned);
    w.run(async |c| {
        // A session that is pinned has those that SQL prepared, too.
        c.batch_execute("PREPARE mine AS SELECT 1").await.unwrap();
        let other = c.prepare("SELECT 11").await.unwrap();
        c.batch_execute("DEALLOCATE ALL").await.unwrap();
        assert_eq!(code(c.batch_execute("EXECUTE mine").await.unwrap_err()), "26000");
        assert_eq!(code(c.query_one(&other, &[]).await.unwrap_err()), "26000");
        let again = c.prepare("SELECT 11").await.unwrap();
        assert_eq!(c.query_one(&again, &[]).await.unwrap().get::<_, i32>(0), 11);
    });
}

pub fn a_changed_table_is_prepared_anew(w: &World) {
    w.ann("CREATE TABLE wide(a int); INSERT INTO wide VALUES (1)");
    w.run(async |c| {
        let text = "SELECT * FROM wide FOR UPDATE";
        let old = c.prepare(text).await.unwrap();
        assert_eq!(c.query_one(&old, &[]).await.unwrap().len(), 1);
        // By another way than this router, which then knows of it by the refusal only.
        let mut psql = psql_command(w.primary.port, "ann", "shop");
        assert!(psql.args(["-c", "ALTER TABLE wide ADD b int"]).status().unwrap().success());
        assert_eq!(code(c.query_one(&old, &[]).await.unwrap_err()), "0A000");
        let new = c.prepare(text).await.unwrap();
        assert_eq!(c.query_one(&new, &[]).await.unwrap().len(), 2);
    });
}

pub fn what_a_replica_refuses_the_primary_does(w: &World) {
    w.ann("CREATE UNLOGGED TABLE fast(n int); INSERT INTO fast VALUES (7)");
    assert_eq!(session(w, "", &["INSERT INTO fast VALUES (8)", "SELECT sum(n) FROM fast"]), Ok("15".into()));
    let serializable = "-c default_transaction_isolation=serializable";
    assert_eq!(session(w, serializable, &["SELECT 1"]), Ok("1".into()));
    let whole = &["BEGIN READ ONLY", "SELECT 2", "COMMIT"];
    assert_eq!(session(w, serializable, whole), Ok("2".into()));
    w.primary.sql(&format!("CREATE ROLE bob LOGIN PASSWORD '{PASSWORD}'"));
    w.primary.sql("ALTER ROLE bob SET default_transaction_isolation = serializable");
    w.caught_up();
    for _ in 0..4 {
        let mut psql = psql_command(w.port(), "bob", "shop");
        let output =
            psql.args(["-c", whole[0], "-c", whole[1], "-c", "SHOW transaction_isolation", "-c", whole[2]]);
        let output = output.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "2\nserializable\n");
    }
    // What the primary refuses too is its own error, not one of the connection.
    w.ann("CREATE MATERIALIZED VIEW empty AS SELECT 1 AS n WITH NO DATA");
    w.run(async |c| {
        eventually_async("a replica has the view", async || {
            code(c.query("SELECT n FROM empty", &[]).await.unwrap_err()) == "55000"
        })
        .await;
        assert_eq!(code(c.batch_execute("SELECT n FROM empty").await.unwrap_err()), "55000");
    });
}

pub fn sequences_are_read_where_they_are(w: &World) {
    w.ann("CREATE SEQUENCE steps");
    w.run(async |c| {
        eventually_async("the catalog knows the sequence", async || {
            let before = w.stats().reads_replica;
            let row = c.query_one("SELECT nextval('steps')", &[]).await.unwrap();
            let last = c.query_one("SELECT last_value FROM steps", &[]).await.unwrap();
            w.stats().reads_replica == before && row.get::<_, i64>(0) == last.get::<_, i64>(0)
        })
        .await;
    });
    // What another session took from a sequence is not this one's last value.
    for _ in 0..4 {
        w.ann("SELECT nextval('steps')");
        let error = session(w, "", &["SELECT lastval()"]).unwrap_err();
        assert!(error.contains("lastval is not yet defined in this session"), "{error}");
    }
    let own = session(w, "", &["BEGIN", "SELECT nextval('steps') > 0", "SELECT lastval() > 0", "COMMIT"]);
    assert_eq!(own, Ok("t\nt".into()));
}

pub fn a_pin_in_a_read_only_transaction_is_refused(w: &World) {
    w.run(async |c| {
        for simple in [true, false] {
            w.begin_on_replica(c).await;
            let refused = match simple {
                true => c.batch_execute("SET work_mem = '8MB'").await,
                false => c.execute("SET work_mem = '8MB'", &[]).await.map(drop),
            };
            assert_eq!(code(refused.unwrap_err()), "0A000");
            assert_eq!(code(c.batch_execute("SELECT 1").await.unwrap_err()), "25P02");
            c.batch_execute("ROLLBACK").await.unwrap();
            c.batch_execute("SELECT 1").await.unwrap();
        }
        // Too large to be looked at, which pins.
        w.begin_on_replica(c).await;
        let long = format!("SELECT '{}'", "y".repeat(3_000_000));
        assert_eq!(code(c.batch_execute(&long).await.unwrap_err()), "0A000");
        c.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(c.query_one("SELECT 2", &[]).await.unwrap().get::<_, i32>(0), 2);
    });
}
