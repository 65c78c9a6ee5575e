//! Which bytes of a file a `Range` field asks for (RFC 9110 section 14).
//!
//! Pure. What is not understood, and what asks for more parts than anybody needs, is answered with the whole file, as
//! a server may always do (section 14.2).

/// More parts than this are not sent: each costs a read and a write, and only attacks ask for so many.
pub const MOST_PARTS: usize = 16;
/// Parts with a smaller gap between them are sent as one: the head of another part is longer.
const GAP_BYTES: u64 = 80;

/// A part of a file. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub start: u64,
    pub length: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Ranges {
    Whole,
    /// More than [`MOST_PARTS`]: whole, and counted.
    TooMany,
    /// None of what was asked for is there: 416.
    Beyond,
    /// At least one, in the order that was asked for; what overlaps is one part.
    Parts(Vec<Part>),
}

impl Ranges {
    /// Of the value of the one `Range` field there is, for a file of so many bytes.
    pub fn parse(value: &str, bytes: u64) -> Self {
        let Some((unit, set)) = value.split_once('=') else { return Self::Whole };
        // An empty file has no byte to name, and is quickly sent.
        if !unit.trim().eq_ignore_ascii_case("bytes") || bytes == 0 {
            return Self::Whole;
        }
        let specs = || set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|s| !s.is_empty());
        match specs().count() {
            0 => return Self::Whole,
            count if count > MOST_PARTS => return Self::TooMany,
            _ => {}
        }
        let mut parts = Vec::new();
        for spec in specs() {
            match Spec::parse(spec) {
                None => return Self::Whole,
                Some(spec) => parts.extend(spec.within(bytes)),
            }
        }
        if parts.is_empty() { Self::Beyond } else { Self::Parts(merged(parts)) }
    }
}

enum Spec {
    From {
        first: u64,
        last: u64,
    },
    /// The last so many bytes.
    Suffix(u64),
}

impl Spec {
    fn parse(spec: &str) -> Option<Self> {
        match spec.split_once('-')? {
            ("", last) => number(last).map(Self::Suffix),
            (first, "") => Some(Self::From { first: number(first)?, last: u64::MAX }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From { first, last })
            }
        }
    }

    fn within(self, bytes: u64) -> Option<Part> {
        let (start, end) = match self {
            Self::From { first, last } => (first, last.saturating_add(1).min(bytes)),
            Self::Suffix(count) => (bytes.saturating_sub(count), bytes),
        };
        (start < end).then(|| Part { start, length: end - start })
    }
}

/// Digits only; one too large for a number is beyond the end of every file.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Each part takes up the later ones that overlap it or are near (RFC 9110 section 15.3.7.2).
fn merged(parts: Vec<Part>) -> Vec<Part> {
    let mut kept: Vec<Part> = Vec::new();
    for mut part in parts {
        let mut place = kept.len();
        // What joins two of the kept ones makes one of all three, in the place of the first.
        while let Some(at) = kept.iter().position(|other| is_near(other, &part)) {
            let other = kept.remove(at);
            let start = part.start.min(other.start);
            let end = (part.start + part.length).max(other.start + other.length);
            part = Part { start, length: end - start };
            place = place.min(at);
        }
        kept.insert(place.min(kept.len()), part);
    }
    kept
}

fn is_near(a: &Part, b: &Part) -> bool {
    let (first, second) = if a.start <= b.start { (a, b) } else { (b, a) };
    second.start <= (first.start + first.length).saturating_add(GAP_BYTES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(value: &str, bytes: u64) -> String {
        match Ranges::parse(value, bytes) {
            Ranges::Whole => "whole".to_owned(),
            Ranges::TooMany => "too many".to_owned(),
            Ranges::Beyond => "beyond".to_owned(),
            Ranges::Parts(parts) => {
                let shown: Vec<String> = parts.iter().map(|p| format!("{}+{}", p.start, p.length)).collect();
                shown.join(" ")
            }
        }
    }

    #[test]
    fn one_part() {
        for (value, expected) in [
            ("bytes=0-3", "0+4"),
            ("bytes=4-", "4+6"),
            ("bytes=-3", "7+3"),
            ("bytes=-30", "0+10"),
            ("bytes=8-99", "8+2"),
            ("bytes=9-9", "9+1"),
            ("Bytes=0-0", "0+1"),
            ("bytes= 0-3 ,", "0+4"),
            ("bytes=0-99999999999999999999999", "0+10"),
            ("bytes=-99999999999999999999999", "0+10"),
            ("bytes=10-", "beyond"),
            ("bytes=-0", "beyond"),
            ("bytes=10-12", "beyond"),
            ("bytes=99999999999999999999999-", "beyond"),
            ("bytes=3-1", "whole"),
            ("bytes=a-", "whole"),
            ("bytes=0-3,b-", "whole"),
            ("bytes=0-3,5-4", "whole"),
            ("lines=1-2", "whole"),
            ("bytes=-", "whole"),
            ("bytes=+1-2", "whole"),
            ("bytes=1 -2", "whole"),
            ("bytes=", "whole"),
            ("bytes=,", "whole"),
            ("bytes", "whole"),
        ] {
            assert_eq!(of(value, 10), expected, "{value}");
        }
        assert_eq!(of("bytes=0-", 0), "whole");
        assert_eq!(of("bytes=0-", u64::MAX), format!("0+{}", u64::MAX));
    }

    #[test]
    fn several_parts() {
        for (value, expected) in [
            ("bytes=0-9,500-509", "0+10 500+10"),
            ("bytes=500-509,0-9", "500+10 0+10"),
            ("bytes=0-9,5000-", "0+10"),
            ("bytes=5000-,6000-", "beyond"),
            ("bytes=0-9,5-20", "0+21"),
            ("bytes=0-9,10-19,20-29", "0+30"),
            ("bytes=0-9,80-89", "0+90"),
            ("bytes=0-9,91-99", "0+10 91+9"),
            ("bytes=0-0,0-0,0-0", "0+1"),
            ("bytes=900-909,0-9,-100", "900+100 0+10"),
            // The third joins the first two.
            ("bytes=0-9,200-209,500-509,10-199", "0+210 500+10"),
        ] {
            assert_eq!(of(value, 1000), expected, "{value}");
        }
    }

    #[test]
    fn more_than_the_bound() {
        let asked = |count: usize| {
            let specs: Vec<String> = (0..count).map(|i| format!("{0}-{0}", i * 1000)).collect();
            of(&format!("bytes={}", specs.join(",")), 1 << 20)
        };
        assert_eq!(asked(MOST_PARTS).split(' ').count(), MOST_PARTS);
        assert_eq!(asked(MOST_PARTS + 1), "too many");
    }

    proptest! {
        #[test]
        fn parts_are_disjoint_and_hold_what_was_asked(
            specs in prop::collection::vec((0u64..2000, 0u64..400), 1..=MOST_PARTS),
            bytes in 1u64..2000,
        ) {
            let text: Vec<String> = specs.iter().map(|(a, n)| format!("{a}-{}", a + n)).collect();
            let asked = |at: u64| specs.iter().any(|(a, n)| (*a..=a + n).contains(&at));
            match Ranges::parse(&format!("bytes={}", text.join(",")), bytes) {
                Ranges::Beyond => prop_assert!(!(0..bytes).any(asked)),
                Ranges::Parts(parts) => {
                    let holders = |at: u64| parts.iter().filter(|p| (p.start..p.start + p.length).contains(&at)).count();
                    for at in 0..bytes {
                        prop_assert!(holders(at) <= 1);
                        prop_assert!(!asked(at) || holders(at) == 1, "{at}");
                    }
                    prop_assert!(parts.iter().all(|p| p.length > 0 && p.start + p.length <= bytes));
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
