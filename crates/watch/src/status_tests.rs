//! The status screen: goldens, and that it always fits.

use super::*;
use crate::Finding;
use crate::fixtures;

#[test]
fn healthy() {
    insta::assert_snapshot!(status(&fixtures::healthy(), Paint::Plain));
}

#[test]
fn failover() {
    insta::assert_snapshot!(status(&fixtures::failover(), Paint::Plain));
}

#[test]
fn every_screen_fits() {
    for count in 1..=20 {
        let text = status(&fixtures::many(count), Paint::Plain);
        assert!(text.lines().count() < HEIGHT, "{count} nodes:\n{text}");
        assert!(text.lines().all(|l| l.chars().count() <= WIDTH), "{count} nodes:\n{text}");
        assert!(text.lines().last().unwrap().starts_with("Next: tiebeam "), "{text}");
    }
    let mut view = fixtures::failover();
    view.nodes.values_mut().for_each(|n| n.alive = false);
    view.ledger.quorum = false;
    let view = view.judged();
    let text = status(&view, Paint::Plain);
    assert!(text.lines().count() < HEIGHT && text.lines().all(|l| l.chars().count() <= WIDTH), "{text}");
}

#[test]
fn what_to_do_is_never_cut_off() {
    let mut view = fixtures::failover();
    let remedy = "start node c, or, if its disk is gone for good, tell the cluster so and accept the loss";
    let why = format!(
        "a and c are the only nodes that must have every acknowledged commit, and neither answers: {remedy}"
    );
    view.database.as_mut().unwrap().stopped_because = Some(why.clone());
    let view = view.judged();
    let text = status(&view, Paint::Plain);
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(&format!("Writes are stopped: {why}.")), "{text}");
    assert!(text.lines().count() < HEIGHT && text.lines().all(|l| l.chars().count() <= WIDTH), "{text}");
}

#[test]
fn findings_without_room_are_counted() {
    let mut view = fixtures::many(20);
    let finding = |n: usize| Finding { level: Level::Warning, text: format!("{n}: {}", "words ".repeat(20)) };
    view.verdict.findings = (0..9).map(finding).collect();
    let text = status(&view, Paint::Plain);
    assert!(text.contains("2: words") && !text.contains("3: words"), "{text}");
    assert!(text.contains("  … and 6 more\n"), "{text}");
    assert!(text.lines().count() < HEIGHT, "{text}");
}

#[test]
fn colour_changes_nothing_but_colour() {
    for view in [fixtures::healthy(), fixtures::failover()] {
        let mut colour = status(&view, Paint::Colour);
        assert!(colour.contains("\x1b["));
        for code in ["\x1b[32m", "\x1b[33m", "\x1b[31;1m", "\x1b[0m"] {
            colour = colour.replace(code, "");
        }
        assert_eq!(colour, status(&view, Paint::Plain));
    }
}

#[test]
fn an_events_text_cannot_steer_the_terminal() {
    let mut view = fixtures::healthy();
    view.events[0].text = format!("\x1b[2J\x1b[0m\r\n{}", "x".repeat(500));
    let text = status(&view, Paint::Plain);
    assert!(!text.contains('\x1b') && !text.contains('\r'));
    assert!(text.lines().all(|l| l.chars().count() <= WIDTH));
}
