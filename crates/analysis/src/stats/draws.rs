//! Portable random draws for bootstraps and permutations: the same numbers on every platform.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// A seeded stream of indices.
pub(super) struct Draws(ChaCha20Rng);

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }

    /// A number from 0 to `count - 1`. The bias of multiplying and shifting is below `count / 2^64`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.0.next_u64()) * count as u128) >> 64) as usize
    }

    /// A random order of `0..count`, by Fisher and Yates.
    pub(super) fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

/// The quantile of sorted values by linear interpolation, numpy's default. At least one value.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_even_and_orders_have_everything_once() {
        let mut draws = Draws::new(1);
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[draws.below(7)] += 1;
        }
        // Four standard errors of a count of 10,000.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 400), "{counts:?}");
        let mut order = draws.order(50);
        assert_ne!(order, (0..50).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn quantiles_are_numpys() {
        // numpy.quantile([1, 2, 4, 8], [0, 0.3, 0.975, 1])
        let sorted = [1.0, 2.0, 4.0, 8.0];
        for (share, want) in [(0.0, 1.0), (0.3, 1.9), (0.975, 7.7), (1.0, 8.0)] {
            assert!((quantile(&sorted, share) - want).abs() < 1e-12);
        }
    }
}
