//! Mean, spread and interval of one sample.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{StatsError, finite};

/// Coverage of every interval in this crate.
pub const CONFIDENCE: f64 = 0.95;

/// A sample of independent runs in five numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Number of values.
    pub n: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation with divisor `n - 1`; none for a single value.
    pub std: Option<f64>,
    /// Lower end of the two-sided 95% Student interval of the mean; none for a single value.
    pub ci_low: Option<f64>,
    /// Upper end of that interval.
    pub ci_high: Option<f64>,
}

impl Summary {
    /// `mean ± t(0.975, n - 1) · std / √n`. At least one value, all finite.
    pub fn of(values: &[f64]) -> Result<Self, StatsError> {
        finite(values)?;
        let n = values.len();
        if n == 0 {
            return Err(StatsError::TooFew { found: 0, needed: 1 });
        }
        let mean = mean(values);
        let std = (n > 1).then(|| standard_deviation(values, mean));
        let half = std.map(|std| student_quantile(n - 1) * std / (n as f64).sqrt());
        Ok(Self { n, mean, std, ci_low: half.map(|half| mean - half), ci_high: half.map(|half| mean + half) })
    }

    /// Half the width of the interval, as in `mean ± half`.
    pub fn half_width(&self) -> Option<f64> {
        Some((self.ci_high? - self.ci_low?) / 2.0)
    }

    /// The noise floor: 95% of the differences between two single runs that only their seed separates are smaller than
    /// `t(0.975, n - 1) · √2 · std`. A difference of two runs below it says nothing. None for a single value.
    pub fn noise_floor(&self) -> Option<f64> {
        let spread = self.std? * std::f64::consts::SQRT_2;
        Some(student_quantile(self.n - 1) * spread)
    }
}

/// The mean, taken around the first value: equal values give exactly that value, whatever their number.
pub(super) fn mean(values: &[f64]) -> f64 {
    let origin = values[0];
    origin + values.iter().map(|value| value - origin).sum::<f64>() / values.len() as f64
}

/// Square root of the sum of squared deviations over `n - 1`.
pub(super) fn standard_deviation(values: &[f64], mean: f64) -> f64 {
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

/// The quantile that leaves 2.5% above it, with `freedom` degrees of freedom.
pub(super) fn student_quantile(freedom: usize) -> f64 {
    student(freedom as f64).inverse_cdf(f64::midpoint(1.0, CONFIDENCE))
}

/// Student's distribution; `freedom` is above 0.
pub(super) fn student(freedom: f64) -> StudentsT {
    match StudentsT::new(0.0, 1.0, freedom) {
        Ok(distribution) => distribution,
        Err(error) => unreachable!("degrees of freedom are positive, but {freedom} gave: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use statrs::distribution::Normal;

    #[track_caller]
    fn close(got: f64, want: f64) {
        assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{got} is not {want}");
    }

    #[test]
    fn quantiles_are_the_tabulated_ones() {
        // scipy.stats.t.ppf(0.975, freedom), scipy 1.17.1
        for (freedom, want) in [
            (1, 12.706_204_736_174_694),
            (2, 4.302_652_729_749_462),
            (4, 2.776_445_105_197_793),
            (9, 2.262_157_162_798_205),
        ] {
            close(student_quantile(freedom), want);
        }
    }

    #[test]
    fn five_seeds_agree_with_scipy() {
        let summary = Summary::of(&[0.581, 0.602, 0.594, 0.617, 0.588]).unwrap();
        // numpy std(ddof=1) and scipy.stats.t.interval(0.95, 4, mean, std / sqrt(5)), scipy 1.17.1
        close(summary.mean, 0.5964);
        close(summary.std.unwrap(), 0.013_867_227_552_759_07);
        close(summary.ci_low.unwrap(), 0.579_181_562_792_839_7);
        close(summary.ci_high.unwrap(), 0.613_618_437_207_160_1);
    }

    #[test]
    fn one_value_has_no_spread_and_none_has_no_mean() {
        let one = Summary::of(&[0.5]).unwrap();
        assert_eq!(one, Summary { n: 1, mean: 0.5, std: None, ci_low: None, ci_high: None });
        assert_eq!((one.half_width(), one.noise_floor()), (None, None));
        assert_eq!(Summary::of(&[]), Err(StatsError::TooFew { found: 0, needed: 1 }));
    }

    #[test]
    fn equal_values_have_an_interval_of_width_zero() {
        let equal = Summary::of(&[0.1; 7]).unwrap();
        assert_eq!((equal.mean, equal.std, equal.half_width()), (0.1, Some(0.0), Some(0.0)));
    }

    #[test]
    fn two_more_runs_differ_by_less_than_the_noise_floor() {
        let normal = Normal::new(0.8, 0.02).unwrap();
        let mut state = 2;
        for n in [3, 5, 10] {
            let trials = 4000;
            let below = (0..trials).filter(|_| {
                let mut draw = || normal.inverse_cdf(uniform(&mut state));
                let values: Vec<f64> = (0..n).map(|_| draw()).collect();
                let (one, other) = (draw(), draw());
                (one - other).abs() < Summary::of(&values).unwrap().noise_floor().unwrap()
            });
            // As below.
            let share = below.count() as f64 / f64::from(trials);
            assert!((share - CONFIDENCE).abs() < 0.0138, "n = {n}: {share}");
        }
    }

    #[test]
    fn values_that_are_not_finite_are_refused() {
        assert!(matches!(Summary::of(&[0.5, f64::NAN]), Err(StatsError::NotFinite { index: 1, .. })));
        let message = Summary::of(&[f64::INFINITY]).unwrap_err().to_string();
        assert_eq!(message, "value 0 is `inf`, but only finite numbers can be averaged; leave failed runs out");
    }

    /// A fixed sequence of uniform numbers in (0, 1): `SplitMix64`, Steele et al. 2014.
    fn uniform(state: &mut u64) -> f64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    #[test]
    fn intervals_cover_the_true_mean_as_often_as_they_say() {
        let normal = Normal::new(0.8, 0.02).unwrap();
        let mut state = 1;
        for n in [2, 3, 5, 10] {
            let trials = 4000;
            let covered = (0..trials)
                .filter(|_| {
                    let values: Vec<f64> = (0..n).map(|_| normal.inverse_cdf(uniform(&mut state))).collect();
                    let summary = Summary::of(&values).unwrap();
                    summary.ci_low.unwrap() <= 0.8 && 0.8 <= summary.ci_high.unwrap()
                })
                .count();
            // Four standard errors of a binomial proportion at 0.95: 4 · √(0.95 · 0.05 / 4000) = 0.0138.
            let share = covered as f64 / f64::from(trials);
            assert!((share - CONFIDENCE).abs() < 0.0138, "n = {n}: {share}");
        }
    }

    proptest! {
        #[test]
        fn the_interval_contains_the_mean_and_order_does_not_matter(values in prop::collection::vec(-1e3_f64..1e3, 2..12)) {
            let summary = Summary::of(&values).unwrap();
            prop_assert!(summary.ci_low.unwrap() <= summary.mean && summary.mean <= summary.ci_high.unwrap());
            let mut reversed = values;
            reversed.reverse();
            let other = Summary::of(&reversed).unwrap();
            prop_assert!((summary.mean - other.mean).abs() < 1e-9 && (summary.std.unwrap() - other.std.unwrap()).abs() < 1e-9);
        }
    }
}
