//! Evaluation metrics over predictions and labels, in `f64`.
//!
//! | metric | definition |
//! |---|---|
//! | `accuracy` | share of equal class ids |
//! | `f1` | `2·tp / (2·tp + fp + fn)` of class 1; 0 when the denominator is |
//! | `matthews` | multi-class correlation of the confusion matrix; 0 when a margin is degenerate |
//! | `pearson` | correlation of scores; NaN for constant input |
//! | `spearman` | Pearson of the ranks, ties at their average rank; NaN for constant input |
//! | `perplexity` | `exp` of the mean negative log-likelihood per target token; less is better |
//! | `bleu` | corpus BLEU of generated texts, divided by 100 |
//! | `exact_match` | share of generated texts with the right answer |
//!
//! The last three come from texts: see [`perplexity`] and [`causal::score`](crate::causal::score).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A metric of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of correct class ids.
    Accuracy,
    /// F1 of class 1.
    F1,
    /// Matthews correlation coefficient.
    Matthews,
    /// Pearson correlation.
    Pearson,
    /// Spearman rank correlation.
    Spearman,
    /// Perplexity of target tokens.
    Perplexity,
    /// Corpus BLEU, 0..=1.
    Bleu,
    /// Share of generations with the right answer.
    ExactMatch,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accuracy => "accuracy",
            Self::F1 => "f1",
            Self::Matthews => "matthews",
            Self::Pearson => "pearson",
            Self::Spearman => "spearman",
            Self::Perplexity => "perplexity",
            Self::Bleu => "bleu",
            Self::ExactMatch => "exact_match",
        })
    }
}

impl Metric {
    /// The metric of `predictions: [n]` against `labels: [n]`: class ids for the first three, scores for the correlations.
    ///
    /// A correlation of constant predictions or labels is undefined and comes back as NaN, as in `scipy`; so does every metric of
    /// no examples, and of examples among which is a NaN. Metrics of texts come from elsewhere.
    pub fn evaluate(self, predictions: &[f64], labels: &[f64]) -> f64 {
        assert_eq!(predictions.len(), labels.len(), "one prediction per label");
        // A NaN would otherwise pass for class 0, or for the greatest score.
        if labels.is_empty() || predictions.iter().chain(labels).any(|value| value.is_nan()) {
            return f64::NAN;
        }
        match self {
            Self::Accuracy => accuracy(predictions, labels),
            Self::F1 => f1(predictions, labels),
            Self::Matthews => matthews(predictions, labels),
            Self::Pearson => pearson(predictions, labels),
            Self::Spearman => pearson(&average_ranks(predictions), &average_ranks(labels)),
            Self::Perplexity | Self::Bleu | Self::ExactMatch => {
                unreachable!("`{self}` comes from texts, not from predictions and labels")
            }
        }
    }

    /// Whether it judges a model of texts.
    pub fn is_of_text(self) -> bool {
        self == Self::Perplexity || self.generates()
    }

    /// Whether it compares generated texts with references.
    pub fn generates(self) -> bool {
        matches!(self, Self::Bleu | Self::ExactMatch)
    }

    /// The values that it can take, where it is defined.
    pub fn range(self) -> std::ops::RangeInclusive<f64> {
        match self {
            Self::Accuracy | Self::F1 | Self::ExactMatch => 0.0..=1.0,
            // These are products of roots and exponentials: rounding takes the best value beyond the bound.
            Self::Bleu => 0.0..=1.0 + 1e-9,
            Self::Matthews | Self::Pearson | Self::Spearman => -1.0 - 1e-9..=1.0 + 1e-9,
            Self::Perplexity => 0.0..=f64::INFINITY,
        }
    }

    /// Whether less is better.
    pub fn is_minimised(self) -> bool {
        self == Self::Perplexity
    }
}

/// The class id a float stands for.
fn class(value: f64) -> i64 {
    value.round() as i64
}

fn accuracy(predictions: &[f64], labels: &[f64]) -> f64 {
    let hits = predictions.iter().zip(labels).filter(|&(&p, &l)| class(p) == class(l)).count();
    hits as f64 / labels.len() as f64
}

fn f1(predictions: &[f64], labels: &[f64]) -> f64 {
    let count = |predicted: bool, actual: bool| {
        predictions
            .iter()
            .zip(labels)
            .filter(|&(&p, &l)| (class(p) == 1) == predicted && (class(l) == 1) == actual)
            .count() as f64
    };
    let (hits, wrong) = (count(true, true), count(true, false) + count(false, true));
    let denominator = 2.0 * hits + wrong;
    if denominator == 0.0 { 0.0 } else { 2.0 * hits / denominator }
}

/// Gorodkin's `R_K`, which is the usual coefficient for two classes.
fn matthews(predictions: &[f64], labels: &[f64]) -> f64 {
    let mut margins: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    let mut correct = 0.0;
    for (&p, &l) in predictions.iter().zip(labels) {
        margins.entry(class(p)).or_default().0 += 1.0;
        margins.entry(class(l)).or_default().1 += 1.0;
        correct += f64::from(u8::from(class(p) == class(l)));
    }
    let n = labels.len() as f64;
    let sum = |f: fn(&(f64, f64)) -> f64| margins.values().map(f).sum::<f64>();
    let covariance = correct * n - sum(|m| m.0 * m.1);
    let variance = (n * n - sum(|m| m.0 * m.0)) * (n * n - sum(|m| m.1 * m.1));
    if variance == 0.0 { 0.0 } else { covariance / variance.sqrt() }
}

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    // Equal values whose mean rounds would otherwise pass for variation.
    let constant = |v: &[f64]| v.iter().all(|e| (e - v[0]).abs() <= 0.0);
    if constant(x) || constant(y) {
        return f64::NAN;
    }
    let (x, y) = (centred(x), centred(y));
    let dot = |a: &[f64], b: &[f64]| compensated_sum(a.iter().zip(b).map(|(a, b)| a * b));
    let r = dot(&x, &y) / (dot(&x, &x).sqrt() * dot(&y, &y).sqrt());
    r.clamp(-1.0, 1.0)
}

/// Deviations from the mean, divided by the largest so that squares neither overflow nor vanish.
fn centred(values: &[f64]) -> Vec<f64> {
    let mean = compensated_sum(values.iter().copied()) / values.len() as f64;
    let scale = values.iter().map(|v| (v - mean).abs()).fold(0.0, f64::max);
    values.iter().map(|v| (v - mean) / scale).collect()
}

/// Neumaier's sum.
fn compensated_sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0f64, 0.0f64);
    for value in values {
        let next = sum + value;
        lost += if sum.abs() >= value.abs() { (sum - next) + value } else { (value - next) + sum };
        sum = next;
    }
    sum + lost
}

fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    // In ascending order, not smaller than the next means equal to it.
    for tied in order.chunk_by(|&a, &b| values[a] >= values[b]) {
        let rank = below as f64 + f64::midpoint(1.0, tied.len() as f64);
        for &i in tied {
            ranks[i] = rank;
        }
        below += tied.len();
    }
    ranks
}

/// `exp` of the mean negative log-likelihood per target token, from its sum over `targets` tokens; NaN for none.
///
/// The sum runs over all rows before it is divided: the mean of batches' means weighs tokens by the length of their batch.
pub fn perplexity(negative_log_likelihood: f64, targets: usize) -> f64 {
    (negative_log_likelihood / targets as f64).exp()
}
