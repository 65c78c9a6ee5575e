//! A scene as inline SVG. It places nothing: every coordinate comes from the scene, every colour from the page's
//! style sheet by class. All text is escaped here.

use std::fmt::Write;

use crate::scene::{Anchor, Arrow, Block, Kind, Scene, Style, Tone};

/// The `<svg>` element. `id` must be unique on the page; it is the class of the element too.
pub fn svg(scene: &Scene, id: &str) -> String {
    let mut out = String::with_capacity(16 * 1024);
    // Writing to a String does not fail.
    let _ = draw(&mut out, scene, id);
    out
}

fn draw(out: &mut String, scene: &Scene, id: &str) -> std::fmt::Result {
    let (w, h) = (scene.width, scene.height);
    write!(out, r#"<svg class="scene {id}" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" "#)?;
    write!(out, r#"aria-labelledby="{id}-title"><title id="{id}-title">{}</title>"#, escape(&scene.title))?;
    write!(out, r#"<defs><pattern id="{id}-hatch" width="8" height="8" patternUnits="userSpaceOnUse" "#)?;
    out.push_str(r#"patternTransform="rotate(45)"><path class="hatch" d="M0 0V8"/></pattern></defs>"#);
    for holder in scene.blocks.iter().filter(|b| b.kind.holds()) {
        block(out, holder, id)?;
    }
    for broken in [true, false] {
        for line in scene.arrows.iter().filter(|a| a.broken == broken) {
            arrow(out, line)?;
        }
    }
    for part in scene.blocks.iter().filter(|b| !b.kind.holds()) {
        block(out, part, id)?;
    }
    out.push_str("</svg>");
    Ok(())
}

fn block(out: &mut String, block: &Block, id: &str) -> std::fmt::Result {
    let r = &block.rect;
    let radius = match block.kind {
        Kind::Label => r.h / 2.0,
        Kind::Node | Kind::Tier => 12.0,
        _ => 8.0,
    };
    let shape = |out: &mut String, extra: &str| {
        let (x, y, w, h) = (round(r.x), round(r.y), round(r.w), round(r.h));
        write!(out, r#"<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="{radius}"{extra}/>"#)
    };
    write!(out, r#"<g class="{} {}">"#, block.kind.class(), block.tone.class())?;
    if !block.tip.is_empty() {
        write!(out, "<title>{}</title>", escape(&block.tip))?;
    }
    shape(out, "")?;
    if block.kind == Kind::Node && block.tone == Tone::Bad {
        shape(out, &format!(r#" class="dead" fill="url(#{id}-hatch)""#))?;
    }
    for line in &block.lines {
        let class = match line.style {
            Style::Title => "t",
            Style::Mark => "m",
            Style::Detail => "d",
        };
        let anchor = match line.anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let (x, y) = (round(line.x), round(line.y));
        write!(out, r#"<text class="{class}" x="{x}" y="{y}"{anchor}>{}</text>"#, escape(&line.text))?;
    }
    out.push_str("</g>");
    Ok(())
}

fn arrow(out: &mut String, arrow: &Arrow) -> std::fmt::Result {
    let Some((last, before)) = arrow.points.split_last() else { return Ok(()) };
    let broken = if arrow.broken { " broken" } else { "" };
    write!(out, r#"<g class="line {}{broken}"><path d=""#, arrow.flow.class())?;
    for (i, (x, y)) in arrow.points.iter().enumerate() {
        write!(out, "{}{} {}", if i == 0 { 'M' } else { 'L' }, round(*x), round(*y))?;
    }
    out.push_str(r#""/>"#);
    if arrow.head
        && let Some(from) = before.last()
    {
        let (dx, dy) = ((last.0 - from.0).signum(), (last.1 - from.1).signum());
        let straight_down = (last.0 - from.0).abs() < (last.1 - from.1).abs();
        let (back, side) = (7.0, 4.0);
        let (a, b) = if straight_down {
            ((last.0 - side, last.1 - dy * back), (last.0 + side, last.1 - dy * back))
        } else {
            ((last.0 - dx * back, last.1 - side), (last.0 - dx * back, last.1 + side))
        };
        let p = |(x, y): (f64, f64)| format!("{} {}", round(x), round(y));
        write!(out, r#"<path class="head" d="M{}L{}L{}Z"/>"#, p(*last), p(a), p(b))?;
    }
    out.push_str("</g>");
    Ok(())
}

/// One decimal is finer than a pixel, and the text stays short.
fn round(n: f64) -> f64 {
    (n * 10.0).round() / 10.0
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
