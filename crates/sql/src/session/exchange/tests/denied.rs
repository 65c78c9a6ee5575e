//! Tests of commits that are on the primary alone: the client has one error, and then no other word of them.

use super::*;

fn warning() -> Vec<u8> {
    message(b'N', b"VWARNING\0C01000\0Mcanceling wait\0RSyncRepWaitForLSN\0\0")
}

#[test]
fn a_commit_whose_wait_was_cancelled_is_no_success() {
    let row = message(b'D', &[7; 300]);
    // In a simple query the warning comes before the success; rows of what follows are as little of an answer.
    for cut in [1, 7, 1000] {
        let mut b = Bench::new();
        b.client(&message(b'Q', b"insert into t values (1); select 1\0"));
        let done = [message(b'C', b"INSERT 0 1\0"), message(b'T', b"\0\0"), row.clone(), ready(b'I')];
        assert_eq!(b.server(&[&[warning()][..], &done].concat(), cut), "EZ", "{cut}");
        assert!(b.exchange.is_idle());
        assert_eq!(b.exchange.unreplicated, 1);
        b.client(&message(b'Q', b"select 1\0"));
        assert_eq!(b.server(&[row.clone(), message(b'C', b"SELECT 1\0"), ready(b'I')], cut), "DCZ");
    }
    // In the extended protocol it comes at the Sync.
    let mut b = Bench::new();
    b.client(&bind(""));
    b.client(&execute());
    b.client(&sync());
    let answers = [simple(b'2'), message(b'C', b"INSERT 0 1\0"), warning(), ready(b'I')];
    assert_eq!(b.server(&answers, 1000), "2CEZ");
    assert!(b.exchange.is_idle());
}

/// A session whose COMMIT, of these messages, was denied; the client has seen the error.
fn denied(messages: &[Vec<u8>]) -> Bench {
    let mut b = prepared();
    for message in messages {
        b.client(message);
    }
    b.sent();
    let answers: &[_] = if messages[0][0] == b'Q' { &[] } else { &[simple(b'2')] };
    let shown = b.server(&[answers, &[warning()]].concat(), 1000);
    assert!(shown.ends_with('E'), "{shown}");
    b
}

#[test]
fn what_is_answered_here_is_hidden_behind_a_denied_commit() {
    let mut b = denied(&[bind("s"), execute(), parse("t", "select 1"), sync(), parse("u", "select 1")]);
    let done = message(b'C', b"COMMIT\0");
    assert_eq!(b.server(&[done, ready(b'I')], 1000), "Z1", "only what is behind the Sync is told");
    // One that comes in the meantime is as hidden.
    let mut b = denied(&[bind("s"), execute()]);
    assert_eq!(b.server(&[message(b'C', b"COMMIT\0")], 1000), "");
    b.client(&parse("t", "select 1"));
    b.client(&sync());
    assert_eq!(b.server(&[ready(b'I')], 1000), "Z");
    assert!(b.exchange.is_idle());
}

#[test]
fn a_copy_behind_a_denied_commit_ends() {
    let copy_in = || message(b'G', b"\0\0\0");
    let q = || query("commit; copy t from stdin");
    let data = || message(b'd', b"7\n");
    let extended = [bind("s"), execute(), bind("s"), execute()];
    let with = |n: usize| [&extended[..], &vec![sync(); n]].concat();
    // What the client sent until then and sends after it; what the server gets; what the client sees.
    type Case = (Vec<Vec<u8>>, Vec<Vec<u8>>, &'static str, usize);
    let cases: [Case; 5] = [
        (vec![q()], vec![], "f", 1),
        (vec![q()], vec![data(), simple(b'c')], "fdc", 1),
        (with(0), vec![sync()], "fS", 1),
        (with(1), vec![], "fS", 1),
        (with(2), vec![], "fSS", 2),
    ];
    for (before, after, sent, readies) in cases {
        let mut b = denied(&before);
        if before.len() > 1 {
            assert_eq!(b.server(&[message(b'C', b"COMMIT\0"), simple(b'2')], 1000), "");
        }
        assert_eq!(b.server(&[copy_in()], 1000), "");
        assert!(b.exchange.refuse_copy(&mut b.to_server) && !b.exchange.refuse_copy(&mut b.to_server));
        for message in &after {
            match message[0] {
                front::COPY_DATA => b.to_server.extend_from_slice(message),
                front::COPY_DONE => {
                    b.exchange.send_copy_end();
                    b.to_server.extend_from_slice(message);
                }
                _ => drop(b.client(message)),
            }
        }
        assert_eq!(b.sent(), sent);
        let answers = [vec![error("57014")], vec![ready(b'I'); readies]].concat();
        assert_eq!(b.server(&answers, 1000), "Z".repeat(readies), "{sent}");
        assert!(b.exchange.is_idle(), "{sent}");
    }
    // Data that was sent ahead with its end needs no other.
    let mut b = prepared();
    b.client(&q());
    b.exchange.send_copy_end();
    assert_eq!(b.server(&[warning(), copy_in()], 1000), "E");
    assert!(!b.exchange.refuse_copy(&mut b.to_server));
    assert_eq!(b.server(&[message(b'C', b"COPY 1\0"), ready(b'I')], 1000), "Z");
    // Nor does one of a client that was told no error.
    b.client(&query("copy t from stdin"));
    assert_eq!(b.server(&[copy_in()], 1000), "G");
    assert!(!b.exchange.refuse_copy(&mut b.to_server));
}

#[test]
fn what_was_denied_has_one_error_even_if_the_connection_breaks() {
    let q = || query("insert into t values (1)");
    let e = || vec![bind("s"), execute()];
    let cases = [
        (vec![q()], "Z", true),
        (vec![q(), q()], "ZEZ", false),
        (e(), "", true),
        ([e(), vec![sync()]].concat(), "Z", true),
        ([e(), vec![sync()], e()].concat(), "ZE", false),
        ([e(), vec![sync(), q()]].concat(), "ZEZ", false),
    ];
    for (messages, answer, told) in cases {
        let mut b = denied(&messages);
        let error = SqlError::error("08006", "broke");
        b.exchange.answer_all(&error, b'I', &mut b.to_client);
        assert_eq!((tags(&b.to_client.split()).as_str(), b.exchange.is_told()), (answer, told));
    }
    // A second warning in one answer is no second error, and what is hidden is no message that the client is in.
    let mut b = denied(&[q()]);
    let row = message(b'D', &[7; 300]);
    let mut input = BytesMut::from(&[warning(), row[..100].to_vec()].concat()[..]);
    let Bench { exchange, to_client, kept, names, .. } = &mut b;
    assert_eq!(exchange.receive(&mut input, to_client, kept, names, false), Ok(Received::Fine));
    assert!(to_client.is_empty() && !exchange.is_mid_message());
    assert_eq!(exchange.unreplicated, 1);
}
