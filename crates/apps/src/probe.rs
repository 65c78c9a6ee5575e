//! One health check of one instance: a TCP connection, or a GET whose status is 2xx or 3xx (RFC 9110, section 15).
//!
//! It reads no more of an answer than the status line and knows nothing of rise and fall.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// `HTTP/1.1 200`: what is read of an answer, bytes.
const STATUS_BYTES: usize = 12;

/// Asks once; an error says what was wrong, for people.
pub async fn check(address: SocketAddr, path: Option<&str>, timeout: Duration) -> Result<(), String> {
    match tokio::time::timeout(timeout, ask(address, path)).await {
        Ok(result) => result,
        Err(_) => Err(format!("{address} did not answer within {} ms", timeout.as_millis())),
    }
}

async fn ask(address: SocketAddr, path: Option<&str>) -> Result<(), String> {
    let mut stream = TcpStream::connect(address)
        .await
        .map_err(|e| format!("no connection to {address}: {}", brief(&e)))?;
    let Some(path) = path else { return Ok(()) };
    if !path.starts_with('/') || path.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err(format!("the health check's path {path:?} is not a path"));
    }
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: tiebeam-health\r\nConnection: close\r\n\r\n"
    );
    let lost = |e: std::io::Error| format!("GET {path} on {address}: {}", brief(&e));
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut start = [0; STATUS_BYTES];
    stream.read_exact(&mut start).await.map_err(lost)?;
    match status(&start) {
        Some(200..400) => Ok(()),
        Some(status) => Err(format!("GET {path} on {address} was answered {status}")),
        None => Err(format!("GET {path} on {address} was not answered in HTTP/1")),
    }
}

fn status(start: &[u8; STATUS_BYTES]) -> Option<u16> {
    let rest = start.strip_prefix(b"HTTP/1.0 ").or_else(|| start.strip_prefix(b"HTTP/1.1 "))?;
    let digits = std::str::from_utf8(rest).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

fn brief(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::ConnectionRefused => "refused; nothing listens there".to_owned(),
        std::io::ErrorKind::UnexpectedEof => "closed before a whole status line".to_owned(),
        _ => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answered(answer: &'static str, path: Option<&str>) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        };
        tokio::join!(check(address, path, Duration::from_secs(5)), server).0
    }

    #[tokio::test]
    async fn answers() {
        for (answer, end) in [
            ("HTTP/1.1 200 OK\r\n\r\n", None),
            ("HTTP/1.0 302 Found\r\n\r\n", None),
            ("HTTP/1.1 404 Not Found\r\n\r\n", Some("was answered 404")),
            ("HTTP/1.1 503 \r\n\r\n", Some("was answered 503")),
            ("SSH-2.0-OpenSSH_9.2\r\n", Some("was not answered in HTTP/1")),
            ("HTTP/1.1 +20 OK\r\n", Some("was not answered in HTTP/1")),
            ("HTTP", Some("closed before a whole status line")),
        ] {
            match (answered(answer, Some("/healthz")).await, end) {
                (Ok(()), None) => {}
                (Err(why), Some(end)) if why.ends_with(end) => {}
                (result, _) => panic!("{answer:?}: {result:?}"),
            }
        }
        assert_eq!(answered("", None).await, Ok(()));
    }

    #[tokio::test]
    async fn silence_and_refusal() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let why = check(address, Some("/"), Duration::from_millis(20)).await.unwrap_err();
        assert!(why.ends_with("did not answer within 20 ms"), "{why}");
        // Bound and not listening: the port is nobody else's, and refuses.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let why = check(address, None, Duration::from_secs(5)).await.unwrap_err();
        assert!(why.ends_with("refused; nothing listens there"), "{why}");
        assert!(check(address, Some("/a b"), Duration::from_secs(5)).await.is_err());
    }
}
