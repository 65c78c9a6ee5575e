//! Smooth weighted round robin without a lock: the order of one whole turn is made once, then walked by a
//! [`RoundRobin`](crate::RoundRobin) like any other.
//!
//! Each server stands in the order as often as its weight says, as far apart as can be. Servers that are skipped take
//! only their own places out, so those that remain keep their exact shares.

/// The largest weight.
pub const WEIGHT_MAX: u32 = 256;

/// Places of one turn. If the weights together ask for more, each is made smaller in proportion, to at least one.
const SLOTS_MAX: u64 = 16 * 1024;

/// Who is when: one whole turn.
#[derive(Debug)]
pub struct Schedule {
    /// Indexes of servers.
    slots: Box<[u32]>,
}

impl Schedule {
    /// The turn of servers with these weights; each is taken as 1 to [`WEIGHT_MAX`].
    ///
    /// It is the order of nginx: every step each server's credit grows by its weight, who has most goes next and pays
    /// the sum of all weights.
    pub fn new(weights: &[u32]) -> Self {
        let weights = reduced(weights);
        let total: i64 = weights.iter().sum();
        let mut credits = vec![0i64; weights.len()];
        let mut slots = Vec::with_capacity(usize::try_from(total).unwrap_or_default());
        for _ in 0..total {
            let mut most = 0;
            for index in 0..weights.len() {
                credits[index] += weights[index];
                if credits[index] > credits[most] {
                    most = index;
                }
            }
            credits[most] -= total;
            slots.push(u32::try_from(most).unwrap_or(u32::MAX));
        }
        Self { slots: slots.into() }
    }

    /// Places in the turn.
    pub fn places(&self) -> usize {
        self.slots.len()
    }

    /// The server at a place below [`Schedule::places`].
    pub fn owner(&self, slot: usize) -> usize {
        self.slots[slot] as usize
    }
}

/// The same proportions in the smallest numbers, few enough for [`SLOTS_MAX`].
fn reduced(weights: &[u32]) -> Vec<i64> {
    let clamped = || weights.iter().map(|weight| u64::from((*weight).clamp(1, WEIGHT_MAX)));
    let total: u64 = clamped().sum();
    let few = |weight: u64| match total > SLOTS_MAX {
        true => (weight * SLOTS_MAX / total).max(1),
        false => weight,
    };
    let divisor = clamped().map(few).fold(0, greatest_common_divisor).max(1);
    // At most `WEIGHT_MAX`.
    clamped().map(|weight| (few(weight) / divisor) as i64).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turn(weights: &[u32]) -> Vec<usize> {
        let schedule = Schedule::new(weights);
        (0..schedule.places()).map(|slot| schedule.owner(slot)).collect()
    }

    #[test]
    fn turns() {
        assert_eq!(turn(&[]), [0usize; 0]);
        assert_eq!(turn(&[7]), [0]);
        assert_eq!(turn(&[0, 0]), [0, 1]);
        assert_eq!(turn(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turn(&[10, 20]), [1, 0, 1]);
    }

    #[test]
    fn a_turn_is_bounded() {
        let mut weights = vec![WEIGHT_MAX; 1000];
        weights[0] = 1;
        let schedule = Schedule::new(&weights);
        assert!(schedule.places() as u64 <= SLOTS_MAX + 1000, "{}", schedule.places());
        let mut seen = vec![false; 1000];
        (0..schedule.places()).for_each(|slot| seen[schedule.owner(slot)] = true);
        assert!(seen.iter().all(|seen| *seen));
    }

    proptest! {
        /// Whole turns are exact, and at no point within one is a server further from its share than its neighbours
        /// can have pushed it: one place for each of them.
        #[test]
        fn shares_are_exact_and_smooth(weights in prop::collection::vec(1u32..=20, 1..8)) {
            let order = turn(&weights);
            let total: u32 = weights.iter().sum();
            let mut counts = vec![0u32; weights.len()];
            for (step, owner) in order.iter().enumerate() {
                counts[*owner] += 1;
                for (count, weight) in counts.iter().zip(&weights) {
                    let share = (step + 1) as f64 * f64::from(*weight) / f64::from(total);
                    prop_assert!((f64::from(*count) - share).abs() <= weights.len() as f64, "{order:?}");
                }
            }
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert_eq!(count * total, weight * order.len() as u32);
            }
        }
    }
}
