//! Whether a client's conditions let a file be sent (RFC 9110 section 13), in the order of section 13.2.2.
//!
//! Pure: the time of now is a parameter. A condition that cannot be read counts as not made, but a list of tags of
//! which none can be read matches none.

use std::fmt;
use std::time::{Duration, SystemTime};

/// An entity tag (RFC 9110 section 8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Between the quotes.
    pub opaque: String,
    pub is_weak: bool,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\"{}\"", if self.is_weak { "W/" } else { "" }, self.opaque)
    }
}

/// What a file is now.
#[derive(Clone, Debug)]
pub struct Validators {
    pub tag: Tag,
    /// Whole seconds.
    pub modified: SystemTime,
    /// Modified so long ago that no other change can hide in the same second (RFC 9110 section 8.8.2.2).
    pub is_settled: bool,
}

/// How long after a change another one could have the same time of change.
const SETTLES_IN: Duration = Duration::from_secs(1);

impl Validators {
    /// Of a file with this time of change and length, in the coding that `suffix` names. The tag is strong, unless the
    /// file may still change within the grain of its clock, or its bytes are made anew and may differ elsewhere.
    pub fn of(modified: SystemTime, bytes: u64, suffix: &str, is_made: bool, now: SystemTime) -> Self {
        let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let is_settled = now.duration_since(modified).is_ok_and(|age| age > SETTLES_IN);
        Self {
            tag: Tag {
                opaque: format!("{:x}-{bytes:x}{suffix}", since.as_nanos()),
                is_weak: is_made || !is_settled,
            },
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()),
            is_settled,
        }
    }
}

/// The conditions of a request, as its fields say them.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    pub if_match: Option<String>,
    pub if_none_match: Option<String>,
    pub if_modified_since: Option<SystemTime>,
    pub if_unmodified_since: Option<SystemTime>,
    pub if_range: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Send,
    /// 304: the client has it.
    Unchanged,
    /// 412: it is not what the client thinks.
    Failed,
}

impl Conditions {
    /// For GET and HEAD.
    pub fn verdict(&self, is: &Validators) -> Verdict {
        let holds = match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) => matches(tags, |tag| !tag.is_weak && *tag == is.tag),
            (None, Some(date)) => is.modified <= date,
            (None, None) => true,
        };
        if !holds {
            return Verdict::Failed;
        }
        let is_known = match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => matches(tags, |tag| tag.opaque == is.tag.opaque),
            (None, Some(date)) => is.modified <= date,
            (None, None) => false,
        };
        if is_known { Verdict::Unchanged } else { Verdict::Send }
    }

    /// May a part be sent? Only if it is one of the very bytes that the client has another part of (section 13.1.5).
    pub fn allow_parts(&self, is: &Validators) -> bool {
        let Some(validator) = &self.if_range else { return true };
        if validator.contains('"') {
            return matches(validator, |tag| !tag.is_weak && *tag == is.tag);
        }
        is.is_settled && httpdate::parse_http_date(validator).is_ok_and(|date| date == is.modified)
    }
}

/// Does a list of tags, or `*`, hold one that fits? What follows a malformed tag is not read.
fn matches(list: &str, fits: impl Fn(&Tag) -> bool) -> bool {
    let mut rest = list.trim();
    if rest == "*" {
        return true;
    }
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (is_weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |after| (true, after));
        let Some((opaque, after)) = quoted.strip_prefix('"').and_then(|open| open.split_once('"')) else {
            return false;
        };
        if fits(&Tag { opaque: opaque.to_owned(), is_weak }) {
            return true;
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn is(opaque: &str, is_weak: bool) -> Validators {
        Validators {
            tag: Tag { opaque: opaque.to_owned(), is_weak },
            modified: at(1000),
            is_settled: !is_weak,
        }
    }

    #[test]
    fn the_order_of_conditions() {
        let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        let date = |seconds: u64| (seconds > 0).then(|| at(seconds));
        // If-Match, If-Unmodified-Since, If-None-Match, If-Modified-Since of a file `a` modified at 1000.
        for (matches, unmodified, none_match, modified, expected) in [
            ("", 0, "", 0, Verdict::Send),
            ("\"a\"", 0, "", 0, Verdict::Send),
            ("*", 0, "", 0, Verdict::Send),
            ("\"b\", \"a\"", 0, "", 0, Verdict::Send),
            ("\"b\"", 0, "", 0, Verdict::Failed),
            ("W/\"a\"", 0, "", 0, Verdict::Failed),
            ("a", 0, "", 0, Verdict::Failed),
            // A tag counts more than a date.
            ("\"a\"", 999, "", 0, Verdict::Send),
            ("", 999, "", 0, Verdict::Failed),
            ("", 1000, "", 0, Verdict::Send),
            ("", 1001, "", 0, Verdict::Send),
            ("", 0, "\"a\"", 0, Verdict::Unchanged),
            ("", 0, "W/\"a\"", 0, Verdict::Unchanged),
            ("", 0, "*", 0, Verdict::Unchanged),
            ("", 0, "\"x,y\" ,W/\"z\",\"a\"", 0, Verdict::Unchanged),
            ("", 0, "\"b\"", 0, Verdict::Send),
            ("", 0, "\"b\"", 2000, Verdict::Send),
            ("", 0, "\"b", 0, Verdict::Send),
            ("", 0, "junk, \"a\"", 0, Verdict::Send),
            ("", 0, "", 999, Verdict::Send),
            ("", 0, "", 1000, Verdict::Unchanged),
            ("", 0, "", 1001, Verdict::Unchanged),
            // What must hold comes first.
            ("\"b\"", 0, "\"a\"", 0, Verdict::Failed),
            ("\"a\"", 0, "\"a\"", 0, Verdict::Unchanged),
            ("", 1000, "", 1000, Verdict::Unchanged),
        ] {
            let conditions = Conditions {
                if_match: text(matches),
                if_unmodified_since: date(unmodified),
                if_none_match: text(none_match),
                if_modified_since: date(modified),
                if_range: None,
            };
            assert_eq!(conditions.verdict(&is("a", false)), expected, "{conditions:?}");
        }
        let weak = Conditions { if_match: text("W/\"a\", \"a\""), ..Conditions::default() };
        assert_eq!(weak.verdict(&is("a", true)), Verdict::Failed);
        let weak = Conditions { if_none_match: text("\"a\""), ..Conditions::default() };
        assert_eq!(weak.verdict(&is("a", true)), Verdict::Unchanged);
    }

    #[test]
    fn parts_only_of_the_same_bytes() {
        let date = |seconds| httpdate::fmt_http_date(at(seconds));
        for (validator, is_weak, expected) in [
            ("\"a\"".to_owned(), false, true),
            ("\"b\"".to_owned(), false, false),
            ("W/\"a\"".to_owned(), false, false),
            ("W/\"a\"".to_owned(), true, false),
            ("\"a\"".to_owned(), true, false),
            (date(1000), false, true),
            (date(1000), true, false),
            // Only exactly that date: an earlier or a later one is of other bytes.
            (date(999), false, false),
            (date(1001), false, false),
            ("yesterday".to_owned(), false, false),
        ] {
            let conditions = Conditions { if_range: Some(validator.clone()), ..Conditions::default() };
            assert_eq!(conditions.allow_parts(&is("a", is_weak)), expected, "{validator} {is_weak}");
        }
        assert!(Conditions::default().allow_parts(&is("a", true)));
    }

    #[test]
    fn a_tag_is_strong_once_the_file_has_settled() {
        let tag = |now: u64, is_made| {
            Validators::of(at(1000) + Duration::from_nanos(5), 16, "-br", is_made, at(now)).tag.to_string()
        };
        assert_eq!(tag(1003, false), "\"e8d4a51005-10-br\"");
        assert_eq!(tag(1003, true), "W/\"e8d4a51005-10-br\"");
        for young in [1001, 1000, 900] {
            assert_eq!(tag(young, false), "W/\"e8d4a51005-10-br\"", "{young}");
        }
    }
}
