//! One request to one server and its answer back; another server only when nothing can have happened twice.
//!
//! A connection that cannot be made is tried with the next server. A server that closes before a byte of its answer
//! is only given up for another one if the method is safe and there is no body, or if not a byte had left; and the pool's
//! budget must allow what servers get twice by that. After the first byte of an answer nothing is tried again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::access_log::Outcome;
use crate::answer::{self, Answered, End};
use crate::attempt::{Attempt, Lost};
use crate::buffer::Buffer;
use crate::choice::Choice;
use crate::client::Scheme;
use crate::codec::{BodyDecoder, BodyLength, Fault, Method, Version};
use crate::connection::{Connection, Request};
use crate::counters::{InFlight, Reason};
use crate::exchange::Pump;
use crate::hedge::{Race, Runner};
use crate::servers::{Place, Pool, Server};
use crate::upstream::{self, ConnectError};
use crate::wire::{Io, Leaving, unless_left};

/// Attempts after one that failed on an open connection. Failed connections are bounded by the pool's size.
const REPEATS: u32 = 2;
/// In the place of a status: nobody is told anything any more, and the connection is cut.
const UNANSWERED: u16 = 0;

/// Forwards to the server whose turn it is, and answers the client in any case.
pub async fn forward<'p, S: Io>(
    connection: &mut Connection<S>,
    request: &mut Request,
    pool: &'p Pool,
) -> Answered<'p> {
    // Chosen by what the client asked, before that is changed.
    let repeatable = request.method.is_safe() && request.body == BodyLength::None;
    let choice = Choice::new(pool, request, repeatable);
    let changed = request.to_server.take();
    let bare = request.view.without_cookies(changed.as_deref().unwrap_or(&request.head));
    let Some(to_server) = bare.or(changed) else {
        return as_it_is(connection, request, pool, choice).await;
    };
    // The log tells what the client asked, not what became of it.
    let asked = std::mem::replace(&mut request.head, to_server);
    let answered = as_it_is(connection, request, pool, choice).await;
    let sent = std::mem::replace(&mut request.head, asked);
    connection.worker.buffers.reclaim_text(sent);
    answered
}

async fn as_it_is<'p, S: Io>(
    connection: &mut Connection<S>,
    request: &mut Request,
    pool: &'p Pool,
    mut choice: Choice<'p>,
) -> Answered<'p> {
    let worker = connection.worker.clone();
    let view = request.view.clone();
    let limits = &view.limits;
    let repeatable = choice.is_repeatable();
    let is_hedged = request.method == Method::Get && repeatable && !request.offers_websocket;
    let hedge = pool.balancing.hedge.filter(|_| is_hedged);
    let head = std::mem::take(&mut request.head);
    let mut up = Pump::new(
        head,
        BodyDecoder::new(match request.body {
            // A stream of HTTP/2 ends by itself.
            BodyLength::Chunked if request.version == Version::Http2 => BodyLength::UntilClose,
            framed => framed,
        }),
        request.body == BodyLength::Chunked && !pool.reach.http2,
        request.body_bytes(),
    );
    let mut trip = Answered::own(0, None, End::Close);
    let (mut repeats, mut turn, mut again) = (0, None::<&Server>, None::<Place<'p>>);
    // The clock is read once where nothing has been waited for since.
    let (started, may_queue) = (request.started, pool.balancing.in_flight.is_some());
    let now = |tries| if tries == 0 { started } else { Instant::now() };
    let (status, reason) = loop {
        let mut place = match again.take() {
            Some(place) => place,
            None => {
                let (random, asked_at) = (worker.random(), now(trip.tries));
                match choice.next(random, asked_at, &connection.timer, &mut connection.io).await {
                    Ok(place) => {
                        place.server.counters(worker.index).picks.add(1);
                        place
                    }
                    Err(Some(Reason::ClientGone)) => break (UNANSWERED, Reason::ClientGone),
                    Err(Some(_)) if worker.clock.is_over() => break (UNANSWERED, Reason::DrainTime),
                    Err(Some(reason)) => break (503, reason),
                    Err(None) if trip.tries == 0 => break (503, Reason::NoServer),
                    Err(None) => break (503, Reason::NoConnection),
                }
            }
        };
        let server = place.server;
        trip.tries += 1;
        trip.server = Some(server);
        let counters = server.counters(worker.index);
        if turn.is_some() {
            worker.counters.retries.add(1);
            counters.retries.add(1);
        } else {
            turn = Some(server);
            counters.firsts.add(1);
        }
        let mut asked = now(trip.tries - u32::from(!may_queue));
        let route = server.proxy_protocol.map(|_| connection.client.route_of(request.client));
        let idle = match repeats {
            0 => worker.idle.take(server, pool.reach.trust(), asked, repeatable, route),
            _ => None,
        };
        let is_reused = idle.is_some();
        let stream = match idle {
            Some(stream) => Ok(stream),
            None => {
                let (reach, timer, within) = (&pool.reach, &connection.timer, limits.connect_time);
                let opened = upstream::connect(&worker, server, reach, route, timer, within);
                match unless_left(&mut connection.io, Leaving::Reset, opened).await {
                    Some(opened) => opened,
                    None => break (UNANSWERED, Reason::ClientGone),
                }
            }
        };
        let mut connect = Duration::ZERO;
        if !is_reused {
            connect = asked.elapsed();
            trip.connect += connect;
            asked += connect;
        }
        let stream = match stream {
            Ok(stream) => stream,
            Err(_) if worker.clock.is_over() => break (UNANSWERED, Reason::DrainTime),
            Err(ConnectError::NoResources) => {
                trip.failed(server, Outcome::NoResources, connect);
                break (503, Reason::NoResources);
            }
            Err(error) => {
                let is_refused = error == ConnectError::Refused;
                let outcome = if is_refused { Outcome::Refused } else { Outcome::NotConnected };
                trip.failed(server, outcome, connect);
                place.not_connected(&error, worker.index, connect);
                if trip.tries as usize > pool.servers.len() + REPEATS as usize {
                    break (503, Reason::NoConnection);
                }
                continue;
            }
        };
        let mut runner =
            Runner { in_flight: InFlight::new(counters), place, stream, ahead: Buffer::default() };
        if let Some(after) = hedge.filter(|_| trip.tries == 1) {
            let (head, connect_time) = (up.out.kept(), limits.connect_time);
            let (timer, response_time) = (&connection.timer, request.response_time());
            let race = Race { worker: &worker, timer, pool, head, after, connect_time, route, response_time };
            let heard = Box::pin(race.run(runner, &mut choice));
            match unless_left(&mut connection.io, Leaving::Reset, heard).await {
                Some(heard) => runner = heard,
                None => break (UNANSWERED, Reason::ClientGone),
            }
            up.out.was_sent();
        }
        let Runner { mut place, stream, in_flight, ahead } = runner;
        let server = place.server;
        let counters = server.counters(worker.index);
        if let Some(first) = trip.server.filter(|first| first.number != server.number) {
            trip.failed(first, Outcome::Slower, asked.elapsed());
            trip.tries += 1;
        }
        trip.server = Some(server);
        let set_cookie = choice.set_cookie(place.index(), request.scheme == Scheme::Https);
        let mut attempt = Attempt::new(connection, request, &mut up, stream);
        attempt.set_cookie = set_cookie;
        attempt.has_heard(ahead);
        let lost = match attempt.until_begun().await {
            Ok(begun) => {
                let first_byte = attempt.first_byte.unwrap_or(asked);
                trip.first_byte = first_byte - asked;
                counters.answered(begun.status, trip.first_byte);
                place.answered(worker.index, begun.status, trip.first_byte, first_byte);
                if turn.is_some_and(|turn| turn.number != server.number) {
                    pool.shared.out_of_turn.fetch_add(1, Ordering::Relaxed);
                }
                match begun.is_switch {
                    true => attempt.until_closed(&mut trip).await,
                    false => attempt.until_ended(server, &mut trip).await,
                }
                drop(in_flight);
                place.ended(worker.index, trip.why == Some(Reason::AnswerCut.label()));
                request.head = up.out.into_lead();
                return trip;
            }
            Err(lost) => lost,
        };
        let answer_began = attempt.received > 0;
        let is_unprocessed = attempt.is_unprocessed() && request.body == BodyLength::None;
        let lost = match lost {
            Lost::Unanswered(_) => lost,
            _ if attempt.is_torn() => Lost::Unanswered(Reason::ClientGone),
            _ => lost,
        };
        attempt.give_back();
        drop(in_flight);
        match lost {
            Lost::Closed => {
                let outcome = if is_reused { Outcome::IdleClosed } else { Outcome::Closed };
                trip.failed(server, outcome, asked.elapsed());
                // A connection that was idle may close at any moment: that says nothing about the server.
                if !is_reused {
                    counters.bad_responses.add(1);
                    // One that says goodbye in order has failed nobody.
                    if !is_unprocessed {
                        place.failed(worker.index, asked.elapsed(), Instant::now());
                    }
                }
                let unsent = up.out.written == 0 || is_unprocessed;
                // What no server had received is no repeat; nor is the one of a connection that had gone.
                if (repeatable || unsent)
                    && !answer_began
                    && repeats < REPEATS
                    && (unsent || is_reused || pool.may_repeat(Instant::now()))
                {
                    repeats += 1;
                    up.out.rewind();
                    again = is_reused.then_some(place);
                    continue;
                }
                break (502, Reason::ServerClosed);
            }
            Lost::Bad(fault) => {
                trip.failed(server, Outcome::BadResponse, asked.elapsed());
                counters.bad_responses.add(1);
                place.failed(worker.index, asked.elapsed(), Instant::now());
                worker.counters.server_fault(fault);
                trip.why = Some(fault.label());
                break (502, Reason::BadResponse);
            }
            Lost::Silent => {
                trip.failed(server, Outcome::Silent, asked.elapsed());
                counters.timeouts.add(1);
                place.failed(worker.index, asked.elapsed(), Instant::now());
                break (504, Reason::ResponseTime);
            }
            Lost::Client(Fault::BodyCut) => break (UNANSWERED, Reason::ClientGone),
            Lost::Unanswered(reason) => break (UNANSWERED, reason),
            Lost::Client(fault) => {
                worker.counters.fault(fault);
                request.head = restore(up);
                let words = fault.to_string();
                let own =
                    answer::reply(connection, request, fault.status(), &words, Some(fault.label()), "").await;
                return Answered { end: no_keep(own.end), ..merge(own, trip) };
            }
            Lost::ClientSlow(reason) => break (408, reason),
        }
    };
    request.head = restore(up);
    if status == UNANSWERED {
        worker.counters.reason(reason);
        return Answered { status, why: Some(reason.label()), end: End::Reset, ..trip };
    }
    let own = answer::fail(connection, request, status, reason).await;
    merge(own, trip)
}

/// The request's own head again, without what was framed behind it.
fn restore(up: Pump) -> Vec<u8> {
    let kept = up.out.kept().len();
    let mut head = up.out.into_lead();
    head.truncate(kept);
    head
}

fn merge<'p>(own: Answered<'p>, trip: Answered<'p>) -> Answered<'p> {
    Answered { status: own.status, bytes: own.bytes, end: own.end, why: trip.why.or(own.why), ..trip }
}

fn no_keep(end: End) -> End {
    if end == End::Keep { End::Close } else { end }
}
