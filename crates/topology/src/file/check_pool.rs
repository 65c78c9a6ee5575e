//! The rules within `[pool.NAME]`: what would have no effect there is a mistake, and is told.

use super::kind::shown_duration;
use super::sections::Pool;
use crate::Algorithm;
use crate::problem::Findings;

pub(super) fn rules(pool: &Pool, findings: &Findings<'_>) {
    let name = &pool.name.value;
    let algorithm = pool.algorithm.value;
    let servers = pool.servers.as_ref().map_or(&[][..], |servers| &servers.value);
    if let Some(first) = servers.first().filter(|_| servers.iter().all(|server| server.value.server.backup)) {
        findings.add(
            first.span.clone(),
            format!("every server of the pool `{name}` is a backup"),
            "leave `backup` out where a server is to be asked as long as it serves",
        );
    }
    if let Some(weight) = servers.iter().find_map(|server| server.value.weight.clone())
        && algorithm == Algorithm::RoundRobin
    {
        findings.add(
            weight,
            "strict round robin gives every server the same",
            "write algorithm = \"weighted\", \"least-connections\", \"two-choices\" or \"hash\"",
        );
    }
    if pool.hash_by.written && algorithm != Algorithm::Hash {
        findings.add(
            pool.hash_by.key.clone(),
            "`hash_by` is for algorithm = \"hash\" only",
            "write that algorithm, or leave `hash_by` out",
        );
    }
    if let Some(place) = pool.queue_written.clone().filter(|_| pool.balancing.in_flight.is_none()) {
        findings.add(
            place,
            "nothing waits in a queue while a server may have any number of requests in flight",
            "write `in_flight`, or leave this out",
        );
    }
    if let (Some(ejection), Some(most)) = (&pool.balancing.ejection, &pool.ejection_most)
        && ejection.time > ejection.most
    {
        findings.add(
            most.span.clone(),
            format!(
                "the first ejection lasts {}, and `most` is only {}",
                shown_duration(ejection.time),
                shown_duration(ejection.most)
            ),
            "make `most` the longer one",
        );
    }
}
