//! Names of files and parts of them: whatever is asked for, it is nothing but what is there.

use crate::files::path::{Inside, inside};
use crate::files::ranges::{MOST_PARTS, Ranges};

/// A path is decoded once, and what it names leads nowhere but down, to nothing that is hidden.
pub fn files(data: &[u8]) {
    for prefix in [0, 1, data.len() / 2, data.len()] {
        let Some(Inside::Name(name)) = inside(data, prefix) else { continue };
        assert!(!name.contains(['\0', '\\']) && !name.starts_with('/'), "{name:?}");
        let parts: Vec<&str> = name.split('/').collect();
        for (i, part) in parts.iter().enumerate() {
            assert!(!part.starts_with('.') || (i, *part) == (0, ".well-known"), "{name:?}");
            assert!(!part.is_empty() || i + 1 == parts.len(), "{name:?}");
        }
        // The same path in any other spelling is the same name.
        let encode = |b: u8| if b == b'/' { "/".to_owned() } else { format!("%{b:02X}") };
        let again = [&data[..prefix], name.bytes().map(encode).collect::<String>().as_bytes()].concat();
        if !name.is_empty() || again.ends_with(b"/") {
            assert_eq!(inside(&again, prefix), Some(Inside::Name(name)));
        }
    }
}

/// A `Range` leads to parts that lie in the file, apart from each other, and are not many.
pub fn ranges(data: &[u8]) {
    let Ok(value) = std::str::from_utf8(data) else { return };
    for bytes in [0, 1, 10, 1000, u64::MAX] {
        let Ranges::Parts(parts) = Ranges::parse(value, bytes) else { continue };
        assert!((1..=MOST_PARTS).contains(&parts.len()), "{parts:?}");
        for (i, part) in parts.iter().enumerate() {
            assert!(part.length > 0 && part.start < bytes && part.length <= bytes - part.start, "{parts:?}");
            let overlaps = |other: &crate::files::ranges::Part| {
                part.start < other.start + other.length && other.start < part.start + part.length
            };
            assert!(!parts[i + 1..].iter().any(overlaps), "{parts:?}");
        }
    }
}
