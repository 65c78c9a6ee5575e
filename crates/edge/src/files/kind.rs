//! What a file is, by the end of its name: its media type, and whether compressing it is worth while.
//!
//! A table of our own instead of the system's, so that every edge says the same.

/// A media type as `Content-Type` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub media_type: &'static str,
    /// Text and what is like it. Images, films and archives are compressed already.
    pub is_compressible: bool,
}

/// Of a file whose name ends in `.EXTENSION`, in any case; unknown ones are bytes that a browser saves.
pub fn kind(name: &str) -> Kind {
    let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
    let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
    let found = |table: &[(&str, &'static str)]| {
        table.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known)).map(|(_, media)| *media)
    };
    if let Some(media_type) = found(TEXTS) {
        return Kind { media_type, is_compressible: true };
    }
    Kind { media_type: found(OTHERS).unwrap_or("application/octet-stream"), is_compressible: false }
}

const TEXTS: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("xhtml", "application/xhtml+xml"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("jsonld", "application/ld+json"),
    ("geojson", "application/geo+json"),
    ("webmanifest", "application/manifest+json"),
    ("txt", "text/plain; charset=utf-8"),
    ("text", "text/plain; charset=utf-8"),
    ("log", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("ics", "text/calendar; charset=utf-8"),
    ("vcf", "text/vcard; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("xml", "application/xml"),
    ("rss", "application/rss+xml"),
    ("atom", "application/atom+xml"),
    ("svg", "image/svg+xml"),
    ("ico", "image/x-icon"),
    ("bmp", "image/bmp"),
    ("wasm", "application/wasm"),
    ("ttf", "font/ttf"),
    ("otf", "font/otf"),
    ("eot", "application/vnd.ms-fontobject"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("toml", "application/toml"),
];

const OTHERS: &[(&str, &str)] = &[
    ("png", "image/png"),
    ("apng", "image/apng"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("jxl", "image/jxl"),
    ("heic", "image/heic"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("mp4", "video/mp4"),
    ("m4v", "video/mp4"),
    ("webm", "video/webm"),
    ("ogv", "video/ogg"),
    ("mov", "video/quicktime"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("ts", "video/mp2t"),
    ("mp3", "audio/mpeg"),
    ("m4a", "audio/mp4"),
    ("aac", "audio/aac"),
    ("ogg", "audio/ogg"),
    ("oga", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("flac", "audio/flac"),
    ("wav", "audio/wav"),
    ("pdf", "application/pdf"),
    ("epub", "application/epub+zip"),
    ("rtf", "application/rtf"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("tgz", "application/gzip"),
    ("br", "application/octet-stream"),
    ("bz2", "application/x-bzip2"),
    ("xz", "application/x-xz"),
    ("zst", "application/zstd"),
    ("7z", "application/x-7z-compressed"),
    ("tar", "application/x-tar"),
    ("jar", "application/java-archive"),
    ("apk", "application/vnd.android.package-archive"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_end_of_the_name() {
        for (name, media_type, is_compressible) in [
            ("index.html", "text/html; charset=utf-8", true),
            ("a.b/App.JS", "text/javascript; charset=utf-8", true),
            ("x.tar.gz", "application/gzip", false),
            ("logo.svg", "image/svg+xml", true),
            ("photo.jpeg", "image/jpeg", false),
            ("README", "application/octet-stream", false),
            ("folder.html/README", "application/octet-stream", false),
            ("x.", "application/octet-stream", false),
        ] {
            assert_eq!(kind(name), Kind { media_type, is_compressible }, "{name}");
        }
    }

    #[test]
    fn each_extension_once() {
        let mut all: Vec<&str> = TEXTS.iter().chain(OTHERS).map(|(extension, _)| *extension).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
