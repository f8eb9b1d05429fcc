//! What a number of seeds can tell: the power of the two-sided t-test, the smallest difference it finds, the seeds that one needs.
//!
//! Under a true difference `δ`, the statistic `d / e` follows the noncentral t-distribution with noncentrality `δ / e`.

use statrs::distribution::ContinuousCDF;
use statrs::function::erf::erfc;
use statrs::function::gamma::ln_gamma;

use super::Estimate;
use super::sample::student;

/// The power that a study is planned for, by convention: Cohen, *Statistical Power Analysis for the Behavioral Sciences*, 1988.
pub const POWER: f64 = 0.8;

/// Most seeds that are counted: beyond, a difference is out of reach.
pub const MOST_SEEDS: usize = 1000;

/// Intervals of Simpson's rule, an even number: errors below 1e-8 at every level and degree of freedom that a table has.
const INTERVALS: usize = 4000;

/// The chance that the two-sided t-test at `level` finds a difference of `noncentrality` standard errors, with `freedom` degrees of
/// freedom (1 or more, fractions allowed).
///
/// `P(|T'| > c) = ∫ f(s) [Φ(δ - c s) + Φ(-δ - c s)] ds`, where `s² = χ²_ν / ν` has the density that belongs to `f`, by Simpson's rule
/// in `u = √s`, in which the integrand is smooth at 0 for every `ν ≥ 1`.
pub fn power(noncentrality: f64, freedom: f64, level: f64) -> f64 {
    let critical = student(freedom).inverse_cdf(1.0 - level / 2.0);
    beyond(critical, noncentrality, freedom)
}

fn beyond(critical: f64, noncentrality: f64, freedom: f64) -> f64 {
    let half = freedom / 2.0;
    let constant = 2.0_f64.ln() + half * half.ln() - ln_gamma(half);
    let last = (1.0 + 9.0 / freedom.sqrt()).sqrt();
    let step = last / INTERVALS as f64;
    let value = |i: usize| {
        let u = step * i as f64;
        let s = u * u;
        if s == 0.0 {
            return 0.0;
        }
        let density = (constant + (freedom - 1.0) * s.ln() - half * s * s).exp() * 2.0 * u;
        density * (normal(noncentrality - critical * s) + normal(-noncentrality - critical * s))
    };
    let weight = |i: usize| match i {
        0 | INTERVALS => 1.0,
        i if i % 2 == 1 => 4.0,
        _ => 2.0,
    };
    let sum: f64 = (0..=INTERVALS).map(|i| weight(i) * value(i)).sum();
    (sum * step / 3.0).clamp(0.0, 1.0)
}

/// The standard normal distribution function.
pub(super) fn normal(x: f64) -> f64 {
    0.5 * erfc(-x / std::f64::consts::SQRT_2)
}

impl Estimate {
    /// The smallest true difference that the two-sided t-test at `level` would have found with a power of [`POWER`], were the standard
    /// error the observed one: `δ · e`, where the noncentral t-distribution with noncentrality `δ` has 80% beyond the test's bounds.
    /// None for a single pair.
    pub fn detectable(&self, level: f64) -> Option<f64> {
        let critical = student(self.freedom.max(1.0)).inverse_cdf(1.0 - level / 2.0);
        let error = self.error?;
        let found = |noncentrality: f64| beyond(critical, noncentrality, self.freedom) >= POWER;
        let (mut low, mut high) = (0.0, critical + 2.0);
        while !found(high) {
            (low, high) = (high, 2.0 * high);
        }
        while high - low > 1e-7 * high {
            let middle = f64::midpoint(low, high);
            if found(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Some(high * error)
    }

    /// The fewest seeds with which the two-sided t-test at `level` finds a true `difference` with a power of [`POWER`], were the spread
    /// of a seed the observed one: with `m` seeds in place of `n` the standard error is `e √(n/m)` and the degrees of freedom are
    /// `ν (m - 1)/(n - 1)`. None for a single pair, and beyond [`MOST_SEEDS`].
    pub fn seeds_needed(&self, difference: f64, level: f64) -> Option<usize> {
        let (error, n) = (self.error?, self.n as f64);
        let enough = |seeds: usize| {
            let m = seeds as f64;
            let freedom = self.freedom * (m - 1.0) / (n - 1.0);
            let error = error * (n / m).sqrt();
            freedom >= 1.0 && power(difference.abs() / error, freedom, level) >= POWER
        };
        let (mut low, mut high) = (1, 2);
        while !enough(high) {
            if high >= MOST_SEEDS {
                return None;
            }
            (low, high) = (high, (2 * high).min(MOST_SEEDS));
        }
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if enough(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Some(high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_difference_the_power_is_the_level() {
        for (freedom, level) in [(1.0, 0.05), (2.0, 0.05), (2.5, 0.01), (9.0, 0.05 / 84.0), (40.0, 0.05)] {
            let got = power(0.0, freedom, level);
            assert!((got - level).abs() < 1e-8, "{freedom} {level}: {got}");
        }
    }

    #[test]
    fn power_rises_with_the_difference_and_the_smallest_one_has_four_fifths() {
        let estimate = Estimate::paired(&[0.9, 0.7, 0.8, 0.75], &[0.6, 0.62, 0.7, 0.6], 0.0).unwrap();
        for level in [0.05, 0.01, 0.001] {
            let least = estimate.detectable(level).unwrap();
            let at = |difference: f64| power(difference / estimate.error.unwrap(), 3.0, level);
            assert!((at(least) - POWER).abs() < 1e-5 && at(0.9 * least) < POWER && at(1.1 * least) > POWER);
        }
        assert_eq!(Estimate::paired(&[0.9], &[0.8], 0.0).unwrap().detectable(0.05), None);
    }

    #[test]
    fn the_seeds_that_one_needs_are_the_fewest() {
        let estimate = Estimate::paired(&[0.9, 0.7, 0.8, 0.75], &[0.6, 0.62, 0.7, 0.6], 0.0).unwrap();
        // As many seeds as there are find what these seeds would have found.
        let least = estimate.detectable(0.05).unwrap();
        assert_eq!(estimate.seeds_needed(least * 1.0001, 0.05), Some(4));
        assert_eq!(estimate.seeds_needed(least * 0.9999, 0.05), Some(5));
        assert_eq!(estimate.seeds_needed(1e-6, 0.05), None);
    }
}
