//! The server with the fewest requests in flight for its weight.

/// The index below `len` with the least `(load + 1) / weight`, of those whose weight is not 0; among equals the first at
/// or after `start`, wrapping. `None` if every weight is 0.
///
/// A caller that counts up `start` from pick to pick gives idle servers their turns one after another.
pub fn pick(
    len: usize,
    start: usize,
    weight: impl Fn(usize) -> u32,
    load: impl Fn(usize) -> u32,
) -> Option<usize> {
    let start = if len == 0 { 0 } else { start % len };
    let mut best: Option<(usize, u64, u64)> = None;
    for index in (start..len).chain(0..start) {
        let weight = u64::from(weight(index));
        if weight == 0 {
            continue;
        }
        let load = u64::from(load(index)) + 1;
        // load / weight < best_load / best_weight, without a division.
        if best.is_none_or(|(_, best_load, best_weight)| load * best_weight < best_load * weight) {
            best = Some((index, load, weight));
        }
    }
    best.map(|(index, ..)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_least_loaded_for_its_weight() {
        for (weights, loads, start, picked) in [
            (&[][..], &[][..], 0, None),
            (&[0, 0], &[0, 0], 1, None),
            (&[1, 1], &[1, 0], 0, Some(1)),
            (&[1, 1], &[0, 0], 0, Some(0)),
            (&[1, 1], &[0, 0], 1, Some(1)),
            (&[1, 1], &[0, 0], 5, Some(1)),
            (&[3, 1], &[1, 0], 1, Some(0)),
            (&[3, 1], &[2, 0], 1, Some(1)),
            (&[3, 1, 0], &[3, 0, 0], 0, Some(1)),
        ] {
            assert_eq!(
                pick(weights.len(), start, |i| weights[i], |i| loads[i]),
                picked,
                "{weights:?} {loads:?}"
            );
        }
    }

    proptest! {
        /// Requests that never end are spread as the weights say: no two servers are more than one request apart.
        #[test]
        fn skew_is_bounded(weights in prop::collection::vec(0u32..5, 1..9), requests in 0usize..200) {
            let mut loads = vec![0u32; weights.len()];
            for request in 0..requests {
                if let Some(index) = pick(weights.len(), request, |i| weights[i], |i| loads[i]) {
                    loads[index] += 1;
                }
            }
            let shares = weights.iter().zip(&loads).filter(|(weight, _)| **weight > 0);
            for (weight, load) in shares.clone() {
                for (other_weight, other_load) in shares.clone() {
                    prop_assert!(load.saturating_sub(1) * other_weight <= (other_load + 1) * weight);
                }
            }
        }
    }
}
