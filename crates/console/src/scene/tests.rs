//! The diagram for 1 to 20 nodes: nothing overlaps, everything fits.

use tiebeam_watch::{View, fixtures};

use super::*;

fn scenes(view: &View) -> [Scene; 2] {
    [wide(view), tall(view)]
}

fn views() -> Vec<View> {
    let mut views: Vec<View> = (1..=20).map(fixtures::many).collect();
    views.extend([fixtures::healthy(), fixtures::failover()]);
    let mut hostile = fixtures::failover();
    for n in hostile.nodes.values_mut() {
        n.alive = !n.alive;
        n.report_age_ms = Some(u64::MAX);
        for a in &mut n.apps {
            a.id = format!("a/{}", "WWW\u{4e16}".repeat(40));
            a.restarts_total = u64::MAX;
        }
        if let Some(d) = &mut n.database {
            d.lag_bytes = Some(u64::MAX);
            d.lag_ms = Some(u64::MAX);
        }
    }
    views.push(hostile.judged());
    let name: tiebeam_topology::NodeName = "n-23456789-23456789-23456789-2".parse().unwrap();
    let mut long = fixtures::healthy();
    let last = long.nodes.remove(&fixtures::node("c")).unwrap();
    long.nodes.insert(name, last);
    views.push(long);
    let mut edges_only = fixtures::many(4);
    edges_only.database = None;
    for n in edges_only.nodes.values_mut() {
        (n.apps, n.sql, n.database) = (vec![], None, None);
        n.roles = [tiebeam_topology::Role::Edge].into();
    }
    views.push(edges_only);
    views.push(View::new("shop".parse().unwrap(), fixtures::node("a"), 0));
    views
}

fn apart(a: &Rect, b: &Rect) -> bool {
    a.right() <= b.x || b.right() <= a.x || a.bottom() <= b.y || b.bottom() <= a.y
}

fn within(inner: &Rect, outer: &Rect) -> bool {
    inner.x >= outer.x
        && inner.y >= outer.y
        && inner.right() <= outer.right()
        && inner.bottom() <= outer.bottom()
}

#[test]
fn nothing_overlaps_and_all_is_inside() {
    for (v, view) in views().iter().enumerate() {
        for scene in scenes(view) {
            let canvas = Rect { x: 0.0, y: 0.0, w: scene.width, h: scene.height };
            for (i, a) in scene.blocks.iter().enumerate() {
                assert!(a.rect.w > 0.0 && a.rect.h > 0.0 && within(&a.rect, &canvas), "view {v}: {a:?}");
                for b in &scene.blocks[i + 1..] {
                    let held = a.kind.holds() && !b.kind.holds() && within(&b.rect, &a.rect);
                    let on_line = a.kind == Kind::Label || b.kind == Kind::Label;
                    let over_column = on_line && (a.kind.holds() || b.kind.holds());
                    assert!(held || over_column || apart(&a.rect, &b.rect), "view {v}: {a:?}\n{b:?}");
                }
            }
            for (x, y) in scene.arrows.iter().flat_map(|a| &a.points) {
                assert!(
                    (0.0..=scene.width).contains(x) && (0.0..=scene.height).contains(y),
                    "view {v}: {x},{y}"
                );
            }
        }
    }
}

#[test]
fn text_stays_inside_its_block() {
    for (v, view) in views().iter().enumerate() {
        for (scene, format) in scenes(view).into_iter().zip([&WIDE, &TALL]) {
            for block in &scene.blocks {
                for line in &block.lines {
                    let w = text_width(&line.text, format.px(line.style));
                    let (from, to) = match line.anchor {
                        Anchor::Start => (line.x, line.x + w),
                        Anchor::Middle => (line.x - w / 2.0, line.x + w / 2.0),
                        Anchor::End => (line.x - w, line.x),
                    };
                    let inside = from >= block.rect.x && to <= block.rect.right();
                    let high = line.y >= block.rect.y && line.y <= block.rect.bottom();
                    assert!(inside && high, "view {v}: {line:?} in {:?}", block.rect);
                }
            }
        }
    }
}

#[test]
fn no_line_runs_through_a_part_that_it_does_not_touch() {
    for (v, view) in views().iter().enumerate() {
        for scene in scenes(view) {
            let parts = || scene.blocks.iter().filter(|b| b.kind == Kind::Part);
            for arrow in &scene.arrows {
                for leg in arrow.points.windows(2) {
                    let (x1, x2) = (leg[0].0.min(leg[1].0), leg[0].0.max(leg[1].0));
                    let (y1, y2) = (leg[0].1.min(leg[1].1), leg[0].1.max(leg[1].1));
                    for part in parts() {
                        let r = &part.rect;
                        let through = x2 > r.x && x1 < r.right() && y2 > r.y + 0.5 && y1 < r.bottom() - 0.5;
                        assert!(!through, "view {v}: {arrow:?} through {part:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_dead_node_is_dead_in_words_and_in_lines() {
    for scene in scenes(&fixtures::failover()) {
        let node = scene.blocks.iter().find(|b| b.tip.starts_with("node a")).unwrap();
        assert_eq!(node.tone, Tone::Bad);
        assert!(node.lines.iter().any(|l| l.text.contains("DOWN")), "{node:?}");
        assert!(scene.blocks.iter().any(|b| b.tip == "database of a: down, was primary"));
        assert!(scene.arrows.iter().any(|a| a.flow == Flow::Requests && a.broken && !a.head));
        assert!(!scene.arrows.iter().any(|a| a.flow == Flow::Writes && !a.broken), "no one takes writes");
        assert!(scene.blocks.iter().any(|b| b.kind == Kind::Label && b.tip == "writes wait: 14"));
        let reads = scene.arrows.iter().filter(|a| a.flow == Flow::Reads && a.head);
        assert_eq!(reads.count(), 2, "replicas answer reads without a primary");
    }
}

#[test]
fn each_replica_has_its_arrow_from_the_primary() {
    for scene in scenes(&fixtures::healthy()) {
        let streams = scene.arrows.iter().filter(|a| a.flow == Flow::Replication && a.head && !a.broken);
        assert_eq!(streams.count(), 2);
        let writes = scene.arrows.iter().filter(|a| a.flow == Flow::Writes && a.head);
        assert_eq!(writes.count(), 1, "one primary");
    }
}
