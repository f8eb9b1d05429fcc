//! The statistics against scipy, statsmodels and numpy.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::BTreeMap;

use analysis::stats::{Estimate, Friedman, McNemar, holm, improvement, interquartile_mean, power, together, two_level};
use serde::Deserialize;

/// scipy's and statrs' distribution functions agree to nine digits; p-values below 1e-12 are compared absolutely.
const TOLERANCE: f64 = 1e-8;
/// Draws of a bootstrap here; the fixture has 40,000.
const DRAWS: usize = 20_000;

/// What `scripts/oracle/statistics.py` writes.
#[derive(Deserialize)]
struct Fixture {
    paired: Vec<Paired>,
    stratified: Vec<Stratified>,
    power: Vec<Power>,
    planned: Vec<Planned>,
    mcnemar: Vec<Counts>,
    two_level: Vec<TwoLevel>,
    aggregates: Vec<Aggregate>,
    friedman: Vec<Ranked>,
    together: Vec<Tasks>,
    holm: Adjusted,
}

#[derive(Deserialize)]
struct Paired {
    first: Vec<f64>,
    second: Vec<f64>,
    p: f64,
    interval: [f64; 2],
    values: Vec<f64>,
    p_of_values: Vec<f64>,
    margins: Vec<f64>,
    p_equivalent: Vec<f64>,
}

#[derive(Deserialize)]
struct Stratified {
    first: Vec<Vec<f64>>,
    second: Vec<Vec<f64>>,
    difference: f64,
    error: f64,
    freedom: f64,
    interval: [f64; 2],
    p: f64,
}

#[derive(Deserialize)]
struct Power {
    freedom: f64,
    level: f64,
    noncentrality: f64,
    #[serde(rename = "power")]
    wanted: f64,
}

#[derive(Deserialize)]
struct Planned {
    n: usize,
    level: f64,
    detectable: f64,
    needed: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Counts {
    first: u64,
    second: u64,
    p_exact: f64,
    p_mid: f64,
}

#[derive(Deserialize)]
struct TwoLevel {
    first: Vec<String>,
    second: Vec<String>,
    value: f64,
    interval: [f64; 2],
}

#[derive(Deserialize)]
struct Aggregate {
    first: Vec<Vec<f64>>,
    second: Vec<Vec<f64>>,
    iqm: f64,
    iqm_interval: [f64; 2],
    improvement: f64,
    improvement_interval: [f64; 2],
}

#[derive(Deserialize)]
struct Ranked {
    scores: Vec<Vec<f64>>,
    mean_ranks: Vec<f64>,
    chi_squared: f64,
    p_chi_squared: f64,
    f: f64,
    p: f64,
    critical_difference: f64,
}

#[derive(Deserialize)]
struct Tasks {
    values: Vec<Vec<f64>>,
    correlation: f64,
    p: f64,
}

#[derive(Deserialize)]
struct Adjusted {
    p: Vec<f64>,
    adjusted: Vec<f64>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/statistics.json")).unwrap()
}

#[track_caller]
fn near(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1e-4), "{got} is not {want}");
}

#[track_caller]
fn close(got: f64, want: f64) {
    near(got, want, TOLERANCE);
}

#[test]
fn paired_tests_and_equivalence_agree() {
    for case in fixture().paired {
        let found = Estimate::paired(&case.first, &case.second, 0.0).unwrap();
        close(found.p_of(0.0).unwrap(), case.p);
        let [low, high] = found.interval().unwrap();
        close(low, case.interval[0]);
        close(high, case.interval[1]);
        for (value, p) in case.values.iter().zip(&case.p_of_values) {
            close(found.p_of(*value).unwrap(), *p);
        }
        for (margin, p) in case.margins.iter().zip(&case.p_equivalent) {
            close(found.p_equivalent(*margin).unwrap(), *p);
        }
    }
}

#[test]
fn stratified_estimates_agree() {
    for case in fixture().stratified {
        let tasks = case.first.iter().zip(&case.second);
        let strata: Vec<_> = tasks.map(|(one, other)| Estimate::paired(one, other, 0.0).unwrap()).collect();
        let found = Estimate::stratified(&strata).unwrap();
        let [low, high] = found.interval().unwrap();
        let got = [found.difference, found.error.unwrap(), found.freedom, low, high, found.p_of(0.0).unwrap()];
        let want = [case.difference, case.error, case.freedom, case.interval[0], case.interval[1], case.p];
        got.iter().zip(want).for_each(|(got, want)| close(*got, want));
    }
}

#[test]
fn power_is_that_of_the_noncentral_t() {
    let cases = fixture().power;
    assert_eq!(cases.len(), 54);
    for Power { freedom, level, noncentrality, wanted: want } in cases {
        let got = power(noncentrality, freedom, level);
        // scipy's series and ours each have about eight digits.
        assert!((got - want).abs() < 1e-7, "{freedom} {level} {noncentrality}: {got} is not {want}");
    }
}

/// `n` differences with mean 0 and standard deviation 1.
fn unit(n: usize) -> Estimate {
    let middle = (n as f64 - 1.0) / 2.0;
    let plain: Vec<f64> = (0..n).map(|i| i as f64 - middle).collect();
    let spread = (plain.iter().map(|value| value * value).sum::<f64>() / (n as f64 - 1.0)).sqrt();
    let values: Vec<f64> = plain.iter().map(|value| value / spread).collect();
    Estimate::paired(&values, &vec![0.0; n], 0.0).unwrap()
}

#[test]
fn what_seeds_can_tell_and_how_many_are_needed_agree() {
    for case in fixture().planned {
        let found = unit(case.n);
        // Ours is found by halving to seven digits.
        near(found.detectable(case.level).unwrap(), case.detectable, 1e-6);
        for (effect, needed) in &case.needed {
            assert_eq!(found.seeds_needed(effect.parse().unwrap(), case.level), Some(*needed), "{} {effect}", case.n);
        }
    }
}

#[test]
fn mcnemars_tests_agree() {
    for case in fixture().mcnemar {
        let found = McNemar::of_counts(case.first, case.second);
        close(found.p_exact, case.p_exact);
        close(found.p_mid, case.p_mid);
    }
}

fn bits(rows: &[String]) -> Vec<Vec<bool>> {
    rows.iter().map(|row| row.chars().map(|bit| bit == '1').collect()).collect()
}

/// Ends of two simulated intervals: a quantile at 2.5% of normal draws has the standard error `2.67 σ / √draws`, the half-width is `1.96 σ`.
/// Four of them for the fewer draws, and the steps of statistics that take few values.
#[track_caller]
fn simulated(got: [f64; 2], want: [f64; 2], step: f64) {
    let half = (want[1] - want[0]) / 2.0;
    let tolerance = 4.0 * 2.67 / 1.96 * half * (1.0 / DRAWS as f64 + 1.0 / 40_000.0).sqrt() + step;
    assert!((got[0] - want[0]).abs() < tolerance && (got[1] - want[1]).abs() < tolerance, "{got:?} is not {want:?}");
}

#[test]
fn the_bootstrap_over_seeds_and_examples_agrees() {
    for case in fixture().two_level {
        let found = two_level(&bits(&case.first), &bits(&case.second), DRAWS, 1).unwrap();
        close(found.value, case.value);
        let step = 1.0 / case.first.iter().map(String::len).sum::<usize>() as f64;
        simulated([found.low, found.high], case.interval, step);
    }
}

#[test]
fn aggregates_agree() {
    for case in fixture().aggregates {
        let mean = interquartile_mean(&case.first, DRAWS, 1).unwrap();
        close(mean.value, case.iqm);
        simulated([mean.low, mean.high], case.iqm_interval, 0.0);
        let better = improvement(&case.first, &case.second, DRAWS, 1).unwrap();
        close(better.value, case.improvement);
        let step = 1.0 / (case.first.len() * case.first[0].len().pow(2)) as f64;
        simulated([better.low, better.high], case.improvement_interval, step);
    }
}

#[test]
fn ranks_over_tasks_agree() {
    for case in fixture().friedman {
        let found = Friedman::of(&case.scores).unwrap();
        found.mean_ranks.iter().zip(&case.mean_ranks).for_each(|(got, want)| close(*got, *want));
        let got = [found.chi_squared, found.p_chi_squared, found.f, found.p];
        let want = [case.chi_squared, case.p_chi_squared, case.f, case.p];
        got.iter().zip(want).for_each(|(got, want)| close(*got, want));
        // scipy integrates the studentized range to about six digits.
        near(found.critical_difference, case.critical_difference, 1e-5);
    }
}

#[test]
fn independence_over_tasks_agrees_with_all_permutations() {
    for case in fixture().together {
        let found = together(std::slice::from_ref(&case.values)).unwrap();
        close(found.correlation, case.correlation);
        // Four standard errors of a share of 999 permutations.
        let error = (case.p * (1.0 - case.p) / 999.0).sqrt();
        assert!((found.p - case.p).abs() < 4.0 * error + 2e-3, "{found:?} {}", case.p);
    }
}

#[test]
fn holms_correction_agrees() {
    let Adjusted { p, adjusted } = fixture().holm;
    holm(&p).unwrap().iter().zip(&adjusted).for_each(|(got, want)| close(*got, *want));
}
