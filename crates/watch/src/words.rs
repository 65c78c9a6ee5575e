//! Numbers as people read them, one way in the status, the page and the sentences. Pure.

/// `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

/// A rate or a duration with as many decimals as still mean something: `0`, `0.42`, `8.1`, `612`, `1,204`.
pub fn rate(n: f64) -> String {
    if !n.is_finite() || n <= 0.0 {
        return "0".into();
    }
    match n {
        n if n < 0.995 => format!("{n:.2}"),
        n if n < 9.95 => format!("{n:.1}"),
        n => count(n.round() as u64),
    }
}

/// `0 B`, `512 B`, `16 kB`, `1.2 MB`, `64 GB`: steps of 1000, as PostgreSQL's `kB` is not.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// `4 ms`, `1.5 s`, `42 s`, `7 min`, `3 h`, `12 d`.
pub fn age(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..10_000 => format!("{:.1} s", (ms / 100) as f64 / 10.0),
        _ => uptime(ms / 1000),
    }
}

/// `42 s`, `7 min`, `3 h 10 min`, `12 d 4 h`.
pub fn uptime(s: u64) -> String {
    let two = |big: u64, one: &str, small: u64, other: &str| match small {
        0 => format!("{big} {one}"),
        _ => format!("{big} {one} {small} {other}"),
    };
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min", s / 60),
        3600..86_400 => two(s / 3600, "h", s % 3600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

/// `08:11:18`, UTC.
pub fn clock(unix_ms: u64) -> String {
    let s = unix_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// `2026-11-23T08:11:18.250Z` (RFC 3339). Empty for a moment outside the calendar.
pub fn rfc3339(unix_ms: u64) -> String {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map(|t| format!("{t:.3}"))
        .unwrap_or_default()
}

/// `a`, `a and b`, `a, b and c`; with `or` in its place where one of them is meant.
pub fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>, last: &str) -> String {
    let words: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., end] => format!("{} {last} {end}", most.join(", ")),
    }
}

/// At most `width` characters, the last one `…` where something was cut; no control characters, so that a text of
/// another's cannot move a terminal's cursor.
pub fn cut(text: &str, width: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= width {
        return text.chars().map(clean).collect();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).map(clean).collect();
    if width > 0 {
        short.push('…');
    }
    short
}

/// The words of a text in lines of at most `width` characters, without control characters; a word that is longer is
/// cut. No line for no words.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word = cut(word, width);
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(n), text);
        }
        for (n, text) in
            [(0.0, "0"), (f64::NAN, "0"), (0.416, "0.42"), (0.999, "1.0"), (9.96, "10"), (1204.4, "1,204")]
        {
            assert_eq!(rate(n), text);
        }
        for (n, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (16_384, "16 kB"), (999_999, "1.0 MB")]
        {
            assert_eq!(bytes(n), text);
        }
        assert!(bytes(u64::MAX).ends_with(" PB"));
    }

    #[test]
    fn times_read_well() {
        for (ms, text) in
            [(4, "4 ms"), (1550, "1.5 s"), (9999, "9.9 s"), (42_000, "42 s"), (420_000, "7 min")]
        {
            assert_eq!(age(ms), text);
        }
        assert_eq!(uptime(11_400), "3 h 10 min");
        assert_eq!(uptime(2 * 86_400), "2 d");
        assert_eq!(clock(1_795_421_478_250), "08:11:18");
        assert_eq!(rfc3339(1_795_421_478_250), "2026-11-23T08:11:18.250Z");
        assert_eq!(rfc3339(u64::MAX), "");
    }

    #[test]
    fn lists_and_cuts() {
        assert_eq!(list::<&str>([], "and"), "");
        assert_eq!(list(["a"], "and"), "a");
        assert_eq!(list(["a", "b", "c"], "or"), "a, b or c");
        assert_eq!(cut("hello", 5), "hello");
        assert_eq!(cut("hello!", 5), "hell…");
        assert_eq!(cut("a\x1b[2Jb", 9), "a [2Jb");
        assert_eq!(cut("x", 0), "");
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("a\x1b[2J incomprehensible", 6), ["a [2J", "incom…"]);
        assert_eq!(wrap(" ", 5), Vec::<String>::new());
    }
}
