//! Each bound of the router, reached: by clients that are too many, too slow, too large or too quick. One worker and one
//! connection to each server, so that little is enough.
//!
//! One test function, as starting PostgreSQL takes longer than using it; each step names itself before it runs.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod goodbye;
mod raw;
mod repeats;

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Folder, PASSWORD, Postgres, caught_up, eventually, psql_command, publish};
use raw::{Raw, SYNC, cancel, close, execute, message, parse, query, refused};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tiebeam_sql::{Router, Secret, ServerLogin, Settings, Target, View};
use tiebeam_topology::{Epoch, Reads};
use tokio::sync::watch;

/// As in `src/worker.rs`.
const LOGGING_IN_MAX: usize = 512;
const LATE_MAX: usize = 64;
/// As in `src/prepared.rs`.
const NAMES_MAX: usize = 10_000;
/// As in `src/session/sequences.rs`.
const FORGET_TIME: Duration = Duration::from_secs(2);
/// As in `src/session/exchange.rs`.
const QUEUE_MAX: usize = 16 * 1024;
/// What the system keeps for two sockets whose peers do not read, and then some; bytes.
const SYSTEM_BYTES_MAX: usize = 64 * 1024 * 1024;
const CLIENTS: usize = 4;

struct World {
    primary: Postgres,
    replica: Postgres,
    router: Router,
    view: watch::Sender<Arc<View>>,
    _folder: Folder,
}

impl World {
    fn new() -> Self {
        let folder = Folder::new();
        let hba =
            "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n";
        let primary = Postgres::primary(&folder, "", hba);
        primary.sql(&format!("CREATE ROLE ann LOGIN PASSWORD '{PASSWORD}'"));
        primary.sql("CREATE DATABASE shop OWNER ann");
        let replica = Postgres::replica(&folder, &primary, "replica");
        caught_up(&primary, &replica);
        let target =
            |name: &str, address| Target { node: name.parse().unwrap(), address, identity: String::new() };
        let (view, seen) = watch::channel(Arc::new(View {
            epoch: Epoch(1),
            primary: Some(target("a", primary.address())),
            replicas: vec![target("b", replica.address())],
        }));
        let login =
            ServerLogin::PassThrough { user: "postgres".into(), password: Some(Secret::new(PASSWORD)) };
        let settings = Settings {
            node: "a".parse().unwrap(),
            listen: "127.0.0.1:0".parse().unwrap(),
            workers: 1,
            hold: Duration::from_secs(4),
            hold_queue: 4,
            fresh_wait: Duration::from_millis(100),
            pool_size: 1,
            clients: CLIENTS,
            reads: Reads::Replicas,
            login,
        };
        let router = Router::start(settings, seen).unwrap();
        Self { primary, replica, router, view, _folder: folder }
    }

    fn address(&self) -> SocketAddr {
        self.router.address()
    }

    fn connect(&self) -> Raw {
        Raw::connect(self.address())
    }

    fn count(&self, name: &str) -> u64 {
        self.router.stats().counts[name]
    }

    /// The sessions of the step before have ended.
    fn is_empty(&self) {
        eventually("all sessions ended", || self.router.stats().clients == 0);
    }

    fn publish(&self, view: View) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(publish(&self.router, &self.view, view));
    }
}

type Step = fn(&World);

#[test]
fn each_is_reached() {
    let world = World::new();
    let steps: &[(&str, Step)] = &[
        ("clients", so_many_clients),
        ("logins", so_many_logins),
        ("cancel", only_who_knows_the_secret_cancels),
        ("cancel while held", what_waits_for_a_primary_is_cancelled),
        ("pool", who_waits_for_a_connection),
        ("pool of a replica", a_read_does_not_wait_long_for_a_replica),
        ("names", so_many_names),
        ("queue", so_many_answers_awaited),
        ("output", who_does_not_read_is_not_read_from),
        ("repeats", repeats::only_what_a_replica_had),
        ("goodbye", goodbye::what_was_sent_before_it_is_done),
        ("COPY", copy_in_one_go_and_copy_that_fails),
        ("sequences", what_does_not_forget_sequences_is_left),
        ("large Parse", a_large_parse_comes_in_pieces),
        ("databases", a_dropped_database_is_forgotten),
        ("catalog", a_catalog_that_cannot_be_read_is_doubted),
    ];
    for (name, step) in steps {
        let start = Instant::now();
        step(&world);
        world.is_empty();
        println!("step: {name}: {} ms", start.elapsed().as_millis());
    }
}

fn so_many_clients(w: &World) {
    // Who has not logged in takes nobody's place.
    let silent: Vec<_> = (0..3 * CLIENTS).map(|_| TcpStream::connect(w.address()).unwrap()).collect();
    let sessions: Vec<_> = (0..CLIENTS).map(|_| w.connect()).collect();
    let before = w.count("clients_refused");
    assert!(refused(w.address()).contains("53300"));
    assert_eq!(w.count("clients_refused"), before + 1);
    drop(sessions);
    w.is_empty();
    drop(w.connect());
    drop(silent);
}

/// Runs a statement that only a cancel ends. PostgreSQL forgets one that comes before the statement does.
fn sleep(w: &World, session: &mut Raw) {
    session.send(&query("SELECT pg_sleep(60)"));
    let asleep =
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'";
    eventually("it sleeps", || w.primary.sql(asleep) == "1");
}

fn so_many_logins(w: &World) {
    // Each has two ends in this process.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let mut session = w.connect();
    sleep(w, &mut session);
    let silent: Vec<_> = (0..LOGGING_IN_MAX).map(|_| TcpStream::connect(w.address()).unwrap()).collect();
    eventually("all login slots are taken", || {
        refused(w.address()).contains("too many clients are logging in")
    });
    // A cancel is heard all the same.
    cancel(w.address(), session.key);
    assert_eq!(session.error(), "57014");
    let before = w.count("clients_refused");
    let late: Vec<_> = (0..2 * LATE_MAX).map(|_| TcpStream::connect(w.address()).unwrap()).collect();
    eventually("those beyond are not even heard", || w.count("clients_refused") >= before + LATE_MAX as u64);
    drop((silent, late));
    eventually("there is room again", || refused(w.address()).starts_with('R'));
}

fn only_who_knows_the_secret_cancels(w: &World) {
    let mut session = w.connect();
    sleep(w, &mut session);
    let before = w.count("cancels");
    let mut wrong = session.key;
    wrong[7] ^= 1;
    cancel(w.address(), wrong);
    // The worker takes one after the other: when the right one has worked, the wrong one was looked at.
    cancel(w.address(), session.key);
    assert_eq!(session.error(), "57014");
    assert_eq!(w.count("cancels"), before + 1);
    assert_eq!(session.tags(), "ZI");
}

fn what_waits_for_a_primary_is_cancelled(w: &World) {
    let now = (**w.view.borrow()).clone();
    let mut session = w.connect();
    w.publish(View { primary: None, ..now.clone() });
    session.send(&query("CREATE TABLE never(n int)"));
    eventually("it waits", || w.router.stats().waiting == 1);
    cancel(w.address(), session.key);
    assert_eq!(session.error(), "57014");
    assert_eq!((session.tags(), w.router.stats().waiting), ("ZI".to_owned(), 0));
    w.publish(now);
    session.send(&query("SELECT * FROM never FOR UPDATE"));
    assert_eq!(session.error(), "42P01", "nothing of it was done");
}

fn who_waits_for_a_connection(w: &World) {
    let (mut first, mut second) = (w.connect(), w.connect());
    first.send(&query("BEGIN"));
    assert_eq!(first.tags(), "CZT");
    let before = w.count("pool_waits");
    second.send(&query("CREATE TABLE pooled(n int)"));
    eventually("it waits", || w.count("pool_waits") == before + 1);
    first.send(&query("COMMIT"));
    assert_eq!(first.tags(), "CZI");
    assert_eq!(second.tags(), "CZI");
}

const PORT: &str = "SELECT current_setting('port')";

/// The session gets the replica's only connection.
fn begin_on_replica(w: &World, session: &mut Raw) {
    eventually("it has the replica's only connection", || {
        session.send(&query("BEGIN READ ONLY"));
        assert_eq!(session.tags(), "CZT");
        session.send(&query(PORT));
        assert_eq!(session.next().0, b'T');
        let here = session.next().1.ends_with(w.replica.port.to_string().as_bytes());
        assert_eq!(session.tags(), "CZT");
        if !here {
            session.send(&query("ROLLBACK"));
            assert_eq!(session.tags(), "CZI");
        }
        here
    });
}

fn a_read_does_not_wait_long_for_a_replica(w: &World) {
    let (mut first, mut second) = (w.connect(), w.connect());
    begin_on_replica(w, &mut first);
    let before = w.count("pool_timeouts");
    let start = Instant::now();
    eventually("a read waited in vain for it", || {
        second.send(&query(PORT));
        assert_eq!(second.next().0, b'T');
        assert!(second.next().1.ends_with(w.primary.port.to_string().as_bytes()));
        assert_eq!(second.tags(), "CZI");
        w.count("pool_timeouts") > before
    });
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    first.send(&query("COMMIT"));
    assert_eq!(first.tags(), "CZI");
}

fn so_many_names(w: &World) {
    let mut session = w.connect();
    let all: Vec<u8> = (0..NAMES_MAX).flat_map(|n| parse(&format!("n{n}"), "SELECT 1")).collect();
    session.send(&all);
    session.send(SYNC);
    assert_eq!(session.tags(), "1".repeat(NAMES_MAX) + "ZI");
    session.send(&[&close("n7")[..], &parse("other", "SELECT 1"), SYNC].concat());
    assert_eq!(session.tags(), "31ZI");
    session.send(&parse("more", "SELECT 1"));
    assert_eq!(session.error(), "54000");
    assert_eq!(w.count("names_refused"), 1);
}

fn so_many_answers_awaited(w: &World) {
    let mut session = w.connect();
    session.send(&query("SELECT pg_sleep(0.3)"));
    let count = 3 * QUEUE_MAX;
    session.send(&SYNC.repeat(count));
    assert_eq!(session.tags(), "TDCZI");
    for _ in 0..count {
        assert_eq!(session.next().0, b'Z');
    }
    assert!(w.count("pipelines_full") > 0);
    a_large_message_is_whole_at_a_full_queue(w);
}

/// What asks a server for its answers must not come between two pieces of a message.
fn a_large_message_is_whole_at_a_full_queue(w: &World) {
    const VALUE_BYTES: usize = 300_000;
    let mut session = w.connect();
    let before = w.count("pipelines_full");
    session.send(&query("SELECT pg_sleep(0.5)"));
    // With these and the Bind the queue is full to the one.
    let syncs = QUEUE_MAX - 3;
    session.send(&[parse("", "SELECT length($1::text)"), SYNC.repeat(syncs)].concat());
    let bind = [&[0, 0, 0, 0, 0, 1][..], &(VALUE_BYTES as u32).to_be_bytes(), &[b'x'; VALUE_BYTES], &[0, 0]];
    session.send(&[message(b'B', &bind.concat()), message(b'E', &[0; 5]), SYNC.to_vec()].concat());
    assert_eq!(session.tags(), "TDCZI");
    assert_eq!(session.tags(), "1ZI");
    for _ in 1..syncs {
        assert_eq!(session.next().0, b'Z');
    }
    assert_eq!(session.next().0, b'2');
    assert!(session.next().1.ends_with(VALUE_BYTES.to_string().as_bytes()));
    assert_eq!(session.tags(), "CZI");
    assert!(w.count("pipelines_full") > before);
}

fn who_does_not_read_is_not_read_from(w: &World) {
    let mut session = w.connect();
    // The connection has the statement under the session's other name: each pair is answered by the router itself.
    session.send(&query("BEGIN"));
    assert_eq!(session.tags(), "CZT");
    session.send(&[&parse("kept", "SELECT 1")[..], SYNC].concat());
    assert_eq!(session.tags(), "1ZT");
    let pair = [parse("s", "SELECT 1"), close("s")].concat();
    let all = pair.repeat(8 * SYSTEM_BYTES_MAX / pair.len());
    let sent = session.send_until_stalled(&all);
    assert!(sent < all.len(), "the router took {sent} bytes without an answer being read");
    // Nothing is lost: each that was sent is answered.
    let whole = sent.div_ceil(pair.len()) * pair.len();
    let mut rest = session.stream.try_clone().unwrap();
    let tail = [&all[sent..whole], SYNC].concat();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut rest, &tail).unwrap());
    for _ in 0..whole / pair.len() {
        assert_eq!((session.next().0, session.next().0), (b'1', b'3'));
    }
    assert_eq!(session.tags(), "ZT");
    writer.join().unwrap();
}

fn copy_in_one_go_and_copy_that_fails(w: &World) {
    let mut session = w.connect();
    session.send(&query("CREATE TABLE copied(n int)"));
    assert_eq!(session.tags(), "CZI");
    let copy = [parse("", "COPY copied FROM STDIN"), execute()].concat();
    let (data, done, fail) = (message(b'd', b"7\n"), message(b'c', b""), message(b'f', b"no\0"));
    session.send(&[&copy[..], &data, &done, SYNC].concat());
    assert_eq!(session.tags(), "12GCZI");
    session.send(&[&copy[..], &data, &fail, SYNC].concat());
    assert_eq!(session.tags(), "12GEZI");
    session.send(&query("COPY copied FROM STDIN"));
    assert_eq!(session.next().0, b'G');
    session.send(&[&data[..], &fail].concat());
    assert_eq!(session.error(), "57014");
    assert_eq!(session.tags(), "ZI");
    session.send(&query("BEGIN; SELECT sum(n) FROM copied; COMMIT"));
    let row = std::iter::from_fn(|| Some(session.next())).find(|(tag, _)| *tag == b'D').unwrap();
    assert!(row.1.ends_with(b"7"));
    session.tags();
}

fn what_does_not_forget_sequences_is_left(w: &World) {
    // The connection that is used first stands before the server stops.
    let ready = |session: &mut Raw| {
        session.send(&query("BEGIN; COMMIT"));
        assert_eq!(session.tags(), "CCZI");
    };
    let last = query("SELECT lastval()");
    let before = w.count("sequences_kept");
    let mut session = w.connect();
    ready(&mut session);
    w.primary.signal_all(Signal::STOP);
    session.send(&last);
    eventually("it is asked no longer", || w.count("sequences_kept") == before + 1);
    w.primary.signal_all(Signal::CONT);
    assert_eq!(session.error(), "55000", "another connection answers");
    assert_eq!(session.tags(), "ZI");
    drop(session);
    w.is_empty();

    // Another server becomes primary meanwhile, and accepts nothing.
    let now = (**w.view.borrow()).clone();
    let mut session = w.connect();
    ready(&mut session);
    w.primary.signal_all(Signal::STOP);
    session.send(&last);
    eventually("it is asked", || w.router.stats().servers[&now.primary.as_ref().unwrap().node].active == 1);
    let asked = Instant::now();
    let dead = Target { address: ([127, 0, 0, 1], common::free_port()).into(), ..now.replicas[0].clone() };
    let next = Target { node: "c".parse().unwrap(), ..dead };
    w.publish(View { epoch: now.epoch.next(), primary: Some(next), ..now.clone() });
    eventually("it waits for the new one", || w.router.stats().waiting == 1);
    assert!(asked.elapsed() < FORGET_TIME, "{:?}", asked.elapsed());
    assert_eq!(w.count("sequences_kept"), before + 2);
    assert_eq!(session.error(), "57P03");
    assert_eq!(session.tags(), "ZI");
    w.primary.signal_all(Signal::CONT);
    w.publish(View { epoch: now.epoch.next().next(), ..now });
    // Nothing came of it, so it is not pinned, and a replica must not take what only a connection of its own may.
    begin_on_replica(w, &mut session);
    session.send(&query("SET work_mem = '5MB'"));
    assert_eq!(session.error(), "0A000");
}

fn a_large_parse_comes_in_pieces(w: &World) {
    let large = parse("big", &format!("SELECT '{}'", "x".repeat(3_000_000)));
    let (mut session, mut other) = (w.connect(), w.connect());
    session.send(&query("BEGIN"));
    assert_eq!(session.tags(), "CZT");
    for end in [5, 6, 8] {
        session.send(&large[..end]);
        // The one worker has seen the first piece when it has answered what another client sent later.
        other.send(SYNC);
        assert_eq!(other.tags(), "ZI");
        session.send(&[&large[end..], SYNC].concat());
        assert_eq!(session.tags(), "1ZT");
        session.send(&[&close("big")[..], SYNC].concat());
        assert_eq!(session.tags(), "3ZT");
    }
    // While the server skips all up to a Sync, it skips this one, too.
    session.send(&[&parse("", "not SQL")[..], b"H\0\0\0\x04"].concat());
    assert_eq!(session.error(), "42601");
    session.send(&[&large[..], &parse("s", "SELECT 1"), SYNC].concat());
    assert_eq!(session.tags(), "ZE");
    session.send(&query("ROLLBACK"));
    assert_eq!(session.tags(), "CZI");
    session.send(&[&parse("s", "SELECT 2")[..], SYNC].concat());
    assert_eq!(session.tags(), "1ZI");
}

/// A session of a database, by psql: whether its statement was answered.
fn session_of(w: &World, database: &str, sql: &str) -> bool {
    let mut psql = psql_command(w.address().port(), "ann", database);
    psql.args(["-c", sql]).output().unwrap().status.success()
}

fn a_dropped_database_is_forgotten(w: &World) {
    w.primary.sql("CREATE DATABASE passing OWNER ann");
    assert!(session_of(w, "passing", "CREATE TABLE t(n int)"));
    let log = || std::fs::read_to_string(w.primary.data.join("log.txt")).unwrap();
    let missed = |name: &str| log().matches(&format!("database \"{name}\" does not exist")).count();
    let kept =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'passing' AND application_name = 'tiebeam'";
    eventually("its catalog is kept", || w.primary.sql(kept) == "1");
    w.primary.sql("DROP DATABASE passing WITH (FORCE)");
    eventually("the router looks for it", || missed("passing") > 0);
    // And no more: a name that a client made up is not even looked for once.
    let before = missed("passing");
    assert!(!session_of(w, "nowhere", "SELECT 1"));
    let made_up = missed("nowhere");
    catalogs_were_looked_at(w);
    assert_eq!((missed("passing"), missed("nowhere")), (before, made_up));
}

/// Returns when the router has looked at all catalogs it keeps, from the first to the last.
fn catalogs_were_looked_at(w: &World) {
    for n in 0..2 {
        let made = format!("CREATE FUNCTION looked{n}() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'");
        assert!(session_of(w, "shop", &made));
        eventually("the router knows the function", || {
            let before = w.router.stats().reads_replica;
            session_of(w, "shop", &format!("SELECT looked{n}()")) && w.router.stats().reads_replica > before
        });
    }
}

fn a_catalog_that_cannot_be_read_is_doubted(w: &World) {
    let now = (**w.view.borrow()).clone();
    let mut session = w.connect();
    let read = || query("SELECT 1");
    eventually("it is read from the replica", || {
        let before = w.router.stats().reads_replica;
        session.send(&read());
        assert_eq!(session.tags(), "TDCZI");
        w.router.stats().reads_replica > before
    });
    // Connections that stand go on; the router makes a new one of its own with the next view.
    w.primary.sql("ALTER DATABASE shop ALLOW_CONNECTIONS false");
    caught_up(&w.primary, &w.replica);
    w.publish(View { primary: None, ..now.clone() });
    w.publish(now.clone());
    eventually("the read is certain no more, and the primary refuses it", || {
        session.send(&read());
        session.tags() == "EZI"
    });
    w.primary.sql("ALTER DATABASE shop ALLOW_CONNECTIONS true");
    eventually("it is read from the replica again", || {
        let before = w.router.stats().reads_replica;
        session.send(&read());
        session.tags() == "TDCZI" && w.router.stats().reads_replica > before
    });
}
