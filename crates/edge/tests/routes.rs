//! What sites and routes change on the way: paths, fields, bounds, redirects, maintenance, pages for errors.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::async_server::{Async, http2_without_tls, reach, speak_http2};
use common::http2::{Http2, run, whole};
use common::*;
use http::Request;
use tiebeam_edge::{Config, Edge, Listeners, LogFile, LogSink, Page, ServerConfig, ServerId, SiteConfig};
use tiebeam_topology::{AccessLog, FieldEdits, Http2 as Http2Mode, Redirect, RedirectStatus, Route, Target};

fn to_web(path: &str) -> Route {
    Route::new(path, Target::Pool("web".parse().unwrap()))
}

fn to_elsewhere(path: &str, to: &str, status: RedirectStatus) -> Route {
    Route::new(path, Target::Redirect(Redirect { to: to.to_owned(), status }))
}

fn edits(set: &[(&str, &str)], remove: &[&str]) -> FieldEdits {
    FieldEdits {
        set: set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        remove: remove.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn site(config: &mut Config) -> &mut SiteConfig {
    config.sites.values_mut().next().unwrap()
}

/// A page by its name, as if it had been loaded.
fn page(config: &mut Config, name: &str, text: &str) -> PathBuf {
    let page = Page { media_type: "text/plain; charset=utf-8", bytes: text.as_bytes().into() };
    config.pages.insert(name.into(), page);
    name.into()
}

fn ask(edge: &Edge, text: &str) -> Response {
    let mut client = Client::new(edge);
    client.say(text);
    client.response(text.starts_with("HEAD")).unwrap()
}

#[test]
fn redirects_by_prefix() {
    let mut config = config(&[]);
    let mut with_field = to_elsewhere("/", "https://www.shop.example{path}", RedirectStatus::Permanent);
    with_field.rules.response_headers = edits(&[("Cache-Control", "max-age=60")], &[]);
    let mut placed = to_elsewhere("/placed", "/a", RedirectStatus::Found);
    placed.rules.response_headers = edits(&[("location", "/b")], &["Date"]);
    site(&mut config).routes = vec![
        placed,
        to_elsewhere("/old/", "/new/", RedirectStatus::Moved),
        to_elsewhere("/now", "/", RedirectStatus::Temporary),
        with_field,
    ];
    let edge = start(config);
    for (path, status, location) in [
        ("/old/a?b=c", 301, "/new/a?b=c"),
        ("/old//evil.example", 301, "/new/evil.example"),
        ("/now/a", 307, "/a"),
        ("/now//evil.example", 307, "/evil.example"),
        ("/nowhere", 308, "https://www.shop.example/nowhere"),
    ] {
        let response = get(&edge, path);
        assert_eq!((response.status, field(&response.head, "location")), (status, Some(location)), "{path}");
        assert_eq!((response.bytes.len(), field(&response.head, "content-length")), (0, Some("0")));
        let cached = (status == 308).then_some("max-age=60");
        assert_eq!(field(&response.head, "cache-control"), cached, "{path}");
    }
    // A rule takes the place of what the edge says itself.
    let place = get(&edge, "/placed/x");
    assert_eq!(
        (place.head.to_lowercase().matches("location:").count(), field(&place.head, "location")),
        (1, Some("/b"))
    );
    assert_eq!((field(&place.head, "x-request-id").is_some(), field(&place.head, "date")), (true, None));
    let options = ask(&edge, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(field(&options.head, "location"), Some("https://www.shop.example/"));
}

#[test]
fn paths_and_fields_toward_servers() {
    let server = Server::named("x");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut config = config(&[server.address]);
    config.access_log = AccessLog::Json;
    let mut api = to_web("/api/");
    api.rules.replace_prefix = Some("/v2".to_owned());
    let mut v1 = to_web("/v1");
    v1.rules.replace_prefix = Some("/v2".to_owned());
    api.rules.request_headers = edits(&[("Host", "api.internal"), ("X-Env", "live")], &["cookie"]);
    let site = site(&mut config);
    site.rules.request_headers = edits(&[("X-Env", "test"), ("X-Site", "1")], &[]);
    site.routes = vec![api, v1, to_web("/")];
    let listeners = Listeners { http: Some(loopback()), https: None, workers: 1 };
    let edge = Edge::start(listeners, config, LogSink::File(LogFile::at(path.clone()))).unwrap();
    let mut client = Client::new(&edge);
    client.say("POST /api/users?q HTTP/1.1\r\nHost: shop.example\r\nCookie: a\r\nx-env: mine\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.response(false).unwrap().body, "x");
    assert_eq!(client.get("/other").body, "x");
    assert_eq!(client.get("/v1;a%2Fb").status, 400);
    let mut client = Client::new(&edge);
    assert_eq!(client.get("/v1;a/%2f%5c/b;c").body, "x");
    drain(&edge, Duration::from_secs(10));
    let heads = server.heads();
    let [first, second, third] = heads.as_slice() else { panic!("{heads:?}") };
    assert!(first.starts_with("POST /v2/users?q HTTP/1.1\r\nHost: api.internal\r\n"), "{first}");
    assert_eq!((field(first, "x-env"), field(first, "x-site")), (Some("live"), Some("1")));
    assert_eq!((field(first, "cookie"), first.matches("nv: ").count()), (None, 1));
    assert_eq!(field(first, "x-forwarded-host"), Some("shop.example"));
    assert!(second.starts_with("GET /other HTTP/1.1\r\nHost: shop.example\r\n"), "{second}");
    assert_eq!(field(second, "x-env"), Some("test"));
    assert!(third.starts_with("GET /v2/b;c HTTP/1.1\r\n"), "{third}");
    // The log tells what the client asked.
    let text = std::fs::read_to_string(&path).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&line["path"], &line["host"]), (&"/api/users".into(), &"shop.example".into()));
}

#[test]
fn no_spelling_of_a_path_leads_around_its_route() {
    let (admin, web) = (Server::named("admin"), Server::named("web"));
    let mut config = config(&[web.address]);
    let mut pool = config.pools.values().next().unwrap().clone();
    pool.servers = vec![ServerConfig::new(ServerId::new("a0"), admin.address)];
    config.pools.insert("admin".parse().unwrap(), pool);
    let guarded = Route::new("/admin", Target::Pool("admin".parse().unwrap()));
    site(&mut config).routes = vec![guarded, to_web("/public"), to_web("/")];
    config.http2 = Http2Mode::PriorKnowledge;
    let edge = start(config);
    let spelled = [
        "//admin",
        "/%61dmin",
        "/admin%2fx",
        "/%2Fadmin",
        "/admin//x",
        "/adm%69n/x?/..",
        "/admin;x/users",
        "/;/admin/users",
        "/;a//;b/%61dmin;c",
    ];
    let dotted = [
        "/public/../admin",
        "/public/%2e%2E/admin",
        "/public/.%2e",
        "/./admin",
        "/public/..;/admin",
        "/public%2f..%5cadmin",
    ];
    let mut client = Client::new(&edge);
    for path in spelled {
        assert_eq!(client.get(path).body, "admin", "{path}");
    }
    for path in dotted {
        assert_eq!(get(&edge, path).status, 400, "{path}");
        assert_eq!(get(&edge, &format!("http://a{path}")).status, 400, "{path}");
    }
    run(async {
        let mut client = Http2::plain(edge.addresses().http.unwrap()).await;
        for path in spelled {
            assert_eq!(client.get(&format!("http://a{path}")).await.unwrap().body, b"admin", "{path}");
        }
        for path in dotted {
            assert_eq!(client.get(&format!("http://a{path}")).await.unwrap().status, 400, "{path}");
        }
    });
    for path in ["/;%2fadmin", "/admin%00", "/public;%5c/admin"] {
        assert_eq!(get(&edge, path).status, 400, "{path}");
    }
    assert_eq!(edge.stats().refused["path"], 3);
    // What a server is sent is what the client wrote.
    assert!(admin.heads().iter().any(|head| head.starts_with("GET /%61dmin HTTP/1.1\r\n")));
    assert_eq!((admin.heads().len(), web.heads().len()), (2 * spelled.len(), 0));
    assert_eq!(edge.stats().refused["dot_segment"], 3 * dotted.len() as u64);
}

#[test]
fn fields_toward_clients() {
    let server = Server::start(|mut peer| {
        while peer.request().is_some() {
            peer.say("HTTP/1.1 103 Early Hints\r\nServer: x\r\n\r\nHTTP/1.1 200 OK\r\nServer: x\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 2\r\n\r\nhi");
        }
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.css"), "css").unwrap();
    let mut config = config(&[server.address]);
    let mut files = Route::new("/assets/", Target::Files(folder.path().to_owned()));
    files.rules.response_headers = edits(&[("Cache-Control", "max-age=60")], &["etag"]);
    let site = site(&mut config);
    site.rules.response_headers = edits(&[("X-Frame-Options", "DENY"), ("x-a", "0")], &["server"]);
    site.routes = vec![files, to_web("/")];
    let edge = start(config);
    let mut client = Client::new(&edge);
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let early = client.response(false).unwrap();
    assert_eq!((early.status, field(&early.head, "server")), (103, Some("x")));
    let response = client.response(false).unwrap();
    assert_eq!((&*response.body, response.head.to_lowercase().matches("x-a: ").count()), ("hi", 1));
    assert_eq!(field(&response.head, "x-a"), Some("0"));
    assert_eq!(
        (field(&response.head, "server"), field(&response.head, "x-frame-options")),
        (None, Some("DENY"))
    );
    let file = client.get("/assets/a.css");
    assert_eq!((&*file.body, field(&file.head, "cache-control")), ("css", Some("max-age=60")));
    assert_eq!((field(&file.head, "etag"), field(&file.head, "x-frame-options")), (None, Some("DENY")));
    // An error is not to be kept by anybody.
    let missing = client.get("/assets/b.css");
    assert_eq!((missing.status, field(&missing.head, "cache-control")), (404, Some("no-store")));
}

#[test]
fn a_stream_that_is_silent_lives_where_its_route_says_so() {
    // Of `/events` the second half, and of `/chat` the answer, comes when the client says something.
    let server = Async::start(|stream| {
        speak_http2(stream, |parts, mut body, mut respond| async move {
            let mut events = None;
            if parts.uri.path().ends_with("/events") {
                let mut stream = respond.send_response(http::Response::new(()), false).ok()?;
                stream.send_data("one".into(), false).ok()?;
                events = Some(stream);
            }
            body.data().await?.ok()?;
            let stream = events.or_else(|| respond.send_response(http::Response::new(()), false).ok());
            stream?.send_data("two".into(), true).ok()
        })
    });
    let mut config = reach(config(&[server.address]), http2_without_tls());
    config.http2 = Http2Mode::PriorKnowledge;
    let limits = &mut config.limits;
    (limits.response_time, limits.body_grace) = (Duration::from_millis(300), Duration::from_millis(100));
    let mut long = to_web("/long");
    (long.rules.response_time, long.rules.body_rate) = (Some(Duration::from_secs(600)), Some(0));
    site(&mut config).routes = vec![long, to_web("/")];
    let edge = start(config);
    run(async {
        let mut client = Http2::plain(edge.addresses().http.unwrap()).await;
        let post = |path: &str| Request::post(format!("http://a{path}")).body(()).unwrap();
        let (events, mut to_events) = client.ask(post("/long/events"), false).await;
        let mut events = events.await.unwrap().into_body();
        assert_eq!(events.data().await.unwrap().unwrap(), "one");
        let (chat, mut to_chat) = client.ask(post("/long/chat"), false).await;
        // Those that began later are given up by the bounds of all.
        let (cut, _open) = client.ask(post("/events"), false).await;
        assert!(whole(cut.await.unwrap()).await.is_err());
        let (slow, _open) = client.ask(post("/chat"), false).await;
        assert_eq!(slow.await.unwrap().status(), 408);
        to_events.send_data("go on".into(), true).unwrap();
        assert_eq!(events.data().await.unwrap().unwrap(), "two");
        to_chat.send_data("go on".into(), true).unwrap();
        assert_eq!(whole(chat.await.unwrap()).await.unwrap().body, b"two");
    });
    assert_eq!((edge.stats().refused["answer_cut"], edge.stats().refused["body_rate"]), (1, 1));
}

#[test]
fn bounds_of_a_route() {
    let server = Server::start(|mut peer| {
        while let Some((head, _)) = peer.request() {
            // Silent for `/slow` until the edge gives up.
            if head.starts_with("GET /slow") {
                peer.request();
                return;
            }
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let mut config = config(&[server.address]);
    config.limits.body_bytes = 10;
    let mut upload = to_web("/upload");
    upload.rules.body_bytes = Some(20);
    let mut tiny = to_web("/tiny");
    tiny.rules.body_bytes = Some(5);
    let mut slow = to_web("/slow");
    slow.rules.response_time = Some(Duration::from_millis(200));
    site(&mut config).routes = vec![upload, tiny, slow, to_web("/")];
    let edge = start(config);
    let post = |path: &str, bytes: usize, is_chunked: bool| {
        let body = "x".repeat(bytes);
        let framed = match is_chunked {
            true => format!("Transfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n{body}\r\n0\r\n\r\n"),
            false => format!("Content-Length: {bytes}\r\n\r\n{body}"),
        };
        ask(&edge, &format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framed}")).status
    };
    for is_chunked in [false, true] {
        assert_eq!(post("/", 11, is_chunked), 413);
        assert_eq!(post("/", 10, is_chunked), 200);
        assert_eq!(post("/upload", 20, is_chunked), 200);
        assert_eq!(post("/upload", 21, is_chunked), 413);
        assert_eq!(post("/tiny", 6, is_chunked), 413);
    }
    assert_eq!(edge.stats().refused["body_bytes"], 6);
    assert_eq!(get(&edge, "/slow").status, 504);
    assert_eq!(edge.stats().refused["response_time"], 1);
}

#[test]
fn maintenance() {
    let server = Server::named("x");
    let mut config = config(&[server.address]);
    let mut shop = to_web("/shop/");
    shop.rules.maintenance = Some(page(&mut config, "shop.txt", "the shop is being painted"));
    let site_of = site(&mut config);
    site_of.routes = vec![shop, to_web("/api")];
    let edge = start(config.clone());
    let response = get(&edge, "/shop/a");
    assert_eq!((response.status, &*response.body), (503, "the shop is being painted"));
    assert_eq!(field(&response.head, "retry-after"), Some("120"));
    assert_eq!(field(&response.head, "content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!((get(&edge, "/api").status, get(&edge, "/else").status), (200, 404));
    let head = ask(&edge, "HEAD /shop/ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((head.status, field(&head.head, "content-length")), (503, Some("25")));
    // Of the whole site; a route's own page is nearer. One that was not loaded keeps nobody out.
    site(&mut config).rules.maintenance = Some("lost.html".into());
    edge.publish(config.clone());
    assert_eq!(get(&edge, "/shop/a").body, "the shop is being painted");
    for path in ["/api", "/else"] {
        let response = get(&edge, path);
        assert!(response.status == 503 && response.body.contains("being worked on"), "{}", response.body);
    }
    site(&mut config).rules.maintenance = None;
    site(&mut config).routes[0].rules.maintenance = None;
    edge.publish(config);
    assert_eq!(get(&edge, "/shop/a").body, "x");
    assert_eq!((edge.stats().refused["maintenance"], server.asked("GET /shop")), (5, 1));
}

#[test]
fn pages_for_errors() {
    let server = Server::start(|mut peer| {
        while let Some((head, _)) = peer.request() {
            let status = if head.starts_with("GET /own") { "502 Mine" } else { "garbage" };
            peer.say(&format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nmine"));
        }
    });
    let mut config = config(&[server.address]);
    let pages = [("502", "bad gateway"), ("5xx", "some error"), ("404", "not here")]
        .map(|(status, text)| (status.parse().unwrap(), page(&mut config, status, text)));
    let site = site(&mut config);
    site.rules.errors.extend(pages);
    site.rules.errors.insert("4xx".parse().unwrap(), "lost.html".into());
    let mut empty = Route::new("/empty", Target::Pool("none".parse().unwrap()));
    empty.rules.response_headers = edits(&[("X-A", "1")], &[]);
    site.routes = vec![to_web("/app"), to_web("/own"), empty];
    let edge = start(config);
    for (path, status, body) in [
        ("/app", 502, "bad gateway"),
        ("/empty", 503, "some error"),
        ("/else", 404, "not here"),
        // What a server answers is its own.
        ("/own", 502, "mine"),
    ] {
        let response = get(&edge, path);
        assert_eq!((response.status, &*response.body), (status, body), "{path}");
    }
    let head = ask(&edge, "HEAD /else HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((head.status, field(&head.head, "content-length")), (404, Some("8")));
    // A page that is not there is the edge's own; what is no request is of no site.
    let too_long = ask(&edge, "POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n");
    assert!(too_long.status == 413 && too_long.body.contains("Content Too Large"), "{}", too_long.body);
    assert!(ask(&edge, "GET /else HTTP/1.1\r\n\r\n").body.contains("Bad Request"));
}

#[test]
fn over_http2_as_well() {
    let server = Server::named("x");
    let folder = tempfile::tempdir().unwrap();
    let text = "all work and no play\n".repeat(10_000);
    let file = folder.path().join("a.txt");
    std::fs::write(&file, &text).unwrap();
    // Long enough ago for a strong tag, and for compressing.
    let modified = std::time::SystemTime::now() - Duration::from_secs(60);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    let mut config = config(&[server.address]);
    config.http2 = tiebeam_topology::Http2::PriorKnowledge;
    let mut api = to_web("/api/");
    api.rules.replace_prefix = Some("/".to_owned());
    api.rules.request_headers = edits(&[("Host", "api.internal")], &[]);
    api.rules.response_headers = edits(&[("X-A", "1")], &[]);
    let mut closed = to_web("/closed");
    closed.rules.maintenance = Some(page(&mut config, "closed.txt", "later"));
    let files = Route::new("/assets/", Target::Files(folder.path().to_owned()));
    let moved = to_elsewhere("/old/", "/new/", RedirectStatus::Moved);
    site(&mut config).routes = vec![api, closed, files, moved];
    let edge = start(config);
    run(async {
        let mut client = Http2::plain(edge.addresses().http.unwrap()).await;
        let answer = client.get("http://a/api/b").await.unwrap();
        assert_eq!(
            (answer.status, &answer.body[..], &answer.fields["x-a"]),
            (200, &b"x"[..], &"1".parse().unwrap())
        );
        let answer = client.get("http://a/closed").await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (503, &b"later"[..]));
        let answer = client.get("http://a/old/b?c").await.unwrap();
        assert_eq!((answer.status, &answer.fields["location"]), (301, &"/new/b?c".parse().unwrap()));
        let plain = client.get("http://a/assets/a.txt").await.unwrap();
        assert_eq!((plain.status, plain.body.len()), (200, text.len()));
        let tag = plain.fields["etag"].to_str().unwrap();
        for (name, value, status, bytes) in [
            ("if-none-match", tag, 304, 0),
            ("range", "bytes=0-9", 206, 10),
            ("accept-encoding", "br", 200, 0),
        ] {
            let request = Request::get("http://a/assets/a.txt").header(name, value).body(()).unwrap();
            let (response, _) = client.ask(request, true).await;
            let answer = whole(response.await.unwrap()).await.unwrap();
            assert_eq!(answer.status, status, "{name}");
            if name == "accept-encoding" {
                assert_eq!(answer.fields["content-encoding"], "br");
                assert!(!answer.body.is_empty() && answer.body.len() < text.len() / 10);
            } else {
                assert_eq!(answer.body.len(), bytes, "{name}");
            }
        }
    });
    assert!(
        server.heads()[0].starts_with("GET /b HTTP/1.1\r\nHost: api.internal\r\n"),
        "{:?}",
        server.heads()
    );
}
