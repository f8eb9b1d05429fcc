//! Successive halving: settings that score badly after a part of the steps get no more.

use serde::{Deserialize, Serialize};

/// Successive halving with an equal number of settings to begin with: after every rung, the best `1/factor` of them goes on.
///
/// Of `R` rungs, rung `k` (from 0) trains with `1/factor^(R-1-k)` of the steps, and the last with all of them. Of `n` settings,
/// `⌈n/factor^k⌉` reach it. So a rung costs about as much as the one before, and all of them `R/factor^(R-1)` of the grid.
///
/// Jamieson and Talwalkar, *Non-stochastic Best Arm Identification and Hyperparameter Optimization*, AISTATS 2016, arXiv:1502.07943; as in
/// scikit-learn's `HalvingGridSearchCV`, every rung trains anew, with its whole learning-rate schedule. Its asynchronous form (ASHA,
/// arXiv:1810.05934) promotes settings before a rung is full, so that no worker waits; runs of a cohort end together, so nothing waits here,
/// and what goes on depends on the scores alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halving {
    /// One setting in so many goes on.
    pub factor: usize,
    /// How often settings are judged.
    pub rungs: usize,
}

impl Halving {
    /// By what the steps of the last rung are divided at every rung; no number overflows, since what would is as good as infinite.
    pub fn divisors(&self) -> Vec<u64> {
        let of = |rung: usize| (self.factor as u64).saturating_pow((self.rungs - 1 - rung) as u32);
        (0..self.rungs).map(of).collect()
    }

    /// How many of `settings` reach every rung.
    pub fn counts(&self, settings: usize) -> Vec<usize> {
        let after = |count: &usize| Some(count.div_ceil(self.factor));
        std::iter::successors(Some(settings), after).take(self.rungs).collect()
    }

    /// Which of the settings of a rung go on, by their places in `means` and in that order: the best of each `factor`, the first of equals.
    /// None stands for a setting that failed, which never goes on. `sign` is 1 where more is better, else -1.
    pub fn promoted(&self, means: &[Option<f64>], sign: f64) -> Vec<usize> {
        let mut scored: Vec<(usize, f64)> =
            means.iter().enumerate().filter_map(|(at, mean)| Some((at, sign * (*mean)?))).collect();
        scored.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        scored.truncate(means.len().div_ceil(self.factor));
        let mut promoted: Vec<usize> = scored.into_iter().map(|(at, _)| at).collect();
        promoted.sort_unstable();
        promoted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIRDS: Halving = Halving { factor: 3, rungs: 3 };

    #[test]
    fn a_rung_has_a_third_of_the_settings_and_three_times_the_steps() {
        assert_eq!(THIRDS.divisors(), [9, 3, 1]);
        assert_eq!(THIRDS.counts(9), [9, 3, 1]);
        assert_eq!(THIRDS.counts(10), [10, 4, 2]);
        assert_eq!(Halving { factor: 100, rungs: 10 }.divisors()[9], 1);
        assert_eq!(Halving { factor: 100, rungs: 11 }.divisors()[0], u64::MAX);
    }

    #[test]
    fn the_best_go_on_and_the_first_of_equals_and_none_that_failed() {
        let means = [Some(0.5), None, Some(0.9), Some(0.5), Some(0.1), Some(0.5), Some(0.2)];
        assert_eq!(THIRDS.promoted(&means, 1.0), [0, 2, 3]);
        assert_eq!(THIRDS.promoted(&means, -1.0), [0, 4, 6]);
        assert_eq!(THIRDS.promoted(&[None, None, Some(0.1), None], 1.0), [2]);
        assert!(THIRDS.promoted(&[None, None], 1.0).is_empty());
    }
}
