//! What an edge counts for one server or one site, as `tiebeam status --edge` shows it. Totals count since the edge's start.

use serde::{Deserialize, Serialize};

/// Of one server of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerFigures {
    /// When its state changed last, milliseconds since 1970; `None`: it did not.
    pub since_unix_ms: Option<u64>,
    /// Why it did.
    pub why: Option<String>,
    /// Answers 500 to 599.
    pub server_errors_total: u64,
    /// Connections that were refused or not made in time.
    pub connect_failures_total: u64,
    /// It was silent for too long.
    pub timeouts_total: u64,
    /// It closed early, or said what is not HTTP.
    pub bad_answers_total: u64,
    /// Requests that came to it after another server had been tried.
    pub retries_total: u64,
    /// From asking to the first byte of the answer, of the last second with any; `None` without requests.
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    /// Bytes to it and from it.
    pub sent_bytes_total: u64,
    pub received_bytes_total: u64,
}

/// Of one site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SiteView {
    /// As in the file; `-`: requests for no site; `other`: the sites beyond those that are told apart.
    pub name: String,
    pub requests_total: u64,
    pub client_errors_total: u64,
    /// Answers 500 to 599, and requests that got no whole one.
    pub server_errors_total: u64,
    pub bytes_total: u64,
    /// As of the whole edge.
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
}
