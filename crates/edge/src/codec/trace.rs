//! The trace that a request belongs to, by W3C Trace Context: told from what only looks like one.

use super::Span;

const VERSION_BYTES: usize = 2;
const TRACE: std::ops::Range<usize> = 3..35;
const PARENT: std::ops::Range<usize> = 36..52;
/// Of version 00; a later one may say more behind a dash (section 3.2.4).
const BYTES: usize = 55;

/// Where the trace's id lies in a valid `traceparent` (section 3.2.2).
pub fn trace_id(value: &[u8]) -> Option<Span> {
    let head = value.first_chunk::<BYTES>()?;
    let is_hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    let (version, trace, parent, flags) = (&head[..VERSION_BYTES], &head[TRACE], &head[PARENT], &head[53..]);
    let fits = [version, trace, parent, flags].into_iter().all(is_hex)
        && [2, 35, 52].into_iter().all(|dash| head[dash] == b'-')
        && !is_zero(trace)
        && !is_zero(parent);
    let ends = match version {
        b"ff" => false,
        b"00" => value.len() == BYTES,
        _ => value.len() == BYTES || value[BYTES] == b'-',
    };
    (fits && ends).then(|| Span::new(TRACE.start, TRACE.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_not() {
        let right = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (value, is_valid) in [
            (right.to_owned(), true),
            (right.replacen("00", "cc", 1), true),
            (right.replacen("00", "cc", 1) + "-more", true),
            (right.replacen("00", "cc", 1) + "more", false),
            (right.replacen("00", "ff", 1), false),
            (right.to_owned() + "-more", false),
            (right.to_uppercase(), false),
            (right.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), false),
            (right.replace("00f067aa0ba902b7", &"0".repeat(16)), false),
            (right.replace('-', "_"), false),
            (right[..54].to_owned(), false),
            (right.replace("b7-01", "b7-0g"), false),
            (String::new(), false),
        ] {
            let found = trace_id(value.as_bytes());
            assert_eq!(found.is_some(), is_valid, "{value}");
            assert!(found.is_none_or(|id| id.of(value.as_bytes()) == &value.as_bytes()[3..35]));
        }
    }
}
