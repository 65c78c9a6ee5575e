//! What a terminal shows of lost rows while the load runs: every so often the newest acknowledged rows are read back. The
//! receipt does not rest on it: that reads every row back at the end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::client::{Notes, rows_between};

const EVERY: Duration = Duration::from_secs(2);
/// Rows that are looked for each time.
const NEWEST: usize = 2000;

/// Looks forever; end it by aborting its task.
pub async fn watch(edges: Vec<SocketAddr>, notes: Arc<Notes>) {
    loop {
        tokio::time::sleep(EVERY).await;
        // Acknowledged before the question is asked: so they must be in the answer.
        let expected: Vec<i64> =
            notes.with(|t| t.acknowledged.iter().rev().take(NEWEST).map(|a| a.0).collect());
        let (Some(first), Some(&last)) = (expected.iter().min(), expected.iter().max()) else { continue };
        for &edge in &edges {
            if let Ok(found) = rows_between(edge, first - 1, last).await {
                notes.with(|t| note(&mut t.missing, &expected, &found));
                break;
            }
        }
    }
}

/// Adds the rows that were not found, and takes back those that were.
fn note(missing: &mut BTreeSet<i64>, expected: &[i64], found: &BTreeSet<i64>) {
    missing.retain(|row| !found.contains(row));
    missing.extend(expected.iter().filter(|row| !found.contains(row)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_missing_until_it_is_found() {
        let mut missing = BTreeSet::new();
        note(&mut missing, &[3, 1, 2], &[1, 3, 9].into());
        assert_eq!(missing, [2].into());
        note(&mut missing, &[5, 4], &[4, 5].into());
        assert_eq!(missing, [2].into(), "a row out of sight stays missing");
        note(&mut missing, &[5], &[2, 5].into());
        assert_eq!(missing, [].into());
    }
}
