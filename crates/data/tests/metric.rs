//! Metrics against definitions worked by hand or by brute force, against `scikit-learn` and `scipy` (`fixtures/metrics.json`,
//! `scripts/oracle/metrics.py`), and their invariances.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![expect(clippy::float_cmp, reason = "class ids and small integers are exact")]

use data::metric::Metric;
use proptest::prelude::*;
use serde::Deserialize;

#[track_caller]
fn check(metric: Metric, predictions: &[f64], labels: &[f64], expected: f64) {
    let value = metric.evaluate(predictions, labels);
    let same = (value - expected).abs() < 1e-12 || (value.is_nan() && expected.is_nan());
    assert!(same, "{metric} of {predictions:?} against {labels:?} is {value}, expected {expected}");
}

#[test]
fn values_by_hand() {
    check(Metric::Accuracy, &[0.0, 1.0, 2.0, 1.0], &[0.0, 2.0, 2.0, 1.0], 0.75);
    // tp = 2, fp = 1, fn = 1
    check(Metric::F1, &[1.0, 1.0, 1.0, 0.0, 0.0], &[1.0, 1.0, 0.0, 1.0, 0.0], 4.0 / 6.0);
    // tp = 2, tn = 1, fp = 1, fn = 1: (2*1 - 1*1) / sqrt(3 * 3 * 2 * 2)
    check(Metric::Matthews, &[1.0, 1.0, 1.0, 0.0, 0.0], &[1.0, 1.0, 0.0, 1.0, 0.0], 1.0 / 6.0);
    check(Metric::Pearson, &[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0], 1.0);
    check(Metric::Pearson, &[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0], 0.5);
    // Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)
    check(Metric::Spearman, &[1.0, 5.0, 5.0, 9.0], &[1.0, 2.0, 3.0, 4.0], 0.9f64.sqrt());
    check(Metric::Spearman, &[1.0, 2.0, 3.0], &[1.0, 8.0, 27.0], 1.0);
}

#[test]
fn degenerate_inputs() {
    check(Metric::F1, &[0.0, 0.0], &[0.0, 0.0], 0.0);
    check(Metric::Matthews, &[1.0, 1.0], &[0.0, 1.0], 0.0);
    check(Metric::Matthews, &[0.0, 1.0], &[1.0, 1.0], 0.0);
    check(Metric::Pearson, &[0.1, 0.1, 0.1], &[1.0, 2.0, 3.0], f64::NAN);
    check(Metric::Spearman, &[1.0, 2.0, 3.0], &[4.0, 4.0, 4.0], f64::NAN);
    check(Metric::Pearson, &[1e200, 2e200, 3e200], &[1e-200, 2e-200, 3e-200], 1.0);
    for metric in [Metric::Accuracy, Metric::F1, Metric::Matthews, Metric::Pearson, Metric::Spearman] {
        check(metric, &[], &[], f64::NAN);
        check(metric, &[f64::NAN, 1.0, 0.0], &[1.0, 2.0, 0.0], f64::NAN);
        check(metric, &[1.0, 2.0, 0.0], &[0.0, 1.0, f64::NAN], f64::NAN);
    }
}

#[derive(Deserialize)]
struct Case {
    name: String,
    metric: Metric,
    predictions: Vec<Option<f64>>,
    labels: Vec<Option<f64>>,
    value: Option<f64>,
}

/// What the libraries refuse (`raises`, of too few rows) has no value there and NaN here.
#[test]
fn values_are_those_of_scikit_learn_and_scipy() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("fixtures/metrics.json")).unwrap();
    let numbers = |values: &[Option<f64>]| values.iter().map(|v| v.unwrap_or(f64::NAN)).collect::<Vec<_>>();
    for Case { name, metric, predictions, labels, value } in cases {
        let found = metric.evaluate(&numbers(&predictions), &numbers(&labels));
        // Values are at most 1. Sums of up to 200 terms differ by their order, by less than 200 roundings of 1.1e-16 each.
        let same = value.map_or(found.is_nan(), |value| (found - value).abs() < 1e-12);
        assert!(same, "{name}, {metric}: {found}, but theirs is {value:?}");
    }
}

#[test]
fn names_in_files() {
    let of_labels = [Metric::Accuracy, Metric::F1, Metric::Matthews, Metric::Pearson, Metric::Spearman];
    let of_texts = [Metric::Perplexity, Metric::Bleu, Metric::ExactMatch];
    for metric in of_labels.into_iter().chain(of_texts) {
        assert_eq!(serde_json::to_string(&metric).unwrap(), format!("\"{metric}\""));
        assert_eq!(metric.is_of_text(), of_texts.contains(&metric), "{metric}");
        assert_eq!(metric.generates(), of_texts[1..].contains(&metric), "{metric}");
        assert_eq!(metric.is_minimised(), metric == Metric::Perplexity, "{metric}");
    }
}

/// Rank as one plus the number of smaller values, plus half the number of other equal ones.
fn brute_ranks(values: &[f64]) -> Vec<f64> {
    let count = |v: f64, f: fn(f64, f64) -> bool| values.iter().filter(|&&o| f(o, v)).count() as f64;
    values.iter().map(|&v| count(v, |o, v| o < v) + f64::midpoint(1.0, count(v, |o, v| o == v))).collect()
}

fn brute_pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let pairs = || x.iter().zip(y);
    let (sx, sy) = (x.iter().sum::<f64>(), y.iter().sum::<f64>());
    let sxy: f64 = pairs().map(|(a, b)| a * b).sum();
    let (sxx, syy): (f64, f64) = (x.iter().map(|a| a * a).sum(), y.iter().map(|a| a * a).sum());
    (n * sxy - sx * sy) / ((n * sxx - sx * sx) * (n * syy - sy * sy)).sqrt()
}

fn brute_matthews(p: &[f64], l: &[f64]) -> f64 {
    let count = |a: f64, b: f64| p.iter().zip(l).filter(|&(&p, &l)| p == a && l == b).count() as f64;
    let (tp, tn, fp, fn_) = (count(1.0, 1.0), count(0.0, 0.0), count(1.0, 0.0), count(0.0, 1.0));
    let product = (tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_);
    if product == 0.0 { 0.0 } else { (tp * tn - fp * fn_) / product.sqrt() }
}

proptest! {
    #[test]
    fn agree_with_definitions(pairs in prop::collection::vec((0u8..6, 0u8..6), 2..40)) {
        let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().map(|&(a, b)| (f64::from(a), f64::from(b))).unzip();
        let varies = |v: &[f64]| v.iter().any(|&e| e != v[0]);
        if varies(&x) && varies(&y) {
            prop_assert!((Metric::Pearson.evaluate(&x, &y) - brute_pearson(&x, &y)).abs() < 1e-9);
            let expected = brute_pearson(&brute_ranks(&x), &brute_ranks(&y));
            prop_assert!((Metric::Spearman.evaluate(&x, &y) - expected).abs() < 1e-9);
        }
        let binary = |v: &[f64]| v.iter().map(|&e| f64::from(u8::from(e > 2.0))).collect::<Vec<_>>();
        let (p, l) = (binary(&x), binary(&y));
        prop_assert!((Metric::Matthews.evaluate(&p, &l) - brute_matthews(&p, &l)).abs() < 1e-12);
    }

    #[test]
    fn order_of_examples_is_irrelevant(pairs in prop::collection::vec((0u8..3, 0u8..3), 2..40), turn in 0usize..40) {
        let split = |v: &[(u8, u8)]| -> (Vec<f64>, Vec<f64>) { v.iter().map(|&(a, b)| (f64::from(a), f64::from(b))).unzip() };
        let mut turned = pairs.clone();
        turned.rotate_left(turn % pairs.len());
        turned.reverse();
        let ((x, y), (u, v)) = (split(&pairs), split(&turned));
        for metric in [Metric::Accuracy, Metric::F1, Metric::Matthews, Metric::Pearson, Metric::Spearman] {
            let (a, b) = (metric.evaluate(&x, &y), metric.evaluate(&u, &v));
            prop_assert!((a - b).abs() < 1e-12 || (a.is_nan() && b.is_nan()), "{metric}: {a} and {b}");
        }
    }
}
