//! The status screen: goldens, and that it always fits.

use super::*;
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
