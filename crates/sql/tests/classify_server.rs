//! The classifier with the catalog of a real PostgreSQL: its own queries give the classes of the corpus, and each
//! read of the corpus runs in a read-only transaction. Starts a server of its own and stops it again.
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by ending.

#[allow(dead_code)]
mod corpus;

mod common;

use common::{Folder, PASSWORD, Postgres};
use tiebeam_sql::classify::{Class, Volatility, classify};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// The major version that `builtin.txt` was made by.
const BUILTIN_OF: &str = "15";

async fn rows(client: &Client, sql: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql).await.unwrap() {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|i| row.get(i).unwrap_or("").to_owned()).collect());
        }
    }
    rows
}

async fn load(client: &Client) -> (Volatility, Vec<Vec<String>>) {
    let rows = rows(client, Volatility::QUERY).await;
    (Volatility::from_rows(rows.iter().map(|row| (&row[0], &row[1], row[2] == "t"))), rows)
}

#[tokio::test]
async fn a_real_catalog_and_real_transactions_agree_with_the_corpus() {
    let folder = Folder::new();
    let server = Postgres::primary(&folder, "", "host all all 127.0.0.1/32 scram-sha-256\n");
    let config = format!("host=127.0.0.1 port={} user=postgres password={PASSWORD}", server.port);
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);

    the_builtin_list_is_that_of_an_empty_database(&client).await;
    words_are_what_postgresql_says(&client).await;

    let before = rows(&client, Volatility::FINGERPRINT).await;
    assert_eq!(before, rows(&client, Volatility::FINGERPRINT).await);
    client.batch_execute(include_str!("corpus/schema.sql")).await.unwrap();
    assert_ne!(before, rows(&client, Volatility::FINGERPRINT).await);

    a_new_name_changes_the_fingerprint(&client).await;

    let (catalog, _) = load(&client).await;
    assert_eq!(catalog.uncertain(), None);
    for (text, want) in corpus::all() {
        assert_eq!(classify(&text, &catalog), want, "{text}");
    }
    let mut refused = Vec::new();
    for text in corpus::reads() {
        if let Err(error) = run_read_only(&client, &text).await {
            refused.push((text, error.as_db_error().map(|e| e.message().to_owned())));
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
    what_is_called_unnamed_makes_everything_uncertain(&client).await;
}

async fn the_builtin_list_is_that_of_an_empty_database(client: &Client) {
    let version = rows(client, "SHOW server_version_num").await[0][0].clone();
    let (_, rows) = load(client).await;
    let of = |row: &&Vec<String>| ["function", "operator"].contains(&row[0].as_str());
    let made: Vec<String> = rows
        .iter()
        .filter(|row| row[2] == "f" && of(row))
        .map(|row| format!("{} {}", row[0], row[1]))
        .collect();
    let mut kept: Vec<&str> =
        include_str!("../src/classify/builtin.txt").lines().filter(|l| !l.starts_with('#')).collect();
    kept.sort_unstable();
    let mut made: Vec<&str> = made.iter().map(String::as_str).collect();
    made.sort_unstable();
    for row in rows.iter().filter(of).filter(|row| row[2] == "t") {
        let name = format!("{} {}", row[0], row[1]);
        assert!(!kept.contains(&&*name), "{name} may write in PostgreSQL {version}");
    }
    // Another version has some more, and some that this one has under other names: harmless, as they do not exist.
    if version.starts_with(BUILTIN_OF) {
        assert_eq!(kept, made);
    }
}

/// Words that cannot name a function are not called before a parenthesis; all others are, if such a function exists.
async fn words_are_what_postgresql_says(client: &Client) {
    for row in rows(client, "SELECT word, catcode FROM pg_get_keywords()").await {
        let called = format!("SELECT {}(1)", row[0]);
        let volatile = Volatility::from_rows([("function", row[0].as_str(), true)]);
        if matches!(row[1].as_str(), "U" | "T") {
            assert_eq!(classify(&called, &volatile), Class::Write, "{called}");
        }
    }
}

async fn a_new_name_changes_the_fingerprint(client: &Client) {
    client.batch_execute("CREATE SEQUENCE one; CREATE TABLE plain(n int)").await.unwrap();
    for sql in [
        "ALTER SEQUENCE one RENAME TO two",
        "ALTER TABLE plain RENAME TO simple",
        "ALTER TABLE simple SET UNLOGGED",
        "ALTER TABLE simple SET LOGGED",
        "DROP TABLE simple",
        "DROP SEQUENCE two",
    ] {
        let before = rows(client, Volatility::FINGERPRINT).await;
        client.batch_execute(sql).await.unwrap();
        assert_ne!(before, rows(client, Volatility::FINGERPRINT).await, "{sql}");
    }
}

async fn run_read_only(client: &Client, text: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("BEGIN READ ONLY").await.unwrap();
    let result = if text.contains("$1") || text.contains("$2") {
        client.prepare(text).await.map(drop)
    } else {
        client.batch_execute(text).await
    };
    client.batch_execute("ROLLBACK").await?;
    result
}

async fn what_is_called_unnamed_makes_everything_uncertain(client: &Client) {
    let cases = [
        "CREATE FUNCTION same(box_of, box_of) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE OPERATOR = (FUNCTION = same, LEFTARG = box_of, RIGHTARG = box_of)",
        "CREATE TYPE crate AS (b int); CREATE FUNCTION to_crate(box_of) RETURNS crate LANGUAGE sql AS 'SELECT NULL::crate';
         CREATE CAST (box_of AS crate) WITH FUNCTION to_crate(box_of) AS IMPLICIT",
        "CREATE FUNCTION to_int(box_of) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE CAST (box_of AS int) WITH FUNCTION to_int(box_of)",
    ];
    for sql in cases {
        client.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
        let (catalog, _) = load(client).await;
        assert!(catalog.uncertain().is_some(), "{sql}");
        assert_eq!(classify("SELECT 1", &catalog), Class::Write, "{sql}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
}
