//! From a view to sentences: what is wrong now, and what would end with which node. Pure; the page, the metrics and
//! `tiebeam status` print what it says, nobody decides anything by it.
//!
//! The second half is found by trying: each node that is alive is taken away in thought, and the same questions are
//! asked of what remains.

use std::collections::{BTreeMap, BTreeSet};

use tiebeam_topology::{NodeName, Role};

use crate::words::{age, bytes, count, list};
use crate::{
    DatabaseRole, Finding, InstanceState, Level, NodeView, ServerState, Verdict, View, Waits, heirs,
};

/// A replica this far behind is worth a word, bytes of write-ahead log (one segment of PostgreSQL).
pub const LAG_WARNING_BYTES: u64 = 16 << 20;

pub fn judge(view: &View) -> Verdict {
    if view.nodes.is_empty() {
        let text = "No node has reported yet.".to_owned();
        return Verdict { level: Level::Warning, headline: text, findings: Vec::new() };
    }
    let mut findings = Findings::default();
    ledger(view, &mut findings);
    database(view, &mut findings);
    edges(view, &mut findings);
    pools(view, &mut findings);
    nodes(view, &mut findings);
    let deaths = deaths(view);
    for (what, who) in &deaths {
        findings.warning(format!("If {} dies, {what}.", list(who, "or")));
    }
    let mut findings = findings.0;
    findings.sort_by_key(|f| std::cmp::Reverse(f.level));
    let level = findings.iter().map(|f| f.level).max().unwrap_or_default();
    Verdict { level, headline: headline(view, &findings, &deaths), findings }
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn warning(&mut self, text: String) {
        self.0.push(Finding { level: Level::Warning, text });
    }

    fn alarm(&mut self, text: String) {
        self.0.push(Finding { level: Level::Alarm, text });
    }
}

fn headline(view: &View, findings: &[Finding], deaths: &BTreeMap<String, Vec<&NodeName>>) -> String {
    if let Some(alarm) = findings.iter().find(|f| f.level == Level::Alarm) {
        return alarm.text.clone();
    }
    let down: Vec<&NodeName> = view.nodes.iter().filter(|(_, n)| !n.alive).map(|(name, _)| name).collect();
    let fatal: BTreeSet<&NodeName> = deaths.values().flatten().copied().collect();
    let are = |n: usize| if n == 1 { "is" } else { "are" };
    let nodes = |n: usize| if n == 1 { "Node" } else { "Nodes" };
    match (down.len(), fatal.len()) {
        (0, 0) if findings.is_empty() => "Everything answers. Any one node may die.".into(),
        (0, 0) => {
            "Everything answers, and any one node may die, but something is not as it should be.".into()
        }
        (0, n) if n == view.nodes.len() => "Everything answers, but no node may die.".into(),
        (0, _) => format!("Everything answers, but {} may not die.", list(fatal, "and")),
        (n, 0) => {
            format!(
                "{} {} {} down. Everything answers, and one more may die.",
                nodes(n),
                list(down, "and"),
                are(n)
            )
        }
        (n, _) => format!(
            "{} {} {} down. Everything answers, but {} may not die now.",
            nodes(n),
            list(down, "and"),
            are(n),
            list(fatal, "and")
        ),
    }
}

fn ledger(view: &View, findings: &mut Findings) {
    let voters = &view.ledger.voters;
    if view.ledger.quorum {
        if view.ledger.leader.is_none() {
            findings.warning("The ledger elects a leader.".into());
        }
        return;
    }
    let silent: Vec<&NodeName> =
        voters.iter().filter(|v| !view.nodes.get(*v).is_some_and(|n| n.alive)).collect();
    let start = if silent.is_empty() {
        "the voters do not reach one another".into()
    } else {
        format!("start {}", list(silent, "or"))
    };
    findings.alarm(format!(
        "The ledger has no quorum of its {} voters: edges go on, but no one can be or become primary; {start}.",
        voters.len()
    ));
}

fn database(view: &View, findings: &mut Findings) {
    let Some(database) = &view.database else { return };
    let writers: Vec<&NodeName> = alive(view)
        .filter(|(_, n)| n.database.as_ref().is_some_and(|d| d.accepting_writes))
        .map(|(name, _)| name)
        .collect();
    if let Some(why) = &database.stopped_because {
        findings.alarm(format!("Writes are stopped: {}.", why.trim_end_matches('.')));
    } else if let Some(primary) = &database.primary {
        if writers.len() > 1 {
            findings.alarm(format!("{} all say that they accept writes.", list(&writers, "and")));
        } else if writers.is_empty() {
            findings.alarm(format!("The primary {primary} does not accept writes."));
        }
    } else {
        let held: u64 = alive(view).filter_map(|(_, n)| n.sql.as_ref()).map(|s| s.held).sum();
        findings.alarm(match held {
            0 => "There is no primary: new writes wait in the routers for the failover.".into(),
            1 => "There is no primary: 1 session waits in the routers for the failover.".into(),
            n => format!("There is no primary: {} sessions wait in the routers for the failover.", count(n)),
        });
    }
    for (name, state) in alive(view).filter(|(_, n)| n.roles.contains(&Role::Database)) {
        match &state.database {
            None => findings.warning(format!("{name} says nothing of its PostgreSQL.")),
            Some(d) if d.role == DatabaseRole::Replica => {
                if !d.streaming && database.primary.is_some() {
                    findings.warning(format!("Replica {name} does not receive from the primary."));
                }
                if let Some(lag) = d.lag_bytes.filter(|lag| *lag >= LAG_WARNING_BYTES) {
                    findings.warning(format!("Replica {name} is {} behind.", bytes(lag)));
                }
            }
            Some(d) if d.role == DatabaseRole::Primary => {}
            Some(d) => findings.warning(format!("PostgreSQL on {name} is {}.", d.role.word())),
        }
    }
}

fn edges(view: &View, findings: &mut Findings) {
    let all: Vec<&NodeName> = view.with_role(Role::Edge).map(|(name, _)| name).collect();
    if !all.is_empty() && view.edges_alive().next().is_none() {
        let verb = if all.len() == 1 { "does" } else { "do" };
        findings.alarm(format!("No edge answers clients: {} {verb} not.", list(all, "and")));
        return;
    }
    for (name, _) in view.with_role(Role::Edge).filter(|(_, n)| n.alive && n.edge.is_none()) {
        findings.warning(format!("{name} is alive, but its edge does not answer."));
    }
}

fn pools(view: &View, findings: &mut Findings) {
    for (pool, servers) in servers(view) {
        let serving = servers.values().filter(|s| **s == ServerState::Serving).count();
        if serving == 0 {
            findings.alarm(format!("Pool {pool} has no serving server: its requests are answered 503."));
        }
        for (id, state) in servers.iter().filter(|(id, _)| !on_dead_node(view, id)) {
            if matches!(state, ServerState::Ejected | ServerState::Probing) {
                findings.warning(format!("Server {id} of pool {pool} is {}.", state.word()));
            }
        }
    }
}

fn nodes(view: &View, findings: &mut Findings) {
    for (name, state) in view.nodes.iter().filter(|(_, n)| !n.alive) {
        let last = match (state.report_age_ms, state.ended) {
            (Some(ms), true) => format!("it ended in order {} ago", age(ms)),
            (Some(ms), false) => format!("its last report is {} old", age(ms)),
            (None, _) => "it has never reported".into(),
        };
        findings.warning(format!("Node {name} is down: {last}."));
    }
    for app in alive(view).flat_map(|(_, n)| &n.apps).filter(|a| a.state == InstanceState::Failed) {
        findings.warning(format!(
            "App {} failed and is started again ({} restarts).",
            app.id, app.restarts_total
        ));
    }
}

/// What ends, and the nodes whose death alone would end it. Only what works now can end.
fn deaths(view: &View) -> BTreeMap<String, Vec<&NodeName>> {
    let now = works(view, None);
    let mut deaths = BTreeMap::<String, Vec<&NodeName>>::new();
    for (node, _) in alive(view) {
        let then = works(view, Some(node));
        for what in now.difference(&then) {
            deaths.entry(what.clone()).or_default().push(node);
        }
    }
    deaths
}

/// What works when `without` is dead too, each as the sentence that says it does not.
fn works(view: &View, without: Option<&NodeName>) -> BTreeSet<String> {
    let here = |name: &NodeName| Some(name) != without && view.nodes.get(name).is_some_and(|n| n.alive);
    let mut works = BTreeSet::new();
    if view.edges_alive().any(|(name, _)| here(name)) {
        works.insert("no edge answers clients".to_owned());
    }
    for (pool, servers) in servers(view) {
        let stands = |id: &str| host(view, id).is_none_or(here);
        if servers.iter().any(|(id, state)| *state == ServerState::Serving && stands(id)) {
            works.insert(format!("pool {pool} has no server"));
        }
    }
    let voters = &view.ledger.voters;
    let quorum = view.ledger.quorum && voters.iter().filter(|v| here(v)).count() > voters.len() / 2;
    if quorum {
        works.insert("the ledger has no quorum".to_owned());
    }
    if let Some(database) = &view.database
        && let Some(primary) = &database.primary
    {
        let strict = database.waits() == Waits::Strict;
        let heirs = heirs(view, without).len();
        let writes = if here(primary) { !strict || heirs > 0 } else { heirs > 0 };
        if writes && quorum {
            works.insert("writes stop".to_owned());
        }
    }
    works
}

/// Each pool's servers with the best state that any edge sees.
fn servers(view: &View) -> BTreeMap<&str, BTreeMap<&str, ServerState>> {
    let mut pools = BTreeMap::<&str, BTreeMap<&str, ServerState>>::new();
    for pool in view.edges_alive().flat_map(|(_, e)| &e.pools) {
        let servers = pools.entry(&pool.name).or_default();
        for server in &pool.servers {
            let best = servers.entry(&server.id).or_insert(server.state);
            *best = (*best).min(server.state);
        }
    }
    pools
}

/// The node that a server runs on; `None` for a server of the file, which is not ours.
fn host<'a>(view: &'a View, server: &str) -> Option<&'a NodeName> {
    let node: NodeName = server.split_once('/')?.0.parse().ok()?;
    view.nodes.get_key_value(&node).map(|(name, _)| name)
}

fn on_dead_node(view: &View, server: &str) -> bool {
    host(view, server).and_then(|name| view.nodes.get(name)).is_some_and(|n| !n.alive)
}

fn alive(view: &View) -> impl Iterator<Item = (&NodeName, &NodeView)> {
    view.nodes.iter().filter(|(_, n)| n.alive)
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
