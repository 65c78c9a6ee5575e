//! Answers a client whose transaction was lost with its server connection, as PostgreSQL answers in a failed
//! transaction: everything is refused until the client ends it, so no later statement runs outside of it. Sans I/O.

use std::sync::Arc;

use bytes::BytesMut;

use super::batch::{Batch, Kind, Of};
use crate::classify::{Class, Volatility};
use crate::prepared::Names;
use crate::wire::build;
use crate::wire::error::{SqlError, state};

/// What is left after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct After {
    /// The client is still in the lost transaction.
    pub aborted: bool,
    /// All is skipped until a Sync.
    pub skipping: bool,
}

/// Answers a whole batch. The session's names are as if what is refused or skipped had not been read.
pub(crate) fn answer(
    batch: &Batch,
    catalog: &Arc<Volatility>,
    names: &mut Names,
    out: &mut BytesMut,
) -> After {
    let mut after = After { aborted: true, skipping: false };
    let mut bound_end = false;
    let mut refused = Vec::new();
    for op in &batch.ops {
        if after.skipping && !matches!(op.kind, Kind::Sync) {
            refused.push(&op.kind);
            continue;
        }
        let is_end = |of: &Of| match of {
            Of::Unnamed(statement) | Of::Named(statement) => statement.class(catalog) == Class::End,
            Of::Unknown => false,
        };
        match &op.kind {
            Kind::Query(Class::End) => {
                build::complete(out, "ROLLBACK");
                after.aborted = false;
                build::ready(out, b'I');
            }
            Kind::Query(_) | Kind::Deallocate(_) | Kind::FunctionCall => {
                refuse(out);
                build::ready(out, status(after.aborted));
            }
            Kind::Sync => {
                after.skipping = false;
                build::ready(out, status(after.aborted));
            }
            Kind::Flush => {}
            Kind::CloseStatement { .. } | Kind::ClosePortal => out.extend_from_slice(build::CLOSE_COMPLETE),
            Kind::Parse { statement, again: false, .. } if statement.class(catalog) == Class::End => {
                out.extend_from_slice(build::PARSE_COMPLETE);
            }
            Kind::Bind(of) if is_end(of) => {
                bound_end = true;
                out.extend_from_slice(build::BIND_COMPLETE);
            }
            Kind::DescribeStatement(of) if is_end(of) => {
                build::message(out, b't', |out| out.extend_from_slice(&[0, 0]));
                out.extend_from_slice(build::NO_DATA);
            }
            Kind::DescribePortal if bound_end => out.extend_from_slice(build::NO_DATA),
            Kind::Execute if bound_end => {
                build::complete(out, "ROLLBACK");
                after.aborted = false;
                bound_end = false;
            }
            _ => {
                refuse(out);
                refused.push(&op.kind);
                after.skipping = true;
            }
        }
    }
    refused.iter().rev().for_each(|kind| kind.undo(names));
    after
}

/// The state of a session that has no server connection.
pub(crate) fn status(aborted: bool) -> u8 {
    if aborted { b'E' } else { b'I' }
}

pub(crate) fn refuse(out: &mut BytesMut) {
    SqlError::error(
        state::IN_FAILED_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
    .write(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepared::Statements;
    use crate::session::batch::Reader;
    use crate::wire::head;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        build::message(&mut out, tag, |out| out.extend_from_slice(body));
        out.to_vec()
    }

    const OVER: After = After { aborted: false, skipping: false };

    /// The tags of the answer, and what is left.
    fn answers(messages: &[Vec<u8>]) -> (String, After) {
        let catalog = Arc::new(Volatility::builtin());
        let (mut names, statements) = (Names::default(), Statements::default());
        let mut batch = Batch::default();
        for message in messages {
            let mut reader = Reader {
                names: &mut names,
                statements: &statements,
                catalog: &catalog,
                utf8: true,
                may_end: false,
            };
            let (kind, class) = reader.read(message).unwrap();
            batch.add(kind, 0..message.len(), class);
        }
        let mut out = BytesMut::new();
        let after = answer(&batch, &catalog, &mut names, &mut out);
        assert!(after == OVER || names.unnamed.is_none(), "what was refused left a statement");
        let (mut tags, mut rest) = (String::new(), &out[..]);
        while let Some(head) = head(rest).unwrap() {
            tags.push(head.tag as char);
            rest = &rest[head.len..];
        }
        (tags, after)
    }

    #[test]
    fn nothing_runs_until_the_client_ends_the_transaction() {
        let query = |sql: &str| message(b'Q', format!("{sql}\0").as_bytes());
        let lost = After { aborted: true, skipping: false };
        let over = OVER;
        assert_eq!(answers(&[query("INSERT INTO t VALUES (1)")]), ("EZ".into(), lost));
        assert_eq!(answers(&[query("ROLLBACK TO SAVEPOINT a")]), ("EZ".into(), lost));
        assert_eq!(answers(&[query("COMMIT")]), ("CZ".into(), over));
        let extended = |sql: &str| {
            let parse = message(b'P', format!("\0{sql}\0\0\0").as_bytes());
            let bind = message(b'B', b"\0\0\0\0\0\0\0\0");
            let describe = message(b'D', b"P\0");
            let execute = message(b'E', b"\0\0\0\0\0");
            [parse, bind, describe, execute, message(b'S', b"")]
        };
        assert_eq!(answers(&extended("SELECT 1")), ("EZ".into(), lost));
        assert_eq!(answers(&extended("ROLLBACK")), ("12nCZ".into(), over));
        let unfinished = &extended("SELECT 1")[..1];
        assert_eq!(answers(unfinished), ("E".into(), After { aborted: true, skipping: true }));
    }
}
