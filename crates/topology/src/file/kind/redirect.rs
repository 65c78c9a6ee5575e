//! Where clients are sent, and with which status.

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::text::refused;
use super::{Kind, Shape, text, wrong_type};
use crate::problem::{Findings, quoted};

/// A path of this site, or a URL. Nothing that a client chooses can become part of its host.
pub(crate) struct RedirectTo;

impl Shape for RedirectTo {
    fn wanted(&self) -> String {
        "a path, or a URL of http or https".into()
    }
    fn example(&self) -> String {
        "something like \"/new/\" or \"https://www.shop.example{path}\"".into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "pattern": "^(/|https?://)[!-~]*$" })
    }
}

impl Kind for RedirectTo {
    type Value = String;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<String> {
        let to = text(what, self, value, findings)?;
        let Some(help) = wrong(&to) else { return Some(to) };
        let message = format!("{what} is not where a client can be sent: \"{}\"", quoted(&to));
        findings.add(value.span(), message, help);
        None
    }
}

fn wrong(to: &str) -> Option<String> {
    if !to.bytes().all(|b| b.is_ascii_graphic()) || to.contains(['\\', '"', '<', '>']) {
        return Some("write spaces, quotes and letters outside ASCII percent-encoded: \"/caf%C3%A9\"".into());
    }
    let plain = to.replace("{path}", "").replace("{rest}", "");
    if plain.contains(['{', '}']) {
        return Some("between braces there is `{path}`, the path of the request, or `{rest}`, what follows the route's".into());
    }
    let after_scheme = to.strip_prefix("https://").or_else(|| to.strip_prefix("http://"));
    let Some(rest) = after_scheme else {
        if !to.starts_with('/') || to.starts_with("//") {
            return Some(
                "write a path that starts with one `/`, or a URL that starts with `https://`".into(),
            );
        }
        // The client would come back with it.
        return refused(to.split(['?', '#']).next().unwrap_or_default()).map(str::to_owned);
    };
    let end = rest.find(['/', '?', '#', '{']).unwrap_or(rest.len());
    let (host, after) = rest.split_at(end);
    let is_host = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
    if !is_host {
        return Some("write the name of the host after `https://`, without a user".into());
    }
    // `{rest}` need not start with a slash: it would go on with the host's name.
    after
        .starts_with("{rest}")
        .then(|| format!("write a slash after the host: \"…{}/{{rest}}\"", quoted(host)))
}

/// One of a few numbers, each with a meaning.
pub(crate) struct Codes<E: 'static>(pub &'static [(u16, E)]);

impl<E: Copy> Shape for Codes<E> {
    fn wanted(&self) -> String {
        let codes: Vec<String> = self.0.iter().map(|(code, _)| code.to_string()).collect();
        codes.join(" or ")
    }
    fn example(&self) -> String {
        self.0.first().map_or_else(String::new, |(code, _)| code.to_string())
    }
    fn schema(&self) -> Value {
        json!({ "enum": self.0.iter().map(|(code, _)| *code).collect::<Vec<_>>() })
    }
}

impl<E: Copy> Kind for Codes<E> {
    type Value = E;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<E> {
        let Some(integer) = value.get_ref().as_integer() else {
            wrong_type(what, self, value, findings);
            return None;
        };
        let code = u16::from_str_radix(integer.as_str(), integer.radix()).ok();
        let found = self.0.iter().find(|(known, _)| Some(*known) == code);
        if found.is_none() {
            let message = format!("{what} cannot be {}", quoted(&integer.to_string()));
            findings.add(value.span(), message, format!("write {}", self.wanted()));
        }
        found.map(|(_, meaning)| *meaning)
    }
}
