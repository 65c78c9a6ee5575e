//! A read whose connection breaks: repeated if a replica had it, as that cannot have written, and else never.

use super::World;
use super::common::{Postgres, caught_up, eventually};
use super::raw::query;

/// A second or two of work that is certain to read.
const LONG_READ: &str = "SELECT count(*) FROM generate_series(1, 10000000)";

pub fn only_what_a_replica_had(w: &World) {
    caught_up(&w.primary, &w.replica);
    let repeated = w.count("reads_repeated");
    let mut session = w.connect();
    session.send(&query(LONG_READ));
    end_its_backend(&w.replica);
    assert_eq!(session.tags(), "TDCZI");
    assert_eq!(w.count("reads_repeated"), repeated + 1);

    let now = (**w.view.borrow()).clone();
    w.publish(tiebeam_sql::View { replicas: Vec::new(), ..now.clone() });
    session.send(&query(LONG_READ));
    end_its_backend(&w.primary);
    assert_eq!(session.error(), "08006");
    assert_eq!((session.tags(), w.count("reads_repeated")), ("ZI".to_owned(), repeated + 1));
    w.publish(now);
}

fn end_its_backend(server: &Postgres) {
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE state = 'active' AND query = '{LONG_READ}'"
    );
    eventually("it ran, and was ended", || server.sql(&end) == "1");
}
