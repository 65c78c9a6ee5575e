//! The console over real sockets: routes, headers, bounds, shutdown.

use tiebeam_watch::fixtures;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use tiebeam_watch::CONTENT_TYPE;

use super::*;

const ANY: &str = "127.0.0.1:0";

async fn console(limits: Limits) -> Console {
    Console::bounded(None, ANY.parse().unwrap(), Board::new(fixtures::failover()), limits).await.unwrap()
}

/// What comes back until the connection is closed, in whatever way.
async fn ask(console: &Console, bytes: &str) -> String {
    let mut stream = TcpStream::connect(console.address()).await.unwrap();
    // The console may have closed already; then nothing comes back.
    let _ = stream.write_all(bytes.as_bytes()).await;
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let end = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.expect("no end");
    if let Err(error) = end {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    String::from_utf8(answer).unwrap()
}

async fn get(console: &Console, path: &str) -> String {
    ask(console, &format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", console.address()))
        .await
}

#[tokio::test]
async fn every_path_answers_with_the_headers_that_bind_a_browser() {
    let console = console(Limits::default()).await;
    for (path, status, kind, text) in [
        ("/", "200", "text/html; charset=utf-8", "There is no primary: 14 sessions"),
        ("/view.json", "200", "application/json", "\"cluster\":\"shop\""),
        ("/series.json", "200", "application/json", "\"seconds\":"),
        ("/metrics", "200", CONTENT_TYPE, "# EOF\n"),
        ("/healthz", "503", "text/plain; charset=utf-8", "the node's own loop does not answer"),
        ("/assets/style.css", "200", "text/css; charset=utf-8", "--ground"),
        ("/assets/console.js", "200", "text/javascript; charset=utf-8", "poll()"),
        ("/assets/uplot.js", "200", "text/javascript; charset=utf-8", "uPlot"),
        ("/assets/uplot.css", "200", "text/css; charset=utf-8", ".uplot"),
        ("/assets/uplot.LICENSE", "200", "text/plain; charset=utf-8", "MIT License"),
        ("/assets/mark.svg", "200", "image/svg+xml", "<svg"),
        ("/nothing", "404", "text/plain; charset=utf-8", "Nothing is here"),
        ("/assets/nothing", "404", "text/plain; charset=utf-8", "Nothing is here"),
        ("/assets/../Cargo.toml", "404", "text/plain; charset=utf-8", "Nothing is here"),
    ] {
        let answer = get(&console, path).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        for line in [
            &format!("content-type: {kind}"),
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
        ] {
            assert!(head.lines().any(|l| l == line), "{path} lacks {line:?}: {head}");
        }
        let policy = head.lines().find(|l| l.starts_with("content-security-policy: ")).expect(path);
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(body.contains(text), "{path} lacks {text:?}");
    }
    console.shutdown().await;
}

#[tokio::test]
async fn the_pages_only_read() {
    let console = console(Limits::default()).await;
    let host = console.address();
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for path in ["/", "/view.json", "/metrics", "/assets/style.css"] {
            let head = format!(
                "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            );
            let answer = ask(&console, &head).await;
            assert!(answer.starts_with("HTTP/1.1 405 "), "{method} {path}: {answer}");
            assert!(answer.to_lowercase().contains("allow: get,head"), "{method} {path}: {answer}");
        }
    }
    let answer =
        ask(&console, &format!("HEAD / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"),
        "a head without a body: {answer}"
    );
    console.shutdown().await;
}

#[tokio::test]
async fn a_fresh_view_is_healthy() {
    let mut view = fixtures::healthy();
    view.unix_ms =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let console = Console::start(ANY.parse().unwrap(), Board::new(view)).await.unwrap();
    assert!(get(&console, "/healthz").await.starts_with("HTTP/1.1 200 "));
    console.shutdown().await;
}

#[tokio::test]
async fn a_foreign_name_that_resolves_to_this_machine_gets_nothing() {
    let console = console(Limits::default()).await;
    for (host, status) in [
        ("evil.example", 421),
        ("evil.example:80", 421),
        ("@", 421),
        ("localhost:7480", 200),
        ("[::1]:1", 200),
    ] {
        let answer =
            ask(&console, &format!("GET /view.json HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
                .await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
        assert_eq!(answer.contains("shop"), status == 200, "{host}");
    }
    console.shutdown().await;
}

#[tokio::test]
async fn a_port_in_use_names_its_key_in_the_file() {
    let first = console(Limits::default()).await;
    let error = Console::start(first.address(), Board::new(fixtures::healthy())).await.unwrap_err();
    assert!(matches!(error, StartError::InUse { .. }));
    assert!(error.to_string().starts_with(&format!("console.listen = {}: ", first.address())), "{error}");
    first.shutdown().await;
    let error =
        Console::start("192.0.2.1:7480".parse().unwrap(), Board::new(fixtures::healthy())).await.unwrap_err();
    assert!(error.to_string().contains("\"127.0.0.1:7480\""), "{error}");
}

#[tokio::test]
async fn who_is_slow_with_a_head_is_cut_off() {
    let console = console(Limits { header_time: Duration::from_millis(50), ..Limits::default() }).await;
    let answer = ask(&console, "GET / HTTP/1.1\r\nhost:").await;
    assert!(!answer.contains("200 OK"), "{answer}");
    console.shutdown().await;
}

#[tokio::test]
async fn one_connection_too_many_is_refused_and_counted() {
    let console = console(Limits { connections: 2, ..Limits::default() }).await;
    let host = console.address();
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(host).await.unwrap();
        stream.write_all(format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        open.push(stream);
    }
    let mut third = TcpStream::connect(host).await.unwrap();
    let answer = read(&mut third).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let mut metrics = open.pop().unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    metrics.write_all(request.as_bytes()).await.unwrap();
    assert!(read(&mut metrics).await.contains("tiebeam_console_refused_total{node=\"b\"} 1\n"));
    drop(open);
    console.shutdown().await;
}

#[tokio::test]
async fn a_connection_has_an_end() {
    let limits = Limits {
        connection_time: Duration::from_millis(50),
        header_time: Duration::from_secs(3600),
        ..Limits::default()
    };
    let console = console(limits).await;
    let mut idle = TcpStream::connect(console.address()).await.unwrap();
    assert_eq!(read(&mut idle).await, "");
    console.shutdown().await;
}

#[tokio::test]
async fn after_shutdown_no_one_listens_and_no_connection_is_open() {
    let console = console(Limits::default()).await;
    let address = console.address();
    let mut open = TcpStream::connect(address).await.unwrap();
    open.write_all(format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let mut first = [0; 12];
    open.read_exact(&mut first).await.unwrap();
    console.shutdown().await;
    assert!(read(&mut open).await.ends_with("does not answer.\n"), "the answer under way is whole");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn another_console_goes_on_with_the_socket() {
    let old = console(Limits::default()).await;
    let (address, board) = (old.address(), Board::new(fixtures::failover()));
    let socket = old.listening().unwrap();
    old.shutdown().await;
    // Nobody accepts, and nobody is refused.
    let mut early = TcpStream::connect(address).await.unwrap();
    let new = Console::start_on(Some(socket), address, board.clone()).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    early.write_all(request.as_bytes()).await.unwrap();
    assert!(read(&mut early).await.starts_with("HTTP/1.1 503 "));
    let elsewhere = Console::start_on(new.listening().ok(), ANY.parse().unwrap(), board).await.unwrap();
    assert_ne!(elsewhere.address(), address);
    new.shutdown().await;
    assert!(TcpStream::connect(address).await.is_err());
    elsewhere.shutdown().await;
}
