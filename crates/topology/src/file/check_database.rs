//! The rules about the database, its router, and the nodes that vote on who is primary.

use super::check::twice;
use super::kind::shown_duration;
use super::reader::{Located, nearest};
use super::sections::{Database, File};
use super::settings;
use crate::problem::{Findings, quoted};
use crate::{Durability, Role};

/// How many renewals must fit into a lease: one may be lost and one late, and the right still holds.
const RENEWALS_PER_LEASE: u32 = 3;
/// More voters make each agreement slower and tolerate failures that this many already do.
pub(super) const VOTERS_MAX: usize = 5;

pub(super) fn rules(file: &File, findings: &Findings<'_>) {
    let database = &file.database;
    if let Some(servers) = &database.servers_written {
        foreign(file, servers.clone(), findings);
    } else {
        managed(file, findings);
    }
    lease(database, findings);
    for (name, _) in &database.settings {
        setting(name, findings);
    }
    voters(file, findings);
}

fn foreign(file: &File, servers: std::ops::Range<usize>, findings: &Findings<'_>) {
    let database = &file.database;
    if let Some(node) = file.nodes.iter().find(|node| node.roles.value.contains(&Role::Database)) {
        findings.add(
            servers,
            format!("`servers` are run by others, but node `{}` has the role `database`", node.name.value),
            "take the role `database` from the nodes, or leave `servers` out and let Tiebeam run PostgreSQL",
        );
    }
    if let Some(servers) = &database.servers {
        twice(servers.value.iter(), "server", findings);
    }
    let written = |written: bool, place: &std::ops::Range<usize>| written.then(|| place.clone());
    let ours = [
        ("durability", written(database.durability.written, &database.durability.key)),
        ("lease", written(database.lease.written, &database.lease.key)),
        ("renew", written(database.renew.written, &database.renew.key)),
        ("port", written(database.port.written, &database.port.key)),
        ("settings", database.settings_written.clone()),
    ];
    for (name, place) in ours {
        let Some(place) = place else { continue };
        findings.add(
            place,
            format!("`{name}` says how Tiebeam runs PostgreSQL, but with `servers` others run it"),
            format!("leave `{name}` out"),
        );
    }
}

fn managed(file: &File, findings: &Findings<'_>) {
    let database = &file.database;
    let foreign_only = [
        ("user", database.user.written.then_some(&database.user.key)),
        ("password_file", database.password_file.as_ref().map(|file| &file.key)),
    ];
    for (name, place) in foreign_only {
        let Some(place) = place else { continue };
        findings.add(
            place.clone(),
            format!("`{name}` is for `servers` that others run; Tiebeam reaches its own by certificate"),
            format!("leave `{name}` out, or list `servers`"),
        );
    }
    if !file.has_role(Role::Database) {
        let help = "give nodes the role: roles = [\"database\"]; or list servers that others run: servers = [\"10.0.0.5:5432\"]";
        if let Some(place) = &database.written {
            findings.add(place.clone(), "`[database]` runs nowhere: no node has the role `database`", help);
        } else if let Some(place) = &file.sql.written {
            findings.add(place.clone(), "`[sql]` routes to a database, and there is none", help);
        }
    }
    let alone = file.nodes_right
        && file.nodes.iter().filter(|n| n.roles.value.contains(&Role::Database)).count() == 1;
    if alone && database.durability.value == Durability::Strict {
        findings.add(
            database.durability.span.clone(),
            "\"strict\" waits for a replica with each write, and with one database node there is never one",
            "add a node with the role `database`, or write durability = \"quorum\"",
        );
    }
}

fn lease(database: &Database, findings: &Findings<'_>) {
    let least = database.renew.value * RENEWALS_PER_LEASE;
    let (lease, renew) = (&database.lease, &database.renew);
    if lease.value < least {
        let at = if lease.written { lease } else { renew };
        findings.add(
            at.span.clone(),
            format!(
                "a lease of {} is shorter than {RENEWALS_PER_LEASE} renewals, one every {}: a single late one would end it",
                shown_duration(lease.value),
                shown_duration(renew.value)
            ),
            format!(
                "write a `lease` of at least {}, or a `renew` of at most {}",
                shown_duration(least),
                shown_duration(lease.value / RENEWALS_PER_LEASE)
            ),
        );
    }
}

fn setting(name: &Located<String>, findings: &Findings<'_>) {
    let lower = name.value.to_ascii_lowercase();
    if !settings::is_name(&lower) {
        findings.add(
            name.span.clone(),
            format!("`{}` is not the name of a setting", quoted(&name.value)),
            "letters, digits and underscores, as in shared_buffers; a dot after the name of an extension",
        );
    } else if let Some(why) = settings::reserved(&lower) {
        findings.add(name.span.clone(), format!("`{lower}` cannot be set here: {why}"), "leave it out");
    }
}

fn voters(file: &File, findings: &Findings<'_>) {
    let Some(voters) = &file.ledger.voters else { return };
    twice(voters.value.iter(), "voter", findings);
    if file.nodes_right {
        let nodes: Vec<&str> = file.nodes.iter().map(|node| node.name.value.as_str()).collect();
        for voter in voters.value.iter().filter(|voter| !nodes.contains(&voter.value.as_str())) {
            let help = match nearest(voter.value.as_str(), nodes.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("there are: {}", nodes.join(", ")),
            };
            findings.add(voter.span.clone(), format!("there is no node `{}`", voter.value), help);
        }
    }
    let count = voters.value.len();
    if count > VOTERS_MAX {
        findings.add(
            voters.span.clone(),
            format!("{count} voters are more than {VOTERS_MAX}"),
            "3 go on without one of them, 5 without two; the other nodes follow anyway",
        );
    } else if count.is_multiple_of(2) {
        findings.add(
            voters.span.clone(),
            format!("{count} voters, an even number, tolerate no more losses than {}", count - 1),
            format!("name {} or {} nodes; those that do not vote follow", count - 1, count + 1),
        );
    }
}
