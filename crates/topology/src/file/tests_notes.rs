//! What is noted of files that are right, and who votes in their ledgers.

use super::tests::{EDGE_ONLY, nodes, notes, parsed};
use crate::NodeName;

#[test]
fn an_odd_number_votes_and_databases_first() {
    for (names, voters) in [
        ("da", "a"),
        ("da db", "a"),
        ("a db", "b"),
        ("da db c", "a b c"),
        ("a db c dd", "a b d"),
        ("a b c f de dg", "a b c e g"),
        ("da db dc dd de df dg", "a b c d e"),
    ] {
        let found: Vec<String> =
            parsed(&nodes(names)).ledger.voters.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), voters, "{names}");
    }
    let chosen = parsed(&format!("{}[ledger]\nvoters = [\"c\"]\n", nodes("da db c")));
    assert_eq!(chosen.ledger.voters.iter().map(NodeName::as_str).collect::<Vec<_>>(), ["c"]);
}

#[test]
fn what_is_not_highly_available_is_named() {
    let one = notes(&nodes("da b c"));
    assert!(one[0].starts_with("3 not highly available: the database is on `a` alone"), "{one:?}");
    let two = notes(&nodes("da db"));
    assert!(two[0].starts_with("3 not highly available: `a` alone votes on who is primary"), "{two:?}");
    let chosen = notes(&format!("{}[ledger]\nvoters = [\"c\"]\n", nodes("da db c")));
    assert!(chosen[0].starts_with("11 not highly available: `c` alone votes"), "{chosen:?}");
    assert_eq!(notes(&nodes("da db c")), Vec::<String>::new());
}

#[test]
fn what_is_not_there_yet_is_said() {
    let two = "[node.a]\naddress = \"10.0.0.1\"\nroles = [\"edge\"]\n[node.b]\naddress = \"10.0.0.2\"\nroles = [\"edge\"]\n";
    let said = notes(&format!(
        "{two}[edge]\nmode = \"active-passive\"\n[site.\"shop.example\"]\nhttps = \"acme\"\nroutes = [{{ path = \"/\", files = \"x\" }}]\n"
    ));
    assert!(said[0].starts_with("8 active-passive is not there yet"), "{said:?}");
    assert!(said[1].starts_with("10 certificates by ACME are not there yet"), "{said:?}");
    assert_eq!(said.len(), 2);
}

#[test]
fn a_node_that_only_runs_the_router_is_no_witness() {
    let router =
        "[node.a]\naddress = \"10.0.0.1\"\n[database]\nservers = [\"10.0.0.5:5432\"]\nuser = \"watch\"\n";
    assert_eq!(notes(router), Vec::<String>::new());
}

#[test]
fn what_may_surprise_is_noted() {
    let pool = "[pool.web]\nservers = [\"10.0.0.9:3000\"]\n";
    let said = notes(&format!(
        "{EDGE_ONLY}{pool}[edge]\nmode = \"active-passive\"\n[console]\nlisten = \"0.0.0.0:7480\"\n"
    ));
    assert_eq!(
        said,
        [
            "4 there is no site, so the pool `web` serves every host name, without https",
            "7 active-passive, but `a` is the only edge: nobody waits to take over",
            "9 [console] listens on 0.0.0.0:7480: whoever reaches it can read it",
        ]
    );
    let said = notes(&format!(
        "[node.a]\naddress = \"10.0.0.1\"\n[node.b]\naddress = \"10.0.0.2\"\nroles = [\"app\"]\n{pool}[console]\nlisten = \":7480\"\n"
    ));
    assert_eq!(
        said,
        [
            "1 `a` has no roles: it is a witness, which only votes",
            "5 `b` has the role `app`, but no app is named: it runs nothing",
            "6 no route sends to the pool `web`",
            "9 [console] listens on each node's address: whoever reaches one can read it",
        ]
    );
}

#[test]
fn whom_an_app_of_root_runs_as_is_said() {
    let text = "[node.a]\naddress = \"10.0.0.1\"\nroles = [\"app\"]\n[app.web]\ncommand = [\"x\"]\n";
    let said = notes(text);
    assert!(said[0].starts_with("4 where Tiebeam runs as root, `web` runs as nobody"), "{said:?}");
    assert_eq!(notes(&format!("{text}user = \"root\"\n")), Vec::<String>::new());
}
