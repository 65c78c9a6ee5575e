//! The part of an explanation that is about this cluster at this moment. Pure.

use tiebeam_topology::{NodeName, Role};
use tiebeam_watch::{NodeView, ServerState, SqlView, View, Waits, heirs, words};

use super::Topic;

/// What the cluster does with the thing right now, a sentence an entry.
pub fn now(topic: Topic, view: &View) -> Vec<String> {
    match topic {
        Topic::RoundRobin => pools(view),
        Topic::ActiveActive => edges(view),
        Topic::PrimaryReplica => members(view).into_iter().chain(routers(view)).collect(),
        Topic::Failover => candidates(view),
        Topic::Durability => match &view.database {
            Some(d) => vec![d.durability.clone()].into_iter().chain(d.stopped_because.clone()).collect(),
            None => vec!["There is no database in this cluster.".into()],
        },
    }
}

/// What each node's death would mean, by the node's name.
pub fn deaths(topic: Topic, view: &View) -> Vec<(NodeName, String)> {
    view.nodes.iter().map(|(name, node)| (name.clone(), death(topic, view, name, node))).collect()
}

fn death(topic: Topic, view: &View, name: &NodeName, node: &NodeView) -> String {
    if !node.alive {
        return "it is down already.".into();
    }
    let other = |role: Role| {
        let others = view.with_role(role).filter(|(n, v)| *n != name && v.alive);
        others.map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(" and ")
    };
    match topic {
        Topic::RoundRobin if !node.roles.contains(&Role::App) => "no application server runs there.".into(),
        Topic::RoundRobin => match other(Role::App).as_str() {
            "" => "it has the only application servers: every request gets 503.".into(),
            rest => format!("the servers on {rest} take its turns; no client sees it."),
        },
        Topic::ActiveActive if !node.roles.contains(&Role::Edge) => "no edge runs there.".into(),
        Topic::ActiveActive => match other(Role::Edge).as_str() {
            "" => "it is the only edge: nobody answers.".into(),
            rest => format!(
                "{rest} has all requests at once; connections to {name} break and are made anew there."
            ),
        },
        Topic::PrimaryReplica | Topic::Failover | Topic::Durability => database_death(view, name, node),
    }
}

fn database_death(view: &View, name: &NodeName, node: &NodeView) -> String {
    let voters = view.ledger.voters.iter().filter(|v| view.nodes.get(*v).is_some_and(|n| n.alive)).count();
    let left = voters - usize::from(view.ledger.voters.contains(name));
    if left * 2 <= view.ledger.voters.len() {
        let are = if left == 1 { "is" } else { "are" };
        return format!(
            "only {left} of {} voters of the ledger {are} left: nobody can be promoted, and the primary stops when its \
             lease ends.",
            view.ledger.voters.len()
        );
    }
    if !node.roles.contains(&Role::Database) {
        return "it holds no data; the database does not notice.".into();
    }
    let Some(database) = &view.database else { return "there is no database in this cluster.".into() };
    let Some(primary) = &database.primary else {
        return "there is no primary now, and a failover may need its vote or its data.".into();
    };
    let waits = database.waits();
    let heirs = heirs(view, Some(name));
    if primary == name {
        let may_lose = match waits {
            Waits::Nobody => {
                " Commits that no replica has received by then are lost, although they were acknowledged."
            }
            Waits::Quorum | Waits::Strict => "",
        };
        return match heirs.as_slice() {
            [] => "it is the primary and no other node has all writes: writes stop until it is back.".into(),
            [one] => format!("it is the primary: {one} takes over when the lease has ended.{may_lose}"),
            several => format!(
                "it is the primary: of {} the one with the most takes over when the lease has ended.{may_lose}",
                words::list(several, "and")
            ),
        };
    }
    match (waits, heirs.as_slice()) {
        (Waits::Nobody, []) => "no other replica is left: the primary goes on alone.".into(),
        (Waits::Nobody, _) => "reads go to the others; commits wait for no replica anyway.".into(),
        (Waits::Quorum, []) => "no other replica is left: the primary goes on alone.".into(),
        (Waits::Strict, []) => "no other replica is left: commits wait until one is back.".into(),
        (_, rest) => format!("reads go to the others, commits wait for {}.", words::list(rest, "or")),
    }
}

fn pools(view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    for (node, edge) in view.edges_alive() {
        for pool in &edge.pools {
            let turns = pool.servers.iter().filter(|s| s.state == ServerState::Serving);
            let turns: Vec<_> = turns.map(|s| format!("{} ({})", s.id, s.requests_total)).collect();
            let skipped = pool.servers.iter().filter(|s| s.state != ServerState::Serving);
            let skipped: Vec<_> = skipped.map(|s| format!("{} is {}", s.id, s.state.word())).collect();
            let skipped =
                if skipped.is_empty() { String::new() } else { format!("; skipped: {}", skipped.join(", ")) };
            lines.push(format!(
                "The edge on {node} sends {} to {} in turn{skipped}; {} out of turn.",
                pool.name,
                turns.join(", "),
                pool.out_of_turn_total
            ));
        }
    }
    if lines.is_empty() {
        lines.push("No edge answers.".into());
    }
    lines
}

fn edges(view: &View) -> Vec<String> {
    let all = view.with_role(Role::Edge).map(|(name, node)| match (&node.edge, node.alive) {
        (Some(edge), true) => {
            let at: Vec<_> = [edge.http, edge.https].iter().flatten().map(|a| a.to_string()).collect();
            format!("{name} answers on {}: {:.0} requests/s.", at.join(" and "), edge.requests_per_s)
        }
        _ => format!("{name} does not answer."),
    });
    all.collect()
}

fn members(view: &View) -> Vec<String> {
    let Some(database) = &view.database else { return vec!["There is no database in this cluster.".into()] };
    let mut lines = match &database.primary {
        Some(primary) => vec![format!("{primary} is the primary (epoch {}).", database.epoch)],
        None => vec![format!("There is no primary now (epoch {}).", database.epoch)],
    };
    for (name, node) in view.with_role(Role::Database).filter(|(n, _)| Some(*n) != database.primary.as_ref())
    {
        lines.push(match (&node.database, node.alive) {
            (Some(d), true) if d.streaming => {
                let sync = if d.sync { ", and commits may wait for it" } else { "" };
                format!("{name} is a replica, {} bytes behind{sync}.", d.lag_bytes.unwrap_or(0))
            }
            (Some(d), true) => format!("{name} is {}.", d.role.word()),
            _ => format!("{name} is down."),
        });
    }
    lines
}

fn routers(view: &View) -> Vec<String> {
    let all =
        view.nodes.iter().filter(|(_, n)| n.alive).filter_map(|(name, n)| Some((name, n.sql.as_ref()?)));
    let line = |(name, sql): (&NodeName, &SqlView)| {
        format!(
            "The router on {name} sent {} reads to replicas, {} to the primary, and {} writes.",
            sql.reads_replica_total, sql.reads_primary_total, sql.writes_total
        )
    };
    all.map(line).collect()
}

fn candidates(view: &View) -> Vec<String> {
    let mut lines = members(view);
    if let Some(why) = view.database.as_ref().and_then(|d| d.stopped_because.as_ref()) {
        lines.push(format!("Nobody can take over: {why}."));
    }
    lines
}

#[cfg(test)]
mod tests {
    use tiebeam_watch::fixtures::{failover, healthy, node};

    use super::*;

    /// What the death of a node would mean for the database.
    fn dies(view: &View, name: &str) -> String {
        let all = deaths(Topic::Failover, view);
        all.into_iter().find(|(n, _)| *n == node(name)).unwrap().1
    }

    fn with(durability: &str, sync: bool) -> View {
        let mut view = healthy();
        view.database.as_mut().unwrap().durability = durability.into();
        for name in ["b", "c"] {
            view.nodes.get_mut(&node(name)).unwrap().database.as_mut().unwrap().sync = sync;
        }
        view
    }

    #[test]
    fn each_durability_has_its_own_ends() {
        let quorum = with("quorum: a commit waits for one of b, c", true);
        assert_eq!(
            dies(&quorum, "a"),
            "it is the primary: of b and c the one with the most takes over when the lease has ended."
        );
        assert_eq!(dies(&quorum, "b"), "reads go to the others, commits wait for c.");
        let lossy = with("async: a commit waits for no replica", false);
        assert!(
            dies(&lossy, "a").contains("of b and c the one with the most takes over"),
            "{}",
            dies(&lossy, "a")
        );
        assert!(dies(&lossy, "a").contains("are lost, although they were acknowledged"));
        assert_eq!(dies(&lossy, "b"), "reads go to the others; commits wait for no replica anyway.");
        let alone = with("quorum: no replica keeps up", false);
        assert!(dies(&alone, "a").contains("writes stop until it is back"));
        assert_eq!(dies(&alone, "b"), "no other replica is left: the primary goes on alone.");
        let strict = with("strict: no replica keeps up, writes wait", false);
        assert_eq!(dies(&strict, "b"), "no other replica is left: commits wait until one is back.");
    }

    #[test]
    fn without_a_primary_every_replica_is_told_of() {
        let lines = now(Topic::Failover, &failover());
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].starts_with("There is no primary now"));
        for (line, name) in lines[1..].iter().zip(["a", "b", "c"]) {
            assert!(line.starts_with(&format!("{name} is ")), "{line}");
        }
        let mut view = failover();
        view.nodes.get_mut(&node("a")).unwrap().alive = true;
        assert!(dies(&view, "b").starts_with("there is no primary now"), "{}", dies(&view, "b"));
    }
}
