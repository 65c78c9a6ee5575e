//! What the demo shows: a live diagram on a terminal with keys that kill, or plain lines of progress without one.

use std::path::Path;
use std::time::Instant;

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::widgets::Paragraph;
use tiebeam_topology::Cluster;

use super::client::Notes;
use super::drills::{Fault, Running};
use super::observer::Seen;
use super::receipt::Drill;
use crate::cli::talk;

mod picture;

/// What a person asked for.
pub enum Key {
    Quit,
    Fault(Fault),
}

pub struct Screen {
    terminal: Option<Terminal<CrosstermBackend<std::io::Stdout>>>,
    started: Instant,
    /// The last line of progress, and what is waited for.
    said: String,
    console: String,
    page: String,
    /// Said on stderr once the terminal is a plain one again.
    notes: Vec<String>,
}

impl Screen {
    pub fn new(headless: bool, cluster: &Cluster, folder: &Path) -> anyhow::Result<Self> {
        let first = cluster.nodes.keys().next();
        let console =
            first.and_then(|n| cluster.console_address(n)).map_or(String::new(), |a| format!("http://{a}/"));
        let http = cluster.edge.as_ref().and_then(|e| e.http);
        let page = http.map_or(String::new(), |p| format!("http://127.0.0.1:{p}/"));
        let terminal = if headless { None } else { Some(open_terminal()?) };
        let (started, said, notes) = (Instant::now(), String::new(), Vec::new());
        let mut screen = Self { terminal, started, said, console, page, notes };
        screen.progress(&format!("three nodes start in {}", folder.display()));
        screen.progress(&format!("the page {}  the console {}", screen.page, screen.console));
        Ok(screen)
    }

    /// Something happened that a person wants to know.
    pub fn progress(&mut self, text: &str) {
        if self.terminal.is_none() {
            talk(format_args!("{:6.1} s  {text}", self.started.elapsed().as_secs_f32()));
        }
        self.said = text.to_owned();
    }

    /// Something that must still be there to read when the demo has ended.
    pub fn note(&mut self, text: String) {
        if self.terminal.is_none() {
            talk(text);
        } else {
            self.notes.push(text);
        }
    }

    /// What the start waits for; said once for each thing.
    pub fn waiting(&mut self, what: &str) {
        let text = format!("waiting: {what}");
        if self.said != text {
            self.progress(&text);
        }
    }

    pub fn drill(&mut self, drill: &Drill) {
        let recovered = match drill.recovered_ms {
            Some(ms) => format!("writes were back after {ms} ms"),
            None => "writes did not come back".into(),
        };
        self.progress(&format!(
            "{} on {}: {recovered}, {} request(s) failed",
            drill.name, drill.node, drill.failed_requests
        ));
    }

    /// Draws the state and takes one key, if there is a terminal. A terminal that is gone is one that was closed.
    pub fn draw(
        &mut self,
        seen: &Seen,
        notes: &Notes,
        drills: (Option<&Running>, usize),
        done: &[Drill],
    ) -> Option<Key> {
        let terminal = self.terminal.as_mut()?;
        let lines = notes.with(|tally| {
            let links = (self.page.as_str(), self.console.as_str());
            picture::lines(seen.view.as_deref(), tally, seen.out_of_turn, drills, done, &self.said, links)
        });
        let drawn = terminal.draw(|frame| frame.render_widget(Paragraph::new(lines), frame.area()));
        match drawn.and_then(|_| key()) {
            Ok(key) => key,
            Err(error) => {
                self.close();
                self.progress(&format!("the terminal is gone ({error}): the demo ends"));
                Some(Key::Quit)
            }
        }
    }

    fn close(&mut self) {
        if self.terminal.take().is_some() {
            ratatui::restore();
        }
        self.notes.drain(..).for_each(talk);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

fn open_terminal() -> anyhow::Result<Terminal<CrosstermBackend<std::io::Stdout>>> {
    // It also restores the terminal when this program panics.
    Ok(ratatui::try_init()?)
}

/// A key that was pressed, without waiting.
fn key() -> std::io::Result<Option<Key>> {
    while event::poll(std::time::Duration::ZERO)? {
        let Event::Key(key) = event::read()? else { continue };
        if key.kind != KeyEventKind::Press {
            continue;
        }
        let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        return Ok(match key.code {
            _ if control_c => Some(Key::Quit),
            KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
            KeyCode::Char('a') => Some(Key::Fault(Fault::KillApp)),
            KeyCode::Char('e') => Some(Key::Fault(Fault::KillEdge)),
            KeyCode::Char('p') => Some(Key::Fault(Fault::KillPrimary)),
            KeyCode::Char('n') => Some(Key::Fault(Fault::KillNode)),
            KeyCode::Char('z') => Some(Key::Fault(Fault::PauseAgent)),
            _ => None,
        });
    }
    Ok(None)
}
