//! The live picture: a view laid out as boxes and arrows. Pure: no clock, no markup; `svg` draws what is placed here.
//!
//! Two drawings are made of the same content: a wide one for a screen and a tall one for a telephone. With few nodes
//! each node is a column and its parts are rows (`columns`); with more than fit side by side, each tier is a band
//! with a grid of its parts (`grid`).

mod columns;
mod content;
mod grid;
#[cfg(test)]
mod tests;

use tiebeam_watch::View;

/// Units of the drawing; at its natural size one is a CSS pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

impl Rect {
    pub fn middle(&self) -> f64 {
        self.x + self.w / 2.0
    }

    pub fn bottom(&self) -> f64 {
        self.y + self.h
    }

    pub fn right(&self) -> f64 {
        self.x + self.w
    }
}

/// How a part is. Drawn by colour, and by line and sign too, for those who do not see colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    Quiet,
    Good,
    /// The primary.
    Strong,
    /// On its way: draining, probing, starting, waiting.
    Busy,
    Bad,
}

impl Tone {
    pub fn class(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Good => "good",
            Self::Strong => "strong",
            Self::Busy => "busy",
            Self::Bad => "bad",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Clients,
    /// A node's column: holds parts.
    Node,
    /// A tier's band: holds parts.
    Tier,
    /// An edge, an instance, a router, a database, a voter.
    Part,
    Ledger,
    /// A word on a line.
    Label,
}

impl Kind {
    pub fn class(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Node => "node",
            Self::Tier => "tier",
            Self::Part => "part",
            Self::Ledger => "ledger",
            Self::Label => "label",
        }
    }

    /// It may hold other blocks.
    pub fn holds(self) -> bool {
        matches!(self, Self::Node | Self::Tier)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub kind: Kind,
    pub tone: Tone,
    pub rect: Rect,
    pub lines: Vec<Line>,
    /// What a pointer or a screen reader gets: the whole text, uncut.
    pub tip: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Title,
    Mark,
    Detail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A line of text; `y` is its baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub x: f64,
    pub y: f64,
    pub anchor: Anchor,
    pub style: Style,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Requests,
    Writes,
    Reads,
    Replication,
    Votes,
}

impl Flow {
    pub fn class(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Writes => "writes",
            Self::Reads => "reads",
            Self::Replication => "replication",
            Self::Votes => "votes",
        }
    }
}

/// A line along points, with a head at the last one or without.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrow {
    pub points: Vec<(f64, f64)>,
    pub flow: Flow,
    /// Nothing flows now: drawn broken, without a head.
    pub broken: bool,
    pub head: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    pub width: f64,
    pub height: f64,
    /// Holders come before what they hold.
    pub blocks: Vec<Block>,
    pub arrows: Vec<Arrow>,
    /// The picture in one sentence.
    pub title: String,
}

/// For screens of 900 CSS pixels and more.
pub fn wide(view: &View) -> Scene {
    scene(view, &WIDE)
}

/// For narrower ones: at 390 CSS pixels the text has its natural size.
pub fn tall(view: &View) -> Scene {
    scene(view, &TALL)
}

fn scene(view: &View, format: &Format) -> Scene {
    let picture = content::picture(view, format.narrow);
    match picture.columns.len() {
        n if n <= format.columns_max => columns::place(picture, format),
        _ => grid::place(picture, format),
    }
}

/// The measures of a drawing.
struct Format {
    width: f64,
    /// Between columns, and around parts within their column.
    gap: f64,
    columns_max: usize,
    column_width_max: f64,
    /// Parts beside one another in a band.
    grid: usize,
    title_px: f64,
    detail_px: f64,
    narrow: bool,
}

const WIDE: Format = Format {
    width: 1080.0,
    gap: 16.0,
    columns_max: 5,
    column_width_max: 350.0,
    grid: 6,
    title_px: 14.0,
    detail_px: 12.5,
    narrow: false,
};

const TALL: Format = Format {
    width: 358.0,
    gap: 7.0,
    columns_max: 3,
    column_width_max: 260.0,
    grid: 3,
    title_px: 13.0,
    detail_px: 11.5,
    narrow: true,
};

impl Format {
    /// The size to estimate a line's width with: titles are bold, which is wider.
    fn px(&self, style: Style) -> f64 {
        match style {
            Style::Title => self.title_px * 1.1,
            Style::Mark | Style::Detail => self.detail_px,
        }
    }

    /// From one baseline to the next.
    fn leading(&self) -> f64 {
        self.detail_px + 4.0
    }
}

/// How wide a text is at most, in units: an estimate on the safe side for the sans-serif fonts of common systems.
pub fn text_width(text: &str, px: f64) -> f64 {
    let em = |c: char| match c {
        'i' | 'l' | 'j' | '.' | ',' | ':' | ';' | '|' | '\'' | '!' | ' ' => 0.32,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.92,
        c if c.is_ascii_uppercase() => 0.72,
        c if c.is_ascii() => 0.59,
        _ => 0.9,
    };
    text.chars().map(em).sum::<f64>() * px
}

/// The text, cut with `…` to what fits.
fn fit(text: &str, px: f64, width: f64) -> String {
    if text_width(text, px) <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        if text_width(&short, px) + 0.9 * px > width {
            short.pop();
            break;
        }
    }
    short.push('…');
    short
}

impl Format {
    /// A part at `(x, y)`, filled with its text. The mark stands at the right of the title, or below it where the
    /// drawing is narrow.
    fn part(&self, part: &content::Part, rect: Rect) -> Block {
        let pad = if self.narrow { 7.0 } else { 11.0 };
        let room = rect.w - 2.0 * pad;
        let mut lines = Vec::new();
        let mut y = rect.y + pad + self.title_px * 0.75;
        let mark = format!("{} {}", sign(part.tone), part.mark);
        let mut line = |x: f64, y: f64, anchor: Anchor, style: Style, text: &str, room: f64| {
            let text = fit(text, self.px(style), room);
            lines.push(Line { x, y, anchor, style, text });
        };
        let beside = room - text_width(&part.title, self.px(Style::Title)) - 8.0;
        if !self.narrow && beside >= text_width(&mark, self.detail_px) {
            line(rect.x + pad, y, Anchor::Start, Style::Title, &part.title, room);
            line(rect.right() - pad, y, Anchor::End, Style::Mark, &mark, beside);
        } else {
            line(rect.x + pad, y, Anchor::Start, Style::Title, &part.title, room);
            y += self.leading();
            line(rect.x + pad, y, Anchor::Start, Style::Mark, &mark, room);
        }
        for detail in &part.details {
            y += self.leading();
            line(rect.x + pad, y, Anchor::Start, Style::Detail, detail, room);
        }
        Block { kind: Kind::Part, tone: part.tone, rect, lines, tip: part.tip() }
    }

    /// How high a part of this width must be for its text.
    fn part_height(&self, part: &content::Part, width: f64) -> f64 {
        let probe = self.part(part, Rect { x: 0.0, y: 0.0, w: width, h: 0.0 });
        let last = probe.lines.iter().map(|l| l.y).fold(0.0, f64::max);
        (last + if self.narrow { 8.0 } else { 11.0 }).ceil()
    }

    /// A word on a line, centred on a point.
    fn label(&self, text: &str, tone: Tone, x: f64, y: f64) -> Block {
        let room = self.width - 4.0 * self.gap;
        let short = fit(text, self.detail_px, room);
        let w = text_width(&short, self.detail_px) + 16.0;
        let h = self.detail_px + 9.0;
        let x = x.clamp(w / 2.0 + 1.0, self.width - w / 2.0 - 1.0);
        let rect = Rect { x: x - w / 2.0, y: y - h / 2.0, w, h };
        let baseline = y + self.detail_px * 0.35;
        let line = Line { x, y: baseline, anchor: Anchor::Middle, style: Style::Mark, text: short };
        Block { kind: Kind::Label, tone, rect, lines: vec![line], tip: text.to_owned() }
    }

    /// One box over the whole width, or less, with one line in its middle.
    fn bar(&self, kind: Kind, tone: Tone, rect: Rect, text: &str) -> Block {
        let short = fit(text, self.detail_px, rect.w - 2.0 * self.gap);
        let y = rect.y + rect.h / 2.0 + self.detail_px * 0.35;
        let line = Line { x: rect.middle(), y, anchor: Anchor::Middle, style: Style::Mark, text: short };
        Block { kind, tone, rect, lines: vec![line], tip: text.to_owned() }
    }
}

/// The state as a sign, so that it does not hang on colour.
fn sign(tone: Tone) -> char {
    match tone {
        Tone::Quiet => '○',
        Tone::Good => '●',
        Tone::Strong => '◆',
        Tone::Busy => '▲',
        Tone::Bad => '✕',
    }
}
