//! The exact sign-flip test on differences between runs that share a seed.

use super::StatsError;
use super::estimate::{differences, rounding};

/// Most pairs whose sign patterns are enumerated: 2^16 sums take less than a millisecond.
pub const LARGEST_EXACT: usize = 16;

/// Fewest pairs that can reach the 5% level: the smallest value is `2 / 2^n`.
pub const SMALLEST_EXACT: usize = 6;

/// The exact two-sided sign-flip permutation test of the mean difference: the share of all `2^n` sign patterns whose sum is at least
/// as far from zero as the observed one.
///
/// Assumes only that under the null each difference is symmetric about zero. The smallest value it can give is `2 / 2^n`, so fewer
/// than [`SMALLEST_EXACT`] pairs never reach 0.05.
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
    let observed = sum(0) - rounding(first, second) * n as f64;
    let patterns = 1_u32 << n;
    let extreme = (0..patterns).filter(|pattern| sum(*pattern) >= observed).count();
    Ok(extreme as f64 / f64::from(patterns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-9, "{got} is not {want}");
    }

    #[test]
    fn sign_flip_tests_agree_with_scipy() {
        // scipy.stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=inf), scipy 1.17.1
        let five = ([0.581, 0.602, 0.594, 0.617, 0.588], [0.570, 0.598, 0.596, 0.601, 0.580]);
        let eight = ([3.1, 2.9, 4.0, 5.2, 1.1, 2.2, 3.3, 4.8], [2.0, 3.0, 3.5, 4.1, 1.5, 1.9, 2.2, 4.0]);
        close(sign_flip_test(&five.0, &five.1).unwrap(), 0.125);
        close(sign_flip_test(&eight.0, &eight.1).unwrap(), 0.054_687_5);
    }

    #[test]
    fn differences_of_one_sign_reach_the_smallest_value() {
        for n in 1..=LARGEST_EXACT {
            let first: Vec<f64> = (1..=n).map(|i| 0.1 * i as f64).collect();
            close(sign_flip_test(&first, &vec![0.0; n]).unwrap(), 2.0 / f64::from(1_u32 << n));
        }
        let smallest = |n: usize| 2.0 / f64::from(1_u32 << n);
        assert!(smallest(SMALLEST_EXACT) < 0.05 && smallest(SMALLEST_EXACT - 1) > 0.05);
    }

    #[test]
    fn samples_that_cannot_be_tested_are_refused() {
        close(sign_flip_test(&[0.9, 0.8], &[0.9, 0.8]).unwrap(), 1.0);
        assert_eq!(sign_flip_test(&[], &[]), Err(StatsError::TooFew { found: 0, needed: 1 }));
        assert_eq!(sign_flip_test(&[0.0; 17], &[0.0; 17]), Err(StatsError::TooMany { found: 17 }));
    }

    proptest! {
        #[test]
        fn neither_exchange_nor_order_matters(pairs in prop::collection::vec((-1.0..1.0, -1.0..1.0), 2..10)) {
            let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
            let (first_back, second_back): (Vec<f64>, Vec<f64>) = pairs.iter().rev().copied().unzip();
            prop_assert_eq!(sign_flip_test(&first, &second), sign_flip_test(&second, &first));
            prop_assert_eq!(sign_flip_test(&first, &second), sign_flip_test(&first_back, &second_back));
        }
    }
}
