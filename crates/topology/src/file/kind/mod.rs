//! The kinds of value that keys take: how each is read, what is said when it is wrong, how the schema shows it.
//!
//! A kind knows one value alone; what two values must not be together is in `check`.

mod list;
mod network;
mod number;
mod redirect;
mod server;
mod share;
mod text;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

pub(crate) use self::list::{ListOf, Settings};
pub(crate) use self::network::{Address, Listen, ListenAt, Network, Socket};
pub(crate) use self::number::{Count, Percent, Period, Port, PortOrOff, shown_duration};
pub(crate) use self::redirect::{Codes, RedirectTo};
pub(crate) use self::server::{Server, WrittenServer};
pub(crate) use self::share::Percentage;
pub(crate) use self::text::{Parsed, Place, Text, UrlPath};
use super::reader::{Section, nearest, wrong_type};
use crate::problem::{Findings, quoted};

/// How a value looks: for the schema and for messages.
pub(crate) trait Shape {
    /// After "must be".
    fn wanted(&self) -> String;
    /// One right value, as it would be written.
    fn example(&self) -> String;
    /// JSON Schema of the value.
    fn schema(&self) -> Value;
}

pub(crate) trait Kind: Shape {
    type Value;
    /// The value, or nothing after a report.
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<Self::Value>;
}

/// A table of a section's keys.
pub(crate) struct Table(pub &'static Section);
/// A list of such tables.
pub(crate) struct Tables(pub &'static Section);
/// Tables that the file names: `[pool.web]`.
pub(crate) struct Named {
    pub section: &'static Section,
    /// JSON Schema pattern of the names.
    pub pattern: &'static str,
    /// How many there may be: some rules compare each with each.
    pub max: usize,
}

impl Shape for Table {
    fn wanted(&self) -> String {
        "a table".into()
    }
    fn example(&self) -> String {
        format!("it as {}", self.0.title)
    }
    fn schema(&self) -> Value {
        crate::schema::table(self.0)
    }
}

impl Shape for Tables {
    fn wanted(&self) -> String {
        "a list of tables".into()
    }
    fn example(&self) -> String {
        format!("[ {{ {} = ... }} ]", self.0.keys.first().map_or("", |key| key.name()))
    }
    fn schema(&self) -> Value {
        json!({ "type": "array", "items": crate::schema::table(self.0) })
    }
}

impl Shape for Named {
    fn wanted(&self) -> String {
        "tables with a name each".into()
    }
    fn example(&self) -> String {
        self.section.title.to_owned()
    }
    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "patternProperties": { self.pattern: crate::schema::table(self.section) },
            "additionalProperties": false,
            "maxProperties": self.max,
        })
    }
}

impl<E: Copy> Shape for (Choices<E>, Table) {
    fn wanted(&self) -> String {
        format!("{} or a table", self.0.wanted())
    }
    fn example(&self) -> String {
        self.0.example()
    }
    fn schema(&self) -> Value {
        json!({ "oneOf": [self.0.schema(), self.1.schema()] })
    }
}

/// One of a few words.
pub(crate) struct Choices<E: 'static>(pub &'static [(&'static str, E)]);

impl<E: Copy> Shape for Choices<E> {
    fn wanted(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        words.join(" or ")
    }
    fn example(&self) -> String {
        format!("\"{}\"", self.0.first().map_or("", |(word, _)| word))
    }
    fn schema(&self) -> Value {
        json!({ "enum": self.0.iter().map(|(word, _)| *word).collect::<Vec<_>>() })
    }
}

impl<E: Copy> Kind for Choices<E> {
    type Value = E;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<E> {
        let word = text(what, self, value, findings)?;
        let found = self.0.iter().find(|(known, _)| *known == word);
        if found.is_none() {
            let help = match nearest(&word, self.0.iter().map(|(known, _)| *known)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("write {}", self.wanted()),
            };
            findings.add(value.span(), format!("{what} cannot be \"{}\"", quoted(&word)), help);
        }
        found.map(|(_, meaning)| *meaning)
    }
}

pub(crate) struct Flag;

impl Shape for Flag {
    fn wanted(&self) -> String {
        "true or false".into()
    }
    fn example(&self) -> String {
        "true".into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "boolean" })
    }
}

impl Kind for Flag {
    type Value = bool;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<bool> {
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            wrong_type(what, self, value, findings);
        }
        flag
    }
}

fn text(
    what: &str,
    shape: &dyn Shape,
    value: &Spanned<DeValue<'_>>,
    findings: &Findings<'_>,
) -> Option<String> {
    let text = value.get_ref().as_str().map(str::to_owned);
    if text.is_none() {
        wrong_type(what, shape, value, findings);
    }
    text
}
