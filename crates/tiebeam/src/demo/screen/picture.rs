//! The live diagram of the demo's terminal as lines of text: a pure function of what was seen.

use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use tiebeam_topology::Role;
use tiebeam_watch::{DatabaseRole, NodeView, View};

use crate::demo::drills::Running;
use crate::demo::receipt::{Drill, Tally};

/// Width of one node's column, characters.
const COLUMN: usize = 24;
/// Events and drills that fit one screen.
const EVENTS_SHOWN: usize = 6;
const DRILLS_SHOWN: usize = 5;

pub fn lines<'a>(
    view: Option<&View>,
    tally: &Tally,
    out_of_turn: u64,
    (running, waiting): (Option<&Running>, usize),
    done: &[Drill],
    said: &str,
    (page, console): (&str, &str),
) -> Vec<Line<'a>> {
    let mut lines = vec![
        Line::from(vec![
            " Tiebeam demo ".bold().reversed(),
            format!("  page {page}   console {console}").into(),
        ]),
        Line::default(),
    ];
    if let Some(view) = view {
        lines.extend(diagram(view));
    }
    lines.push(Line::default());
    lines.push(Line::from(format!(
        " requests {} ok, {} failed   out of turn {out_of_turn}",
        tally.requests.ok, tally.requests.failed
    )));
    lines.push(Line::from(vec![
        format!(" writes   {} acknowledged, {} unknown   ", tally.acknowledged.len(), tally.unknown).into(),
        match tally.missing.len() {
            0 => "0 lost so far".fg(Color::Green),
            n => format!("{n} lost so far").fg(Color::Red).bold(),
        },
        " (the receipt reads all of them back)".dim(),
    ]));
    lines.push(Line::default());
    let mut state = vec![Span::from(" ")];
    if let Some(r) = running {
        state.push(format!("{} on {} ...  ", r.fault, r.node).fg(Color::Yellow).bold());
    }
    if waiting > 0 {
        state.push(format!("{waiting} more to come  ").fg(Color::Yellow));
    }
    let said = said.replace(|c: char| c.is_control(), " ");
    state.push(said.dim());
    lines.push(Line::from(state));
    for d in done.iter().rev().take(DRILLS_SHOWN) {
        let result = match d.recovered_ms {
            Some(ms) => format!("writes back after {ms} ms").fg(Color::Green),
            None => "writes did not come back".fg(Color::Red),
        };
        lines.push(Line::from(vec![format!("   {:<13} {}  ", d.name, d.node).into(), result]));
    }
    lines.push(Line::default());
    for event in view.into_iter().flat_map(|v| v.events.iter().take(EVENTS_SHOWN)) {
        let text = event.text.replace(|c: char| c.is_control(), " ");
        lines.push(Line::from(format!("   {text}")).dim());
    }
    lines.push(Line::default());
    lines.push(Line::from(
        " kill: [a]pp  [e]dge  [p]rimary  primary's [n]ode   [z] pause its agent   [q]uit with the receipt",
    ));
    lines
}

/// One column a node, one row a layer.
fn diagram<'a>(view: &View) -> Vec<Line<'a>> {
    let row = |title: &str, cell: &dyn Fn(&NodeView) -> (String, Style)| {
        let mut spans = vec![Span::from(format!(" {title:<10}")).dim()];
        for node in view.nodes.values() {
            let (text, style) = if node.alive {
                cell(node)
            } else if title == "node" {
                ("down".into(), Style::new().fg(Color::Red).add_modifier(Modifier::BOLD))
            } else {
                (String::new(), Style::new())
            };
            let text: String = text.chars().take(COLUMN - 2).collect();
            spans.push(Span::styled(format!("{text:<COLUMN$}"), style));
        }
        Line::from(spans)
    };
    let plain = Style::new();
    let good = Style::new().fg(Color::Green);
    let bad = Style::new().fg(Color::Yellow);
    let mut names = vec![Span::from(format!(" {:<10}", ""))];
    names.extend(view.nodes.keys().map(|n| Span::from(format!("{:<COLUMN$}", n.as_str())).bold()));
    vec![
        Line::from(names),
        row("node", &|n| (n.address.to_string(), plain)),
        row("edge", &|n| match &n.edge {
            Some(e) => (format!("answering, {:.0}/s", e.requests_per_s), good),
            None => ("-".into(), plain),
        }),
        row("apps", &|n| match n.apps.first() {
            Some(i) if i.ready => (format!("{} ready", i.id), good),
            Some(i) => (format!("{} {}", i.id, i.state.word()), bad),
            None => ("-".into(), plain),
        }),
        row("sql", &|n| match &n.sql {
            Some(s) if s.held > 0 => (format!("{} writes held", s.held), bad),
            Some(s) => (format!("{:.0}/s", s.statements_per_s), good),
            None => ("-".into(), plain),
        }),
        row("database", &|n| match (&n.database, n.roles.contains(&Role::Database)) {
            (Some(d), _) if d.role == DatabaseRole::Primary => {
                ("PRIMARY".into(), good.add_modifier(Modifier::BOLD))
            }
            (Some(d), _) if d.streaming => {
                (format!("replica, {} B behind", d.lag_bytes.unwrap_or(0)), if d.sync { good } else { bad })
            }
            (Some(d), _) => (d.role.word().into(), bad),
            (None, true) => ("starting".into(), bad),
            (None, false) => ("-".into(), plain),
        }),
        row("ledger", &|n| {
            let leads = view
                .ledger
                .leader
                .as_ref()
                .and_then(|l| view.nodes.get(l))
                .is_some_and(|l| l.address == n.address);
            (if leads { "leader".into() } else { "voter".into() }, plain)
        }),
    ]
}

#[cfg(test)]
mod tests {
    use tiebeam_watch::fixtures;

    use super::*;

    fn drawn(view: Option<&View>, tally: &Tally, waiting: usize, said: &str) -> String {
        let links = ("http://127.0.0.1:8080/", "http://127.0.0.1:7480/");
        let lines = lines(view, tally, 0, (None, waiting), &[], said, links);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn before_anything_answers_it_says_what_is_waited_for_and_which_keys_there_are() {
        let text = drawn(None, &Tally::default(), 0, "waiting: no node answers yet");
        assert!(text.contains("waiting: no node answers yet") && text.contains("[q]uit"), "{text}");
    }

    #[test]
    fn what_is_down_what_waits_and_what_is_missing_is_seen() {
        let mut tally = Tally::default();
        assert!(drawn(Some(&fixtures::healthy()), &tally, 0, "").contains("0 lost so far"));
        tally.missing = [7, 8].into();
        let text = drawn(Some(&fixtures::failover()), &tally, 3, "a message\x1b[2J");
        for part in ["down", "7 writes held", "2 lost so far", "3 more to come", "a message"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains('\x1b'), "{text}");
        assert!(text.lines().count() <= 24, "{text}");
    }
}
