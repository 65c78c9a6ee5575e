//! Tests of the conversation with a server: bytes in, bytes out.

mod denied;

use std::rc::Rc;
use std::sync::Arc;

use super::*;
use crate::classify::{Class, Volatility};
use crate::prepared::{PREPARED_MAX, Statements};
use crate::session::batch::Reader;
use crate::wire::head;

/// A session and a server connection, without either's socket.
struct Bench {
    exchange: Exchange,
    names: Names,
    statements: Statements,
    kept: Kept,
    catalog: Arc<Volatility>,
    to_server: BytesMut,
    to_client: BytesMut,
}

impl Bench {
    fn new() -> Self {
        Self {
            exchange: Exchange::default(),
            names: Names::default(),
            statements: Statements::default(),
            kept: Kept::default(),
            catalog: Arc::new(Volatility::builtin()),
            to_server: BytesMut::new(),
            to_client: BytesMut::new(),
        }
    }

    fn client(&mut self, message: &[u8]) -> Option<Class> {
        let mut reader = Reader {
            names: &mut self.names,
            statements: &self.statements,
            catalog: &self.catalog,
            utf8: true,
            may_end: false,
        };
        let (kind, class) = reader.read(message).unwrap();
        self.exchange.send(&kind, message, &mut self.kept, &mut self.to_server);
        self.exchange.give_here(&mut self.to_client);
        class
    }

    /// The tags of what went to the server.
    fn sent(&mut self) -> String {
        tags(&self.to_server.split())
    }

    /// The tags of what the client sees of these messages, whatever way they are cut.
    fn server(&mut self, messages: &[Vec<u8>], cut: usize) -> String {
        let mut input = BytesMut::new();
        for piece in messages.concat().chunks(cut) {
            input.extend_from_slice(piece);
            let Self { exchange, to_client, kept, names, .. } = self;
            assert_eq!(exchange.receive(&mut input, to_client, kept, names, false), Ok(Received::Fine));
        }
        tags(&self.to_client.split())
    }
}

fn tags(mut bytes: &[u8]) -> String {
    let mut tags = String::new();
    while let Some(head) = head(bytes).unwrap() {
        tags.push(head.tag as char);
        bytes = &bytes[head.len..];
    }
    assert!(bytes.is_empty());
    tags
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    build::message(&mut out, tag, |out| out.extend_from_slice(body));
    out.to_vec()
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

fn bind(name: &str) -> Vec<u8> {
    message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes())
}

fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

fn error(code: &str) -> Vec<u8> {
    message(b'E', format!("VERROR\0C{code}\0Mno\0\0").as_bytes())
}

fn simple(tag: u8) -> Vec<u8> {
    message(tag, b"")
}

#[test]
fn a_statement_is_prepared_where_it_is_missing_and_the_client_does_not_see_it() {
    for cut in [1, 3, 1000] {
        let mut b = Bench::new();
        b.client(&parse("s", "select 1"));
        b.client(&sync());
        assert_eq!(b.sent(), "PS");
        assert_eq!(b.server(&[simple(b'1'), ready(b'I')], cut), "1Z");
        // On this connection it is there; on another one it is not.
        b.client(&bind("s"));
        b.client(&execute());
        b.client(&sync());
        assert_eq!(b.sent(), "BES");
        b.exchange.reset();
        b.kept = Kept::default();
        b.client(&bind("s"));
        b.client(&execute());
        b.client(&sync());
        assert_eq!(b.sent(), "PBES");
        let answers =
            [simple(b'1'), simple(b'2'), message(b'D', &[0; 300]), message(b'C', b"SELECT 1\0"), ready(b'I')];
        assert_eq!(b.server(&answers, cut), "2DCZ");
        assert!(b.exchange.is_idle());
    }
}

/// A session that has prepared `s`, on a connection that has it.
fn prepared() -> Bench {
    let mut b = Bench::new();
    b.client(&parse("s", "select 1"));
    b.client(&sync());
    assert_eq!(b.server(&[simple(b'1'), ready(b'I')], 1000), "1Z");
    b.sent();
    b
}

fn close(name: &str) -> Vec<u8> {
    message(b'C', format!("S{name}\0").as_bytes())
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

#[test]
fn a_close_that_is_skipped_closes_nothing() {
    let mut b = prepared();
    let of = |b: &Bench| b.names.get(b"s").map(|statement| statement.query().to_vec());
    for messages in
        [vec![parse("", "wrong"), close("s")], vec![parse("", "wrong"), close("s"), parse("s", "select 2")]]
    {
        for message in &messages {
            b.client(message);
        }
        b.client(&sync());
        assert_eq!(b.server(&[error("42601"), ready(b'I')], 1000), "EZ");
        assert_eq!(of(&b).as_deref(), Some(&b"select 1"[..]));
    }
    b.client(&close("s"));
    b.client(&sync());
    assert_eq!(b.server(&[ready(b'I')], 1000), "3Z");
    assert_eq!(of(&b), None);
}

#[test]
fn a_query_ends_what_has_no_sync() {
    let mut b = prepared();
    b.client(&bind("s"));
    b.client(&query("select 2"));
    assert!(!b.exchange.is_idle());
    let answers = [simple(b'2'), message(b'C', b"SELECT 1\0"), ready(b'I')];
    assert_eq!(b.server(&answers, 1000), "2CZ");
    assert!(b.exchange.is_idle());
    // After an error the server skips the query, too, and waits for a Sync.
    b.client(&bind("s"));
    b.client(&query("select 2"));
    assert_eq!(b.server(&[error("22P02")], 1000), "E");
    assert!(!b.exchange.is_idle() && b.exchange.is_skipping());
    b.client(&sync());
    assert_eq!(b.server(&[ready(b'I')], 1000), "Z");
    assert!(b.exchange.is_idle());
    // What is deallocated here must not be told before what came before it is done.
    b.sent();
    b.client(&bind("s"));
    b.client(&query("DEALLOCATE s"));
    assert_eq!((b.sent().as_str(), b.to_client.len()), ("BS", 0));
    assert_eq!(b.server(&[simple(b'2'), ready(b'I')], 1000), "2CZ");
}

#[test]
fn discard_all_counts_when_it_is_done() {
    let mut b = prepared();
    b.client(&parse("", "DISCARD ALL"));
    b.client(&bind(""));
    b.client(&execute());
    b.client(&sync());
    assert_eq!(b.server(&[simple(b'1'), simple(b'2'), error("25001"), ready(b'I')], 1000), "12EZ");
    assert!(b.names.get(b"s").is_some() && !b.exchange.discarded, "it was refused");
    b.client(&bind(""));
    b.client(&execute());
    b.client(&sync());
    let done = [simple(b'2'), message(b'C', b"DISCARD ALL\0"), ready(b'I')];
    assert_eq!(b.server(&done, 1000), "2CZ");
    assert!(b.names.get(b"s").is_none() && b.exchange.discarded);
    b.sent();
    b.client(&parse("s", "select 1"));
    assert_eq!(b.sent(), "P", "the connection has none");
}

#[test]
fn what_makes_room_is_counted() {
    let mut b = Bench::new();
    for n in 0..=PREPARED_MAX {
        b.client(&parse(&format!("s{n}"), &format!("select {n}")));
    }
    assert_eq!(b.exchange.evicted, 1);
}

#[test]
fn a_queue_is_full_at_its_bound() {
    let mut b = Bench::new();
    for _ in 1..QUEUE_MAX {
        b.client(&sync());
    }
    assert!(!b.exchange.is_full());
    assert!(!b.exchange.press(&mut b.to_server));
    b.client(&sync());
    assert!(b.exchange.is_full());
    b.sent();
    assert!(b.exchange.press(&mut b.to_server) && !b.exchange.press(&mut b.to_server));
    assert_eq!(b.sent(), "H", "the server may hold answers back until it is asked");
    b.server(&[ready(b'I')], 1000);
    assert!(!b.exchange.is_full() && !b.exchange.press(&mut b.to_server));
}

#[test]
fn the_second_session_with_the_same_text_is_answered_here_in_its_turn() {
    let mut b = Bench::new();
    b.client(&parse("s", "select 1"));
    b.client(&sync());
    b.server(&[simple(b'1'), ready(b'I')], 1000);
    b.sent();
    let _first = std::mem::take(&mut b.names);
    b.client(&parse("", "select 2"));
    b.client(&parse("other", "select 1"));
    b.client(&bind("other"));
    b.client(&sync());
    assert_eq!(b.sent(), "PBS");
    assert!(b.to_client.is_empty(), "not before the answer to the first Parse");
    assert_eq!(b.server(&[simple(b'1'), simple(b'2'), ready(b'I')], 2), "112Z");
}

#[test]
fn what_the_server_skips_is_undone() {
    let mut b = Bench::new();
    b.client(&parse("bad", "select nothing"));
    b.client(&parse("after", "select 1"));
    b.client(&bind("after"));
    b.client(&sync());
    b.client(&sync());
    assert_eq!(b.server(&[error("42703"), ready(b'I'), ready(b'I')], 7), "EZZ");
    assert!(b.names.get(b"bad").is_none() && b.names.get(b"after").is_none());
    assert!(b.exchange.is_idle());
    b.sent();
    b.client(&parse("after", "select 1"));
    assert_eq!(b.sent(), "P", "the connection does not have it either");
}

#[test]
fn a_name_taken_twice_is_refused_by_the_server_and_stays() {
    let mut b = Bench::new();
    b.client(&parse("s", "select 1"));
    b.client(&parse("s", "select 2"));
    b.client(&sync());
    assert_eq!(b.sent(), "PPS");
    assert_eq!(b.server(&[simple(b'1'), error("42P05"), ready(b'I')], 1000), "1EZ");
    assert_eq!(&*b.names.get(b"s").map(Rc::clone).unwrap().tail, b"select 1\0\0\0");
}

#[test]
fn copy_ignores_the_sync_that_was_sent_ahead() {
    let mut b = Bench::new();
    b.client(&parse("", "copy t from stdin"));
    b.client(&bind(""));
    b.client(&execute());
    b.client(&sync());
    assert_eq!(b.server(&[simple(b'1'), simple(b'2'), message(b'G', b"\0\0\0")], 1000), "12G");
    b.exchange.send_copy_end();
    b.client(&sync());
    assert_eq!(b.server(&[message(b'C', b"COPY 0\0"), ready(b'I')], 1000), "CZ");
    assert!(b.exchange.is_idle());
}

#[test]
fn a_fatal_error_is_kept_from_a_client_whose_session_goes_on() {
    let mut b = Bench::new();
    b.client(&message(b'Q', b"select 1\0"));
    let farewell = message(b'E', b"VFATAL\0C57P01\0Mterminating\0\0");
    assert_eq!(b.server(&[farewell], 1000), "");
    assert_eq!(b.exchange.farewell.as_ref().map(|e| &*e.code), Some("57P01"));
    assert_eq!(b.exchange.owed_ready(), 1);
    let crash = message(b'N', b"VWARNING\0C57P02\0Mterminating\0\0");
    assert_eq!(b.server(&[crash, message(b'N', b"VNOTICE\0C00000\0Mhello\0\0")], 5), "N");
    assert_eq!(b.exchange.farewell.as_ref().map(|e| &*e.code), Some("57P02"));
}

#[test]
fn a_replica_that_cannot_answer_says_so_before_the_client_sees_anything() {
    let mut b = Bench::new();
    b.client(&message(b'Q', b"select 1\0"));
    let mut input = BytesMut::from(&[message(b'T', b"\0\0"), error("25006")].concat()[..]);
    let Bench { exchange, to_client, kept, names, .. } = &mut b;
    let received = exchange.receive(&mut input, to_client, kept, names, true);
    assert!(matches!(received, Ok(Received::Elsewhere(e)) if e.code == "25006"));
}

#[test]
fn a_server_that_answers_what_was_not_asked_is_found_out() {
    let mut b = Bench::new();
    let mut input = BytesMut::from(&ready(b'I')[..]);
    let Bench { exchange, to_client, kept, names, .. } = &mut b;
    assert!(exchange.receive(&mut input, to_client, kept, names, false).is_err());
}

#[test]
fn names_of_the_router_are_nobody_elses() {
    let mut b = Bench::new();
    b.client(&bind("_tiebeam_0"));
    let sent = b.to_server.split();
    assert_eq!(front::bind(&sent[HEAD_BYTES..]).unwrap().1, b"_tiebeam_0?");
}

#[test]
fn a_name_whose_parse_was_lost_with_the_connection_is_free() {
    let mut b = Bench::new();
    b.client(&parse("done", "select 1"));
    b.client(&sync());
    b.server(&[simple(b'1'), ready(b'I')], 1000);
    b.client(&parse("lost", "select 2"));
    b.client(&sync());
    b.exchange.abandon(&mut b.names);
    assert!(b.exchange.is_idle());
    assert!(b.names.get(b"done").is_some());
    assert!(b.names.get(b"lost").is_none(), "or the driver's second try would be refused");
}

#[test]
fn a_deallocate_is_answered_here_in_its_turn() {
    let mut b = Bench::new();
    b.client(&parse("s", "select 1"));
    b.client(&sync());
    b.server(&[simple(b'1'), ready(b'T')], 1000);
    b.sent();
    b.client(&message(b'Q', b"select 2\0"));
    b.client(&message(b'Q', b"DEALLOCATE s\0"));
    assert_eq!(b.sent(), "Q");
    assert_eq!(b.exchange.owed_ready(), 2);
    assert!(b.to_client.is_empty() && b.names.get(b"s").is_none());
    assert_eq!(b.server(&[message(b'C', b"SELECT 1\0"), ready(b'T')], 3), "CZCZ");
    b.client(&message(b'Q', b"select nothing\0"));
    b.client(&message(b'Q', b"DEALLOCATE ALL\0"));
    assert_eq!(b.server(&[error("42703"), ready(b'E')], 1000), "EZEZ", "the transaction has failed");
    // Of a name that the session does not have the server may know more.
    b.sent();
    b.client(&message(b'Q', b"DEALLOCATE s\0"));
    assert_eq!(b.sent(), "Q");
}

#[test]
fn what_is_withheld_is_owed_an_answer() {
    let mut b = Bench::new();
    b.exchange.withhold(front::QUERY);
    assert_eq!((b.exchange.owed_ready(), b.exchange.open), (1, false));
    b.exchange.reset();
    b.exchange.withhold(front::BIND);
    assert_eq!((b.exchange.owed_ready(), b.exchange.open), (0, true));
}

#[test]
fn a_statement_that_does_not_fit_its_table_any_more_is_noticed() {
    let mut b = Bench::new();
    b.client(&message(b'Q', b"select 1\0"));
    let refused = b"VERROR\0C0A000\0Mcached plan must not change result type\0RRevalidateCachedQuery\0\0";
    assert_eq!(b.server(&[message(b'E', refused), ready(b'I')], 1000), "EZ");
    assert!(b.exchange.stale);
}
