//! Numbers, ports and lengths of time.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::{Kind, Shape, text, wrong_type};
use crate::problem::{Findings, quoted};

/// A whole number within bounds, both included.
pub(crate) struct Count(pub RangeInclusive<u64>);

impl Shape for Count {
    fn wanted(&self) -> String {
        format!("a whole number from {} to {}", self.0.start(), self.0.end())
    }
    fn example(&self) -> String {
        "it as digits, without quotes".into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "integer", "minimum": self.0.start(), "maximum": self.0.end() })
    }
}

impl Kind for Count {
    type Value = u64;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<u64> {
        let Some(integer) = value.get_ref().as_integer() else {
            wrong_type(what, self, value, findings);
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|n| self.0.contains(n));
        if number.is_none() {
            let message = format!("{what} must be {}, not {}", self.wanted(), quoted(&integer.to_string()));
            findings.add(value.span(), message, "write a number within these bounds");
        }
        number
    }
}

/// A share of a hundred, as "20%" or as the number alone, within bounds, both included.
pub(crate) struct Percent(pub RangeInclusive<u8>);

impl Shape for Percent {
    fn wanted(&self) -> String {
        format!("a share from {}% to {}%", self.0.start(), self.0.end())
    }
    fn example(&self) -> String {
        "something like \"20%\"".into()
    }
    fn schema(&self) -> Value {
        json!({ "oneOf": [
            { "type": "string", "pattern": "^[0-9]{1,3}%$" },
            { "type": "integer", "minimum": self.0.start(), "maximum": self.0.end() },
        ] })
    }
}

impl Kind for Percent {
    type Value = u8;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<u8> {
        let (shown, number) = match value.get_ref() {
            DeValue::Integer(integer) => {
                (integer.to_string(), u8::from_str_radix(integer.as_str(), integer.radix()).ok())
            }
            DeValue::String(text) => {
                let digits =
                    text.strip_suffix('%').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
                (format!("\"{text}\""), digits.and_then(|digits| digits.parse().ok()))
            }
            _ => {
                wrong_type(what, self, value, findings);
                return None;
            }
        };
        let number = number.filter(|number| self.0.contains(number));
        if number.is_none() {
            let message = format!("{what} must be {}, not {}", self.wanted(), quoted(&shown));
            findings.add(value.span(), message, format!("write {}", self.example()));
        }
        number
    }
}

/// A TCP port, where 0 has no meaning.
pub(crate) struct Port;

impl Shape for Port {
    fn wanted(&self) -> String {
        "a port from 1 to 65535".into()
    }
    fn example(&self) -> String {
        "it as digits, without quotes".into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "integer", "minimum": 1, "maximum": 65535 })
    }
}

impl Kind for Port {
    type Value = NonZeroU16;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<NonZeroU16> {
        port(what, self, value, findings)
    }
}

fn port(
    what: &str,
    kind: &dyn Shape,
    value: &Spanned<DeValue<'_>>,
    findings: &Findings<'_>,
) -> Option<NonZeroU16> {
    let Some(integer) = value.get_ref().as_integer() else {
        wrong_type(what, kind, value, findings);
        return None;
    };
    let port = u16::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(NonZeroU16::new);
    if port.is_none() {
        let found = quoted(&integer.to_string());
        let message = format!("{what} must be {}, not {found}", kind.wanted());
        findings.add(value.span(), message, "write a number within these bounds");
    }
    port
}

/// A TCP port, or 0 for none.
pub(crate) struct PortOrOff;

impl Shape for PortOrOff {
    fn wanted(&self) -> String {
        "a port from 1 to 65535, or 0 for none".into()
    }
    fn example(&self) -> String {
        Port.example()
    }
    fn schema(&self) -> Value {
        json!({ "type": "integer", "minimum": 0, "maximum": 65535 })
    }
}

impl Kind for PortOrOff {
    type Value = Option<NonZeroU16>;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<Self::Value> {
        match value.get_ref().as_integer() {
            Some(zero) if zero.as_str() == "0" => Some(None),
            _ => port(what, self, value, findings).map(Some),
        }
    }
}

/// A length of time with its unit, within bounds, both included.
pub(crate) struct Period(pub RangeInclusive<Duration>);

impl Shape for Period {
    fn wanted(&self) -> String {
        "a time with its unit".into()
    }
    fn example(&self) -> String {
        "something like \"500ms\", \"3s\", \"2m\" or \"1h\"".into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" })
    }
}

impl Kind for Period {
    type Value = Duration;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<Duration> {
        if let Some(integer) = value.get_ref().as_integer() {
            let n = quoted(integer.as_str());
            findings.add(
                value.span(),
                format!("{what} must be a time with its unit, not the bare number {n}"),
                format!("write \"{n}s\" for seconds or \"{n}ms\" for milliseconds"),
            );
            return None;
        }
        let text = text(what, self, value, findings)?;
        let Some(period) = duration(&text) else {
            let help = match text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
                true => format!("say the unit: \"{0}s\" or \"{0}ms\"", quoted(&text)),
                false => "a whole number and one unit: \"500ms\", \"3s\", \"2m\" or \"1h\"".to_owned(),
            };
            findings.add(value.span(), format!("{what} is not a time: \"{}\"", quoted(&text)), help);
            return None;
        };
        if !self.0.contains(&period) {
            findings.add(
                value.span(),
                format!("{what} cannot be {}", shown_duration(period)),
                format!("from {} to {}", shown_duration(*self.0.start()), shown_duration(*self.0.end())),
            );
            return None;
        }
        Some(period)
    }
}

/// `500ms`, `3s`, `2m`, `1h`: a whole number and one unit.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let factor_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(factor_ms)?))
}

/// In the largest unit that shows it whole.
pub(crate) fn shown_duration(d: Duration) -> String {
    match d.as_millis() {
        0 => "0s".into(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}
