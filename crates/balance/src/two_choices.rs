//! The better of two servers that chance chose: as good as looking at all of them, and many edges that look at the same
//! moment do not all run to one server.

use crate::units::{below, mixed};

/// Two different servers are drawn, each as often as its weight says (0: never); the one of less `cost` is picked, and
/// the first drawn among equals. `None` if every weight is 0.
///
/// `weight` may change while this looks: then one of those that were there is picked.
pub fn pick(
    len: usize,
    weight: impl Fn(usize) -> u32,
    cost: impl Fn(usize) -> f64,
    random: u64,
) -> Option<usize> {
    let total: u64 = (0..len).map(|index| u64::from(weight(index))).sum();
    let first = drawn(len, &weight, below(random, total), usize::MAX)?;
    let rest = total.saturating_sub(u64::from(weight(first)));
    if rest == 0 {
        return Some(first);
    }
    let Some(second) = drawn(len, &weight, below(mixed(random), rest), first) else { return Some(first) };
    Some(if cost(second) < cost(first) { second } else { first })
}

/// Who stands at place `at` if each server has as many places as its weight; `but` has none.
fn drawn(len: usize, weight: &impl Fn(usize) -> u32, mut at: u64, but: usize) -> Option<usize> {
    let mut last = None;
    for index in (0..len).filter(|index| *index != but) {
        let places = u64::from(weight(index));
        if places > 0 {
            last = Some(index);
        }
        if at < places {
            break;
        }
        at -= places;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_one_and_the_better_of_two() {
        for random in (0..64).map(mixed) {
            assert_eq!(pick(0, |_| 1, |_| 0.0, random), None);
            assert_eq!(pick(3, |_| 0, |_| 0.0, random), None);
            assert_eq!(pick(3, |i| u32::from(i == 2), |_| 9.0, random), Some(2));
            assert_eq!(pick(2, |_| 1, |i| [5.0, 1.0][i], random), Some(1));
            // The worst of three is never the better one of two.
            assert_ne!(pick(3, |_| 1, |i| [5.0, 9.0, 1.0][i], random), Some(1));
        }
    }

    #[test]
    fn among_equals_the_weights_are_kept() {
        let mut counts = [0u32; 3];
        for random in (0..12_000).map(mixed) {
            counts[pick(3, |i| [1, 2, 3][i], |_| 1.0, random).unwrap()] += 1;
        }
        for (count, expected) in counts.iter().zip([2000u32, 4000, 6000]) {
            assert!(count.abs_diff(expected) < 300, "{counts:?}");
        }
    }

    #[test]
    fn unending_requests_are_spread_nearly_evenly() {
        let mut loads = [0u32; 16];
        for random in (0..16_000).map(|n| mixed(n ^ 0xfeed)) {
            let index = pick(16, |_| 1, |i| f64::from(loads[i]), random).unwrap();
            loads[index] += 1;
        }
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        assert!(most - least <= 12, "{loads:?}");
    }
}
