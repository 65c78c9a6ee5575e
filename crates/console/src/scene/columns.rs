//! Few nodes: each is a column, its parts stand in rows that are the same for all, and what goes between nodes runs
//! along lines between the rows.

use super::content::{Column, Flowing, Part, Picture};
use super::{Anchor, Arrow, Block, Flow, Format, Kind, Line, Rect, Scene, Style, Tone};

/// The height of the space between rows that a line with a word on it takes, in units.
const LANE: f64 = 46.0;
/// The space between a row and the next in the same column.
const STEP: f64 = 22.0;
/// How far writes stand left and reads right of a column's middle.
const APART: f64 = 14.0;

pub fn place(picture: Picture, format: &Format) -> Scene {
    let n = picture.columns.len().max(1) as f64;
    let free = format.width - (n - 1.0) * format.gap - 2.0;
    let width = (free / n).min(format.column_width_max);
    let left = (format.width - n * width - (n - 1.0) * format.gap) / 2.0;
    let mut draw = Draw { format, left, width, y: 1.0, blocks: Vec::new(), arrows: Vec::new() };
    draw.all(&picture);
    let Draw { y, blocks, arrows, .. } = draw;
    Scene { width: format.width, height: (y + 1.0).ceil(), blocks, arrows, title: picture.title }
}

struct Draw<'a> {
    format: &'a Format,
    left: f64,
    width: f64,
    /// The next free height.
    y: f64,
    blocks: Vec<Block>,
    arrows: Vec<Arrow>,
}

impl Draw<'_> {
    fn all(&mut self, picture: &Picture) {
        let columns = &picture.columns;
        self.clients(picture);
        let top = self.y;
        let holders = self.blocks.len();
        self.headings(columns);
        let edges = self.row(columns, |c| c.edge.iter().collect());
        let apps_follow = columns.iter().any(|c| !c.apps.is_empty());
        if apps_follow && columns.iter().any(|c| c.edge.is_some()) {
            self.lane_round_robin(columns, edges);
        }
        let apps = self.row(columns, |c| c.apps.iter().collect());
        let routers = columns.iter().any(|c| c.sql.is_some());
        if routers && apps_follow {
            for (i, c) in columns.iter().enumerate().filter(|(_, c)| !c.apps.is_empty() && c.sql.is_some()) {
                let from = self.bottom(apps, i);
                self.line(
                    &[(self.middle(i), from), (self.middle(i), self.y + STEP)],
                    Flow::Requests,
                    !c.alive,
                );
            }
            self.y += STEP;
        }
        let sql = self.row(columns, |c| c.sql.iter().collect());
        if picture.has_database {
            if routers {
                self.lanes_sql(picture, sql);
            }
            let databases = self.row(columns, |c| c.database.iter().collect());
            if columns.iter().filter(|c| c.database.is_some()).count() > 1 {
                self.lane_replication(picture, databases);
            }
        }
        self.y += if columns.iter().any(|c| c.voter.is_some()) { self.format.gap } else { 0.0 };
        let voters = self.row(columns, |c| c.voter.iter().collect());
        let bottom = self.y + self.format.gap;
        self.columns(columns, holders, top, bottom);
        self.y = bottom;
        self.ledger(picture, voters);
    }

    fn clients(&mut self, picture: &Picture) {
        let w = (self.format.width * 0.6).min(280.0);
        let rect = Rect { x: (self.format.width - w) / 2.0, y: self.y, w, h: 34.0 };
        self.blocks.push(self.format.bar(Kind::Clients, Tone::Quiet, rect, &picture.clients));
        let edges: Vec<usize> =
            (0..picture.columns.len()).filter(|i| picture.columns[*i].edge.is_some()).collect();
        let lane = rect.bottom() + 15.0;
        self.y = rect.bottom() + 34.0;
        for i in edges {
            let broken = !picture.columns[i].edge.as_ref().is_some_and(Part::works);
            let (from, to) = (rect.middle(), self.middle(i));
            let points = [(from, rect.bottom()), (from, lane), (to, lane), (to, self.y)];
            self.line(&points, Flow::Requests, broken);
        }
    }

    fn headings(&mut self, columns: &[Column]) {
        let f = self.format;
        let height = if f.narrow { 56.0 } else { 36.0 };
        for (i, c) in columns.iter().enumerate() {
            let (x, room) = (self.x(i) + f.gap.max(8.0), self.width - 2.0 * f.gap.max(8.0));
            let y = self.y + 8.0 + f.title_px;
            let mut lines = Vec::new();
            let mut line = |x: f64, y: f64, anchor, style, text: &str, room: f64| {
                let text = super::fit(text, f.px(style), room);
                lines.push(Line { x, y, anchor, style, text });
            };
            if f.narrow {
                line(x, y, Anchor::Start, Style::Title, &c.name, room);
                line(x, y + f.leading(), Anchor::Start, Style::Detail, &c.address, room);
                line(x, y + 2.0 * f.leading(), Anchor::Start, Style::Mark, &c.state, room);
            } else {
                let state = super::text_width(&c.state, f.detail_px).min(room / 2.0);
                let name = format!("{}  {}", c.name, c.address);
                line(x, y, Anchor::Start, Style::Title, &name, room - state - 8.0);
                line(x + room, y, Anchor::End, Style::Mark, &c.state, room / 2.0);
            }
            let rect = Rect { x: self.x(i), y: self.y, w: self.width, h: 0.0 };
            let tone = if c.alive { Tone::Quiet } else { Tone::Bad };
            let tip = format!("node {}, {}, {}", c.name, c.address, c.state);
            self.blocks.push(Block { kind: Kind::Node, tone, rect, lines, tip });
        }
        self.y += height + if f.narrow { 4.0 } else { 0.0 };
    }

    /// Places each column's parts below one another, all columns' parts in the same rows. Returns the bottom.
    fn row<'p>(&mut self, columns: &'p [Column], parts: impl Fn(&'p Column) -> Vec<&'p Part>) -> f64 {
        let all: Vec<Vec<&Part>> = columns.iter().map(parts).collect();
        let inside = self.width - 2.0 * self.format.gap.min(8.0);
        for level in 0..all.iter().map(Vec::len).max().unwrap_or(0) {
            let here = || all.iter().enumerate().filter_map(|(i, parts)| Some((i, *parts.get(level)?)));
            let h = here().map(|(_, p)| self.format.part_height(p, inside)).fold(0.0, f64::max);
            if level > 0 {
                self.y += 8.0;
            }
            for (i, part) in here() {
                let rect = Rect { x: self.x(i) + self.format.gap.min(8.0), y: self.y, w: inside, h };
                self.blocks.push(self.format.part(part, rect));
            }
            self.y += h;
        }
        self.y
    }

    fn lane_round_robin(&mut self, columns: &[Column], from: f64) {
        let lane = self.y + LANE / 2.0;
        let to = self.y + LANE;
        for (i, c) in columns.iter().enumerate() {
            let middle = (self.format.width / 2.0, lane);
            if let Some(edge) = &c.edge {
                let points = [(self.middle(i), self.bottom(from, i)), (self.middle(i), lane), middle];
                self.plain(&points, Flow::Requests, !edge.works());
            }
            if !c.apps.is_empty() {
                let broken = !c.apps.iter().any(Part::works);
                self.line(&[middle, (self.middle(i), lane), (self.middle(i), to)], Flow::Requests, broken);
            }
        }
        self.blocks.push(self.format.label("round robin", Tone::Quiet, self.format.width / 2.0, lane));
        self.y = to;
    }

    fn lanes_sql(&mut self, picture: &Picture, from: f64) {
        let columns = &picture.columns;
        let with_database: Vec<usize> =
            (0..columns.len()).filter(|i| columns[*i].database.is_some()).collect();
        let primary = with_database.iter().copied().find(|i| columns[*i].is_primary);
        let replicas: Vec<usize> = with_database.iter().copied().filter(|i| columns[*i].is_read).collect();
        let (writes, reads, to) = (self.y + 20.0, self.y + 50.0, self.y + 72.0);
        let (first, last) = (self.between(0), self.between(columns.len().saturating_sub(2)));
        for (i, c) in columns.iter().enumerate().filter(|(_, c)| c.sql.is_some()) {
            let bottom = self.bottom(from, i);
            let (w, r) = (self.middle(i) - APART, self.middle(i) + APART);
            let dead = !c.alive;
            self.plain(
                &[(w, bottom), (w, writes), (first, writes)],
                Flow::Writes,
                dead || !picture.writes.flows,
            );
            self.plain(&[(r, bottom), (r, reads), (last, reads)], Flow::Reads, dead || !picture.reads.flows);
        }
        if let Some(i) = primary {
            let x = self.middle(i) - APART;
            self.line(&[(first, writes), (x, writes), (x, to)], Flow::Writes, false);
        }
        let readers = if replicas.is_empty() { primary.into_iter().collect() } else { replicas };
        for i in readers {
            let x = self.middle(i) + APART;
            self.line(&[(last, reads), (x, reads), (x, to)], Flow::Reads, false);
        }
        self.flowing(&picture.writes, first, writes);
        self.flowing(&picture.reads, last, reads);
        self.y = to;
    }

    fn lane_replication(&mut self, picture: &Picture, from: f64) {
        let lane = self.y + 24.0;
        let primary = picture.columns.iter().position(|c| c.is_primary);
        for (i, c) in picture.columns.iter().enumerate().filter(|(_, c)| c.database.is_some()) {
            let Some(p) = primary.filter(|p| *p != i) else { continue };
            let start = self.bottom(from, p);
            let points = [
                (self.middle(p), start),
                (self.middle(p), lane),
                (self.middle(i), lane),
                (self.middle(i), start),
            ];
            self.line(&points, Flow::Replication, !c.is_replica);
        }
        let x = self.between(0);
        self.flowing(
            &picture.replication,
            if self.format.narrow { self.format.width / 2.0 } else { x },
            lane,
        );
        self.y = lane + 14.0;
    }

    fn ledger(&mut self, picture: &Picture, voters: f64) {
        let (from, top) = (voters, self.y + 14.0);
        for (i, c) in picture.columns.iter().enumerate().filter(|(_, c)| c.voter.is_some()) {
            self.plain(&[(self.middle(i), from), (self.middle(i), top)], Flow::Votes, !c.alive);
        }
        let w = self.format.width - 2.0;
        let rect = Rect { x: 1.0, y: top, w, h: 34.0 };
        let tone = if picture.ledger.flows { Tone::Quiet } else { Tone::Bad };
        self.blocks.push(self.format.bar(Kind::Ledger, tone, rect, &picture.ledger.text));
        self.y = rect.bottom();
    }

    /// Gives the columns, which were begun with their headings, their height.
    fn columns(&mut self, columns: &[Column], first: usize, top: f64, bottom: f64) {
        for block in self.blocks.iter_mut().skip(first).take(columns.len()) {
            (block.rect.y, block.rect.h) = (top, bottom - top);
        }
    }

    fn flowing(&mut self, what: &Flowing, x: f64, y: f64) {
        let tone = if what.flows { Tone::Quiet } else { Tone::Busy };
        self.blocks.push(self.format.label(&what.text, tone, x, y));
    }

    fn x(&self, i: usize) -> f64 {
        self.left + i as f64 * (self.width + self.format.gap)
    }

    fn middle(&self, i: usize) -> f64 {
        self.x(i) + self.width / 2.0
    }

    /// In the space right of column `i`; the middle of the only one.
    fn between(&self, i: usize) -> f64 {
        (self.x(i) + self.width + self.format.gap / 2.0).min(self.format.width - self.left - self.width / 2.0)
    }

    /// Where the lowest part of column `i` at or above `y` ends: rows are as high as their highest column.
    fn bottom(&self, y: f64, i: usize) -> f64 {
        let mine = |b: &&Block| {
            b.kind == Kind::Part && b.rect.x >= self.x(i) && b.rect.right() <= self.x(i) + self.width
        };
        self.blocks.iter().filter(mine).map(|b| b.rect.bottom()).filter(|b| *b <= y).fold(0.0, f64::max)
    }

    fn line(&mut self, points: &[(f64, f64)], flow: Flow, broken: bool) {
        self.arrows.push(Arrow { points: points.to_vec(), flow, broken, head: !broken });
    }

    fn plain(&mut self, points: &[(f64, f64)], flow: Flow, broken: bool) {
        self.arrows.push(Arrow { points: points.to_vec(), flow, broken, head: false });
    }
}
