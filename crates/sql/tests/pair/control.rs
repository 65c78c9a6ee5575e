//! Steps about what the router asks for itself: it trusts no database, and a server that hangs holds nobody up.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use tiebeam_sql::View;

use super::{World, target};
use crate::common::{eventually, psql};

/// Overloads that fit the router's questions better than PostgreSQL's own, first in the `search_path`.
const TRAPS: &str = "
    CREATE TABLE caught(who text);
    CREATE FUNCTION trap(oid, int) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO caught VALUES (session_user); RETURN true; END $$;
    CREATE FUNCTION trap(\"char\", text) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO caught VALUES (session_user); RETURN true; END $$;
    CREATE OPERATOR >= (FUNCTION = trap, LEFTARG = oid, RIGHTARG = int);
    CREATE OPERATOR <> (FUNCTION = trap, LEFTARG = oid, RIGHTARG = int);
    CREATE OPERATOR = (FUNCTION = trap, LEFTARG = \"char\", RIGHTARG = text);
    CREATE FUNCTION concat_ws(text, bigint, numeric) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO caught VALUES (session_user); RETURN random()::text; END $$";

pub fn a_database_is_not_trusted(w: &World) {
    let direct = |sql: &str| psql(w.primary.port, "ann", "shop", sql);
    direct("ALTER DATABASE shop SET search_path = public, pg_catalog");
    direct("ALTER DATABASE shop SET standard_conforming_strings = off");
    direct(TRAPS);
    // Another view makes the router ask on new connections.
    let runtime = w.runtime();
    let next = || runtime.block_on(w.publish(View { epoch: w.now().epoch.next(), ..w.now() }));
    next();
    let reads = || {
        let stats = w.stats();
        stats.reads_replica + stats.reads_primary.values().sum::<u64>()
    };
    eventually("the router has read the catalog, in which comparisons are not certain now", || {
        let before = reads();
        w.ann("SELECT 1") == "1" && reads() == before
    });
    assert_eq!(direct("SELECT count(*) FROM caught"), "0", "the router called what a client made");
    direct("DROP FUNCTION trap(oid, int) CASCADE; DROP FUNCTION trap(\"char\", text) CASCADE");
    direct("DROP FUNCTION concat_ws(text, bigint, numeric)");
    direct("ALTER DATABASE shop RESET ALL");
    next();
    w.caught_up();
    eventually("reads are certain again", || {
        let before = w.stats().reads_replica;
        w.ann("SELECT 1") == "1" && w.stats().reads_replica > before
    });
}

pub fn a_primary_that_hangs_holds_no_login_up(w: &World) {
    // The system accepts for it; nobody answers.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let before = w.now();
    let hung = View { primary: Some(target("c", deaf.local_addr().unwrap())), ..before.clone() };
    let runtime = w.runtime();
    runtime.block_on(w.publish(hung));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(w.ann("SELECT 1"), "1"));
        }
    });
    // Each waits for a server less long than a statement is held; they do not wait one after another.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    runtime.block_on(w.publish(View { epoch: before.epoch.next(), ..before }));
}
