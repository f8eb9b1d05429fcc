//! Tests on differences between runs that share a seed.

use statrs::distribution::ContinuousCDF;

use super::sample::{mean, standard_deviation, student, student_quantile};
use super::{StatsError, finite};

/// Most pairs whose sign patterns are enumerated: 2^16 sums take less than a millisecond.
pub const LARGEST_EXACT: usize = 16;

/// Differences closer together than this share of the values are taken as equal: subtracting leaves rounding errors of about 1e-16.
const ROUNDING: f64 = 1e-12;

/// The outcome of a paired t-test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedTest {
    /// Number of pairs.
    pub n: usize,
    /// Mean difference, first minus second.
    pub difference: f64,
    /// Lower end of the 95% Student interval of the mean difference; none for a single pair.
    pub ci_low: Option<f64>,
    /// Upper end of that interval.
    pub ci_high: Option<f64>,
    /// Two-sided p-value. None for a single pair, and where all differences are equal but not zero: without spread the test has no
    /// answer. 1 where all are zero.
    pub p: Option<f64>,
}

/// Student's t-test on the differences `first[i] - second[i]`. At least one pair, all finite.
pub fn paired_t_test(first: &[f64], second: &[f64]) -> Result<PairedTest, StatsError> {
    let differences = differences(first, second)?;
    let n = differences.len();
    let difference = mean(&differences);
    if n == 1 {
        return Ok(PairedTest { n, difference, ci_low: None, ci_high: None, p: None });
    }
    let error = standard_deviation(&differences, difference) / (n as f64).sqrt();
    let rounding = ROUNDING * largest(first).max(largest(second));
    let half = student_quantile(n - 1) * error;
    let p = if error > rounding {
        Some(2.0 * student(n - 1).sf((difference / error).abs()))
    } else if difference.abs() <= rounding {
        Some(1.0)
    } else {
        None
    };
    Ok(PairedTest { n, difference, ci_low: Some(difference - half), ci_high: Some(difference + half), p })
}

/// The exact two-sided sign-flip permutation test of the mean difference: the share of all `2^n` sign patterns whose sum is at least
/// as far from zero as the observed one.
///
/// Assumes only that under the null each difference is symmetric about zero. The smallest value it can give is `2 / 2^n`, so fewer
/// than six pairs never reach 0.05.
pub fn sign_flip_test(first: &[f64], second: &[f64]) -> Result<f64, StatsError> {
    let differences = differences(first, second)?;
    let n = differences.len();
    if n > LARGEST_EXACT {
        return Err(StatsError::TooMany { found: n });
    }
    let sum = |pattern: u32| -> f64 {
        let signed =
            differences.iter().enumerate().map(|(i, value)| if pattern >> i & 1 == 1 { -value } else { *value });
        signed.sum::<f64>().abs()
    };
    // Patterns whose sums differ from the observed one by rounding are ties, and count.
    let observed = sum(0) - ROUNDING * largest(first).max(largest(second)) * n as f64;
    let patterns = 1_u32 << n;
    let extreme = (0..patterns).filter(|pattern| sum(*pattern) >= observed).count();
    Ok(extreme as f64 / f64::from(patterns))
}

fn differences(first: &[f64], second: &[f64]) -> Result<Vec<f64>, StatsError> {
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

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
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

    #[test]
    fn t_tests_agree_with_scipy() {
        // scipy.stats.ttest_rel with confidence_interval(), scipy 1.17.1
        let five = paired_t_test(&FIVE.0, &FIVE.1).unwrap();
        close(five.p.unwrap(), 0.072_860_254_850_316_08);
        close(five.ci_low.unwrap(), -0.001_094_288_661_893_633);
        close(five.ci_high.unwrap(), 0.015_894_288_661_893_647);
        close(paired_t_test(&EIGHT.0, &EIGHT.1).unwrap().p.unwrap(), 0.031_577_091_602_146_9);
    }

    #[test]
    fn sign_flip_tests_agree_with_scipy() {
        // scipy.stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=inf), scipy 1.17.1
        close(sign_flip_test(&FIVE.0, &FIVE.1).unwrap(), 0.125);
        close(sign_flip_test(&EIGHT.0, &EIGHT.1).unwrap(), 0.054_687_5);
    }

    #[test]
    fn differences_of_one_sign_reach_the_smallest_value() {
        for n in 1..=LARGEST_EXACT {
            let first: Vec<f64> = (1..=n).map(|i| 0.1 * i as f64).collect();
            close(sign_flip_test(&first, &vec![0.0; n]).unwrap(), 2.0 / f64::from(1_u32 << n));
        }
    }

    #[test]
    fn differences_without_spread_have_no_t_test() {
        // 0.9 - 0.8 and 0.8 - 0.7 differ by rounding only.
        let equal = paired_t_test(&[0.9, 0.8, 0.7], &[0.8, 0.7, 0.6]).unwrap();
        assert_eq!(equal.p, None);
        close(equal.difference, 0.1);
        assert_eq!(paired_t_test(&[0.9, 0.8], &[0.9, 0.8]).unwrap().p, Some(1.0));
        close(sign_flip_test(&[0.9, 0.8], &[0.9, 0.8]).unwrap(), 1.0);
        let single = paired_t_test(&[0.9], &[0.8]).unwrap();
        assert_eq!((single.p, single.ci_low), (None, None));
    }

    #[test]
    fn samples_that_cannot_be_tested_are_refused() {
        assert_eq!(paired_t_test(&[1.0], &[]), Err(StatsError::Unpaired { first: 1, second: 0 }));
        assert_eq!(sign_flip_test(&[], &[]), Err(StatsError::TooFew { found: 0, needed: 1 }));
        assert_eq!(sign_flip_test(&[0.0; 17], &[0.0; 17]), Err(StatsError::TooMany { found: 17 }));
        assert!(matches!(paired_t_test(&[f64::NAN], &[0.0]), Err(StatsError::NotFinite { .. })));
    }

    proptest! {
        #[test]
        fn exchanging_the_samples_turns_the_difference_round(pairs in prop::collection::vec((-1.0..1.0, -1.0..1.0), 2..10)) {
            let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
            let there = paired_t_test(&first, &second).unwrap();
            let back = paired_t_test(&second, &first).unwrap();
            prop_assert!((there.difference + back.difference).abs() < 1e-12);
            prop_assert!((there.p.unwrap() - back.p.unwrap()).abs() < 1e-9);
            prop_assert_eq!(sign_flip_test(&first, &second), sign_flip_test(&second, &first));
        }

        #[test]
        fn the_order_of_the_pairs_does_not_matter(pairs in prop::collection::vec((-1.0..1.0, -1.0..1.0), 2..10)) {
            let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
            let (first_back, second_back): (Vec<f64>, Vec<f64>) = pairs.iter().rev().copied().unzip();
            let (one, other) = (paired_t_test(&first, &second).unwrap(), paired_t_test(&first_back, &second_back).unwrap());
            prop_assert!((one.p.unwrap() - other.p.unwrap()).abs() < 1e-9);
            prop_assert_eq!(sign_flip_test(&first, &second), sign_flip_test(&first_back, &second_back));
        }
    }
}
