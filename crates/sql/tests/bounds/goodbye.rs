//! Clients that say goodbye and close at once: what they sent before is done.

use super::common::{eventually, psql};
use super::raw::{message, query};
use super::{World, sleep};

pub fn what_was_sent_before_it_is_done(w: &World) {
    let mut session = w.connect();
    session.send(&query("CREATE TABLE last_words(n int)"));
    assert_eq!(session.tags(), "CZI");
    let insert = query("INSERT INTO last_words VALUES (1)");
    session.send(&[&insert[..], &message(b'X', b"")].concat());
    let mut session = w.connect();
    session.send(&query("BEGIN"));
    assert_eq!(session.tags(), "CZT");
    session.send(&[&insert[..], &query("COMMIT"), &message(b'X', b"")].concat());
    let count = || psql(w.primary.port, "ann", "shop", "SELECT count(*) FROM last_words");
    eventually("both were done", || count() == "2");

    // Nor need the client be there any more: not while its statement waits for a connection,
    drop(session);
    w.is_empty();
    let (mut first, mut second) = (w.connect(), w.connect());
    first.send(&query("BEGIN"));
    assert_eq!(first.tags(), "CZT");
    let waits = w.count("pool_waits");
    second.send(&[&insert[..], &message(b'X', b"")].concat());
    drop(second);
    eventually("it waits", || w.count("pool_waits") == waits + 1);
    first.send(&query("COMMIT"));
    assert_eq!(first.tags(), "CZI");
    eventually("it was done", || count() == "3");
    drop(first);
    // and not while the server is busy, whose answers nobody reads.
    let mut session = w.connect();
    let one = [query("SELECT pg_sleep(0.1)"), insert].concat();
    session.send(&[query("BEGIN"), one.repeat(3), query("COMMIT"), message(b'X', b"")].concat());
    drop(session);
    eventually("all was done", || count() == "6");
    assert_eq!(w.count("goodbyes_cut"), 0);
    one_that_takes_too_long_is_cut(w);
}

fn one_that_takes_too_long_is_cut(w: &World) {
    let mut session = w.connect();
    sleep(w, &mut session);
    session.send(&message(b'X', b""));
    drop(session);
    eventually("it is not waited for any longer", || w.count("goodbyes_cut") == 1);
    w.is_empty();
    w.primary
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'");
}
