//! What an app printed, made fit for others to read: events go to a log, a page and the ledger, and an app that fails
//! often prints what it was given.
//!
//! Pure. The whole output is only in the instance's own log file, which nobody but its owner reads.

use std::collections::BTreeMap;

use crate::settings::Secret;

/// The longest line of output that an event quotes, bytes.
pub const QUOTED_BYTES: usize = 200;
/// A shorter value is too common a text to be looked for.
const SECRET_BYTES_MIN: usize = 4;
/// Instead of a secret.
const HIDDEN: &str = "***";
/// Parts of the names of variables whose values are secret, though they stand in the file.
const SECRET_NAMES: [&str; 6] = ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "DSN"];

/// The texts that may not be quoted, the longest first, so that none is left over from within another.
pub fn secrets(given: &BTreeMap<String, Secret>, written: &BTreeMap<String, String>) -> Vec<String> {
    let named = |name: &str| SECRET_NAMES.iter().any(|part| name.to_ascii_uppercase().contains(part));
    let mut all: Vec<String> = given.values().map(|secret| secret.expose().to_owned()).collect();
    all.extend(written.iter().filter(|(name, _)| named(name)).map(|(_, value)| value.clone()));
    all.extend(given.values().filter_map(|secret| password(secret.expose())).map(str::to_owned));
    all.extend(written.values().filter_map(|value| password(value)).map(str::to_owned));
    all.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
    all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    all.dedup();
    all
}

/// The password in a URL: `scheme://user:password@host` (RFC 3986, section 3.2.1).
fn password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (user, _) = rest.split(['/', '?', '#']).next()?.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

/// Lines without secrets and control characters, each of at most [`QUOTED_BYTES`].
pub fn quotable(lines: Vec<String>, secrets: &[String]) -> Vec<String> {
    let quote = |mut line: String| {
        for secret in secrets {
            line = line.replace(secret, HIDDEN);
        }
        let plain = line.replace(char::is_control, " ");
        match plain.len() > QUOTED_BYTES {
            true => {
                let cut = QUOTED_BYTES - "…".len();
                let end = (0..=cut).rev().find(|at| plain.is_char_boundary(*at)).unwrap_or(0);
                format!("{}…", &plain[..end])
            }
            false => plain,
        }
    };
    lines.into_iter().map(quote).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret() {
        let given = BTreeMap::from([("DATABASE_URL".into(), Secret::new("postgres://app:s3cr3t@h:1/db"))]);
        let written = [
            ("RAILS_ENV", "production"),
            ("api_key", "abcdef"),
            ("QUEUE", "amqp://me:hunter22@q/v"),
            ("SECRET_X", "abc"),
        ];
        let written = written.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(
            secrets(&given, &written),
            ["postgres://app:s3cr3t@h:1/db", "hunter22", "abcdef", "s3cr3t"]
        );
        for (url, expected) in [
            ("postgres://a:b@c@h/d", Some("b@c")),
            ("postgres://h/d?x=a:b@c", None),
            ("postgres://u@h/d", None),
            ("a:b@c", None),
        ] {
            assert_eq!(password(url), expected, "{url}");
        }
    }

    #[test]
    fn what_is_quoted() {
        let secrets = ["postgres://app:s3cr3t@h".to_owned(), "s3cr3t".to_owned()];
        let quote = |line: &str| quotable(vec![line.to_owned()], &secrets).remove(0);
        for (line, quoted) in [
            ("cannot reach postgres://app:s3cr3t@h", "cannot reach ***"),
            ("password s3cr3t, s3cr3t", "password ***, ***"),
            ("\u{1b}[31mred\tline", " [31mred line"),
        ] {
            assert_eq!(quote(line), quoted);
        }
        assert_eq!(quote(&"x".repeat(QUOTED_BYTES)), "x".repeat(QUOTED_BYTES));
        let (ascii, wide) = (quote(&"x".repeat(QUOTED_BYTES + 1)), quote(&"é".repeat(QUOTED_BYTES)));
        assert_eq!((ascii.len(), ascii.ends_with("x…")), (QUOTED_BYTES, true));
        assert!(wide.len() <= QUOTED_BYTES && wide.ends_with("é…"), "{wide}");
        // Hidden first and cut then: no cut leaves half a secret.
        let late = quote(&format!("{}s3cr3t", "x".repeat(QUOTED_BYTES - 4)));
        assert!(!late.contains("s3"), "{late}");
    }
}
