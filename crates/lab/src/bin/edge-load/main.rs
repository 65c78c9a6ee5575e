//! Loads a balancer in the ways that wrk and h2load cannot: at a constant rate, with a new TLS connection for each
//! request, and with connections that stay idle.
//!
//! `bench/` runs it and reads the JSON that it prints, one object a line. It answers nothing about the balancer itself:
//! CPU and memory are for its caller to read. It takes any certificate, so it is of no use outside a bench.

mod answer;
mod handshakes;
mod idle;
mod paced;
mod report;
mod tls;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use report::Failure;

const USAGE: &str = "usage:
  edge-load paced ADDRESS PATH CONNECTIONS RATE SECONDS   requests at a constant rate (a second) on kept connections
  edge-load handshakes ADDRESS PATH CONNECTIONS SECONDS   a new TLS 1.3 connection, with a whole handshake, a request
  edge-load idle ADDRESS PATH CONNECTIONS http|https      one request on each, then they stay until stdin ends
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some(run) = parse(&words) else {
        let _ = write!(std::io::stderr(), "{USAGE}");
        return ExitCode::from(2);
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "edge-load: {failure}");
            ExitCode::FAILURE
        }
    }
}

type Run = Box<dyn FnOnce() -> Result<(), Failure>>;

fn parse(words: &[&str]) -> Option<Run> {
    let [what, address, path, connections, rest @ ..] = words else { return None };
    let at: SocketAddr = address.parse().ok()?;
    let path = (*path).to_owned();
    let connections: usize = connections.parse().ok().filter(|n| (1..=100_000).contains(n))?;
    let seconds = |text: &str| text.parse().ok().filter(|s| (1..=3600).contains(s)).map(Duration::from_secs);
    match (*what, rest) {
        ("paced", [rate, time]) => {
            let (rate, time) = (rate.parse().ok().filter(|r| (1..=1_000_000).contains(r))?, seconds(time)?);
            Some(Box::new(move || paced::run(at, &path, connections, rate, time)))
        }
        ("handshakes", [time]) => {
            let time = seconds(time)?;
            Some(Box::new(move || handshakes::run(at, &path, connections, time)))
        }
        ("idle", ["http"]) => Some(Box::new(move || idle::run(at, &path, connections, None))),
        ("idle", ["https"]) => {
            Some(Box::new(move || idle::run(at, &path, connections, Some(tls::client_config()?))))
        }
        _ => None,
    }
}
