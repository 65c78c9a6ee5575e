//! The page as HTML: goldens, hostile text, nothing inline or from elsewhere.

use tiebeam_watch::{Event, fixtures};

use super::*;

fn html(view: &View) -> String {
    page(view, Some(0.0), view.unix_ms).render().unwrap()
}

#[test]
fn healthy() {
    insta::assert_snapshot!(html(&fixtures::healthy()));
}

#[test]
fn failover() {
    insta::assert_snapshot!(html(&fixtures::failover()));
}

#[test]
fn hostile_text_stays_text() {
    const HOSTILE: &str = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&";
    let mut view = fixtures::failover();
    for e in &mut view.events {
        e.text = HOSTILE.into();
    }
    let database = view.database.as_mut().unwrap();
    (database.durability, database.stopped_because) = (HOSTILE.into(), Some(HOSTILE.into()));
    for n in view.nodes.values_mut() {
        n.version = HOSTILE.into();
        n.apps.iter_mut().for_each(|a| a.id = HOSTILE.into());
        for pool in n.edge.iter_mut().flat_map(|e| &mut e.pools) {
            pool.name = HOSTILE.into();
            pool.servers.iter_mut().for_each(|s| s.id = HOSTILE.into());
        }
    }
    let html = html(&view.judged());
    assert!(html.contains("alert(1)"), "it is shown");
    assert!(!html.contains("<img") && !html.contains("<script>"), "as text");
    assert_eq!(html.matches("</script>").count(), 2, "only the page's own");
}

#[test]
fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
    for view in [fixtures::healthy(), fixtures::failover(), fixtures::many(20)] {
        let html = html(&view);
        assert!(!html.contains(" style=") && !html.contains("<style"), "inline style");
        let handler = |word: &str| word.starts_with("on") && word.contains("=\"");
        assert!(!html.split_ascii_whitespace().any(handler), "inline script");
        assert!(
            !html.contains("http:") && !html.contains("https:") && !html.contains("//"),
            "from elsewhere"
        );
    }
}

#[test]
fn an_old_view_says_how_old_it_is() {
    let view = fixtures::healthy();
    let old = page(&view, None, view.unix_ms + 42_000).render().unwrap();
    assert!(old.contains("This is how it was 42 s ago"));
    assert!(!html(&view).contains("This is how it was"));
}

#[test]
fn the_timeline_is_bounded() {
    let mut view = fixtures::healthy();
    let event = |i| Event { unix_ms: i, node: None, level: Level::Info, text: format!("event-{i}.") };
    view.events = (0..500).map(event).collect();
    let html = html(&view.judged());
    assert!(html.contains("event-49.") && !html.contains("event-50."));
}

#[test]
fn a_cluster_without_a_database_shows_none() {
    let mut view = fixtures::healthy();
    view.database = None;
    view.nodes.values_mut().for_each(|n| (n.sql, n.database) = (None, None));
    let html = html(&view.judged());
    assert!(!html.contains("Primary") && !html.contains("lag-curve") && !html.contains("SQL routers"));
}
