//! A view on one screen of a terminal, 80 columns by 24 lines: what `tiebeam status` prints. Pure; whether there are
//! colours is the caller's to know.
//!
//! What does not fit is counted, never silently left out.

use tiebeam_topology::Role;

use crate::words::{age, bytes, clock, count, cut, rate, uptime, wrap};
use crate::{DatabaseRole, Level, NodeView, ServerState, View};

const WIDTH: usize = 80;
const HEIGHT: usize = 24;
/// The verdict's share of them.
const VERDICT_LINES: usize = 8;
const LEVEL_WIDTH: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Plain,
    /// ANSI colours, for a terminal that has them.
    Colour,
}

/// Lines of at most 80 columns, at most 24 of them with the last one empty for the prompt.
pub fn status(view: &View, paint: Paint) -> String {
    let events_min = view.events.len().min(3);
    let mut lines = vec![head(view)];
    lines.extend(verdict(view, paint));
    lines.push(String::new());
    lines.push("NODE        UP          EDGE, p99        APPS   SQL              DATABASE".to_owned());
    let rest = 1 + 3 + events_min + 3;
    let room = HEIGHT.saturating_sub(lines.len() + rest).max(3);
    let nodes = view.nodes.iter().map(|(name, n)| node(name.as_str(), n, paint)).collect();
    lines.extend(bounded(nodes, room, "more nodes"));
    lines.push(String::new());
    lines.extend(facts(view));
    let room = HEIGHT.saturating_sub(lines.len() + 3);
    if room > 1 && !view.events.is_empty() {
        lines.push(String::new());
        lines.extend(view.events.iter().take(room - 1).map(|e| {
            let at = e.node.as_ref().map(|n| n.as_str()).unwrap_or("-");
            cut(&format!("{}  {:<8}{:<4} {}", clock(e.unix_ms), e.level, at, e.text), WIDTH)
        }));
    }
    lines.push(String::new());
    lines.push(format!("Next: {}", next(view)));
    let mut text = String::new();
    for line in lines {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn head(view: &View) -> String {
    let alive = view.nodes.values().filter(|n| n.alive).count();
    let left = format!("{} · {alive} of {} nodes alive", view.cluster, view.nodes.len());
    let right = format!("seen from {} at {} UTC", view.this_node, clock(view.unix_ms));
    let gap = WIDTH.saturating_sub(left.chars().count() + right.chars().count()).max(1);
    cut(&format!("{left}{}{right}", " ".repeat(gap)), WIDTH)
}

/// The headline and the findings, each whole, so that what to do is never cut off: in at most [`VERDICT_LINES`] lines, of
/// which the last one counts what found no room.
fn verdict(view: &View, paint: Paint) -> Vec<String> {
    let word = match view.verdict.level {
        Level::Info => "FINE",
        Level::Warning => "WARNING",
        Level::Alarm => "ALARM",
    };
    let mut lines = entry(word, &view.verdict.headline);
    lines.truncate(VERDICT_LINES - 1);
    if let Some(rest) = lines.first().and_then(|line| line.strip_prefix(word)).map(str::to_owned) {
        lines[0] = format!("{}{rest}", painted(word, view.verdict.level, paint));
    }
    let more: Vec<_> = view.verdict.findings.iter().filter(|f| f.text != view.verdict.headline).collect();
    for (i, finding) in more.iter().enumerate() {
        let text = entry(&format!("  {}", finding.level), &finding.text);
        let kept_for_the_count = usize::from(i + 1 < more.len());
        if lines.len() + text.len() + kept_for_the_count > VERDICT_LINES {
            lines.push(format!("  … and {} more", more.len() - i));
            break;
        }
        lines.extend(text);
    }
    lines
}

/// A text behind its level, in as many lines as it needs.
fn entry(word: &str, text: &str) -> Vec<String> {
    let text = wrap(text, WIDTH - LEVEL_WIDTH);
    let first = |i| if i == 0 { word } else { "" };
    text.iter().enumerate().map(|(i, line)| format!("{:<LEVEL_WIDTH$}{line}", first(i))).collect()
}

fn node(name: &str, n: &NodeView, paint: Paint) -> String {
    let up = match (n.alive, n.report_age_ms) {
        (true, _) => pad(&uptime(n.uptime_s), 12),
        (false, Some(ms)) if n.ended => {
            painted(&pad(&cut(&format!("ENDED {}", age(ms)), 11), 12), Level::Warning, paint)
        }
        (false, Some(ms)) => painted(&pad(&cut(&format!("DOWN {}", age(ms)), 11), 12), Level::Alarm, paint),
        (false, None) => painted(&pad("DOWN", 12), Level::Alarm, paint),
    };
    let edge = match (&n.edge, n.roles.contains(&Role::Edge), n.alive) {
        (_, false, _) => "-".into(),
        (Some(e), true, true) => format!(
            "{}/s {}",
            rate(e.requests_per_s),
            e.p99_ms.map_or(String::new(), |p| format!("{} ms", rate(p)))
        ),
        _ => "no answer".into(),
    };
    let ready = n.apps.iter().filter(|a| a.ready && n.alive).count();
    let apps = if n.apps.is_empty() { "-".into() } else { format!("{ready}/{}", n.apps.len()) };
    let sql = match &n.sql {
        Some(s) if n.alive && s.held > 0 => format!("{}/s {} held", rate(s.statements_per_s), s.held),
        Some(s) if n.alive => format!("{}/s", rate(s.statements_per_s)),
        Some(_) => "no answer".into(),
        None => "-".into(),
    };
    format!(
        "{}{up}{}{}{}{}",
        pad(name, 12),
        pad(&edge, 17),
        pad(&apps, 7),
        pad(&sql, 17),
        cut(&database(n), 15)
    )
}

fn database(n: &NodeView) -> String {
    let Some(d) = &n.database else {
        return if n.roles.contains(&Role::Database) { "no answer" } else { "-" }.into();
    };
    match d.role {
        _ if !n.alive => format!("was {}", d.role.word()),
        DatabaseRole::Primary => "primary".into(),
        DatabaseRole::Replica if d.streaming => match d.lag_bytes {
            Some(lag) => format!("replica {}", bytes(lag)),
            None => "replica".into(),
        },
        DatabaseRole::Replica => "replica cut off".into(),
        other => other.word().into(),
    }
}

/// Three lines: the edges together, the database, the ledger.
fn facts(view: &View) -> [String; 3] {
    let edges: Vec<_> = view.edges_alive().map(|(_, e)| e).collect();
    let requests: f64 = edges.iter().map(|e| e.requests_per_s).sum();
    let failed: u64 = edges.iter().map(|e| e.server_errors_total).sum();
    let servers = edges
        .first()
        .map(|e| e.pools.iter().flat_map(|p| &p.servers).collect::<Vec<_>>())
        .unwrap_or_default();
    let serving = servers.iter().filter(|s| s.state == ServerState::Serving).count();
    let edge = format!(
        "edge      {} requests/s, {} answered 5xx, {serving} of {} servers serving",
        rate(requests),
        count(failed),
        servers.len()
    );
    let database = match &view.database {
        None => "database  none in the file".into(),
        Some(d) => {
            let primary = d.primary.as_ref().map_or("no primary".into(), |p| format!("primary {p}"));
            format!("database  {primary}, epoch {}, {}", d.epoch, d.durability)
        }
    };
    let leader = view.ledger.leader.as_ref().map_or("no leader".into(), |l| format!("leader {l}"));
    let alive = view.ledger.voters.iter().filter(|v| view.nodes.get(*v).is_some_and(|n| n.alive)).count();
    let ledger = format!(
        "ledger    {leader}, term {}, {alive} of {} voters, {}",
        view.ledger.term,
        view.ledger.voters.len(),
        if view.ledger.quorum { "quorum" } else { "NO QUORUM" }
    );
    [edge, database, ledger].map(|line| cut(&line, WIDTH))
}

fn next(view: &View) -> &'static str {
    let database = view.database.is_some();
    match view.verdict.level {
        Level::Info if database => "tiebeam explain failover   (what each node's death would mean)",
        Level::Info => "tiebeam explain active-active   (what each node's death would mean)",
        Level::Warning if database => "tiebeam explain primary-replica",
        Level::Warning => "tiebeam explain active-active",
        Level::Alarm if database => "tiebeam explain failover",
        Level::Alarm => "tiebeam explain active-active",
    }
}

/// At most `max` lines; the last one says how many were left out.
fn bounded(mut lines: Vec<String>, max: usize, what: &str) -> Vec<String> {
    if lines.len() > max {
        let left = lines.len() - (max - 1);
        lines.truncate(max - 1);
        lines.push(format!("  … and {left} {what}"));
    }
    lines
}

fn pad(text: &str, width: usize) -> String {
    let text = cut(text, width - 1);
    let gap = width - text.chars().count();
    format!("{text}{}", " ".repeat(gap))
}

fn painted(text: &str, level: Level, paint: Paint) -> String {
    let colour = match level {
        Level::Info => "32",
        Level::Warning => "33",
        Level::Alarm => "31;1",
    };
    match paint {
        Paint::Plain => text.to_owned(),
        Paint::Colour => format!("\x1b[{colour}m{text}\x1b[0m"),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
