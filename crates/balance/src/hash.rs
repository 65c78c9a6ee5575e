//! Consistent hashing with bounded loads: a key goes to the same server as long as that serves and is not overloaded.
//!
//! Rendezvous hashing: every server has a score for every key, and the highest wins. A server that leaves takes only its
//! own keys to others, one that comes takes only those that are its own now. It needs no ring and no memory, and all
//! edges agree without talking. Scores are weighted as in "Weighted Distributed Hash Tables" (Schindelhauer and
//! Schomaker, 2005), loads are bounded as in "Consistent Hashing with Bounded Loads" (Mirrokni and others, 2016).

use crate::units::mixed;

/// How much more than its share of the requests in flight a server may have.
const OVERLOAD: f64 = 1.25;

/// Never are fewer requests than this an overload: with next to no traffic a key keeps its server.
const LEAST_CAPACITY: f64 = 8.0;

/// The server for a key: of those whose weight is not 0 and whose load is below their capacity, the one of the highest
/// score. `None` if every weight is 0.
pub fn pick(
    len: usize,
    key: u64,
    identity: impl Fn(usize) -> u64,
    weight: impl Fn(usize) -> u32,
    load: impl Fn(usize) -> u32,
) -> Option<usize> {
    let (mut weights, mut loads) = (0.0, 0.0);
    for index in 0..len {
        let weight = f64::from(weight(index));
        if weight > 0.0 {
            (weights, loads) = (weights + weight, loads + f64::from(load(index)));
        }
    }
    let (mut best, mut best_free) = (None::<(usize, f64)>, None::<(usize, f64)>);
    for index in 0..len {
        let weight = f64::from(weight(index));
        if weight == 0.0 {
            continue;
        }
        let score = score(key, identity(index), weight);
        let is_higher = |best: Option<(usize, f64)>| best.is_none_or(|(_, highest)| score > highest);
        if is_higher(best) {
            best = Some((index, score));
        }
        let capacity = (OVERLOAD * (loads + 1.0) * weight / weights).ceil().max(LEAST_CAPACITY);
        if f64::from(load(index)) < capacity && is_higher(best_free) {
            best_free = Some((index, score));
        }
    }
    // All are full only if loads changed while this looked.
    best_free.or(best).map(|(index, _)| index)
}

fn score(key: u64, identity: u64, weight: f64) -> f64 {
    // 53 bits, never 0: its logarithm is finite and below 0.
    let part = ((mixed(key ^ mixed(identity)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -weight / part.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::number;

    fn home(names: &[&str], weights: &[u32], key: u64) -> usize {
        pick(names.len(), key, |i| number(names[i].as_bytes()), |i| weights[i], |_| 0).unwrap()
    }

    fn keys() -> impl Iterator<Item = u64> {
        (0..4000u64).map(|n| number(&n.to_le_bytes()))
    }

    #[test]
    fn only_the_keys_of_who_comes_or_leaves_move() {
        let (before, after) = (["a", "b", "c"], ["c", "d", "b"]);
        let mut moved = 0;
        for key in keys() {
            let (old, new) = (before[home(&before, &[1; 3], key)], after[home(&after, &[1; 3], key)]);
            assert!(old == new || old == "a" || new == "d", "{old} {new}");
            moved += u32::from(old != new);
        }
        // A third leaves with `a`; of the rest a third goes to `d`.
        assert!((1900..2550).contains(&moved), "{moved}");
    }

    #[test]
    fn shares_follow_the_weights() {
        let mut counts = [0u32; 3];
        keys().for_each(|key| counts[home(&["a", "b", "c"], &[1, 3, 0], key)] += 1);
        assert!(counts[0].abs_diff(1000) < 120 && counts[2] == 0, "{counts:?}");
    }

    #[test]
    fn one_hot_key_overloads_nobody() {
        let mut loads = [0u32; 4];
        for request in 0..1000 {
            let index = pick(4, 7, |i| i as u64, |_| 1, |i| loads[i]).unwrap();
            loads[index] += 1;
            let most = (OVERLOAD * f64::from(request + 1) / 4.0).ceil().max(LEAST_CAPACITY);
            assert!(f64::from(loads[index]) <= most, "{loads:?}");
        }
        assert_eq!(loads.iter().sum::<u32>(), 1000);
    }

    #[test]
    fn a_few_requests_of_one_key_stay_together() {
        let mut loads = [0u32; 4];
        for _ in 0..LEAST_CAPACITY as u32 {
            let index = pick(4, 7, |i| i as u64, |_| 1, |i| loads[i]).unwrap();
            loads[index] += 1;
        }
        assert_eq!(loads.iter().filter(|load| **load > 0).count(), 1, "{loads:?}");
    }

    #[test]
    fn nobody() {
        assert_eq!(pick(0, 7, |_| 1, |_| 1, |_| 0), None);
        assert_eq!(pick(2, 7, |_| 1, |_| 0, |_| 0), None);
    }
}
