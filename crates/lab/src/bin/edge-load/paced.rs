//! Requests at a constant rate, whether or not the balancer keeps up. A latency counts from the moment at which the
//! request was due, so one slow answer does not hide the requests that waited behind it.
//!
//! One thread that only sleeps in `ppoll`, since it shares its core with the servers.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::answer;
use crate::report::{self, Failure};

/// How long requests that are under way at the end may take until they count as not answered.
const GRACE: Duration = Duration::from_secs(2);
/// The longest sleep, so that the end is seen.
const SLEEP: Duration = Duration::from_millis(10);

struct Client {
    stream: TcpStream,
    /// When the request that is under way was due.
    due: Option<Instant>,
    answer: Vec<u8>,
}

pub fn run(at: SocketAddr, path: &str, connections: usize, rate: u32, time: Duration) -> Result<(), Failure> {
    // Else each sleep may take 50 us longer than it was told to, proc_pid_timerslack_ns(5).
    std::fs::write("/proc/self/timerslack_ns", "1")?;
    let request = answer::request(path);
    let mut clients = (0..connections).map(|_| Client::connect(at)).collect::<io::Result<Vec<_>>>()?;
    let mut idle: VecDeque<usize> = (0..connections).collect();
    let (mut waiting, mut latencies) = (VecDeque::new(), Vec::new());
    let mut scratch = vec![0; 64 * 1024];
    let (started, each) = (Instant::now(), Duration::from_secs(1) / rate);
    let (end, mut next) = (started + time, started);
    loop {
        let now = Instant::now();
        while next <= now && next < end {
            waiting.push_back(next);
            next += each;
        }
        while let (false, Some(index)) = (waiting.is_empty(), idle.front().copied()) {
            idle.pop_front();
            clients[index].due = waiting.pop_front();
            clients[index].stream.write_all(&request)?;
        }
        if now >= end && (idle.len() == connections || now >= end + GRACE) {
            break;
        }
        let sleep =
            if next < end { next.saturating_duration_since(Instant::now()).min(SLEEP) } else { SLEEP };
        for index in readable(&clients, sleep)? {
            if clients[index].read(&mut scratch)? {
                latencies.extend(clients[index].due.take().map(|due| due.elapsed()));
                idle.push_back(index);
            }
        }
    }
    let unanswered = waiting.len() + connections - idle.len();
    report::print(latencies, unanswered, time)
}

/// Which clients have something to read, after at most `sleep`.
fn readable(clients: &[Client], sleep: Duration) -> Result<Vec<usize>, Failure> {
    let mut fds: Vec<PollFd<'_>> =
        clients.iter().map(|client| PollFd::new(&client.stream, PollFlags::IN)).collect();
    let sleep = Timespec { tv_sec: 0, tv_nsec: sleep.subsec_nanos().into() };
    poll(&mut fds, Some(&sleep)).map_err(io::Error::from)?;
    Ok(fds.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty()).map(|(index, _)| index).collect())
}

impl Client {
    fn connect(at: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(at)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, due: None, answer: Vec::new() })
    }

    /// Is the answer whole now?
    fn read(&mut self, scratch: &mut [u8]) -> Result<bool, Failure> {
        let count = match self.stream.read(scratch) {
            Ok(0) => return Err(Failure::Answer("a kept connection was closed".into())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.answer.extend_from_slice(&scratch[..count]);
        let is_whole = answer::length(&self.answer)?.is_some_and(|length| self.answer.len() >= length);
        if is_whole {
            self.answer.clear();
        }
        Ok(is_whole)
    }
}
