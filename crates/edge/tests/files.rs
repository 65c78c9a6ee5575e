//! Files: no way out, conditions, parts, and forms that are compressed.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::*;
use tiebeam_edge::{Config, Edge};
use tiebeam_topology::{Route, Target};

/// A folder `public` that is served below `/assets/`.
fn files() -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let public = folder.path().join("public");
    std::fs::create_dir_all(public.join("sub/.git")).unwrap();
    std::fs::create_dir_all(public.join(".well-known")).unwrap();
    std::fs::write(folder.path().join("secret"), "secret").unwrap();
    std::fs::write(public.join("hello world.txt"), "0123456789").unwrap();
    std::fs::write(public.join("sub/index.html"), "<p>index").unwrap();
    std::fs::write(public.join(".env"), "secret").unwrap();
    std::fs::write(public.join("sub/.git/config"), "secret").unwrap();
    std::fs::write(public.join("large.bin"), vec![b'x'; 300_000]).unwrap();
    symlink(folder.path().join("secret"), public.join("absolute")).unwrap();
    symlink("../secret", public.join("out")).unwrap();
    symlink("..", public.join("up")).unwrap();
    symlink("hello world.txt", public.join("inside")).unwrap();
    std::fs::write(public.join(".well-known/security.txt"), "mail us").unwrap();
    let made = std::process::Command::new("mkfifo").arg(public.join("pipe")).status().unwrap();
    assert!(made.success());
    let mut config = config(&[]);
    let route = Route::new("/assets/", Target::Files(public));
    config.sites.values_mut().next().unwrap().routes = vec![route];
    (folder, config)
}

#[test]
fn files_and_no_way_out() {
    let (_folder, config) = files();
    let edge = start(config);
    let mut client = Client::new(&edge);
    for path in
        ["../secret", "%2e%2e/secret", "..%2fsecret", "sub/../../secret", "..", ".", "sub/%2e", "sub%5c.."]
    {
        let response = get(&edge, &format!("/assets/{path}"));
        assert_eq!(response.status, 400, "{path}");
        assert!(!response.body.contains("secret"), "{path}");
    }
    for path in [
        "absolute",
        "out",
        "up/secret",
        ".env",
        "sub/.git/config",
        "%2eenv",
        "/etc/passwd",
        "%2fetc/passwd",
        "nothing",
        "sub//index.html",
        "hello%20world.txt/",
        "%c0%ae%c0%ae/secret",
        ".well-known/security.txt",
        "pipe",
    ] {
        let response = client.get(&format!("/assets/{path}"));
        assert_eq!(response.status, 404, "{path}");
        assert!(!response.body.contains("secret"), "{path}");
    }
    for path in ["/assets/a%00b", "/assets/sub%00/index.html"] {
        assert_eq!(get(&edge, path).status, 400, "{path}");
    }
    assert_eq!(client.get("/assets/hello%20world.txt").body, "0123456789");
    assert_eq!(client.get("/assets/inside?v=1").body, "0123456789");
    assert_eq!(client.get("/assets/large.bin").body.len(), 300_000);
    let index = client.get("/assets/sub/");
    assert_eq!(
        (&*index.body, field(&index.head, "content-type")),
        ("<p>index", Some("text/html; charset=utf-8"))
    );
    let redirect = client.get("/assets/sub");
    assert_eq!((redirect.status, field(&redirect.head, "location")), (301, Some("/assets/sub/")));
    assert_eq!(client.get("/assets/").status, 404, "no index, and no listing");
    client.say("POST /assets/inside HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let response = client.response(false).unwrap();
    assert_eq!((response.status, field(&response.head, "allow")), (405, Some("GET, HEAD, OPTIONS")));
}

#[test]
fn what_may_be_asked_of_files_and_of_the_server_as_a_whole() {
    let (_folder, mut config) = files();
    config.sites.values_mut().next().unwrap().routes[0].path = "/".to_owned();
    let edge = start(config);
    let mut client = Client::new(&edge);
    let (_cors_folder, mut cors) = files();
    let site = cors.sites.values_mut().next().unwrap();
    site.rules.response_headers.set.insert("Access-Control-Allow-Origin".to_owned(), "*".to_owned());
    let route = &mut site.routes[0].rules.response_headers;
    route.set.insert("Access-Control-Allow-Methods".to_owned(), "GET".to_owned());
    route.remove.push("allow".to_owned());
    let with_cors = start(cors);
    let preflight = ask(&with_cors, "OPTIONS", "/assets/inside", "Origin: https://b\r\n");
    assert_eq!((preflight.status, field(&preflight.head, "allow")), (204, None));
    assert_eq!(field(&preflight.head, "access-control-allow-methods"), Some("GET"));
    let folder = ask(&with_cors, "GET", "/assets/sub", "");
    assert_eq!((folder.status, field(&folder.head, "location")), (301, Some("/assets/sub/")));
    assert_eq!(field(&folder.head, "access-control-allow-origin"), Some("*"));
    for target in ["*", "/inside", "/nothing"] {
        client.say(&format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response(false).unwrap();
        assert_eq!((response.status, &*response.body), (204, ""), "{target}");
        assert_eq!(field(&response.head, "allow"), Some("GET, HEAD, OPTIONS"), "{target}");
    }
    assert_eq!(client.get("/inside").body, "0123456789");
}

#[test]
fn a_redirect_to_a_folder_stays_here() {
    let (_folder, mut config) = files();
    config.sites.values_mut().next().unwrap().routes[0].path = "/".to_owned();
    let edge = start(config);
    for (path, location) in [("//sub", "/sub/"), ("/sub?next=//b", "/sub/?next=//b"), ("/sub", "/sub/")] {
        let response = get(&edge, path);
        assert_eq!((response.status, field(&response.head, "location")), (301, Some(location)), "{path}");
        assert_eq!(&*response.body, "", "{path}");
    }
}

#[test]
fn a_file_that_becomes_shorter_is_cut() {
    let (folder, config) = files();
    let large = folder.path().join("public/large.bin");
    std::fs::write(&large, vec![b'x'; 64 << 20]).unwrap();
    let edge = start(config);
    let mut client = Client::new(&edge);
    client.say("GET /assets/large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    client.0.get_ref().peek(&mut [0]).unwrap();
    std::fs::File::options().write(true).open(&large).unwrap().set_len(0).unwrap();
    assert!(client.response(false).is_none());
    until("it is counted", || edge.stats().responses.cut == 1);
    assert_eq!(edge.stats().refused["answer_cut"], 1);
}

/// As if written a minute ago: long enough for a strong tag.
fn write_long_ago(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    age(path, 60);
}

fn age(path: &Path, seconds: u64) {
    let time = SystemTime::now() - Duration::from_secs(seconds);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn ask(edge: &Edge, method: &str, path: &str, fields: &str) -> Response {
    let mut client = Client::new(edge);
    client.say(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client.response(method == "HEAD").unwrap()
}

#[test]
fn the_root_may_have_a_well_known_folder_and_needs_a_slash() {
    let (_folder, mut config) = files();
    let routes = &mut config.sites.values_mut().next().unwrap().routes;
    routes[0].path = "/".to_owned();
    let to = routes[0].to.clone();
    routes.insert(0, Route::new("/docs", to));
    let edge = start(config);
    assert_eq!(get(&edge, "/.well-known/security.txt").body, "mail us");
    assert_eq!(get(&edge, "/docs/.well-known/security.txt").status, 404);
    assert_eq!(get(&edge, "/.env").status, 404);
    let redirect = get(&edge, "/docs?x");
    assert_eq!((redirect.status, field(&redirect.head, "location")), (301, Some("/docs/?x")));
    assert_eq!(get(&edge, "/docs/sub/").body, "<p>index");
}

#[test]
fn by_condition() {
    let (folder, config) = files();
    write_long_ago(&folder.path().join("public/hello world.txt"), b"0123456789");
    let edge = start(config);
    let path = "/assets/hello%20world.txt";
    let whole = get(&edge, path);
    let tag = field(&whole.head, "etag").unwrap();
    let modified = field(&whole.head, "last-modified").unwrap();
    assert!(tag.starts_with('"'), "{tag}");
    let (before, after) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-33 08:49:37 GMT");
    for (fields, status) in [
        (format!("If-None-Match: \"x\"\r\nIf-None-Match: W/{tag}\r\n"), 304),
        ("If-None-Match: *\r\n".to_owned(), 304),
        ("If-None-Match: \"x\"\r\n".to_owned(), 200),
        (format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {modified}\r\n"), 200),
        (format!("If-Modified-Since: {modified}\r\n"), 304),
        (format!("If-Modified-Since: {after}\r\n"), 304),
        (format!("If-Modified-Since: {before}\r\n"), 200),
        ("If-Modified-Since: yesterday\r\n".to_owned(), 200),
        (format!("If-Match: {tag}\r\n"), 200),
        (format!("If-Match: W/{tag}\r\n"), 412),
        ("If-Match: \"x\"\r\n".to_owned(), 412),
        (format!("If-Unmodified-Since: {before}\r\n"), 412),
        (format!("If-Unmodified-Since: {modified}\r\n"), 200),
        (format!("If-Match: \"x\"\r\nIf-None-Match: {tag}\r\n"), 412),
        (format!("If-None-Match: {tag}\r\nRange: bytes=0-1\r\n"), 304),
        (format!("If-Match: {tag}\r\nRange: bytes=0-1\r\n"), 206),
    ] {
        for method in ["GET", "HEAD"] {
            let expected = if status == 206 && method == "HEAD" { 200 } else { status };
            let response = ask(&edge, method, path, &fields);
            assert_eq!(response.status, expected, "{method} {fields}");
            if status == 304 {
                assert_eq!(field(&response.head, "etag"), Some(tag));
                assert_eq!(field(&response.head, "vary"), Some("Accept-Encoding"));
                assert_eq!(field(&response.head, "content-length"), None);
            }
        }
    }
    let head = ask(&edge, "HEAD", path, "");
    assert_eq!((head.status, field(&head.head, "content-length")), (200, Some("10")));
}

#[test]
fn by_part() {
    let (folder, config) = files();
    write_long_ago(&folder.path().join("public/hello world.txt"), b"0123456789");
    let large: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    write_long_ago(&folder.path().join("public/large.bin"), &large);
    let edge = start(config);
    let path = "/assets/hello%20world.txt";
    let tag = field(&get(&edge, path).head, "etag").unwrap().to_owned();
    let part = ask(&edge, "GET", path, "Range: bytes=2-4\r\nAccept-Encoding: gzip\r\n");
    assert_eq!((part.status, &*part.body), (206, "234"));
    assert_eq!(field(&part.head, "content-range"), Some("bytes 2-4/10"));
    assert_eq!(field(&part.head, "accept-ranges"), Some("bytes"));
    let range = |more: &str| ask(&edge, "GET", path, &format!("Range: bytes=2-4\r\n{more}")).status;
    assert_eq!(range("If-Range: \"old\"\r\n"), 200);
    assert_eq!(range(&format!("If-Range: {tag}\r\n")), 206);
    assert_eq!(range("Range: bytes=5-6\r\n"), 200);
    let beyond = ask(&edge, "GET", path, "Range: bytes=10-\r\n");
    assert_eq!((beyond.status, field(&beyond.head, "content-range")), (416, Some("bytes */10")));
    // Several parts, larger than what is read at once.
    let several = ask(&edge, "GET", "/assets/large.bin", "Range: bytes=-100000,10-11,0-0,150000-199998\r\n");
    assert_eq!((several.status, field(&several.head, "content-range")), (206, None));
    let boundary = field(&several.head, "content-type").unwrap();
    let boundary = boundary.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut expected = Vec::new();
    for (first, last) in [(150_000, 299_999), (0, 11)] {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {first}-{last}/300000\r\n\r\n"
        );
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(&large[first..=last]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(several.bytes == expected, "{}", several.bytes.len());
}

#[test]
fn too_many_parts_are_the_whole_file() {
    let (_folder, config) = files();
    let edge = start(config);
    let specs: Vec<String> = (0..17).map(|n| format!("{0}-{0}", n * 1000)).collect();
    let response = ask(&edge, "GET", "/assets/large.bin", &format!("Range: bytes={}\r\n", specs.join(",")));
    assert_eq!((response.status, response.bytes.len()), (200, 300_000));
    assert_eq!(edge.stats().refused["range_count"], 1);
}

fn decompressed(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap(),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap(),
        _ => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut out).unwrap(),
    };
    out
}

#[test]
fn compressed_on_the_way() {
    let (folder, mut config) = files();
    config.limits.compress_bytes = 200_000;
    let public = folder.path().join("public");
    let text: Vec<u8> = (0..20_000u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    write_long_ago(&public.join("text.txt"), &text);
    write_long_ago(&public.join("large.txt"), &[b'x'; 200_001]);
    write_long_ago(&public.join("small.txt"), &[b'x'; 1023]);
    write_long_ago(&public.join("image.png"), &text);
    std::fs::write(public.join("new.txt"), &text).unwrap();
    let in_a_minute = SystemTime::now() + Duration::from_secs(60);
    std::fs::File::options()
        .write(true)
        .open(public.join("new.txt"))
        .unwrap()
        .set_modified(in_a_minute)
        .unwrap();
    let edge = start(config);
    let path = "/assets/text.txt";
    let plain = ask(&edge, "GET", path, "");
    assert_eq!(
        (field(&plain.head, "content-encoding"), field(&plain.head, "vary")),
        (None, Some("Accept-Encoding"))
    );
    let plain_tag = field(&plain.head, "etag").unwrap();
    for (accepted, coding) in
        [("gzip, deflate, br, zstd", "br"), ("zstd, br;q=0.5", "zstd"), ("gzip", "gzip"), ("*;q=0.1", "br")]
    {
        let accepted = format!("Accept-Encoding: {accepted}\r\n");
        // The second time it is known.
        for _ in 0..2 {
            let response = ask(&edge, "GET", path, &accepted);
            assert_eq!((response.status, field(&response.head, "content-encoding")), (200, Some(coding)));
            assert_eq!(field(&response.head, "content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(field(&response.head, "vary"), Some("Accept-Encoding"));
            assert!(response.bytes.len() < text.len() / 2);
            assert_eq!(decompressed(coding, &response.bytes), text);
            let head = ask(&edge, "HEAD", path, &accepted);
            assert_eq!(field(&head.head, "content-length"), Some(&*response.bytes.len().to_string()));
            let tag = field(&response.head, "etag").unwrap();
            assert!(tag.starts_with("W/") && tag.ends_with(&format!("-{coding}\"")), "{tag}");
            for known in [tag, plain_tag] {
                let again = ask(&edge, "GET", path, &format!("{accepted}If-None-Match: {known}\r\n"));
                assert_eq!((again.status, field(&again.head, "etag")), (304, Some(known)));
            }
            // A part, and what needs a strong tag, is of the plain file.
            let part = ask(&edge, "GET", path, &format!("{accepted}Range: bytes=0-1\r\nIf-Range: {tag}\r\n"));
            assert_eq!((part.status, field(&part.head, "content-encoding")), (200, None));
            let same = ask(&edge, "GET", path, &format!("{accepted}If-Match: {plain_tag}\r\n"));
            assert_eq!((same.status, field(&same.head, "content-encoding")), (200, None));
        }
    }
    // Not worth it, too large, compressed already, still changing, not asked for.
    for (name, accepted) in [
        ("small.txt", "br"),
        ("large.txt", "br"),
        ("image.png", "br"),
        ("new.txt", "br"),
        ("text.txt", "br;q=0, identity"),
    ] {
        let response =
            ask(&edge, "GET", &format!("/assets/{name}"), &format!("Accept-Encoding: {accepted}\r\n"));
        assert_eq!((response.status, field(&response.head, "content-encoding")), (200, None), "{name}");
    }
    assert_eq!(edge.stats().refused["compress_busy"], 0);
}

#[test]
fn without_memory_for_it_a_file_is_sent_as_it_is() {
    let (folder, mut config) = files();
    config.limits.compressed_bytes = 10_000;
    write_long_ago(&folder.path().join("public/text.txt"), &[b'x'; 100_000]);
    let edge = start(config);
    let response = ask(&edge, "GET", "/assets/text.txt", "Accept-Encoding: gzip\r\n");
    assert_eq!((response.bytes.len(), field(&response.head, "content-encoding")), (100_000, None));
    assert_eq!(edge.stats().refused["compress_busy"], 1);
}

#[test]
fn compressed_beforehand() {
    let (folder, config) = files();
    let public = folder.path().join("public");
    write_long_ago(&public.join("app.js"), b"plain");
    for (suffix, text) in [("br", "as brotli"), ("gz", "as gzip, longer")] {
        write_long_ago(&public.join(format!("app.js.{suffix}")), text.as_bytes());
    }
    // A link out of the folder is no sibling, and neither is one that was forgotten.
    symlink(folder.path().join("secret"), public.join("app.js.zst")).unwrap();
    write_long_ago(&public.join("old.css"), b"plain");
    write_long_ago(&public.join("old.css.gz"), b"from before");
    age(&public.join("old.css.gz"), 120);
    let edge = start(config);
    let get = |name: &str, accepted: &str, more: &str| {
        ask(&edge, "GET", &format!("/assets/{name}"), &format!("Accept-Encoding: {accepted}\r\n{more}"))
    };
    for (name, accepted, body, coding) in [
        ("app.js", "gzip, br, zstd", "as brotli", Some("br")),
        ("app.js", "gzip, br;q=0.1", "as gzip, longer", Some("gzip")),
        ("app.js", "zstd", "plain", None),
        ("app.js", "identity", "plain", None),
        ("old.css", "gzip", "plain", None),
        ("app.js.gz", "gzip", "as gzip, longer", None),
    ] {
        let response = get(name, accepted, "");
        let found = (response.status, &*response.body, field(&response.head, "content-encoding"));
        assert_eq!(found, (200, body, coding), "{name} {accepted}");
    }
    let tag = field(&get("app.js", "br", "").head, "etag").unwrap().to_owned();
    assert!(tag.starts_with('"') && tag.ends_with("-br\""), "{tag}");
    let part = get("app.js", "br", &format!("Range: bytes=3-8\r\nIf-Range: {tag}\r\n"));
    assert_eq!(
        (part.status, &*part.body, field(&part.head, "content-encoding")),
        (206, "brotli", Some("br"))
    );
    assert_eq!(field(&part.head, "content-type"), Some("text/javascript; charset=utf-8"));
}
