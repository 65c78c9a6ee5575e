//! A share of all, as a percentage with its sign.

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::{Kind, Shape, text};
use crate::Share;
use crate::problem::{Findings, quoted};

/// From `"0%"` to `"100%"`, with up to four digits behind the point.
pub(crate) struct Percentage;

impl Shape for Percentage {
    fn wanted(&self) -> String {
        "a percentage from \"0%\" to \"100%\"".into()
    }
    fn example(&self) -> String {
        "something like \"1%\" or \"0.5%\"".into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "pattern": "^[0-9]{1,3}(\\.[0-9]{1,4})?%$" })
    }
}

impl Kind for Percentage {
    type Value = Share;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<Share> {
        let text = text(what, self, value, findings)?;
        let share = millionths(&text).and_then(Share::of_a_million);
        if share.is_none() {
            let message = format!("{what} must be {}, not \"{}\"", self.wanted(), quoted(&text));
            findings.add(value.span(), message, format!("write {}", self.example()));
        }
        share
    }
}

fn millionths(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || whole.len() > 3 || part.len() > 4 {
        return None;
    }
    let part: u32 = format!("{part:0<4}").parse().ok()?;
    Some(whole.parse::<u32>().ok()? * 10_000 + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        for (text, expected) in [
            ("100%", Some(1_000_000)),
            ("1%", Some(10_000)),
            ("0.5%", Some(5_000)),
            ("12.3456%", Some(123_456)),
            ("0%", Some(0)),
            ("101%", None),
            ("1", None),
            ("%", None),
            (".5%", None),
            ("1.%", None),
            ("-1%", None),
            ("1.23456%", None),
        ] {
            assert_eq!(
                millionths(text).and_then(Share::of_a_million).map(Share::millionths),
                expected,
                "{text}"
            );
        }
    }
}
