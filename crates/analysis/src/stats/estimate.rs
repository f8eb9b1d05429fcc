//! A difference between two methods: how large, how sure, and what follows from it.
//!
//! Everything that is decided about a difference (whether it is there, whether it is negligible, whether it reaches a margin) comes from
//! the same three numbers: the difference, its standard error, and the degrees of freedom of that error.

use statrs::distribution::ContinuousCDF;

use super::sample::{mean, standard_deviation, student};
use super::{CONFIDENCE, StatsError, finite};

/// Differences closer together than this share of the values are taken as equal: subtracting leaves rounding errors of about 1e-16.
const ROUNDING: f64 = 1e-12;

/// A mean difference, first minus second, with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Number of pairs; of a stratified estimate, the smallest among the strata.
    pub n: usize,
    /// The mean difference.
    pub difference: f64,
    /// Its standard error; none for a single pair.
    pub error: Option<f64>,
    /// Degrees of freedom of the standard error, with a fraction where they are Satterthwaite's.
    pub freedom: f64,
    /// Whether the standard error was raised to what the resolution of the values allows.
    pub is_raised: bool,
    /// Standard errors up to this are rounding errors.
    rounding: f64,
}

impl Estimate {
    /// Student's paired estimate: the mean of `first[i] - second[i]` and `s / √n`, with `n - 1` degrees of freedom.
    ///
    /// `resolution` is the step in which the values can move, `1 / N` for a share of `N` examples, and 0 where there is none. The standard
    /// deviation `s` is at least half of it. Without this floor, three seeds that happen to agree within less than an example make
    /// differences of chance look certain: at a score of 98% of 480 rows, Matthews' correlation is then told apart from itself six times
    /// too often at the levels that Holm's correction asks for.
    pub fn paired(first: &[f64], second: &[f64], resolution: f64) -> Result<Self, StatsError> {
        let differences = differences(first, second)?;
        let n = differences.len();
        let difference = mean(&differences);
        let rounding = rounding(first, second);
        if n == 1 {
            return Ok(Self { n, difference, error: None, freedom: 0.0, is_raised: false, rounding });
        }
        let (spread, least) = (standard_deviation(&differences, difference), resolution / 2.0);
        let error = spread.max(least) / (n as f64).sqrt();
        Ok(Self { n, difference, error: Some(error), freedom: (n - 1) as f64, is_raised: spread < least, rounding })
    }

    /// A mean of `n` values and `s / √n`, with `n - 1` degrees of freedom.
    pub fn of(values: &[f64]) -> Result<Self, StatsError> {
        Self::paired(values, &vec![0.0; values.len()], 0.0)
    }

    /// What a 95% Student interval of `n - 1` degrees of freedom was made of; none below two values.
    pub fn of_interval(n: usize, difference: f64, [low, high]: [f64; 2]) -> Option<Self> {
        let freedom = n.checked_sub(1).filter(|freedom| *freedom > 0)? as f64;
        let error = (high - low) / 2.0 / student(freedom).inverse_cdf(f64::midpoint(1.0, CONFIDENCE));
        let rounding = ROUNDING * low.abs().max(high.abs());
        Some(Self { n, difference, error: Some(error), freedom, is_raised: false, rounding })
    }

    /// The mean of the strata's differences, whose errors are independent: `d = Σ d_t / T`, `e² = Σ e_t² / T²`, and Satterthwaite's
    /// degrees of freedom `(Σ e_t²)² / Σ (e_t⁴ / ν_t)`. None without strata.
    ///
    /// Satterthwaite, *An Approximate Distribution of Estimates of Variance Components*, Biometrics Bulletin 2, 1946.
    pub fn stratified(strata: &[Self]) -> Option<Self> {
        let count = strata.len() as f64;
        let n = strata.iter().map(|stratum| stratum.n).min()?;
        let difference = strata.iter().map(|stratum| stratum.difference).sum::<f64>() / count;
        let rounding = strata.iter().map(|stratum| stratum.rounding).fold(0.0, f64::max);
        let is_raised = strata.iter().any(|stratum| stratum.is_raised);
        let Some(errors) = strata.iter().map(|stratum| stratum.error).collect::<Option<Vec<f64>>>() else {
            return Some(Self { n, difference, error: None, freedom: 0.0, is_raised, rounding });
        };
        let squares: f64 = errors.iter().map(|error| error.powi(2)).sum();
        let fourths: f64 = errors.iter().zip(strata).map(|(error, stratum)| error.powi(4) / stratum.freedom).sum();
        let freedom =
            if fourths > 0.0 { squares.powi(2) / fourths } else { strata.iter().map(|stratum| stratum.freedom).sum() };
        Some(Self { n, difference, error: Some(squares.sqrt() / count), freedom, is_raised, rounding })
    }

    /// The estimate of the difference times 1 or -1.
    pub(crate) fn times(self, sign: f64) -> Self {
        Self { difference: self.difference * sign, ..self }
    }

    /// The two-sided 95% Student interval of the difference; none for a single pair.
    pub fn interval(&self) -> Option<[f64; 2]> {
        let half = self.error? * student(self.freedom).inverse_cdf(f64::midpoint(1.0, CONFIDENCE));
        Some([self.difference - half, self.difference + half])
    }

    /// Two-sided p-value of the hypothesis that the true difference is `value`.
    ///
    /// None for a single pair, and where all differences are equal but not `value`: without spread the test has no answer. 1 where all
    /// are `value`.
    pub fn p_of(&self, value: f64) -> Option<f64> {
        let (error, away) = (self.error?, (self.difference - value).abs());
        if error > self.rounding {
            Some((2.0 * student(self.freedom).sf(away / error)).min(1.0))
        } else {
            (away <= self.rounding).then_some(1.0)
        }
    }

    /// P-value of the two one-sided tests (TOST) of the hypothesis that the true difference lies `margin` or more from 0: the larger of
    /// the two, `P(T ≥ (margin - |d|) / e)`. None where [`p_of`](Self::p_of) has no answer.
    ///
    /// Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987.
    pub fn p_equivalent(&self, margin: f64) -> Option<f64> {
        let error = self.error.filter(|error| *error > self.rounding)?;
        Some(student(self.freedom).sf((margin - self.difference.abs()) / error))
    }
}

/// What two values can differ by without differing.
pub(super) fn rounding(first: &[f64], second: &[f64]) -> f64 {
    let largest = |values: &[f64]| values.iter().fold(0.0, |largest: f64, value| value.abs().max(largest));
    ROUNDING * largest(first).max(largest(second))
}

/// `first[i] - second[i]`; at least one pair, all finite.
pub(super) fn differences(first: &[f64], second: &[f64]) -> Result<Vec<f64>, StatsError> {
    if first.len() != second.len() {
        return Err(StatsError::Unpaired { first: first.len(), second: second.len() });
    }
    if first.is_empty() {
        return Err(StatsError::TooFew { found: 0, needed: 1 });
    }
    finite(first)?;
    finite(second)?;
    Ok(first.iter().zip(second).map(|(one, other)| one - other).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIVE: ([f64; 5], [f64; 5]) = ([0.581, 0.602, 0.594, 0.617, 0.588], [0.570, 0.598, 0.596, 0.601, 0.580]);
    const EIGHT: ([f64; 8], [f64; 8]) =
        ([3.1, 2.9, 4.0, 5.2, 1.1, 2.2, 3.3, 4.8], [2.0, 3.0, 3.5, 4.1, 1.5, 1.9, 2.2, 4.0]);

    #[track_caller]
    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-9, "{got} is not {want}");
    }

    fn plain(first: &[f64], second: &[f64]) -> Estimate {
        Estimate::paired(first, second, 0.0).unwrap()
    }

    #[test]
    fn t_tests_agree_with_scipy() {
        // scipy.stats.ttest_rel with confidence_interval(), scipy 1.17.1
        let five = plain(&FIVE.0, &FIVE.1);
        close(five.p_of(0.0).unwrap(), 0.072_860_254_850_316_08);
        let [low, high] = five.interval().unwrap();
        close(low, -0.001_094_288_661_893_633);
        close(high, 0.015_894_288_661_893_647);
        close(plain(&EIGHT.0, &EIGHT.1).p_of(0.0).unwrap(), 0.031_577_091_602_146_9);
    }

    #[test]
    fn differences_without_spread_have_no_t_test() {
        // 0.9 - 0.8 and 0.8 - 0.7 differ by rounding only.
        let equal = plain(&[0.9, 0.8, 0.7], &[0.8, 0.7, 0.6]);
        assert_eq!((equal.p_of(0.0), equal.p_equivalent(0.2)), (None, None));
        close(equal.difference, 0.1);
        assert_eq!(plain(&[0.9, 0.8], &[0.9, 0.8]).p_of(0.0), Some(1.0));
        let single = plain(&[0.9], &[0.8]);
        assert_eq!((single.p_of(0.0), single.interval()), (None, None));
    }

    #[test]
    fn an_interval_has_the_numbers_that_it_was_made_of() {
        let whole = Estimate::of(&FIVE.0).unwrap();
        let back = Estimate::of_interval(5, whole.difference, whole.interval().unwrap()).unwrap();
        close(back.error.unwrap(), whole.error.unwrap());
        // scipy.stats.ttest_1samp(five, 0.6).pvalue
        close(whole.p_of(0.6).unwrap(), 0.592_713_888_577_865_6);
        close(back.p_of(0.6).unwrap(), whole.p_of(0.6).unwrap());
        assert_eq!(Estimate::of_interval(1, 0.5, [0.4, 0.6]), None);
    }

    #[test]
    fn a_spread_below_half_an_example_is_half_an_example() {
        let (first, second) = ([0.9, 0.8, 0.7], [0.8, 0.7, 0.6]);
        let raised = Estimate::paired(&first, &second, 1.0 / 480.0).unwrap();
        assert!(raised.is_raised);
        close(raised.error.unwrap(), 0.5 / 480.0 / 3.0_f64.sqrt());
        assert!(raised.p_of(0.0).unwrap() < 0.001);
        let spread = Estimate::paired(&[0.9, 0.8, 0.6], &second, 1.0 / 480.0).unwrap();
        assert_eq!(spread, plain(&[0.9, 0.8, 0.6], &second));
    }

    #[test]
    fn equivalence_is_the_larger_of_two_one_sided_tests() {
        let estimate = plain(&FIVE.0, &FIVE.1);
        let t = student(4.0);
        let error = estimate.error.unwrap();
        let above = t.sf((estimate.difference + 0.02) / error);
        let below = t.cdf((estimate.difference - 0.02) / error);
        close(estimate.p_equivalent(0.02).unwrap(), above.max(below));
        // A margin that the interval's 90% end just touches.
        let end = estimate.difference + t.inverse_cdf(0.95) * error;
        close(estimate.p_equivalent(end).unwrap(), 0.05);
    }

    #[test]
    fn strata_of_equal_spread_add_their_degrees_of_freedom() {
        let parts = [plain(&FIVE.0, &FIVE.1), plain(&FIVE.1, &FIVE.0)];
        let both = Estimate::stratified(&parts).unwrap();
        close(both.freedom, 8.0);
        close(both.difference, 0.0);
        close(both.error.unwrap(), parts[0].error.unwrap() / 2.0_f64.sqrt());
        // One stratum decides the error of two where the other has none.
        let still = plain(&[0.5; 5], &[0.4; 5]);
        close(Estimate::stratified(&[parts[0], still]).unwrap().freedom, 4.0);
        assert_eq!(Estimate::stratified(&parts[..1]), Some(parts[0]));
        assert_eq!(Estimate::stratified(&[]), None);
        assert_eq!(Estimate::stratified(&[parts[0], plain(&[1.0], &[0.0])]).unwrap().error, None);
    }

    #[test]
    fn samples_that_cannot_be_tested_are_refused() {
        assert_eq!(Estimate::paired(&[1.0], &[], 0.0), Err(StatsError::Unpaired { first: 1, second: 0 }));
        assert!(matches!(Estimate::paired(&[f64::NAN], &[0.0], 0.0), Err(StatsError::NotFinite { .. })));
    }

    proptest! {
        #[test]
        fn exchanging_the_samples_turns_the_difference_round(pairs in prop::collection::vec((-1.0..1.0, -1.0..1.0), 2..10)) {
            let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
            let (there, back) = (plain(&first, &second), plain(&second, &first));
            prop_assert!((there.difference + back.difference).abs() < 1e-12);
            prop_assert!((there.p_of(0.0).unwrap() - back.p_of(0.0).unwrap()).abs() < 1e-9);
            prop_assert!((there.p_equivalent(0.5).unwrap() - back.p_equivalent(0.5).unwrap()).abs() < 1e-9);
        }

        #[test]
        fn the_order_of_the_pairs_does_not_matter(pairs in prop::collection::vec((-1.0..1.0, -1.0..1.0), 2..10)) {
            let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
            let (first_back, second_back): (Vec<f64>, Vec<f64>) = pairs.iter().rev().copied().unzip();
            let (one, other) = (plain(&first, &second), plain(&first_back, &second_back));
            prop_assert!((one.p_of(0.0).unwrap() - other.p_of(0.0).unwrap()).abs() < 1e-9);
        }
    }
}
