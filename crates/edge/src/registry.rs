//! What lives on from one configuration to the next, keyed by identity: servers with their health and counts, whose turn
//! it is, a pool's budget and queue. It belongs to the control side; no request touches it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tiebeam_balance::health::State;
use tiebeam_balance::{Balancer, Member, Millis, Percent, RoundRobin, Seat, Settings, Tier, number, outlier};
use tiebeam_topology::{Algorithm, Balancing, PoolName};

use crate::config::{PoolConfig, Secret, ServerConfig, ServerId};
use crate::counters::ServerCounters;
use crate::servers::{Pool, Server, Shared};
use crate::sticky::Sticky;

/// All servers and rings that the published configuration names.
pub struct Registry {
    servers: HashMap<(PoolName, ServerId), Arc<Server>>,
    /// No configuration names them any more, but they still answer.
    leaving: Vec<Arc<Server>>,
    rings: HashMap<PoolName, Ring>,
    next_number: usize,
    began: Instant,
}

struct Ring {
    members: Vec<ServerId>,
    /// Of [`Algorithm::Weighted`]: places are theirs then, not the members'.
    weights: Option<Vec<u32>>,
    ring: Arc<RoundRobin>,
    shared: Arc<Shared>,
}

impl Registry {
    pub fn new(now: Instant) -> Self {
        Self {
            servers: HashMap::new(),
            leaving: Vec::new(),
            rings: HashMap::new(),
            next_number: 0,
            began: now,
        }
    }

    /// Takes over what lives on, makes what is new, forgets what is gone and idle.
    pub fn compile(
        &mut self,
        pools: &BTreeMap<PoolName, PoolConfig>,
        secret: Option<&Secret>,
        workers: usize,
        now: Instant,
    ) -> Vec<Arc<Pool>> {
        let mut kept = HashMap::new();
        let mut compiled = Vec::with_capacity(pools.len());
        for (name, config) in pools {
            let at = self.moment(now);
            let servers: Vec<_> =
                config.servers.iter().map(|server| self.server(name, server, config, workers, at)).collect();
            kept.extend(servers.iter().map(|s| ((name.clone(), s.id.clone()), s.clone())));
            compiled.push(Arc::new(self.pool(name, config, servers, secret)));
        }
        for (key, old) in std::mem::replace(&mut self.servers, kept) {
            // Requests that began under the old configuration may still pick it, so its state stays.
            if self.servers.get(&key).is_none_or(|new| !Arc::ptr_eq(new, &old)) {
                self.leaving.push(old);
            }
        }
        self.leaving.retain(|server| server.sum(|c| c.in_flight.get()) > 0);
        self.rings.retain(|name, _| pools.contains_key(name));
        compiled
    }

    /// Servers that no configuration names any more and that still answer requests.
    pub fn leaving(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.leaving.iter().filter(|server| server.sum(|c| c.in_flight.get()) > 0)
    }

    fn moment(&self, now: Instant) -> Millis {
        Millis(u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX))
    }

    fn pool(
        &mut self,
        name: &PoolName,
        config: &PoolConfig,
        servers: Vec<Arc<Server>>,
        secret: Option<&Secret>,
    ) -> Pool {
        let (ring, shared) = self.ring(name, config);
        let seats = config.servers.iter().map(|server| Seat {
            identity: number(server.id.as_str().as_bytes()),
            weight: server.weight,
            tier: match server {
                ServerConfig { is_backup: true, .. } => Tier::Backup,
                ServerConfig { is_local: true, .. } if config.balancing.same_node => Tier::Local,
                _ => Tier::Primary,
            },
        });
        let sticky = secret.filter(|_| config.balancing.sticky);
        Pool {
            name: name.clone(),
            health: config.health.clone(),
            balancer: Balancer::new(settings(&config.balancing), seats.collect(), ring),
            reach: config.reach.clone().with_alpn(),
            balancing: config.balancing.clone(),
            shared,
            sticky: sticky.map(|secret| Sticky::new(secret, name, servers.iter().map(|server| &server.id))),
            servers,
            began: self.began,
        }
    }

    fn server(
        &mut self,
        pool: &PoolName,
        config: &ServerConfig,
        of: &PoolConfig,
        workers: usize,
        now: Millis,
    ) -> Arc<Server> {
        let known = self.servers.get(&(pool.clone(), config.id.clone()));
        let way = of.reach.way();
        let is_same = |s: &&Arc<Server>| {
            s.address == config.address && s.proxy_protocol == of.proxy_protocol && s.way == way
        };
        if let Some(server) = known.filter(is_same) {
            server.drain(!config.drain, now);
            return server.clone();
        }
        // At another address, or spoken to in another way, another process answers: its health is unknown, its
        // identity's counts go on.
        let counters = match known {
            Some(server) => server.counters.clone(),
            None => (0..workers).map(|_| ServerCounters::default()).collect(),
        };
        let initial = if of.app { State::Probing } else { State::Serving };
        self.next_number += 1;
        let server = Arc::new(Server {
            pool: pool.clone(),
            id: config.id.clone(),
            address: config.address,
            proxy_protocol: of.proxy_protocol,
            way,
            number: self.next_number - 1,
            counters,
            member: Member::new(initial, now),
            judged: Mutex::default(),
            last: Mutex::default(),
        });
        // Rates are judged from now on.
        server.window();
        // With the edge itself all its servers begin: none of them has more to do than it would have later.
        if self.rings.contains_key(pool) {
            server.member.begin_slowly(now);
        }
        if config.drain {
            server.drain(false, now);
        }
        server
    }

    /// The ring of a pool. If its members changed, whose turn it was keeps the turn, or the next one that is left.
    fn ring(&mut self, pool: &PoolName, config: &PoolConfig) -> (Arc<RoundRobin>, Arc<Shared>) {
        let members: Vec<ServerId> = config.servers.iter().map(|s| s.id.clone()).collect();
        let is_weighted = config.balancing.algorithm == Algorithm::Weighted;
        let weights = is_weighted.then(|| config.servers.iter().map(|s| s.weight).collect::<Vec<_>>());
        let (ring, shared) = match self.rings.get(pool) {
            Some(old) if old.members == members && old.weights == weights => {
                return (old.ring.clone(), old.shared.clone());
            }
            Some(old) if weights.is_none() && old.weights.is_none() => {
                (old.moved_to(&members), old.shared.clone())
            }
            Some(old) => (Arc::default(), old.shared.clone()),
            None => Default::default(),
        };
        let kept = Ring { members, weights, ring: ring.clone(), shared: shared.clone() };
        self.rings.insert(pool.clone(), kept);
        (ring, shared)
    }
}

fn settings(balancing: &Balancing) -> Settings {
    Settings {
        algorithm: match balancing.algorithm {
            Algorithm::RoundRobin => tiebeam_balance::Algorithm::RoundRobin,
            Algorithm::Weighted => tiebeam_balance::Algorithm::Weighted,
            Algorithm::LeastConnections => tiebeam_balance::Algorithm::LeastConnections,
            Algorithm::TwoChoices => tiebeam_balance::Algorithm::TwoChoices,
            Algorithm::Hash => tiebeam_balance::Algorithm::Hash,
        },
        slow_start: balancing.slow_start,
        panic: Percent::new(balancing.panic),
        in_flight: balancing.in_flight.map_or(0, u32::from),
        outlier: balancing.ejection.map(|ejection| outlier::Policy {
            errors: ejection.errors,
            success_rate: ejection.success_rate.map(Percent::new),
            slowness: ejection.slowness,
            requests: ejection.requests,
            base: ejection.time,
            most: ejection.most,
            share: Percent::new(ejection.share),
        }),
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

    use tiebeam_balance::Ask;
    use tiebeam_topology::HealthCheck;

    use super::*;
    use crate::reach::Reach;

    fn config(ids: &[&str], port: u16, app: bool) -> BTreeMap<PoolName, PoolConfig> {
        let servers = ids
            .iter()
            .map(|id| ServerConfig::new(ServerId::new(*id), ([127, 0, 0, 1], port).into()))
            .collect();
        let second = Duration::from_secs(1);
        let health = HealthCheck { path: None, every: second, timeout: second, fall: 2, rise: 1 };
        let pool = PoolConfig {
            servers,
            health,
            app,
            proxy_protocol: None,
            reach: Reach::default(),
            balancing: Balancing::default(),
        };
        BTreeMap::from([("web".parse().unwrap(), pool)])
    }

    const ASK: Ask<'_> =
        Ask { now: Millis(0), random: 7, key: 7, stuck_to: None, tried: &[], is_repeatable: true };

    fn compiled(registry: &mut Registry, config: &BTreeMap<PoolName, PoolConfig>) -> Arc<Pool> {
        registry.compile(config, None, 1, Instant::now()).remove(0)
    }

    fn picked(pool: &Pool, times: usize) -> Vec<String> {
        (0..times).map_while(|_| pool.pick(&ASK).ok()).map(|place| place.server.id.to_string()).collect()
    }

    #[test]
    fn the_turn_survives_a_changed_list() {
        let mut registry = Registry::new(Instant::now());
        let first = compiled(&mut registry, &config(&["a", "b", "c"], 1, false));
        assert_eq!(picked(&first, 2), ["a", "b"]);
        let second = compiled(&mut registry, &config(&["a", "b", "c"], 1, false));
        assert_eq!(picked(&second, 1), ["c"]);
        // It is a's turn; a is gone, so b is next, and the new one stands where the list says.
        let third = compiled(&mut registry, &config(&["x", "b", "c"], 1, false));
        assert_eq!(picked(&third, 4), ["b", "c", "x", "b"]);
    }

    #[test]
    fn health_belongs_to_identity_and_address() {
        let mut registry = Registry::new(Instant::now());
        let pool = compiled(&mut registry, &config(&["a", "b"], 1, true));
        let policy = pool.policy();
        assert_eq!(pool.servers[0].state(), State::Probing);
        pool.servers[0].on_result(true, &policy, Millis(0));
        pool.servers[0].counters(0).requests.add(7);
        let same = compiled(&mut registry, &config(&["b", "a"], 1, true));
        assert_eq!(same.servers[1].state(), State::Serving);
        let moved = compiled(&mut registry, &config(&["a"], 2, true));
        assert_eq!(moved.servers[0].state(), State::Probing);
        assert_eq!(moved.servers[0].counters(0).requests.get(), 7);
    }

    #[test]
    fn probing_servers_are_tried_only_if_none_serves() {
        let mut registry = Registry::new(Instant::now());
        let pool = compiled(&mut registry, &config(&["a", "b"], 1, true));
        assert_eq!(picked(&pool, 2), ["a", "b"]);
        pool.servers[1].on_result(true, &pool.policy(), Millis(0));
        assert_eq!(picked(&pool, 2), ["b", "b"]);
        pool.servers[1].on_refused(Millis(0));
        pool.servers[0].on_refused(Millis(0));
        assert!(pool.pick(&ASK).is_err());
    }
}
