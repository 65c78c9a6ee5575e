//! Lists of one kind of value, and tables whose names the author chooses.

use std::ops::Range;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::{Kind, Shape, Text, wrong_type};
use crate::file::reader::Located;
use crate::problem::{Findings, quoted};

/// A list of one kind.
pub(crate) struct ListOf<K> {
    pub item: K,
    pub min: usize,
}

impl<K: Shape> Shape for ListOf<K> {
    fn wanted(&self) -> String {
        format!("a list, each {}", self.item.wanted())
    }
    fn example(&self) -> String {
        "it in brackets, with quotes: [\"...\"]".into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "array", "items": self.item.schema(), "minItems": self.min })
    }
}

impl<K: Kind> Kind for ListOf<K> {
    type Value = Vec<Located<K::Value>>;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<Self::Value> {
        let Some(array) = value.get_ref().as_array() else {
            match value.get_ref().as_str() {
                Some(one) => findings.add(
                    value.span(),
                    format!("{what} must be a list, not a single text"),
                    format!(
                        "write it in brackets: [{}]",
                        quoted(one)
                            .split_whitespace()
                            .map(|word| format!("\"{word}\""))
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                ),
                None => wrong_type(what, self, value, findings),
            }
            return None;
        };
        if array.iter().len() < self.min {
            let help = format!("write at least {}: {}", self.min, self.item.example());
            findings.add(value.span(), format!("{what} is empty"), help);
            return None;
        }
        let item = format!("an item of {what}");
        let read = |at: &Spanned<DeValue<'_>>| {
            let value = self.item.read(&item, at, findings)?;
            Some(Located { value, span: at.span(), key: at.span(), written: true })
        };
        // Every item is read, so that each wrong one is reported; the list is right if all are.
        let items: Vec<_> = array.iter().map(read).collect();
        items.into_iter().collect()
    }
}

/// A table of names that the author chooses, each with a text, a number or true and false.
pub(crate) struct Settings {
    pub example: &'static str,
    /// Whether numbers and flags may stand without quotes.
    pub scalars: bool,
}

impl Shape for Settings {
    fn wanted(&self) -> String {
        "a table of names and values".into()
    }
    fn example(&self) -> String {
        self.example.into()
    }
    fn schema(&self) -> Value {
        let types = if self.scalars { json!(["string", "number", "boolean"]) } else { json!("string") };
        json!({ "type": "object", "additionalProperties": { "type": types } })
    }
}

impl Kind for Settings {
    type Value = Vec<(Located<String>, Located<String>)>;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<Self::Value> {
        let Some(table) = value.get_ref().as_table() else {
            wrong_type(what, self, value, findings);
            return None;
        };
        let located =
            |value: String, span: Range<usize>| Located { value, key: span.clone(), span, written: true };
        let mut pairs = Vec::new();
        for (name, at) in table.iter() {
            let text = match at.get_ref() {
                DeValue::Integer(n) if self.scalars => Some(n.to_string()),
                DeValue::Float(n) if self.scalars => Some(n.to_string()),
                DeValue::Boolean(flag) if self.scalars => Some(if *flag { "on" } else { "off" }.to_owned()),
                _ => {
                    let kind =
                        Text { wanted: "text in quotes", example: "one line of text in quotes", empty: true };
                    kind.read(&format!("`{}`", quoted(name.get_ref())), at, findings)
                }
            };
            let Some(text) = text else { continue };
            pairs.push((located(name.get_ref().to_string(), name.span()), located(text, at.span())));
        }
        Some(pairs)
    }
}
