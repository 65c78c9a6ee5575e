//! Names, free text, paths of files and of URLs.

use std::fmt::Display;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::{Kind, Shape, text};
use crate::problem::{Findings, quoted};

/// Text that one of our own types parses: names.
pub(crate) struct Parsed<T> {
    pub wanted: &'static str,
    pub example: &'static str,
    pub pattern: &'static str,
    pub of: PhantomData<fn() -> T>,
}

impl<T> Shape for Parsed<T> {
    fn wanted(&self) -> String {
        self.wanted.into()
    }
    fn example(&self) -> String {
        self.example.into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "pattern": self.pattern })
    }
}

impl<T: FromStr<Err: Display>> Kind for Parsed<T> {
    type Value = T;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<T> {
        let text = text(what, self, value, findings)?;
        text.parse()
            .map_err(|error: T::Err| {
                findings.add(value.span(), format!("{what}: {error}"), format!("write {}", self.example));
            })
            .ok()
    }
}

/// Text for one line: not empty, without control characters.
pub(crate) struct Text {
    pub wanted: &'static str,
    pub example: &'static str,
    pub empty: bool,
}

impl Shape for Text {
    fn wanted(&self) -> String {
        self.wanted.into()
    }
    fn example(&self) -> String {
        self.example.into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "minLength": u8::from(!self.empty) })
    }
}

impl Kind for Text {
    type Value = String;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<String> {
        let text = text(what, self, value, findings)?;
        let wrong = if text.is_empty() && !self.empty {
            "is empty"
        } else if text.chars().any(char::is_control) {
            "holds a control character, such as the end of a line"
        } else {
            return Some(text);
        };
        findings.add(value.span(), format!("{what} {wrong}"), format!("write {}", self.example));
        None
    }
}

/// A file or a directory.
pub(crate) struct Place;

impl Shape for Place {
    fn wanted(&self) -> String {
        "a path".into()
    }
    fn example(&self) -> String {
        "a path, absolute or from the folder of this file".into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

impl Kind for Place {
    type Value = PathBuf;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<PathBuf> {
        let path = Text {
            wanted: "a path",
            example: "a path, absolute or from the folder of this file",
            empty: false,
        };
        path.read(what, value, findings).map(PathBuf::from)
    }
}

/// An encoded dot is one, too: the edge refuses requests for either.
fn has_dot_segment(path: &str) -> bool {
    let decoded = path.replace("%2e", ".").replace("%2E", ".");
    decoded.split('/').any(|segment| segment == "." || segment == "..")
}

/// What comes after the host in a URL: starts with `/`, printable ASCII.
pub(crate) struct UrlPath {
    /// Whether `?` and what follows may be there.
    pub query: bool,
}

impl Shape for UrlPath {
    fn wanted(&self) -> String {
        "a path of a URL, starting with /".into()
    }
    fn example(&self) -> String {
        "something like \"/assets/\"".into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "pattern": "^/[!-~]*$" })
    }
}

impl Kind for UrlPath {
    type Value = String;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<String> {
        let path = text(what, self, value, findings)?;
        let help = if !path.starts_with('/') {
            format!("write \"/{}\"", quoted(&path))
        } else if !path.bytes().all(|b| b.is_ascii_graphic()) {
            "write spaces and letters outside ASCII percent-encoded, as they come in a request: \"/caf%C3%A9\"".into()
        } else if path.contains('#') || (!self.query && path.contains('?')) {
            "leave out what starts with `?` or `#`: only the path is compared".into()
        } else if has_dot_segment(&path) {
            "write the path without `.` and `..`".into()
        } else {
            return Some(path);
        };
        findings.add(value.span(), format!("{what} is not a path of a URL: \"{}\"", quoted(&path)), help);
        None
    }
}
