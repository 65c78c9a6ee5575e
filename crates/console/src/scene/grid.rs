//! Many nodes: each tier is a band with a grid of its parts, one below the other, and one arrow from band to band.

use super::content::{Part, Picture};
use super::{Anchor, Arrow, Block, Flow, Format, Kind, Line, Rect, Scene, Style, Tone, fit};

/// Between two bands, in units.
const LANE: f64 = 44.0;

pub fn place(picture: Picture, format: &Format) -> Scene {
    let mut draw = Draw { format, y: 1.0, blocks: Vec::new(), arrows: Vec::new() };
    let w = (format.width * 0.6).min(280.0);
    let rect = Rect { x: (format.width - w) / 2.0, y: draw.y, w, h: 34.0 };
    draw.blocks.push(format.bar(Kind::Clients, Tone::Quiet, rect, &picture.clients));
    draw.y = rect.bottom();
    let columns = &picture.columns;
    let named = |part: &Part, node: &str| {
        let title = match part.title.as_str() {
            "edge" | "sql" | "sql router" | "voter" => node.to_owned(),
            other => format!("{node} {other}"),
        };
        // The line is better short here: of a router the speed, of an edge the requests, of the others all.
        let short = |d: &String| match part.title.as_str() {
            "sql" | "sql router" => d.rsplit(" · ").next().unwrap_or(d).to_owned(),
            "edge" => d.split(" · ").next().unwrap_or(d).to_owned(),
            _ => d.clone(),
        };
        let details = part.details.iter().take(1).map(short);
        Part { title, details: details.collect(), ..part.clone() }
    };
    let of = |parts: fn(&super::content::Column) -> Vec<&Part>| -> Vec<Part> {
        columns
            .iter()
            .flat_map(|c| parts(c).into_iter().map(|p| named(p, &c.name)).collect::<Vec<_>>())
            .collect()
    };
    draw.band("edges", "answer", of(|c| c.edge.iter().collect()), "", Flow::Requests, true);
    draw.band("apps", "serve", of(|c| c.apps.iter().collect()), "round robin", Flow::Requests, true);
    draw.band(
        "sql routers",
        "route",
        of(|c| c.sql.iter().collect()),
        "each to its own",
        Flow::Requests,
        true,
    );
    if picture.has_database {
        let lane = format!("{} and {}", picture.writes.text, picture.reads.text);
        let databases = of(|c| c.database.iter().collect());
        draw.band("databases", "work", databases, &lane, Flow::Writes, picture.writes.flows);
        draw.note(&picture.replication.text, picture.replication.flows);
    }
    let voters = of(|c| c.voter.iter().collect());
    draw.band("voters", "vote", voters, "", Flow::Votes, picture.ledger.flows);
    let rect = Rect { x: 1.0, y: draw.y + 14.0, w: format.width - 2.0, h: 34.0 };
    let tone = if picture.ledger.flows { Tone::Quiet } else { Tone::Bad };
    draw.blocks.push(format.bar(Kind::Ledger, tone, rect, &picture.ledger.text));
    let height = (rect.bottom() + 1.0).ceil();
    Scene { width: format.width, height, blocks: draw.blocks, arrows: draw.arrows, title: picture.title }
}

struct Draw<'a> {
    format: &'a Format,
    y: f64,
    blocks: Vec<Block>,
    arrows: Vec<Arrow>,
}

impl Draw<'_> {
    /// A band with its parts, and the arrow that comes to it. Nothing for a tier without parts.
    fn band(&mut self, name: &str, verb: &str, parts: Vec<Part>, lane: &str, flow: Flow, flows: bool) {
        if parts.is_empty() {
            return;
        }
        let f = self.format;
        let middle = f.width / 2.0;
        let top = self.y + LANE;
        let (points, broken) = (vec![(middle, self.y), (middle, top)], !flows);
        self.arrows.push(Arrow { points, flow, broken, head: flows && flow != Flow::Votes });
        if !lane.is_empty() {
            let tone = if flows { Tone::Quiet } else { Tone::Busy };
            self.blocks.push(f.label(lane, tone, middle, self.y + LANE / 2.0 - 3.0));
        }
        let work = parts.iter().filter(|p| p.works()).count();
        let heading = format!("{name}: {work} of {} {verb}", parts.len());
        let x = 1.0 + f.gap;
        let text = fit(&heading, f.px(Style::Title), f.width - 2.0 * x);
        let line = Line { x, y: top + 8.0 + f.title_px, anchor: Anchor::Start, style: Style::Title, text };
        let band = self.blocks.len();
        let rect = Rect { x: 1.0, y: top, w: f.width - 2.0, h: 0.0 };
        let tone = if work == 0 { Tone::Bad } else { Tone::Quiet };
        self.blocks.push(Block { kind: Kind::Tier, tone, rect, lines: vec![line], tip: heading });
        let across = f.grid as f64;
        let w = (f.width - 2.0 * x - (across - 1.0) * f.gap) / across;
        let h = parts.iter().map(|p| f.part_height(p, w)).fold(0.0, f64::max);
        let mut bottom = top;
        for (i, part) in parts.iter().enumerate() {
            let (row, column) = ((i / f.grid) as f64, (i % f.grid) as f64);
            let y = top + f.title_px + 20.0 + row * (h + f.gap);
            let rect = Rect { x: x + column * (w + f.gap), y, w, h };
            self.blocks.push(f.part(part, rect));
            bottom = rect.bottom();
        }
        self.y = bottom + f.gap;
        self.blocks[band].rect.h = self.y - top;
    }

    /// A word below the last band.
    fn note(&mut self, text: &str, flows: bool) {
        let tone = if flows { Tone::Quiet } else { Tone::Busy };
        let y = self.y + 18.0;
        self.blocks.push(self.format.label(text, tone, self.format.width / 2.0, y));
        self.y = y + 10.0;
    }
}
