//! Serves the console over a made-up cluster, to look at the pages without one:
//! `cargo run -p tiebeam-console --example preview -- [healthy|failover|NODES] [ADDRESS]`.
//! The figures move a little, so that updates can be seen; nothing in it is measured.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tiebeam_console::{Board, Console};
use tiebeam_watch::{View, fixtures};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let which = arguments.next().unwrap_or_else(|| "healthy".into());
    let listen: SocketAddr = match arguments.next().unwrap_or_else(|| "127.0.0.1:7480".into()).parse() {
        Ok(listen) => listen,
        Err(_) => return eprintln!("the second argument is an address such as 127.0.0.1:7480"),
    };
    let make = move || match which.as_str() {
        "healthy" => fixtures::healthy(),
        "failover" => fixtures::failover(),
        count => fixtures::many(count.parse().unwrap_or(3).clamp(1, 20)),
    };
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    let board = Board::new(moved(make(), now_ms, 0));
    // A past, so that there are curves to look at from the start.
    for step in 0..1700 {
        board.publish(moved(make(), now_ms - 500 * (1700 - step), step));
    }
    let console = match Console::start(listen, board.clone()).await {
        Ok(console) => console,
        Err(error) => return eprintln!("{error}"),
    };
    eprintln!("http://{}/", console.address());
    let mut step = 1700;
    loop {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        board.publish(moved(make(), now_ms, step));
        step += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The fixture at another time, its figures swaying.
fn moved(mut view: View, now_ms: u64, step: u64) -> View {
    let sway = |i: usize, much: f64| {
        ((step as f64 / 37.0).sin() + (step as f64 / (5.0 + i as f64)).cos() / 3.0) * much
    };
    for event in &mut view.events {
        event.unix_ms = now_ms.saturating_sub(fixtures::NOW_MS.saturating_sub(event.unix_ms));
    }
    view.unix_ms = now_ms;
    for (i, node) in view.nodes.values_mut().enumerate() {
        if let Some(edge) = &mut node.edge {
            edge.requests_per_s += sway(i, 60.0);
            edge.requests_total += 300 * step;
            edge.server_errors_total += step / 400 * 3;
        }
        if let Some(lag) = node.database.as_mut().and_then(|d| d.lag_bytes.as_mut()) {
            *lag += (sway(i, 4000.0).max(0.0)) as u64;
        }
    }
    view
}
