//! What `tiebeam status --edge` prints: every edge with its sites, pools and servers, as the statistics page of a load
//! balancer would. Pure.

use crate::status::Paint;
use crate::words::{age, bytes, count, rate};
use crate::{EdgeView, PoolView, ServerState, ServerView, SiteView, View};

/// A table of each edge that reports; the servers that serve have a line each, the others also one that says why.
pub fn edge_status(view: &View, paint: Paint) -> String {
    let mut lines = Vec::new();
    for (name, edge) in view.edges_alive() {
        head(name.as_str(), edge, &mut lines);
        sites(&edge.sites, &mut lines);
        for pool in &edge.pools {
            lines.push(String::new());
            self::pool(pool, view.unix_ms, paint, &mut lines);
        }
        lines.push(String::new());
    }
    for (name, node) in &view.nodes {
        if !node.alive && node.roles.contains(&tiebeam_topology::Role::Edge) {
            lines.push(format!("the edge on {name} does not report"));
        }
    }
    if lines.is_empty() {
        lines.push("no node of this cluster is an edge".to_owned());
    }
    let mut text = String::new();
    for line in lines {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn head(name: &str, edge: &EdgeView, lines: &mut Vec<String>) {
    let at = [("http", edge.http), ("https", edge.https)];
    let at = at.iter().filter_map(|(scheme, at)| Some(format!("{scheme} {}", (*at)?)));
    lines.push(format!("EDGE {name}  {}", at.collect::<Vec<_>>().join("  ")));
    lines.push(format!(
        "  {} connections, {}/s, {} requests, {} answers 4xx, {} 5xx or cut, p50 {}, p99 {}",
        count(edge.connections),
        rate(edge.requests_per_s),
        count(edge.requests_total),
        count(edge.client_errors_total),
        count(edge.server_errors_total),
        ms(edge.p50_ms),
        ms(edge.p99_ms),
    ));
}

fn sites(sites: &[SiteView], lines: &mut Vec<String>) {
    if sites.is_empty() {
        return;
    }
    lines.push(String::new());
    lines.push(format!(
        "  {:<34}{:>11}{:>9}{:>9}{:>9}{:>9}{:>11}",
        "SITE", "REQUESTS", "4XX", "5XX", "P50", "P95", "SENT"
    ));
    for site in sites {
        lines.push(format!(
            "  {:<34}{:>11}{:>9}{:>9}{:>9}{:>9}{:>11}",
            site.name,
            count(site.requests_total),
            count(site.client_errors_total),
            count(site.server_errors_total),
            ms(site.p50_ms),
            ms(site.p95_ms),
            bytes(site.bytes_total),
        ));
    }
}

fn pool(pool: &PoolView, now_unix_ms: u64, paint: Paint, lines: &mut Vec<String>) {
    let mut notes = vec![format!("{} out of turn", count(pool.out_of_turn_total))];
    let rare = [
        (pool.waiting, "wait for a server now"),
        (pool.waited_total, "had to wait"),
        (pool.ejections_total, "ejections"),
        (pool.hedges_total, "hedged"),
        (pool.over_budget_total, "not repeated, the budget being spent"),
        (pool.panics_total, "sent in panic"),
    ];
    notes.extend(rare.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))));
    lines.push(format!("  pool {}: {}", pool.name, notes.join(", ")));
    lines.push(format!(
        "  {:<22}{:<9}{:>6}{:>7}{:>11}{:>7}{:>8}{:>7}{:>7}{:>9}{:>9}{:>9}{:>9}",
        "SERVER",
        "STATE",
        "SINCE",
        "FLIGHT",
        "REQUESTS",
        "5XX",
        "CONNECT",
        "OTHER",
        "RETRY",
        "P50",
        "P95",
        "SENT",
        "GOT"
    ));
    for server in &pool.servers {
        lines.push(row(server, now_unix_ms, paint));
        if let Some(why) = server.figures.why.as_ref().filter(|_| server.state != ServerState::Serving) {
            lines.push(format!("    {}: {why}", server.state.word()));
        }
    }
}

/// Failures are told apart: connections that were not made, and what went wrong on those that were.
fn row(server: &ServerView, now_unix_ms: u64, paint: Paint) -> String {
    let f = &server.figures;
    let since = f.since_unix_ms.map_or("-".to_owned(), |at| age(now_unix_ms.saturating_sub(at)));
    let state = format!("{:<9}", server.state.word());
    let state = match (paint, server.state) {
        (Paint::Colour, ServerState::Ejected) => format!("\x1b[31m{state}\x1b[0m"),
        (Paint::Colour, ServerState::Draining | ServerState::Probing) => format!("\x1b[33m{state}\x1b[0m"),
        _ => state,
    };
    format!(
        "  {:<22}{state}{since:>6}{:>7}{:>11}{:>7}{:>8}{:>7}{:>7}{:>9}{:>9}{:>9}{:>9}",
        server.id,
        count(server.in_flight),
        count(server.requests_total),
        count(f.server_errors_total),
        count(f.connect_failures_total),
        count(f.timeouts_total + f.bad_answers_total),
        count(f.retries_total),
        ms(f.p50_ms),
        ms(f.p95_ms),
        bytes(f.sent_bytes_total),
        bytes(f.received_bytes_total),
    )
}

fn ms(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |ms| format!("{} ms", rate(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn every_pool_with_its_servers_and_why_one_does_not_serve() {
        let mut view = fixtures::healthy();
        let now = view.unix_ms;
        let name = fixtures::node("a");
        let edge = view.nodes.get_mut(&name).and_then(|node| node.edge.as_mut()).unwrap();
        let server = &mut edge.pools[0].servers[1];
        server.state = ServerState::Ejected;
        server.figures.since_unix_ms = Some(now - 12_000);
        server.figures.why = Some("the connection was refused".into());
        server.figures.connect_failures_total = 3;
        edge.sites = vec![SiteView { name: "shop.example".into(), requests_total: 7, ..SiteView::default() }];
        insta::assert_snapshot!(edge_status(&view, Paint::Plain));
    }
}
