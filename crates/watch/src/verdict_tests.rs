//! The verdict, sentence by sentence.

use super::*;
use crate::fixtures::{self, node};

fn texts(view: &View) -> Vec<String> {
    judge(view).findings.into_iter().map(|f| f.text).collect()
}

fn kill(view: &mut View, name: &str) {
    view.nodes.get_mut(&node(name)).unwrap().alive = false;
}

#[test]
fn a_healthy_cluster_has_nothing_to_say() {
    let verdict = judge(&fixtures::healthy());
    assert_eq!(verdict.level, Level::Info);
    assert_eq!(verdict.headline, "Everything answers. Any one node may die.");
    assert_eq!(verdict.findings, []);
}

#[test]
fn a_failover_says_what_waits_and_what_is_next_to_go() {
    let verdict = judge(&fixtures::failover());
    assert_eq!(verdict.level, Level::Alarm);
    assert_eq!(verdict.headline, "There is no primary: 14 sessions wait in the routers for the failover.");
    let texts: Vec<String> = verdict.findings.into_iter().map(|f| f.text).collect();
    assert_eq!(
        texts,
        [
            "There is no primary: 14 sessions wait in the routers for the failover.",
            "Node a is down: its last report is 4.2 s old.",
            "If b dies, no edge answers clients.",
            "If b or c dies, the ledger has no quorum.",
        ]
    );
}

#[test]
fn a_replicas_death_leaves_writes_that_hang_on_two_nodes() {
    let mut view = fixtures::healthy();
    kill(&mut view, "c");
    let verdict = judge(&view);
    assert_eq!(verdict.level, Level::Warning);
    assert_eq!(verdict.headline, "Node c is down. Everything answers, but a and b may not die now.");
    assert!(verdict.findings.iter().any(|f| f.text == "If a or b dies, writes stop."), "{verdict:?}");
}

#[test]
fn one_node_may_never_die() {
    let verdict = judge(&fixtures::many(1));
    assert_eq!(verdict.headline, "Everything answers, but no node may die.");
    let texts: Vec<&str> = verdict.findings.iter().map(|f| f.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "If n1 dies, no edge answers clients.",
            "If n1 dies, pool web has no server.",
            "If n1 dies, the ledger has no quorum.",
            "If n1 dies, writes stop.",
        ]
    );
    assert_eq!(judge(&fixtures::many(20)).findings, []);
}

#[test]
fn each_thing_that_may_be_wrong_has_its_sentence() {
    type Break = fn(&mut View);
    let table: &[(Break, Level, &str)] = &[
        (|v| v.nodes.clear(), Level::Warning, ""),
        (|v| v.ledger.leader = None, Level::Warning, "The ledger elects a leader."),
        (
            |v| {
                kill(v, "b");
                kill(v, "c");
                v.ledger.quorum = false;
            },
            Level::Alarm,
            "The ledger has no quorum of its 3 voters: edges go on, but no one can be or become primary; start b or c.",
        ),
        (
            |v| v.database.as_mut().unwrap().stopped_because = Some("no replica has every commit.".into()),
            Level::Alarm,
            "Writes are stopped: no replica has every commit.",
        ),
        (
            |v| {
                kill(v, "c");
                at(v, "c").ended = true;
            },
            Level::Warning,
            "Node c is down: it ended in order 260 ms ago.",
        ),
        (|v| db(v, "a").accepting_writes = false, Level::Alarm, "The primary a does not accept writes."),
        (|v| db(v, "b").accepting_writes = true, Level::Alarm, "a and b all say that they accept writes."),
        (|v| db(v, "c").streaming = false, Level::Warning, "Replica c does not receive from the primary."),
        (|v| db(v, "c").lag_bytes = Some(20 << 20), Level::Warning, "Replica c is 21 MB behind."),
        (|v| db(v, "c").role = DatabaseRole::Rewinding, Level::Warning, "PostgreSQL on c is rewinding."),
        (|v| at(v, "c").database = None, Level::Warning, "c says nothing of its PostgreSQL."),
        (|v| at(v, "b").edge = None, Level::Warning, "b is alive, but its edge does not answer."),
        (
            |v| {
                at(v, "a").edge = None;
                kill(v, "b");
            },
            Level::Alarm,
            "No edge answers clients: a and b do not.",
        ),
        (
            |v| {
                for name in ["a", "b"] {
                    let edge = at(v, name).edge.as_mut().unwrap();
                    edge.pools[0].servers.iter_mut().for_each(|s| s.state = ServerState::Ejected);
                }
            },
            Level::Alarm,
            "Pool web has no serving server: its requests are answered 503.",
        ),
        (
            |v| {
                for name in ["a", "b"] {
                    at(v, name).edge.as_mut().unwrap().pools[0].servers[2].state = ServerState::Probing;
                }
            },
            Level::Warning,
            "Server c/web.1 of pool web is probing.",
        ),
        (
            |v| {
                let app = &mut at(v, "c").apps[0];
                (app.state, app.restarts_total) = (InstanceState::Failed, 4);
            },
            Level::Warning,
            "App c/web.1 failed and is started again (4 restarts).",
        ),
    ];
    for (i, (wreck, level, text)) in table.iter().enumerate() {
        let mut view = fixtures::healthy();
        wreck(&mut view);
        let verdict = judge(&view);
        assert_eq!(verdict.level, *level, "row {i}: {verdict:?}");
        assert!(text.is_empty() || texts(&view).iter().any(|t| t == text), "row {i}: {verdict:?}");
        assert!(!verdict.headline.is_empty(), "row {i}");
    }
}

#[test]
fn under_strict_the_last_replica_may_not_die() {
    let mut view = fixtures::healthy();
    db(&mut view, "c").sync = false;
    assert!(!texts(&view).contains(&"If b dies, writes stop.".to_owned()));
    view.database.as_mut().unwrap().durability = "strict".into();
    assert!(texts(&view).contains(&"If b dies, writes stop.".to_owned()));
}

#[test]
fn under_async_any_replica_takes_over() {
    let mut view = fixtures::healthy();
    view.database.as_mut().unwrap().durability = "async: a commit waits for no replica".into();
    ["b", "c"].into_iter().for_each(|n| db(&mut view, n).sync = false);
    assert_eq!(texts(&view), Vec::<String>::new(), "any one node may die");
}

fn at<'a>(view: &'a mut View, name: &str) -> &'a mut NodeView {
    view.nodes.get_mut(&node(name)).unwrap()
}

fn db<'a>(view: &'a mut View, name: &str) -> &'a mut crate::DatabaseView {
    at(view, name).database.as_mut().unwrap()
}
