//! The handle of a running edge: starts its threads, publishes to them, reads their numbers, ends them.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tiebeam_balance::health::State;
use tiebeam_topology::PoolName;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::watch;

use crate::access_log::Writer;
use crate::codec::Fault;
use crate::config::{Addresses, Config, Listeners, LogSink};
use crate::counters::{Count, Counters, Reason};
use crate::doors::{Bound, Doors};
use crate::error::StartError;
use crate::registry::Registry;
use crate::servers::Pool;
use crate::snapshot::Snapshot;
use crate::stats::*;
use crate::tally::Tallies;
use crate::tickets::Tickets;
use crate::tls::{Failure, Offers};
use crate::worker::{Phase, Shared, Worker};
use crate::{descriptors, gather, health};

/// A running edge. Dropping it without [`Edge::drain`] ends it at once, running requests included.
pub struct Edge {
    shared: Arc<Shared>,
    control: Mutex<Control>,
    phase: watch::Sender<Phase>,
    /// Closed when the last worker has ended.
    ended: watch::Receiver<()>,
    /// Lines that the log's writer could not write.
    log_lines_lost: Arc<Count>,
}

/// What only the control side uses.
struct Control {
    registry: Registry,
    tallies: Tallies,
    doors: Doors,
    offers: Offers,
    tickets: Arc<Tickets>,
    /// `None` once the edge drains: nobody is checked any more.
    pools: Option<watch::Sender<Vec<Arc<Pool>>>>,
    threads: Vec<JoinHandle<()>>,
    writer: Option<Writer>,
    /// It was said that the descriptors do not suffice.
    has_warned: bool,
}

impl Edge {
    /// Starts to serve `config`. Everything is bound when this returns.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left bound then.
    pub fn start(listeners: Listeners, config: Config, log: LogSink) -> Result<Edge, StartError> {
        let edge = Self::prepare(listeners.workers, Vec::new(), config, log)?;
        edge.open(listeners)?;
        Ok(edge)
    }

    /// All of a start but that it listens: servers are checked and [`Edge::publish`] works, but nobody is served before
    /// [`Edge::open`]. `workers` is as in [`Listeners`]. `inherited` are sockets that listen already, of a process before
    /// this one: those at the addresses that are opened are used, the others closed.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn prepare(
        workers: usize,
        inherited: Vec<TcpListener>,
        config: Config,
        log: LogSink,
    ) -> Result<Edge, StartError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if workers == 0 { cores() } else { workers };
        let writer = Writer::start(log)?;
        let mut registry = Registry::new(Instant::now());
        let mut has_warned = false;
        let config = within_descriptors(config, &mut has_warned);
        let tickets = Arc::new(Tickets::new().map_err(StartError::Tls)?);
        tickets.replace(config.ticket_keys.as_ref());
        let offers = Offers::new(tickets.clone()).map_err(StartError::Tls)?;
        let mut tallies = Tallies::new(workers);
        let snapshot = Snapshot::compile(config, &mut registry, &mut tallies, &offers, workers);
        let (pools, checked) = watch::channel(snapshot.pools.clone());
        let shared = Arc::new(Shared::new(snapshot, workers));
        let (doors, incoming) = Doors::new(workers, inherited);
        let (phase, seen) = watch::channel(Phase::Serving);
        let (alive, ended) = watch::channel(());
        let mut threads =
            vec![spawn("edge-health".to_owned(), move |runtime| runtime.block_on(health::run(checked)))?];
        for (index, listeners) in incoming.into_iter().enumerate() {
            let (shared, log, seen, alive) = (shared.clone(), writer.log(), seen.clone(), alive.clone());
            threads.push(spawn(format!("edge-{index}"), move |runtime| {
                runtime.block_on(async { Worker::new(index, shared, log).run(listeners, seen).await });
                // A thread that waits for a hung disk is not waited for.
                runtime.shutdown_background();
                drop(alive);
            })?);
        }
        let log_lines_lost = writer.lost();
        let (pools, writer) = (Some(pools), Some(writer));
        let control =
            Control { registry, tallies, doors, offers, tickets, pools, threads, writer, has_warned };
        Ok(Edge { shared, control: Mutex::new(control), phase, ended, log_lines_lost })
    }

    /// Replaces the configuration at once for new requests; running ones finish under the old one. Health, counts and
    /// places in the ring go on, by the name of the pool and the id of the server.
    pub fn publish(&self, config: Config) {
        let mut control = self.control();
        let config = within_descriptors(config, &mut control.has_warned);
        let Control { registry, tallies, offers, tickets, .. } = &mut *control;
        tickets.replace(config.ticket_keys.as_ref());
        let snapshot = Snapshot::compile(config, registry, tallies, offers, self.shared.counters.len());
        if let Some(pools) = &control.pools {
            pools.send_replace(snapshot.pools.clone());
        }
        self.shared.publish(snapshot);
    }

    /// Listens where `listeners` say from now on, as [`Edge::change`] does.
    ///
    /// # Errors
    /// [`StartError::Bind`] or [`StartError::NoListener`]; nothing has changed then.
    pub fn open(&self, listeners: Listeners) -> Result<(), StartError> {
        let doors = &mut self.control().doors;
        let bound = doors.bind(&listeners)?;
        self.enter(doors, bound);
        Ok(())
    }

    fn enter(&self, doors: &mut Doors, bound: Bound) {
        set_https_port(&self.shared, bound.https_port(doors.addresses()));
        doors.open(bound);
    }

    /// The sockets that it listens on, for a process that goes on with them.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn listening(&self) -> io::Result<Vec<TcpListener>> {
        self.control().doors.sockets()
    }

    /// Publishes `config` and listens where `listeners` say from now on; how many workers there are stays as it was
    /// started. Connections that came through a listener that is given up go on.
    ///
    /// # Errors
    /// [`StartError::Bind`] or [`StartError::NoListener`]; nothing has changed then.
    pub fn change(&self, listeners: Listeners, config: Config) -> Result<(), StartError> {
        let bound = self.control().doors.bind(&listeners)?;
        self.publish(config);
        self.enter(&mut self.control().doors, bound);
        Ok(())
    }

    /// Where it listens, with the ports that the kernel chose.
    pub fn addresses(&self) -> Addresses {
        self.control().doors.addresses()
    }

    /// The numbers of now, merged over the workers. Takes no lock that a request could wait for.
    pub fn stats(&self) -> Stats {
        let workers = &self.shared.counters;
        let sum = |count: &dyn Fn(&Counters) -> u64| workers.iter().map(|w| count(w)).sum::<u64>();
        let snapshot = self.shared.snapshot.load();
        let faults = Fault::ALL.iter().map(|f| (f.label(), sum(&|w| w.faults[*f as usize].get())));
        let server_faults =
            Fault::ALL.iter().map(|f| (f.label(), sum(&|w| w.server_faults[*f as usize].get())));
        let reasons = Reason::ALL.iter().map(|r| (r.label(), sum(&|w| w.reasons[*r as usize].get())));
        let mut refused: BTreeMap<&'static str, u64> = BTreeMap::new();
        faults.chain(reasons).for_each(|(label, count)| *refused.entry(label).or_default() += count);
        Stats {
            node: snapshot.node.clone(),
            connections: ConnectionStats {
                open: sum(&|w| w.open.get()),
                bound: snapshot.limits.connections,
                accepted: sum(&|w| w.accepted.get()),
                paused_at_bound: sum(&|w| w.paused_at_bound.get()),
                paused_without_descriptors: sum(&|w| w.paused_without_descriptors.get()),
                tls_handshakes_failed: Failure::ALL
                    .iter()
                    .map(|f| sum(&|w| w.tls_failures[*f as usize].get()))
                    .sum(),
                http2: sum(&|w| w.http2_connections.get()),
                http2_errors: sum(&|w| w.http2_errors.get()),
            },
            requests: sum(&|w| w.requests.get()),
            in_flight: sum(&|w| w.in_flight.get()),
            tunnels: TunnelStats {
                open: sum(&|w| w.tunnels.get()),
                opened: sum(&|w| w.tunnels_opened.get()),
            },
            responses: ResponseStats {
                successful: sum(&|w| w.classes[0].get()),
                redirection: sum(&|w| w.classes[1].get()),
                client_error: sum(&|w| w.classes[2].get()),
                server_error: sum(&|w| w.classes[3].get()),
                cut: sum(&|w| w.cut.get()),
            },
            bytes: ByteStats {
                from_clients: sum(&|w| w.from_clients.get()),
                to_clients: sum(&|w| w.to_clients.get()),
                from_servers: sum(&|w| w.from_servers.get()),
                to_servers: sum(&|w| w.to_servers.get()),
            },
            refused,
            server_faults: server_faults.collect(),
            tls_failures: Failure::ALL
                .iter()
                .map(|f| (f.label(), sum(&|w| w.tls_failures[*f as usize].get())))
                .collect(),
            retries: sum(&|w| w.retries.get()),
            latency: gather::histogram(|count| sum(&|w| count(&w.latency))),
            log_lines_left_out: sum(&|w| w.log_lines_left_out.get()),
            routes: snapshot.tallies.iter().map(|tally| gather::route(tally)).collect(),
            log_lines_dropped: sum(&|w| w.log_lines_dropped.get()) + self.log_lines_lost.get(),
            pools: self.pools(&snapshot.pools),
        }
    }

    /// With the servers that are no longer listed but still answer.
    fn pools(&self, pools: &[Arc<Pool>]) -> BTreeMap<PoolName, PoolStats> {
        let mut all: BTreeMap<_, _> =
            pools.iter().map(|pool| (pool.name.clone(), gather::pool(pool))).collect();
        for server in self.control().registry.leaving() {
            let left = || ServerStats { state: State::Draining, ..gather::server(server) };
            let pool = all.entry(server.pool.clone()).or_default();
            pool.servers.entry(server.id.clone()).or_insert_with(left);
        }
        all
    }

    /// Stops accepting, closes idle connections, lets running requests finish for at most `within`, then ends. What
    /// still runs after `within` is cut: logged and counted as such, and reset. Asked twice, both wait for the end, which is
    /// never later than either of them says.
    pub async fn drain(&self, within: Duration) {
        self.drain_gently(within, Duration::ZERO).await;
    }

    /// As [`Edge::drain`], but an idle connection of HTTP/1.1 may wait for one more request, for at most `idle`: its answer
    /// says that the connection ends, so no request is lost that was on its way.
    pub async fn drain_gently(&self, within: Duration, idle: Duration) {
        let until = Instant::now() + within;
        let idle_until = until.min(Instant::now() + idle);
        self.control().doors.let_go();
        self.phase.send_if_modified(|phase| {
            let next = phase.ending_by(until, idle_until);
            std::mem::replace(phase, next) != next
        });
        // Ends with an error when the last worker has dropped its end: that is what is waited for.
        let mut ended = self.ended.clone();
        let _ = ended.changed().await;
        let (threads, writer) = {
            let mut control = self.control();
            control.pools = None;
            (std::mem::take(&mut control.threads), control.writer.take())
        };
        // The threads are at their last instructions; only the log's writer may need a moment for its disk.
        let _ = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
            if let Some(writer) = writer {
                writer.finish();
            }
        })
        .await;
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        // A panic while it was held leaves at worst a registry that lacks a pool: the next publish makes it anew.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With as many connections as the process has descriptors for.
fn within_descriptors(mut config: Config, has_warned: &mut bool) -> Config {
    let (asked, limit) = (config.limits.connections, descriptors::limit());
    let connections = descriptors::connections(asked, limit);
    if connections < asked && !std::mem::replace(has_warned, true) {
        tracing::warn!(
            asked,
            connections,
            descriptors = limit,
            "edge.limits.connections is more than the process has file descriptors for: raise LimitNOFILE of the service"
        );
    }
    config.limits.connections = connections;
    config
}

fn set_https_port(shared: &Shared, port: Option<u16>) {
    shared.https_port.store(port.unwrap_or(0), Ordering::Relaxed);
}

fn spawn(
    name: String,
    body: impl FnOnce(LocalRuntime) + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    // The runtime is made on its thread, which it must not leave, but whether it can be made is known before.
    let (made, is_made) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(name)
        .spawn(move || {
            match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => {
                    let _ = made.send(Ok(()));
                    body(runtime);
                }
                Err(error) => drop(made.send(Err(error))),
            }
        })
        .map_err(StartError::Thread)?;
    match is_made.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(StartError::Thread(error)),
        Err(gone) => Err(StartError::Thread(io::Error::other(gone))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handle_may_be_shared_and_its_drain_spawned() {
        fn is_shared<T: Send + Sync + 'static>() {}
        fn is_spawned<F: Future + Send>(_: impl FnOnce(&'static Edge) -> F) {}
        is_shared::<Edge>();
        is_spawned(|edge| edge.drain(Duration::ZERO));
    }
}
