//! What is answered to which path. Everything is read-only: GET and HEAD, nothing else; every answer carries the
//! headers that keep a browser from doing more with it than showing it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, http};
use tiebeam_watch::{CONTENT_TYPE, Extra, metrics};

use crate::{Board, page};

/// A view older than this is no longer the cluster: `/healthz` says so with 503, and the page in words.
pub const STALE_MS: u64 = 10_000;

#[derive(Clone)]
struct Shared {
    board: Board,
    /// Connections refused at the bound.
    refused: Arc<AtomicU64>,
    /// It listens on this machine only, so a name other than the machine's own in `Host` comes from a page of
    /// another's that had its name resolve to 127.0.0.1.
    loopback: bool,
}

pub fn router(board: Board, refused: Arc<AtomicU64>, loopback: bool) -> Router {
    let shared = Shared { board, refused, loopback };
    Router::new()
        .route("/", get(index))
        .route("/view.json", get(view))
        .route("/series.json", get(series))
        .route("/metrics", get(scrape))
        .route("/healthz", get(health))
        .route("/assets/{name}", get(asset))
        .fallback(missing)
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

async fn index(State(shared): State<Shared>) -> Response {
    match page::render(&shared.board, now_ms()) {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(%error, "the page could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "The page could not be rendered; /view.json has the same.\n")
                .into_response()
        }
    }
}

async fn view(State(shared): State<Shared>) -> Response {
    Json(shared.board.view().as_ref()).into_response()
}

async fn series(State(shared): State<Shared>) -> Response {
    Json(shared.board.table()).into_response()
}

async fn scrape(State(shared): State<Shared>) -> Response {
    let mut extra = shared.board.own().to_vec();
    let help = "Connections refused because too many were open";
    extra.push(Extra::counter("console_refused", help, shared.refused.load(Ordering::Relaxed)));
    let help = "Samples dropped because too many series were kept";
    extra.push(Extra::counter("console_samples_dropped", help, shared.board.dropped_samples_total()));
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics(shared.board.view(), extra)).into_response()
}

async fn health(State(shared): State<Shared>) -> Response {
    let age_ms = now_ms().saturating_sub(shared.board.view().unix_ms);
    if age_ms > STALE_MS {
        let text =
            format!("The newest view is {} s old: the node's own loop does not answer.\n", age_ms / 1000);
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    "ok\n".into_response()
}

async fn asset(Path(name): Path<String>) -> Response {
    const ASSETS: &[(&str, &str, &str)] = &[
        ("style.css", "text/css; charset=utf-8", include_str!("../assets/style.css")),
        ("console.js", "text/javascript; charset=utf-8", include_str!("../assets/console.js")),
        ("uplot.css", "text/css; charset=utf-8", include_str!("../assets/uplot.css")),
        ("uplot.js", "text/javascript; charset=utf-8", include_str!("../assets/uplot.js")),
        ("uplot.LICENSE", "text/plain; charset=utf-8", include_str!("../assets/uplot.LICENSE")),
        ("mark.svg", "image/svg+xml", include_str!("../assets/mark.svg")),
    ];
    match ASSETS.iter().find(|(n, ..)| *n == name) {
        Some((_, kind, text)) => ([(header::CONTENT_TYPE, *kind)], *text).into_response(),
        None => missing().await,
    }
}

async fn missing() -> Response {
    (
        StatusCode::NOT_FOUND,
        "Nothing is here. There are /, /view.json, /series.json, /metrics and /healthz.\n",
    )
        .into_response()
}

/// Before and after each route: who may ask, and what a browser may do with the answer.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let mut response = if shared.loopback && !host_is_local(request.headers()) {
        let text =
            "This console answers to its address or to localhost only: it listens on this machine alone.\n";
        (StatusCode::MISDIRECTED_REQUEST, text).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    let all: [(http::HeaderName, &str); 7] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (http::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (http::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in all {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn host_is_local(headers: &HeaderMap) -> bool {
    // Without `Host` no browser asks.
    let Some(host) = headers.get(header::HOST) else { return true };
    let Some(authority) = host.to_str().ok().and_then(|h| h.parse::<http::uri::Authority>().ok()) else {
        return false;
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// The wall clock, milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
