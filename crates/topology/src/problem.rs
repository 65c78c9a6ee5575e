//! What is wrong with a file, shown at the place where it is wrong.
//!
//! `Display` prints each problem with its source line and a caret; [`miette::Diagnostic`] lets the binary print the
//! same with colours. Text of the file reaches a terminal only through [`harmless`], so no file can steer one.
//! Nothing here decides what is wrong: `file` and its readers do.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;

use miette::{Diagnostic, NamedSource};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// More problems than this are only counted: whoever reads them starts at the first.
pub const PROBLEMS_MAX: usize = 50;
/// Columns of a source line that are shown; of a longer line, those around the caret.
const LINE_COLUMNS_MAX: usize = 100;
/// Characters of a name or value from the file that a message repeats.
const QUOTED_CHARS_MAX: usize = 60;

/// All that is wrong with one file.
#[derive(Debug, Diagnostic)]
pub struct Problems {
    #[source_code]
    source: NamedSource<String>,
    #[related]
    items: Vec<Problem>,
    /// Found beyond [`PROBLEMS_MAX`].
    omitted: usize,
}

/// One thing that is wrong, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Diagnostic, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// 1-based; 0 when it concerns the file as a whole.
    pub line: usize,
    /// 1-based, in characters; 0 when it concerns the file as a whole.
    pub column: usize,
    /// Bytes of the source.
    #[label]
    pub span: Option<Span>,
    pub message: String,
    #[help]
    pub help: Option<String>,
}

/// From one byte of the source to before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl From<Span> for miette::SourceSpan {
    fn from(span: Span) -> Self {
        (span.start..span.end).into()
    }
}

impl Problems {
    /// In the order of the file; what concerns the whole file last.
    pub fn items(&self) -> &[Problem] {
        &self.items
    }

    /// How many there are, with those that are not shown.
    pub fn count(&self) -> usize {
        self.items.len() + self.omitted
    }

    pub fn source_name(&self) -> &str {
        self.source.name()
    }

    fn write_place(&self, f: &mut fmt::Formatter<'_>, problem: &Problem, span: Span) -> fmt::Result {
        let text = self.source.inner();
        let start = text[..span.start].rfind('\n').map_or(0, |i| i + 1);
        let end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let under = span.start..span.end.clamp(span.start, end.max(span.start));
        let excerpt = Excerpt::of(
            &text[start..under.start],
            &text[under.start..under.end],
            text.get(under.end..end).unwrap_or(""),
        );
        let number = problem.line.to_string();
        let gutter = " ".repeat(number.len());
        let Problem { line, column, .. } = problem;
        writeln!(f, "{gutter}--> {}:{line}:{column}", self.source.name())?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", excerpt.line)?;
        write!(f, "{gutter} | {}{}", " ".repeat(excerpt.before), "^".repeat(excerpt.carets))
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.items.iter().enumerate() {
            if index > 0 {
                write!(f, "\n\n")?;
            }
            writeln!(f, "error: {}", problem.message)?;
            let gutter = " ".repeat(problem.line.to_string().len());
            match problem.span {
                Some(span) => self.write_place(f, problem, span)?,
                None => write!(f, "{gutter}--> {}", self.source.name())?,
            }
            if let Some(help) = &problem.help {
                write!(f, "\n{gutter} = help: {help}")?;
            }
        }
        if self.omitted > 0 {
            write!(f, "\n\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

/// Collects problems while a file is read.
pub(crate) struct Findings<'t> {
    text: &'t str,
    /// The first byte of each line.
    lines: Vec<usize>,
    items: RefCell<Vec<Problem>>,
    count: Cell<usize>,
}

impl<'t> Findings<'t> {
    pub fn new(text: &'t str) -> Self {
        let after_ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(after_ends).collect();
        Self { text, lines, items: RefCell::default(), count: Cell::new(0) }
    }

    pub fn add(&self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let start = floor(self.text, span.start);
        let end = floor(self.text, span.end).max(start);
        let line = self.line(start);
        self.push(|| Problem {
            line,
            column: self.text[self.lines[line - 1]..start].chars().count() + 1,
            span: Some(Span { start, end }),
            message: message.into(),
            help: Some(help.into()),
        });
    }

    /// For what is missing from the whole file, where no line could be pointed at.
    pub fn add_whole(&self, message: impl Into<String>, help: impl Into<String>) {
        self.push(|| Problem {
            line: 0,
            column: 0,
            span: None,
            message: message.into(),
            help: Some(help.into()),
        });
    }

    fn push(&self, problem: impl FnOnce() -> Problem) {
        self.count.set(self.count.get() + 1);
        let mut items = self.items.borrow_mut();
        // Rules run section by section, so more are kept than are shown, for the first of the file to be among them.
        if items.len() < PROBLEMS_MAX * 4 {
            items.push(problem());
        }
    }

    /// The line of a byte, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    pub fn count(&self) -> usize {
        self.count.get()
    }

    pub fn into_problems(self, source_name: &str) -> Problems {
        let mut items = self.items.into_inner();
        items.sort_by_key(|p| p.span.map_or((usize::MAX, 0), |s| (s.start, s.end)));
        items.truncate(PROBLEMS_MAX);
        let omitted = self.count.get() - items.len();
        let source = NamedSource::new(quoted(source_name), harmless(self.text)).with_language("toml");
        Problems { source, items, omitted }
    }
}

/// The nearest boundary of a character at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The same text, byte for byte as long, in which nothing can move a cursor, change a colour or turn the direction of
/// writing: such characters are replaced. Line ends and tabs stay.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\r' => ' ',
            c if c.is_control() && c.len_utf8() == 1 => '?',
            c if c.is_control() => '¿',
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
                '\u{fffd}'
            }
            c => c,
        })
        .collect()
}

/// A piece of the file for use inside a message: harmless, on one line, not too long.
pub(crate) fn quoted(text: &str) -> String {
    let mut out: String = harmless(text).chars().take(QUOTED_CHARS_MAX).collect();
    if text.chars().nth(QUOTED_CHARS_MAX).is_some() {
        out.push('…');
    }
    out.replace(['\n', '\t'], " ")
}

/// The shown part of a line, with the place of its carets in columns.
struct Excerpt {
    line: String,
    before: usize,
    carets: usize,
}

impl Excerpt {
    fn of(before: &str, under: &str, after: &str) -> Self {
        let plain = |text: &str| text.replace('\t', "    ");
        let (before, under, after) = (plain(before), plain(under), plain(after).trim_end().to_owned());
        let (under, under_cut) = first_columns(&under, LINE_COLUMNS_MAX * 3 / 4);
        let (after, after_cut) = match under_cut {
            true => (String::new(), true),
            false => first_columns(&after, LINE_COLUMNS_MAX.saturating_sub(under.width()).max(8)),
        };
        let room = LINE_COLUMNS_MAX.saturating_sub(under.width() + after.width()).max(16);
        let (before, before_cut) = last_columns(&before, room);
        let lead = if before_cut { "…" } else { "" };
        let tail = if after_cut { "…" } else { "" };
        let line = format!("{lead}{before}{under}{after}{tail}");
        let before = lead.width() + before.width();
        Self { line, before, carets: under.width().max(1) }
    }
}

fn first_columns(text: &str, max: usize) -> (String, bool) {
    let mut used = 0;
    let kept: String = text
        .chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= max
        })
        .collect();
    let cut = kept.len() < text.len();
    (kept, cut)
}

fn last_columns(text: &str, max: usize) -> (String, bool) {
    let reversed: String = text.chars().rev().collect();
    let (kept, cut) = first_columns(&reversed, max);
    (kept.chars().rev().collect(), cut)
}
