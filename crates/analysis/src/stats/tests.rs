//! What holds at the edges of the statistics: closed forms, and formulas written out.

use super::draws::Draws;
use super::*;

#[test]
fn every_order_of_three_comes_equally_often() {
    let mut draws = Draws::new(1);
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..6000 {
        *counts.entry(draws.order(3)).or_insert(0_u32) += 1;
    }
    // Four standard errors of a count of 1000 among 6000.
    assert!(counts.len() == 6 && counts.values().all(|count| count.abs_diff(1000) < 116), "{counts:?}");
}

#[test]
fn differences_that_only_rounding_separates_have_no_test() {
    // The sums round to about 1e-10, which is no spread beside values of a million.
    let (first, second) = ([1e6 + 0.1, 2e6 + 0.1, 3e6 + 0.1], [1e6, 2e6, 3e6]);
    let rounded = Estimate::paired(&first, &second, 0.0).unwrap();
    let narrow = Estimate::of_interval(5, 1e6, [1e6 - 1e-7, 1e6 + 1e-7]).unwrap();
    for estimate in [rounded, narrow] {
        assert!(estimate.error.is_some_and(|error| error > 0.0), "{estimate:?}");
        assert_eq!((estimate.p_of(0.0), estimate.p_equivalent(1e7)), (None, None), "{estimate:?}");
        assert_eq!(estimate.p_of(estimate.difference), Some(1.0), "{estimate:?}");
    }
    // Nothing but zeros has neither spread nor rounding, and without a resolution there is nothing to raise.
    let zeros = Estimate::paired(&[0.0; 3], &[0.0; 3], 0.0).unwrap();
    assert_eq!((zeros.error, zeros.p_equivalent(0.1), zeros.is_raised), (Some(0.0), None, false));
}

#[test]
fn a_difference_within_rounding_is_a_tie_of_the_sign_flip_test() {
    // The last one is as large as the rounding of ones: with it turned round, the sum is still the observed one.
    let first = [1.0, 1.0, 1.0, 1.0, 1.0, 1e-12];
    assert_eq!(sign_flip_test(&first, &[0.0; 6]), Ok(4.0 / 64.0));
    // Ten times as large, it is a difference.
    let first = [1.0, 1.0, 1.0, 1.0, 1.0, 1e-11];
    assert_eq!(sign_flip_test(&first, &[0.0; 6]), Ok(2.0 / 64.0));
}

/// Two differences with mean 1 and standard error 1.
fn two() -> Estimate {
    Estimate::of(&[0.0, 2.0]).unwrap()
}

#[test]
fn without_a_difference_the_power_is_the_level_at_many_seeds_as_well() {
    // As many degrees of freedom as ten tasks of a thousand seeds have.
    for level in [0.05, 0.001] {
        assert!((power(0.0, 1e4, level) - level).abs() < 1e-8, "{level}: {}", power(0.0, 1e4, level));
    }
}

#[test]
fn the_smallest_difference_of_many_seeds_is_the_sum_of_two_quantiles() {
    let values: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
    let estimate = Estimate::of(&values).unwrap();
    let least = estimate.detectable(0.05).unwrap() / estimate.error.unwrap();
    // Student's at 0.975 and 0.8 with 99 degrees of freedom: the noncentral t is the shifted one but for a share of about 1/n.
    assert!((least - (1.984_216_95 + 0.845_267_03)).abs() < 0.01, "{least}");
}

#[test]
fn the_smallest_difference_of_two_seeds_at_a_low_level_is_a_quantile_of_their_spread() {
    // The critical value is Cauchy's, `cot(π level/2)`. So many standard errors drown the noise of the mean, and the difference is found
    // where the spread, which is half-normal, stays below its quantile at 0.8.
    let critical = (std::f64::consts::PI * 0.5e-7).tan().recip();
    let least = two().detectable(1e-7).unwrap();
    // A step of Simpson's rule at the edge is worth 0.2% of it.
    assert!((least / (critical * 1.281_551_565_544_600_4) - 1.0).abs() < 0.01, "{least}");
}

#[test]
fn any_difference_is_found_where_the_level_is_above_the_power() {
    assert_eq!(two().detectable(0.9), Some(0.0));
}

#[test]
fn a_range_is_never_below_zero() {
    // So many methods lie that close with a probability that is no number.
    assert!(studentized_range_quantile(400, 0.0) < 1e-9);
}

#[test]
fn tasks_that_always_go_apart_have_a_p_of_one() {
    let rows = vec![vec![0.1, 0.2, 0.4, 0.3, 0.9], vec![-1.0, -2.0, -4.0, -3.0, -9.0]];
    let found = together(&[rows]).unwrap();
    assert!((found.correlation + 1.0).abs() < 1e-12, "{found:?}");
    // No order has a lower correlation.
    assert_eq!(found.p, 1.0);
    assert!(!Together { correlation: 0.5, p: 0.05 }.is_dependent());
    assert!(Together { correlation: 0.5, p: 0.049 }.is_dependent());
}

#[test]
fn comparisons_of_one_usable_task_say_nothing_about_tasks() {
    let pair = vec![vec![0.1, 0.2, 0.4, 0.3, 0.9], vec![1.0, 4.0, 2.0, 3.0, 3.5]];
    let alone = together(std::slice::from_ref(&pair)).unwrap();
    assert!(alone.p > 0.1 && alone.p < 0.9, "{alone:?}");
    let single = vec![vec![0.3, 0.1, 0.2, 0.5, 0.6, 0.4]];
    let without_spread = vec![vec![0.3, 0.1, 0.2, 0.5, 0.6, 0.4], vec![0.5; 6]];
    assert_eq!(together(&[single, pair.clone()]), Some(alone));
    assert_eq!(together(&[without_spread, pair]), Some(alone));
    // What spreads by 1e-12 has no spread.
    let none = vec![5e-13, -5e-13, 5e-13, -5e-13];
    assert_eq!(together(&[vec![none.clone(), none]]), None);
    let some = vec![6e-13, -6e-13, 6e-13, -6e-13];
    assert!(together(&[vec![some.clone(), some]]).is_some());
}

/// The quantile of Student's distribution at 0.975, by degrees of freedom from 1: scipy.stats.t.ppf.
const STUDENT: [f64; 4] = [12.706_204_736_174_694, 4.302_652_729_749_462, 3.182_446_305_283_708, 2.776_445_105_197_793];

/// The value and the interval of [`two_level`], every sum of its documentation written out, on the same 41 draws: of these, the second
/// and the last but one are the quantiles at 2.5% and 97.5%.
fn written_out(first: &[Vec<bool>], second: &[Vec<bool>], seed: u64) -> [f64; 3] {
    let (s, n) = (first.len(), first[0].len());
    let of = |right: bool| if right { 1.0 } else { 0.0 };
    let d = |seed: usize, at: usize| of(first[seed][at]) - of(second[seed][at]);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let by_seed: Vec<f64> = (0..s).map(|seed| mean(&(0..n).map(|at| d(seed, at)).collect::<Vec<_>>())).collect();
    let by_example: Vec<f64> = (0..n).map(|at| mean(&(0..s).map(|seed| d(seed, at)).collect::<Vec<_>>())).collect();
    let value = mean(&by_seed);
    let (mut narrower, mut wider) = (1.0, 0.0);
    if s > 1 {
        let mut residual = 0.0;
        for (seed, of_seed) in by_seed.iter().enumerate() {
            for (at, of_example) in by_example.iter().enumerate() {
                residual += (d(seed, at) - of_seed - of_example + value).powi(2);
            }
        }
        let of_residual = residual / ((s - 1) * (n - 1)) as f64 / (s * n) as f64;
        let of_examples = by_example.iter().map(|example| (example - value).powi(2)).sum::<f64>() / (n * n) as f64;
        narrower = (1.0 - of_residual / of_examples).max(0.0).sqrt();
        wider = (s as f64 / (s - 1) as f64).sqrt() * STUDENT[s - 2] / 1.959_963_984_540_054;
    }
    let mut rng = Draws::new(seed);
    let mut deviation = |of: &[f64]| {
        let drawn: Vec<f64> = of.iter().map(|_| of[rng.below(of.len())]).collect();
        mean(&drawn) - value
    };
    let mut samples: Vec<f64> =
        (0..41).map(|_| value + wider * deviation(&by_seed) + narrower * deviation(&by_example)).collect();
    samples.sort_by(f64::total_cmp);
    [value, samples[1], samples[39]]
}

#[test]
fn the_bootstrap_over_seeds_and_examples_is_what_its_documentation_says() {
    let mut rng = Draws::new(11);
    // Examples of their own ease, between two and nine in ten.
    let mut right = |seeds: usize, examples: usize, gain: usize| -> Vec<Vec<bool>> {
        (0..seeds).map(|_| (0..examples).map(|at| rng.below(10) < 2 + at % 8 + gain * (at % 3)).collect()).collect()
    };
    for (seeds, examples) in [(1, 7), (2, 2), (2, 9), (3, 5), (4, 24), (5, 60)] {
        let (first, second) = (right(seeds, examples, 2), right(seeds, examples, 0));
        let found = two_level(&first, &second, 41, 5).unwrap();
        let want = written_out(&first, &second, 5);
        // Sums of so few shares differ by their order alone.
        let close = [found.value, found.low, found.high].iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12);
        assert!(close, "{seeds} {examples}: {found:?} is not {want:?}");
    }
}

#[test]
fn two_seeds_and_two_examples_are_enough_to_narrow() {
    // One of four is won: `D` is 1, 0, 0, 0. The means of examples are 1/2 and 0 and those of seeds as well, the residuals ±1/4, so that
    // `V_res` is 1/16 and `V_ex` 1/32: nothing is left of the examples' part.
    let (first, second) = ([vec![true, false], vec![false, false]], [vec![false; 2], vec![false; 2]]);
    let found = two_level(&first, &second, 1000, 1).unwrap();
    // What two seeds draw is 1/4 above or below their mean, or neither.
    let half = 0.25 * 2.0_f64.sqrt() * STUDENT[0] / 1.959_963_984_540_054;
    assert!((found.high - (0.25 + half)).abs() < 1e-12 && (found.low - (0.25 - half)).abs() < 1e-12, "{found:?}");
}
