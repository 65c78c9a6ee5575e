//! A GET that is not answered in time is sent to a second server, too; whoever speaks first is heard.
//!
//! Nothing has reached the client yet, so it is free to choose. What a second server costs comes out of the pool's budget
//! for repeats. [`crate::forward`] calls it with the request not yet sent.

use std::future::poll_fn;
use std::io;
use std::time::{Duration, Instant};

use tiebeam_balance::{Hedge, Waiting, hedge};
use tokio::io::AsyncWriteExt;

use crate::buffer::{BUFFER_BYTES, Buffer};
use crate::choice::Choice;
use crate::clock::Timer;
use crate::counters::InFlight;
use crate::proxy_protocol::Route;
use crate::servers::{Place, Pool};
use crate::upstream::{self, Upstream};
use crate::worker::Worker;

/// A server that a request is sent to.
pub struct Runner<'p> {
    pub place: Place<'p>,
    pub stream: Upstream,
    /// What it has said already.
    pub ahead: Buffer,
    pub in_flight: InFlight<'p>,
}

/// What a race needs to know.
pub struct Race<'r> {
    pub worker: &'r Worker,
    pub timer: &'r Timer,
    pub pool: &'r Pool,
    /// The whole request.
    pub head: &'r [u8],
    /// When a second server is asked.
    pub after: Duration,
    pub connect_time: Duration,
    /// What connections are announced as, to servers that are told so.
    pub route: Option<Route>,
    /// How long both together are waited for.
    pub response_time: Duration,
}

impl Race<'_> {
    /// Sends the request to `first`, and returns who speaks first: `first` itself also if it closes, if nobody else is
    /// asked, or if the edge ends. The other one is given up.
    pub async fn run<'p>(&self, mut first: Runner<'p>, choice: &mut Choice<'p>) -> Runner<'p> {
        let began = Instant::now();
        // What cannot be written is told by the next read.
        let _ = self.timer.within(self.response_time, first.send(self.head)).await;
        loop {
            let waiting = Waiting {
                is_get: true,
                has_body: false,
                waited: began.elapsed(),
                is_hedged: false,
                has_other: self.pool.has_other(&[first.place.index()]),
            };
            match hedge(&waiting, self.after) {
                Hedge::Never => return first,
                Hedge::In(left) => {
                    let spoke = self.timer.within(left, first.speaks()).await.is_ok();
                    if spoke || self.worker.clock.is_over() {
                        return first;
                    }
                }
                Hedge::Now => break,
            }
        }
        if !self.pool.may_repeat(Instant::now()) {
            return first;
        }
        let Some(mut second) = self.second(choice).await else { return first };
        let _ = self.timer.within(self.response_time, second.send(self.head)).await;
        match self.timer.within(self.response_time, either(&mut first, &mut second)).await {
            Ok(false) => {
                first.place.was_slow(began.elapsed(), Instant::now());
                second
            }
            // Both closed, or both are silent.
            _ => first,
        }
    }

    async fn second<'p>(&self, choice: &mut Choice<'p>) -> Option<Runner<'p>> {
        let now = Instant::now();
        let mut place = choice.other(self.worker.random(), now)?;
        let counters = place.server.counters(self.worker.index);
        counters.picks.add(1);
        let route = place.server.proxy_protocol.and(self.route);
        let stream = match self.worker.idle.take(place.server, self.pool.reach.trust(), now, true, route) {
            Some(stream) => stream,
            None => {
                match upstream::connect(
                    self.worker,
                    place.server,
                    &self.pool.reach,
                    route,
                    self.timer,
                    self.connect_time,
                )
                .await
                {
                    Ok(stream) => stream,
                    Err(error) => {
                        place.not_connected(&error, self.worker.index, now.elapsed());
                        return None;
                    }
                }
            }
        };
        self.pool.shared.hedges.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(Runner { in_flight: InFlight::new(counters), place, stream, ahead: Buffer::default() })
    }
}

impl Runner<'_> {
    async fn send(&mut self, head: &[u8]) -> io::Result<()> {
        self.stream.write_all(head).await?;
        self.stream.flush().await
    }

    /// Ends when the server has said something (true) or closed (false).
    async fn speaks(&mut self) -> bool {
        if self.ahead.is_empty() {
            self.ahead.grow(BUFFER_BYTES);
            let Self { ahead, stream, .. } = self;
            // What is wrong shows again when the answer is read.
            let _ = poll_fn(|cx| ahead.poll_read(cx, stream)).await;
        }
        !self.ahead.is_empty()
    }
}

/// Whether the first of two spoke first. One that closes without a word is not waited for any longer; if both do, it is the
/// first.
async fn either(first: &mut Runner<'_>, second: &mut Runner<'_>) -> bool {
    let (is_first, spoke) = tokio::select! {
        spoke = first.speaks() => (true, spoke),
        spoke = second.speaks() => (false, spoke),
    };
    match (is_first, spoke) {
        (is_first, true) => is_first,
        (true, false) => !second.speaks().await,
        (false, false) => true,
    }
}
