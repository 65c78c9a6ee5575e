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

/// What to do about a path that the edge would refuse a request for, as servers do not agree about it.
pub(super) fn refused(path: &str) -> Option<&'static str> {
    let lower = path.to_ascii_lowercase();
    let decoded = lower.replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    let is_torn = |segment: &str| {
        segment.split_once(';').is_some_and(|(_, rest)| rest.contains("%2f") || rest.contains("%5c"))
    };
    if decoded.split('/').any(is_dots) {
        Some("write the path without `.` and `..`")
    } else if lower.contains('\\') || lower.contains("%00") || lower.split('/').any(is_torn) {
        Some(
            "leave out `\\`, `%00`, and slashes that are encoded behind a `;`: the edge refuses requests with them",
        )
    } else {
        None
    }
}

/// Requests are compared in one spelling, which is the one to write: so the longer of two routes is it in either.
fn spelled_otherwise(path: &str) -> Option<String> {
    if path.contains("//") {
        return Some("write one slash: several in a row are compared as one".into());
    }
    if path.contains(';') {
        return Some(
            "leave out `;` and what follows it: paths are compared without it; write `%3B` for one in a name"
                .into(),
        );
    }
    path.split('%').skip(1).find_map(|encoded| {
        let digits = encoded.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            None => Some("write a percent sign as `%25`".to_owned()),
            Some(b'\\') => Some("write `/`: an encoded `\\` is compared as one".to_owned()),
            Some(byte) if byte.is_ascii_graphic() && !b"%;?#".contains(&byte) => {
                Some(format!("write `{}` as it is, not encoded", char::from(byte)))
            }
            Some(_) => None,
        }
    })
}

/// What comes after the host in a URL: starts with `/`, printable ASCII.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum UrlPath {
    /// With `?` and what follows, if it is there.
    WithQuery,
    /// Without.
    Alone,
    /// What the paths of requests are compared with.
    Compared,
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
        } else if path.contains('#') || (*self != Self::WithQuery && path.contains('?')) {
            "leave out what starts with `?` or `#`: only the path is compared".into()
        } else if let Some(help) = refused(path.split('?').next().unwrap_or_default()) {
            help.into()
        } else if let Some(help) = spelled_otherwise(&path).filter(|_| *self == Self::Compared) {
            help
        } else {
            return Some(path);
        };
        findings.add(value.span(), format!("{what} is not a path of a URL: \"{}\"", quoted(&path)), help);
        None
    }
}
