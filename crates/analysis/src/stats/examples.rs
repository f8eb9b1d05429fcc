//! Tests on examples: which of a split's examples two runs get right.

use statrs::distribution::{Binomial, Discrete, DiscreteCDF};

use super::StatsError;
use super::bootstrap::Resampled;
use super::draws::Draws;
use super::sample::student_quantile;

/// McNemar's test of two runs on the same examples: only those count that one of the two gets right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct McNemar {
    /// Examples that only the first gets right.
    pub first: u64,
    /// Examples that only the second gets right.
    pub second: u64,
    /// Exact two-sided p-value: twice the smaller binomial tail at one half, at most 1.
    pub p_exact: f64,
    /// Mid-p: the exact value less the probability of what was observed. The exact test is conservative, since its counts are whole;
    /// mid-p is close to its level. Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91, 2013.
    pub p_mid: f64,
}

impl McNemar {
    /// From whether each example was right, by run. At least one example, as many in both.
    pub fn of(first: &[bool], second: &[bool]) -> Result<Self, StatsError> {
        if first.len() != second.len() {
            return Err(StatsError::Unpaired { first: first.len(), second: second.len() });
        }
        if first.is_empty() {
            return Err(StatsError::TooFew { found: 0, needed: 1 });
        }
        let only = |one: &[bool], other: &[bool]| one.iter().zip(other).filter(|(a, b)| **a && !**b).count() as u64;
        Ok(Self::of_counts(only(first, second), only(second, first)))
    }

    /// From the numbers of examples that only one of the two gets right.
    pub fn of_counts(first: u64, second: u64) -> Self {
        let (count, least) = (first + second, first.min(second));
        if count == 0 || first == second {
            return Self { first, second, p_exact: 1.0, p_mid: 1.0 };
        }
        let binomial = match Binomial::new(0.5, count) {
            Ok(binomial) => binomial,
            Err(error) => unreachable!("one half is a probability: {error}"),
        };
        let p_exact = (2.0 * binomial.cdf(least)).min(1.0);
        Self { first, second, p_exact, p_mid: p_exact - binomial.pmf(least) }
    }
}

/// The mean over seeds of the difference in the share of right examples, with the 95% interval of a bootstrap over seeds and examples.
///
/// `first[seed][example]` and `second[seed][example]` say what was right; seeds and examples are paired, and the examples are the same for
/// all seeds. With `D[s, i]` in -1, 0, 1, a draw takes seeds with replacement, for the deviation of their mean, and examples with
/// replacement, for the deviation of theirs, and adds the two. Both would count what is neither the seed's nor the example's own (the
/// residual of the two-way layout), so the examples' part is narrowed by `√(1 - V_res / V_ex)`, where `V_ex` is the variance of the mean
/// over examples and `V_res = σ²_res / (S N)` the residual's share of it.
///
/// The seeds' part is widened by `√(S/(S-1)) · t(0.975, S-1) / z(0.975)`: the spread of `S` drawn values is too small by the first factor,
/// and normal tails are too short by the second (the expanded percentile interval of Hesterberg, *What Teachers Should Know About the
/// Bootstrap*, The American Statistician 69, 2015). A single seed leaves the examples alone to be drawn.
pub fn two_level(first: &[Vec<bool>], second: &[Vec<bool>], draws: usize, seed: u64) -> Result<Resampled, StatsError> {
    let examples = first.first().map_or(0, Vec::len);
    if first.len() != second.len() || first.iter().chain(second).any(|row| row.len() != examples) {
        return Err(StatsError::Unpaired { first: first.len(), second: second.len() });
    }
    if examples == 0 {
        return Err(StatsError::TooFew { found: 0, needed: 1 });
    }
    let Layout { seeds, examples, narrower } = Layout::of(first, second);
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let (value, wider) = (mean(&seeds), widening(seeds.len()));
    let mut rng = Draws::new(seed);
    let drawn =
        |of: &[f64], rng: &mut Draws| (0..of.len()).map(|_| of[rng.below(of.len())]).sum::<f64>() / of.len() as f64;
    let sample =
        |rng: &mut Draws| value + wider * (drawn(&seeds, rng) - value) + narrower * (drawn(&examples, rng) - value);
    let samples = (0..draws).map(|_| sample(&mut rng)).collect();
    Ok(Resampled::of(value, samples))
}

/// The two-way layout of differences by seed and example.
struct Layout {
    /// Means over examples, by seed.
    seeds: Vec<f64>,
    /// Means over seeds, by example.
    examples: Vec<f64>,
    /// What is left of the examples' deviations without the residual's share.
    narrower: f64,
}

impl Layout {
    fn of(first: &[Vec<bool>], second: &[Vec<bool>]) -> Self {
        let (s, n) = (first.len() as f64, first[0].len() as f64);
        let differs = |seed: usize, at: usize| f64::from(i8::from(first[seed][at]) - i8::from(second[seed][at]));
        let by_seed = |seed: usize| (0..first[0].len()).map(|at| differs(seed, at)).sum::<f64>() / n;
        let seeds: Vec<f64> = (0..first.len()).map(by_seed).collect();
        let by_example = |at: usize| (0..first.len()).map(|seed| differs(seed, at)).sum::<f64>() / s;
        let examples: Vec<f64> = (0..first[0].len()).map(by_example).collect();
        let square = |of: &[f64]| of.iter().map(|value| value * value).sum::<f64>();
        let value = seeds.iter().sum::<f64>() / s;
        let all: f64 =
            first.iter().zip(second).flat_map(|(a, b)| a.iter().zip(b)).filter(|(a, b)| a != b).count() as f64;
        let residual = all - n * square(&seeds) - s * square(&examples) + s * n * value * value;
        let spread = square(&examples) / n - value * value;
        let narrower = if s < 2.0 || n < 2.0 {
            1.0
        } else if spread <= 0.0 {
            0.0
        } else {
            let share = residual / ((s - 1.0) * (n - 1.0)) / s / spread;
            (1.0 - share).clamp(0.0, 1.0).sqrt()
        };
        Self { seeds, examples, narrower }
    }
}

/// `z(0.975)`, of the standard normal distribution.
const NORMAL_QUANTILE: f64 = 1.959_963_984_540_054;

fn widening(seeds: usize) -> f64 {
    if seeds < 2 {
        return 0.0;
    }
    let s = seeds as f64;
    (s / (s - 1.0)).sqrt() * student_quantile(seeds - 1) / NORMAL_QUANTILE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(right: usize, of: usize) -> Vec<bool> {
        (0..of).map(|i| i < right).collect()
    }

    #[test]
    fn examples_that_both_get_right_say_nothing() {
        let found = McNemar::of(&bits(90, 100), &bits(80, 100)).unwrap();
        assert_eq!((found.first, found.second), (10, 0));
        assert!((found.p_exact - 2.0 / 1024.0).abs() < 1e-15 && (found.p_mid - 1.0 / 1024.0).abs() < 1e-15);
        assert_eq!(McNemar::of(&bits(9, 10), &bits(9, 10)).unwrap().p_mid, 1.0);
        assert!(McNemar::of(&bits(9, 10), &bits(9, 11)).is_err() && McNemar::of(&[], &[]).is_err());
    }

    #[test]
    fn examples_alone_give_the_binomial_spread() {
        // One seed, 40 of 400 examples won and none lost: the interval is 0.1 ± 1.96 √(0.1 · 0.9 / 400).
        let found = two_level(&[bits(240, 400)], &[bits(200, 400)], 4000, 1).unwrap();
        let half = 1.96 * (0.1_f64 * 0.9 / 400.0).sqrt();
        assert!((found.value - 0.1).abs() < 1e-12);
        // Three standard errors of a simulated quantile, about 2.4 half-widths over the root of the draws.
        assert!((found.high - found.low - 2.0 * half).abs() < 0.08 * 2.0 * half, "{found:?}");
    }

    #[test]
    fn seeds_that_disagree_widen_the_interval() {
        let (one, other) = ([bits(240, 400), bits(200, 400), bits(220, 400)], [(); 3].map(|()| bits(200, 400)));
        let alone = two_level(&one[2..], &other[2..], 2000, 1).unwrap();
        let all = two_level(&one, &other, 2000, 1).unwrap();
        assert!(all.high - all.low > 2.0 * (alone.high - alone.low), "{alone:?} {all:?}");
        assert_eq!(two_level(&one, &other, 50, 7).unwrap(), two_level(&one, &other, 50, 7).unwrap());
        assert!(two_level(&one, &other[1..], 50, 7).is_err() && two_level(&[], &[], 50, 7).is_err());
    }
}
