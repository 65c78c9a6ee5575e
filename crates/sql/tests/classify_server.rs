//! The classifier with the catalog of a real PostgreSQL 15: its own queries give the classes of the corpus, and each
//! read of the corpus runs in a read-only transaction. Starts a server of its own and stops it again.
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by ending.

#[allow(dead_code)]
mod corpus;

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tiebeam_sql::classify::{Class, Volatility, classify};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// How long a fresh server may take until it answers.
const START_TIME: Duration = Duration::from_secs(60);

struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            // SIGINT: fast shutdown.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.child.wait();
    }
}

impl Server {
    /// PostgreSQL refuses to run as root: then it runs as `postgres`.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let user = rustix::process::getuid().is_root().then(|| id_of("postgres"));
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let data = folder.path().join("data");
        let run = |program: &str| {
            let mut command = Command::new(Path::new(BIN).join(program));
            command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command.arg("-D").arg(&data);
            command
        };
        let initdb = run("initdb")
            .args(["-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale", "C"])
            .status();
        assert!(initdb.unwrap().success());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = run("postgres")
            .args([
                "-p",
                &port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
            ])
            .args(["-c", "fsync=off", "-c", "max_connections=20"])
            .spawn()
            .unwrap();
        Self { child, port, _folder: folder }
    }

    async fn connect(&self) -> Client {
        let deadline = Instant::now() + START_TIME;
        loop {
            let config = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port);
            match tokio_postgres::connect(&config, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => assert!(Instant::now() < deadline, "the server does not answer: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn id_of(user: &str) -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user)).unwrap();
    let mut ids = line.split(':').skip(2).map(|id| id.parse().unwrap());
    (ids.next().unwrap(), ids.next().unwrap())
}

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
    if !Path::new(BIN).join("postgres").exists() {
        println!("skipped: there is no PostgreSQL in {BIN}");
        return;
    }
    let server = Server::start();
    let client = server.connect().await;

    the_builtin_list_is_that_of_an_empty_database(&client).await;
    words_are_what_postgresql_says(&client).await;

    let before = rows(&client, Volatility::FINGERPRINT).await;
    assert_eq!(before, rows(&client, Volatility::FINGERPRINT).await);
    client.batch_execute(include_str!("corpus/schema.sql")).await.unwrap();
    assert_ne!(before, rows(&client, Volatility::FINGERPRINT).await);

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
    let (_, rows) = load(client).await;
    let made: Vec<String> = rows
        .iter()
        .filter(|row| row[2] == "f" && ["function", "operator"].contains(&row[0].as_str()))
        .map(|row| format!("{} {}", row[0], row[1]))
        .collect();
    let mut kept: Vec<&str> =
        include_str!("../src/classify/builtin.txt").lines().filter(|l| !l.starts_with('#')).collect();
    kept.sort_unstable();
    let mut made: Vec<&str> = made.iter().map(String::as_str).collect();
    made.sort_unstable();
    assert_eq!(kept, made);
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
