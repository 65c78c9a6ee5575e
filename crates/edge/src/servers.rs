//! Servers and pools as they live on from one configuration to the next, keyed by identity.
//!
//! [`Registry`] belongs to the control side. Workers see [`Pool`] and [`Server`] through the snapshot: one atomic load
//! says whether a server serves; its lock is only taken when a check ends or a connection fails.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tiebeam_balance::RoundRobin;
use tiebeam_balance::health::{Change, Health, Policy, State};
use tiebeam_topology::{HealthCheck, PoolName, ProxyVersion};

use crate::config::{PoolConfig, Reach, ServerId};
use crate::counters::ServerCounters;

/// One server of one pool at one address.
pub struct Server {
    pub pool: PoolName,
    pub id: ServerId,
    pub address: SocketAddr,
    /// It is told so who the client of a connection is.
    pub proxy_protocol: Option<ProxyVersion>,
    /// A small number of its own, never given to another: workers index their idle connections by it.
    pub number: usize,
    /// One for each worker.
    counters: Arc<[ServerCounters]>,
    state: AtomicU8,
    /// How often it stopped serving.
    falls: AtomicU32,
    health: Mutex<Health>,
}

/// One pool as a configuration lists it.
pub struct Pool {
    pub name: PoolName,
    pub servers: Vec<Arc<Server>>,
    pub health: HealthCheck,
    pub reach: Reach,
    /// Requests answered by another server than the one whose turn it was, of all workers. It is rare, so they share it.
    pub out_of_turn: Arc<AtomicU64>,
    ring: Arc<RoundRobin>,
}

impl Server {
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            SERVING => State::Serving,
            EJECTED => State::Ejected,
            _ => State::Probing,
        }
    }

    /// How often it stopped serving: a connection from before the last time may lead to a process that is gone.
    pub fn falls(&self) -> u32 {
        self.falls.load(Ordering::Relaxed)
    }

    pub fn counters(&self, worker: usize) -> &ServerCounters {
        &self.counters[worker]
    }

    pub fn all_counters(&self) -> &[ServerCounters] {
        &self.counters
    }

    /// A check ended, or a connection for a request was not accepted in time.
    pub fn on_result(&self, ok: bool, policy: &Policy) {
        self.change(|health| health.on_probe(ok, policy));
    }

    /// Nobody listens at its address: it is ejected at once, until a check finds it again.
    pub fn on_refused(&self) {
        self.change(Health::on_refused);
    }

    fn change(&self, event: impl FnOnce(&mut Health) -> Option<Change>) {
        // A panic while it was held cannot have left a `Health` half changed.
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(change) = event(&mut health) {
            if change.from == State::Serving {
                self.falls.fetch_add(1, Ordering::Relaxed);
            }
            self.state.store(change.to as u8, Ordering::Relaxed);
            tracing::info!(pool = %self.pool, server = %self.id, address = %self.address, "server {change}");
        }
    }
}

const SERVING: u8 = State::Serving as u8;
const EJECTED: u8 = State::Ejected as u8;

impl Pool {
    /// The next server in turn. If none serves, those that are still being probed may be tried: that is better
    /// than a refusal, and a wrong guess costs one connection attempt.
    pub fn pick(&self) -> Option<&Arc<Server>> {
        let at = |wanted: State| self.ring.pick(self.servers.len(), |i| self.servers[i].state() == wanted);
        at(State::Serving).or_else(|| at(State::Probing)).map(|index| &self.servers[index])
    }

    pub fn policy(&self) -> Policy {
        Policy { rise: self.health.rise, fall: self.health.fall }
    }
}

/// All servers and rings that the published configuration names.
#[derive(Default)]
pub struct Registry {
    servers: HashMap<(PoolName, ServerId), Arc<Server>>,
    rings: HashMap<PoolName, Ring>,
    next_number: usize,
}

struct Ring {
    members: Vec<ServerId>,
    ring: Arc<RoundRobin>,
    out_of_turn: Arc<AtomicU64>,
}

impl Registry {
    /// Takes over what lives on, makes what is new, forgets what is gone.
    pub fn compile(&mut self, pools: &BTreeMap<PoolName, PoolConfig>, workers: usize) -> Vec<Arc<Pool>> {
        let mut kept = HashMap::new();
        let mut compiled = Vec::with_capacity(pools.len());
        for (name, config) in pools {
            let servers: Vec<_> = config
                .servers
                .iter()
                .map(|server| self.server(name, &server.id, server.address, config, workers))
                .collect();
            kept.extend(servers.iter().map(|s| ((name.clone(), s.id.clone()), s.clone())));
            let (ring, out_of_turn) = self.ring(name, config.servers.iter().map(|s| s.id.clone()).collect());
            compiled.push(Arc::new(Pool {
                name: name.clone(),
                servers,
                health: config.health.clone(),
                reach: config.reach.clone().with_alpn(),
                out_of_turn,
                ring,
            }));
        }
        self.servers = kept;
        self.rings.retain(|name, _| pools.contains_key(name));
        compiled
    }

    fn server(
        &mut self,
        pool: &PoolName,
        id: &ServerId,
        address: SocketAddr,
        config: &PoolConfig,
        workers: usize,
    ) -> Arc<Server> {
        let known = self.servers.get(&(pool.clone(), id.clone()));
        let is_same = |s: &&Arc<Server>| s.address == address && s.proxy_protocol == config.proxy_protocol;
        if let Some(server) = known.filter(is_same) {
            return server.clone();
        }
        // At another address, or spoken to in another way, another process answers: its health is unknown, its identity's counts go on.
        let counters = match known {
            Some(server) => server.counters.clone(),
            None => (0..workers).map(|_| ServerCounters::default()).collect(),
        };
        let initial = if config.app { State::Probing } else { State::Serving };
        self.next_number += 1;
        Arc::new(Server {
            pool: pool.clone(),
            id: id.clone(),
            address,
            proxy_protocol: config.proxy_protocol,
            number: self.next_number - 1,
            counters,
            state: AtomicU8::new(initial as u8),
            falls: AtomicU32::new(0),
            health: Mutex::new(Health::new(initial)),
        })
    }

    /// The ring of a pool. If its members changed, whose turn it was keeps the turn, or the next one that is left.
    fn ring(&mut self, pool: &PoolName, members: Vec<ServerId>) -> (Arc<RoundRobin>, Arc<AtomicU64>) {
        let (ring, out_of_turn) = match self.rings.get(pool) {
            Some(old) if old.members == members => return (old.ring.clone(), old.out_of_turn.clone()),
            Some(old) => (old.moved_to(&members), old.out_of_turn.clone()),
            None => (Arc::new(RoundRobin::new()), Arc::default()),
        };
        let kept = Ring { members, ring: ring.clone(), out_of_turn: out_of_turn.clone() };
        self.rings.insert(pool.clone(), kept);
        (ring, out_of_turn)
    }
}

impl Ring {
    fn moved_to(&self, members: &[ServerId]) -> Arc<RoundRobin> {
        let ring = RoundRobin::new();
        // Requests that still run under the old list may pick from the old ring; one turn of theirs is this one.
        let turn = self.ring.pick(self.members.len(), |_| true).unwrap_or(0);
        let order = self.members.iter().cycle().skip(turn).take(self.members.len());
        let next = order.into_iter().find_map(|id| members.iter().position(|m| m == id));
        if let Some(next) = next {
            let before = (next + members.len() - 1) % members.len();
            ring.pick(members.len(), |index| index == before);
        }
        Arc::new(ring)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::ServerConfig;

    fn config(ids: &[&str], port: u16, app: bool) -> BTreeMap<PoolName, PoolConfig> {
        let servers = ids
            .iter()
            .map(|id| ServerConfig { id: ServerId::new(*id), address: ([127, 0, 0, 1], port).into() })
            .collect();
        let second = Duration::from_secs(1);
        let health = HealthCheck { path: None, every: second, timeout: second, fall: 2, rise: 1 };
        let pool = PoolConfig { servers, health, reach: Reach::default(), app, proxy_protocol: None };
        BTreeMap::from([("web".parse().unwrap(), pool)])
    }

    fn picked(pool: &Pool, times: usize) -> Vec<String> {
        (0..times).map_while(|_| pool.pick()).map(|s| s.id.to_string()).collect()
    }

    #[test]
    fn the_turn_survives_a_changed_list() {
        let mut registry = Registry::default();
        let first = registry.compile(&config(&["a", "b", "c"], 1, false), 1).remove(0);
        assert_eq!(picked(&first, 2), ["a", "b"]);
        let second = registry.compile(&config(&["a", "b", "c"], 1, false), 1).remove(0);
        assert_eq!(picked(&second, 1), ["c"]);
        // It is a's turn; a is gone, so b is next, and the new one stands where the list says.
        let third = registry.compile(&config(&["x", "b", "c"], 1, false), 1).remove(0);
        assert_eq!(picked(&third, 4), ["b", "c", "x", "b"]);
    }

    #[test]
    fn health_belongs_to_identity_and_address() {
        let mut registry = Registry::default();
        let pool = registry.compile(&config(&["a", "b"], 1, true), 1).remove(0);
        let policy = pool.policy();
        assert_eq!(pool.servers[0].state(), State::Probing);
        pool.servers[0].on_result(true, &policy);
        pool.servers[0].counters(0).requests.add(7);
        let same = registry.compile(&config(&["b", "a"], 1, true), 1).remove(0);
        assert_eq!(same.servers[1].state(), State::Serving);
        let moved = registry.compile(&config(&["a"], 2, true), 1).remove(0);
        assert_eq!(moved.servers[0].state(), State::Probing);
        assert_eq!(moved.servers[0].counters(0).requests.get(), 7);
    }

    #[test]
    fn probing_servers_are_tried_only_if_none_serves() {
        let mut registry = Registry::default();
        let pool = registry.compile(&config(&["a", "b"], 1, true), 1).remove(0);
        assert_eq!(picked(&pool, 2), ["a", "b"]);
        pool.servers[1].on_result(true, &pool.policy());
        assert_eq!(picked(&pool, 2), ["b", "b"]);
        pool.servers[1].on_refused();
        pool.servers[0].on_refused();
        assert!(pool.pick().is_none());
    }
}
