//! Names as types: a name that reached another room has been checked, so it is safe in a path, a label, a slot name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("{0:?} is longer than {1} characters")]
    TooLong(String, usize),
    #[error(
        "{0:?} is not a name: a lower-case letter first, then lower-case letters, digits and single dashes, not ending in a dash"
    )]
    Grammar(String),
    #[error("{0:?} is not a host name, `*.example.com` or `*`")]
    Host(String),
}

/// Longest name of a node, pool, app or cluster. With it, slot names and unix socket paths stay within their limits.
pub const NAME_MAX_CHARS: usize = 32;

fn checked(text: &str) -> Result<String, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_MAX_CHARS {
        return Err(NameError::TooLong(text.chars().take(NAME_MAX_CHARS).collect(), NAME_MAX_CHARS));
    }
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
    let inside = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !starts || !inside || text.ends_with('-') || text.contains("--") {
        return Err(NameError::Grammar(text.to_owned()));
    }
    Ok(text.to_owned())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                checked(text).map(Self)
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// The name of the whole cluster: `[cluster] name`.
    ClusterName
);
name!(
    /// The name of a server that runs Tiebeam: `[node.NAME]`.
    NodeName
);
name!(
    /// The name of a set of servers that routes send to: `[pool.NAME]`.
    PoolName
);
name!(
    /// The name of an application: `[app.NAME]`.
    AppName
);

/// The host names that a site answers to: one exactly, every name one label below a domain, or all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// `shop.example`, lower case, without a port.
    Exact(String),
    /// `*.shop.example`: holds `shop.example`.
    Below(String),
    /// `*`
    Any,
}

impl FromStr for HostPattern {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (below, host) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if host.len() > 253 || !host.split('.').all(label) {
            return Err(NameError::Host(text.chars().take(300).collect()));
        }
        let host = host.to_ascii_lowercase();
        Ok(if below { Self::Below(host) } else { Self::Exact(host) })
    }
}

impl TryFrom<String> for HostPattern {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> String {
        pattern.to_string()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.pad(host),
            Self::Below(host) => write!(f, "*.{host}"),
            Self::Any => f.pad("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_everywhere() {
        for good in ["a", "web", "node-1", "a2"] {
            assert!(good.parse::<NodeName>().is_ok(), "{good:?}");
        }
        for bad in ["", "A", "1a", "-a", "a-", "a--b", "a_b", "a/b", "a.b", "ä", &"a".repeat(33)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn host_patterns() {
        assert_eq!("Shop.Example".parse(), Ok(HostPattern::Exact("shop.example".into())));
        assert_eq!("*.shop.example".parse(), Ok(HostPattern::Below("shop.example".into())));
        assert_eq!("*".parse(), Ok(HostPattern::Any));
        for bad in ["", "*.", "a..b", "-a.b", "a b", "a:80", "*.*.b", "a/b"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad:?}");
        }
    }
}
