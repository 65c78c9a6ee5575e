//! `tiebeam demo-app`: a guest book, written as a user of Tiebeam would write an application.
//!
//! It knows nothing of the cluster: it listens on HOST:PORT and talks to DATABASE_URL with tokio-postgres through an
//! ordinary connection pool. `/rows` is what the demo's client uses: numbered rows that a checker reads back.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Form, Json, Router};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use serde::{Deserialize, Serialize};
use tokio_postgres::{NoTls, Row};

/// Connections to the database: a small application's usual number.
const POOL_SIZE: usize = 16;
/// Most rows that one page of the checker's list has.
const PAGE_ROWS: i64 = 20_000;

struct App {
    pool: Pool,
    /// `a/web.1`: which instance answered.
    name: String,
}

pub fn run() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve())?;
    Ok(ExitCode::SUCCESS)
}

async fn serve() -> anyhow::Result<()> {
    let env = |name: &str| std::env::var(name).ok();
    let port: u16 = env("PORT").context("PORT is not set")?.parse().context("PORT is not a port")?;
    let host: IpAddr = env("HOST").and_then(|h| h.parse().ok()).unwrap_or(Ipv4Addr::LOCALHOST.into());
    let url = env("DATABASE_URL").context("DATABASE_URL is not set")?;
    let name = format!(
        "{}/{}",
        env("TIEBEAM_NODE").as_deref().unwrap_or("-"),
        env("TIEBEAM_INSTANCE").as_deref().unwrap_or("-")
    );
    let manager = Manager::from_config(
        url.parse().context("DATABASE_URL cannot be read")?,
        NoTls,
        ManagerConfig { recycling_method: RecyclingMethod::Fast },
    );
    let timeouts = Timeouts {
        wait: Some(Duration::from_secs(15)),
        create: Some(Duration::from_secs(15)),
        recycle: Some(Duration::from_secs(5)),
    };
    let pool =
        Pool::builder(manager).max_size(POOL_SIZE).timeouts(timeouts).runtime(Runtime::Tokio1).build()?;
    let app = Arc::new(App { pool, name });
    let listener = tokio::net::TcpListener::bind((host, port)).await.context("PORT cannot be listened on")?;
    let migrate = app.clone();
    tokio::spawn(async move {
        while let Err(error) = create_tables(&migrate.pool).await {
            super::talk(format_args!("the tables are not there yet: {error:#}"));
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    let routes = Router::new()
        .route("/", get(page))
        .route("/entries", axum::routing::post(sign))
        .route("/healthz", get(|| async { "ok" }))
        .route("/rows", get(list_rows).post(write_row))
        .route("/count", get(count_rows))
        .with_state(app);
    axum::serve(listener, routes).with_graceful_shutdown(terminated()).await?;
    Ok(())
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut term) => _ = term.recv().await,
        Err(_) => std::future::pending().await,
    }
}

/// All instances start at once, so the lock makes them take turns.
async fn create_tables(pool: &Pool) -> anyhow::Result<()> {
    let client = pool.get().await?;
    client
        .batch_execute(
            "BEGIN;
             SELECT pg_advisory_xact_lock(20001);
             CREATE TABLE IF NOT EXISTS entries (
                 id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 name text NOT NULL, message text NOT NULL, at timestamptz NOT NULL DEFAULT now());
             CREATE TABLE IF NOT EXISTS rows (n bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
             COMMIT;",
        )
        .await?;
    Ok(())
}

/// What a failed request tells: the status is 503, since trying again is right.
struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        super::talk(format_args!("a request failed: {:#}", self.0));
        (StatusCode::SERVICE_UNAVAILABLE, "The database did not answer as it should. Please try again.\n")
            .into_response()
    }
}

#[derive(Deserialize)]
struct Numbered {
    n: i64,
}

/// What the demo's client learns from a row that was written and read back in one session.
#[derive(Serialize, Deserialize)]
pub struct Written {
    pub n: i64,
    /// The instance that answered.
    pub app: String,
    /// The PostgreSQL that committed the row.
    pub writer: String,
    /// The PostgreSQL that then answered a read of the same session; `None` if that read failed.
    pub reader: Option<Reader>,
    /// That read saw the row.
    pub seen: bool,
}

/// The PostgreSQL that answered a read, by its own words.
#[derive(Serialize, Deserialize)]
pub struct Reader {
    /// Its `cluster_name`: the node's name.
    pub name: String,
    /// It was a hot standby when it answered.
    pub replica: bool,
}

/// The columns of a [`Reader`].
const READER: &str = "current_setting('cluster_name'), current_setting('in_hot_standby') = 'on'";

impl Reader {
    /// From the columns [`READER`], the first of a row.
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self { name: row.try_get(0)?, replica: row.try_get(1)? })
    }
}

async fn write_row(
    State(app): State<Arc<App>>,
    Query(row): Query<Numbered>,
) -> Result<Json<Written>, Failure> {
    let client = app.pool.get().await?;
    let insert = "INSERT INTO rows (n) VALUES ($1) RETURNING current_setting('cluster_name')";
    let written = client.query_one(&client.prepare_cached(insert).await?, &[&row.n]).await?;
    // The row is committed from here on: whatever happens now, the answer says so.
    let writer = written.try_get(0).unwrap_or_default();
    let read = format!("SELECT {READER}, EXISTS (SELECT 1 FROM rows WHERE n = $1)");
    let back = async {
        let back = client.query_one(&client.prepare_cached(&read).await?, &[&row.n]).await?;
        Ok::<_, tokio_postgres::Error>((Some(Reader::of(&back)?), back.try_get(2)?))
    };
    let (reader, seen) = back.await.unwrap_or((None, true));
    Ok(Json(Written { n: row.n, app: app.name.clone(), writer, reader, seen }))
}

/// What the demo's reader gets: how many rows there are, and who answered.
#[derive(Serialize, Deserialize)]
pub struct Count {
    pub rows: i64,
    pub app: String,
    pub reader: Reader,
}

async fn count_rows(State(app): State<Arc<App>>) -> Result<Json<Count>, Failure> {
    let client = app.pool.get().await?;
    let text = format!("SELECT {READER}, coalesce(max(n), 0) FROM rows");
    let row = client.query_one(&client.prepare_cached(&text).await?, &[]).await?;
    Ok(Json(Count { rows: row.try_get(2)?, app: app.name.clone(), reader: Reader::of(&row)? }))
}

#[derive(Deserialize)]
struct After {
    after: i64,
}

/// The numbers of all rows after one, in order, a page at a time, from the primary: a read-write transaction goes
/// nowhere else.
async fn list_rows(
    State(app): State<Arc<App>>,
    Query(after): Query<After>,
) -> Result<Json<Vec<i64>>, Failure> {
    let mut client = app.pool.get().await?;
    let transaction = client.build_transaction().read_only(false).start().await?;
    let text = "SELECT n FROM rows WHERE n > $1 ORDER BY n LIMIT $2";
    let rows = transaction.query(text, &[&after.after, &PAGE_ROWS]).await?;
    transaction.commit().await?;
    Ok(Json(rows.iter().map(|r| r.try_get(0)).collect::<Result<_, _>>()?))
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    message: String,
}

async fn sign(State(app): State<Arc<App>>, Form(entry): Form<Entry>) -> Result<Response, Failure> {
    let clip = |text: &str| text.trim().chars().take(200).collect::<String>();
    let (name, message) = (clip(&entry.name), clip(&entry.message));
    if name.is_empty() || message.is_empty() {
        return Ok((StatusCode::BAD_REQUEST, "A name and a message, please.\n").into_response());
    }
    let client = app.pool.get().await?;
    client.execute("INSERT INTO entries (name, message) VALUES ($1, $2)", &[&name, &message]).await?;
    Ok(Redirect::to("/").into_response())
}

async fn page(State(app): State<Arc<App>>) -> Result<Html<String>, Failure> {
    let client = app.pool.get().await?;
    let text = "SELECT name, message, to_char(at, 'HH24:MI:SS'), current_setting('cluster_name')
                FROM entries ORDER BY id DESC LIMIT 20";
    let rows = client.query(text, &[]).await?;
    let mut list = String::new();
    for row in &rows {
        let (name, message, at): (String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        list += &format!("<li><b>{}</b> {} <time>{at}</time></li>\n", escape(&name), escape(&message));
    }
    if rows.is_empty() {
        list = "<li>Nobody has signed yet.</li>".into();
    }
    Ok(Html(PAGE.replace("{list}", &list).replace("{app}", &escape(&app.name))))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // The page's own placeholders must not be writable from a message.
            '{' => out += "&#123;",
            c => out.push(c),
        }
    }
    out
}

const PAGE: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>Guest book</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 40rem; margin: 2rem auto; padding: 0 1rem; }
form { display: flex; gap: .5rem; flex-wrap: wrap; }
input { flex: 1 1 8rem; padding: .5rem; font: inherit; } button { padding: .5rem 1rem; font: inherit; }
li { margin: .25rem 0; } time, footer { opacity: .65; font-size: .85rem; }
</style></head><body>
<h1>Guest book</h1>
<form method="post" action="/entries">
<input name="name" placeholder="Name" aria-label="Name" maxlength="200" required>
<input name="message" placeholder="Message" aria-label="Message" maxlength="200" required>
<button>Sign</button></form>
<ul>{list}</ul>
<footer>This page was made by {app}. Reload it: the next server takes its turn.</footer>
</body></html>
"#;

#[cfg(test)]
mod tests {
    #[test]
    fn what_guests_write_stays_text() {
        assert_eq!(super::escape("<b a='\"'>{app}&"), "&lt;b a=&#39;&quot;&#39;&gt;&#123;app}&amp;");
    }
}
