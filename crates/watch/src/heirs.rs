//! Who takes over as primary, by what a view knows: for the verdict and for `tiebeam explain`. Pure. The agents decide
//! for themselves, by the ledger and by the votes of the replicas; this is what they will find if nothing changes.

use tiebeam_topology::NodeName;

use crate::{ClusterDatabaseView, View};

/// What a commit waits for, from the first word of [`ClusterDatabaseView::durability`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// `async`: for no replica, so a failover may lose the newest commits.
    Nobody,
    /// `quorum`: for one of the replicas that keep up; without any the primary goes on alone.
    Quorum,
    /// `strict`: the same, but without any the commits wait.
    Strict,
}

impl ClusterDatabaseView {
    pub fn waits(&self) -> Waits {
        match self.durability.split([':', ' ']).next() {
            Some("async") => Waits::Nobody,
            Some("strict") => Waits::Strict,
            _ => Waits::Quorum,
        }
    }
}

/// The nodes that can take over if `gone` dies now, in the order of their names: alive, receiving from the primary, and,
/// unless commits wait for nobody, among those that commits wait for.
pub fn heirs<'a>(view: &'a View, gone: Option<&NodeName>) -> Vec<&'a NodeName> {
    let Some(database) = &view.database else { return Vec::new() };
    let any = database.waits() == Waits::Nobody;
    let others = view
        .nodes
        .iter()
        .filter(|(name, n)| n.alive && Some(*name) != gone && Some(*name) != database.primary.as_ref());
    let able = others.filter(|(_, n)| n.database.as_ref().is_some_and(|d| d.streaming && (d.sync || any)));
    able.map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{healthy, node};

    #[test]
    fn who_can_take_over() {
        type Change = fn(&mut View);
        let table: &[(Change, &str, &[&str])] = &[
            (|_| {}, "a", &["b", "c"]),
            (|_| {}, "b", &["c"]),
            (|v| db(v, "b").sync = false, "a", &["c"]),
            (|v| db(v, "b").streaming = false, "a", &["c"]),
            (|v| v.nodes.get_mut(&node("b")).unwrap().alive = false, "a", &["c"]),
            // Under async no replica is ever synchronous, and each that receives may be promoted.
            (
                |v| {
                    v.database.as_mut().unwrap().durability = "async: a commit waits for no replica".into();
                    db(v, "b").sync = false;
                    db(v, "c").sync = false;
                },
                "a",
                &["b", "c"],
            ),
            (|v| v.database = None, "a", &[]),
        ];
        for (i, (change, gone, expected)) in table.iter().enumerate() {
            let mut view = healthy();
            change(&mut view);
            let names: Vec<&str> = heirs(&view, Some(&node(gone))).iter().map(|n| n.as_str()).collect();
            assert_eq!(names, *expected, "row {i}");
        }
    }

    #[test]
    fn the_first_word_of_the_durability_counts() {
        for (text, waits) in [
            ("async: a commit waits for no replica", Waits::Nobody),
            ("strict", Waits::Strict),
            ("quorum: a commit waits for one of b, c", Waits::Quorum),
            ("", Waits::Quorum),
        ] {
            let database = ClusterDatabaseView { durability: text.into(), ..Default::default() };
            assert_eq!(database.waits(), waits, "{text}");
        }
    }

    fn db<'a>(view: &'a mut View, name: &str) -> &'a mut crate::DatabaseView {
        view.nodes.get_mut(&node(name)).unwrap().database.as_mut().unwrap()
    }
}
