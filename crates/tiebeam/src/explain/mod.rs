//! What a thing is, its alternative, what this cluster does with it now, and what happens if each node dies. Pure: text
//! from a topic and a view.

mod now;

use std::fmt::Write as _;
use std::str::FromStr;

use tiebeam_watch::View;

/// Width of a line, characters.
const WIDTH: usize = 92;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    RoundRobin,
    ActiveActive,
    PrimaryReplica,
    Failover,
    Durability,
}

impl Topic {
    pub const ALL: [Self; 5] =
        [Self::RoundRobin, Self::ActiveActive, Self::PrimaryReplica, Self::Failover, Self::Durability];

    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::ActiveActive => "active-active",
            Self::PrimaryReplica => "primary-replica",
            Self::Failover => "failover",
            Self::Durability => "durability",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::RoundRobin => {
                "Round robin gives each request to the next server of the pool, one after another, over all workers of \
                 an edge, and skips those that are not serving. With three servers that serve, 300 requests are \
                 exactly 100 for each."
            }
            Self::ActiveActive => {
                "Active-active: every edge answers all the time. Clients know all their addresses (several A records of \
                 one name), so each edge carries a share, and when one dies the others have the rest at once: nothing \
                 has to be switched over."
            }
            Self::PrimaryReplica => {
                "The primary is the one PostgreSQL that accepts writes. Replicas receive its write-ahead log as it is \
                 written and replay it: they are whole copies, a moment behind, and answer reads only."
            }
            Self::Failover => {
                "Failover: when the primary dies, a replica that has every acknowledged write is promoted and the \
                 routers send writes there. No hand is needed, and at no moment do two nodes acknowledge writes."
            }
            Self::Durability => {
                "Durability says what an acknowledged write has survived. With quorum, a commit is acknowledged when the \
                 primary and at least one replica hold it on disk, so the loss of any one machine loses nothing."
            }
        }
    }

    fn alternative(self) -> &'static str {
        match self {
            Self::RoundRobin => {
                "Alternatives: least connections and weights suit servers of unequal speed; round robin is the one whose \
                 result can be predicted and checked, request by request."
            }
            Self::ActiveActive => {
                "Alternative: active-passive. One edge holds the address and answers, the other waits. It needs only one \
                 address, but half of the machines idle, and the switch takes about a second."
            }
            Self::PrimaryReplica => {
                "For the application: connect to localhost:6432 and forget who is who. A statement that is certainly a \
                 read may go to a replica that has already replayed everything this session wrote; everything else goes \
                 to the primary. A transaction stays on one server."
            }
            Self::Failover => {
                "Alternative: switchover, the planned form, in which the old primary stops in order and nothing waits for \
                 a lease. In both, new writes wait in the routers meanwhile; a write whose answer was lost is reported as \
                 unknown, never sent twice."
            }
            Self::Durability => {
                "Alternatives: strict refuses to go on alone, so writes stop when no replica is left; async waits for no \
                 replica and is a little faster, but a failover may lose the newest acknowledged writes."
            }
        }
    }
}

impl FromStr for Topic {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|t| t.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|t| t.name()).collect();
            format!("there is no topic {text:?}; there are {}", names.join(", "))
        })
    }
}

/// The whole text. Without a view it says only what holds for every cluster.
pub fn explain(topic: Topic, view: Option<&View>) -> String {
    let mut text = String::new();
    paragraph(&mut text, "", topic.what());
    text.push('\n');
    paragraph(&mut text, "", topic.alternative());
    if topic == Topic::Failover {
        steps(&mut text);
    }
    if let Some(view) = view {
        let _ = writeln!(text, "\nIn cluster {} now", view.cluster);
        for line in now::now(topic, view) {
            paragraph(&mut text, "  ", &line);
        }
        text.push_str("\nIf a node dies\n");
        for (node, line) in now::deaths(topic, view) {
            paragraph(&mut text, "  ", &format!("{node}: {line}"));
        }
    }
    text
}

/// The table by which every node acts, in words.
fn steps(text: &mut String) {
    text.push_str("\nHow it goes: state, event, next state\n");
    for t in tiebeam_postgres::transitions() {
        paragraph(text, "  ", &format!("{} -- {} --> {} ({}): {}", t.state, t.event, t.next, t.step, t.why));
    }
}

/// Wrapped at [`WIDTH`], each line after the first of an indented paragraph a little further in.
fn paragraph(text: &mut String, indent: &str, words: &str) {
    let mut line = indent.to_owned();
    for word in words.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH && line.len() > indent.len() {
            text.push_str(line.trim_end());
            text.push('\n');
            line = format!("{indent}{indent}");
        }
        line.push_str(word);
        line.push(' ');
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_says_something_and_fits() {
        for topic in Topic::ALL {
            let text = explain(topic, None);
            assert!(text.lines().all(|l| l.chars().count() <= WIDTH + 1), "{text}");
            assert_eq!(topic.name().parse(), Ok(topic));
        }
        assert!("failovr".parse::<Topic>().unwrap_err().contains("failover"));
    }
}
