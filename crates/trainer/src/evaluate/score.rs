//! Predictions of trained runs on evaluation splits, and what they are worth.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use data::{
    batch::EncodedSet,
    metric::Metric,
    task::{Objective, TaskInfo},
};
use models::network::Network;
use record::{Correct, Generated};
use variants::{
    host::values,
    pass::{Active, Pass, StackPass},
};

use super::undefined;
use crate::{error::TrainError, rows::row, stop::Stop};

/// An evaluation split, tokenised.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Name, e.g. `dev`.
    pub name: String,
    /// Its examples.
    pub set: EncodedSet,
    /// What generations start from; empty where nothing is generated.
    pub prompts: Vec<Vec<u32>>,
    /// What each generation is compared with.
    pub references: Vec<Vec<String>>,
}

impl Split {
    /// A split without generation.
    pub fn new(name: impl Into<String>, set: EncodedSet) -> Self {
        Self { name: name.into(), set, prompts: Vec::new(), references: Vec::new() }
    }
}

/// Metrics and mean loss of one run on one split.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// By metric name; NaN where undefined.
    pub metrics: BTreeMap<String, f64>,
    /// Why a metric is undefined, by its name.
    pub undefined: BTreeMap<String, String>,
    /// Mean loss over the examples.
    pub loss: f64,
    /// What was generated.
    pub generated: Option<Generated>,
    /// Which examples were right, where classes are predicted.
    pub correct: Option<Correct>,
}

impl Scored {
    /// Metrics of which none can be told, all for one reason.
    pub fn unknown<'a>(metrics: impl Iterator<Item = &'a Metric>, reason: &str, loss: f64) -> Self {
        let undefined: BTreeMap<_, _> = metrics.map(|metric| (metric.to_string(), reason.to_owned())).collect();
        let metrics = undefined.keys().map(|name| (name.clone(), f64::NAN)).collect();
        Self { metrics, undefined, loss, generated: None, correct: None }
    }
}

/// Rows per run and evaluation batch.
const ROWS: usize = 64;

/// Rows of all runs in one pass, which bounds its memory. A GPU is busy with fewer.
const MOST: usize = 1024;

/// Logits of every example, `[run][example][output]`, for a network of one stack. `sets` has one per run.
///
/// Where the batches of many runs are too much for one pass, each is computed in parts, padded to the width of the whole: what a run's rows
/// look like depends on the sets and not on how many runs there are.
pub fn logits(network: &Network, sets: &[&EncodedSet], active: &Active, pad: u32) -> Vec<Vec<Vec<f64>>> {
    let found = logits_until(network, sets, active, pad, Stop::NEVER);
    found.unwrap_or_else(|error| unreachable!("nobody stops it: {error}"))
}

/// The same, until somebody wants it to stop.
pub fn logits_until(
    network: &Network,
    sets: &[&EncodedSet],
    active: &Active,
    pad: u32,
    stop: Stop<'_>,
) -> Result<Vec<Vec<Vec<f64>>>, TrainError> {
    // By length, so that little is padded; the order of equal lengths is that of the file.
    let orders: Vec<Vec<usize>> = sets
        .iter()
        .map(|set| {
            let mut order: Vec<usize> = (0..set.rows.len()).collect();
            order.sort_by_key(|i| set.rows[*i].ids.len());
            order
        })
        .collect();
    let batches = orders.iter().map(|order| order.len().div_ceil(ROWS)).max().unwrap_or(0);
    let mut out: Vec<Vec<Vec<f64>>> = sets.iter().map(|set| vec![Vec::new(); set.rows.len()]).collect();
    let pass = Pass::of(vec![StackPass::with(sets.len(), active.clone())]);
    let part = (MOST / sets.len().max(1)).clamp(1, ROWS);
    for index in 0..batches {
        let chosen: Vec<&[usize]> = orders.iter().map(|order| order.chunks(ROWS).nth(index).unwrap_or(&[])).collect();
        let length = |(set, chosen): (&&EncodedSet, &&[usize])| chosen.last().map_or(0, |i| set.rows[*i].ids.len());
        let width = sets.iter().zip(&chosen).map(length).max().unwrap_or(0);
        let whole = chosen.iter().map(|c| c.len()).max().unwrap_or(0);
        for start in (0..whole).step_by(part) {
            stop.check()?;
            let here: Vec<&[usize]> =
                chosen.iter().map(|c| &c[start.min(c.len())..(start + part).min(c.len())]).collect();
            let rows = here.iter().map(|c| c.len()).max().unwrap_or(0);
            // Runs with fewer examples left are filled up with empty rows.
            let examples = sets
                .iter()
                .zip(&here)
                .flat_map(|(set, here)| (0..rows).map(move |at| row(here.get(at).map(|example| &set.rows[*example]))));
            let all: Vec<_> = examples.collect();
            let tokens = network.backbone.padded(&all, width, pad);
            let logits: Tensor<3> = network.classify(&tokens, &pass).swap_remove(0);
            let [_, _, outputs] = logits.dims();
            let flat = values(&logits);
            for (run, here) in here.iter().enumerate() {
                for (row, example) in here.iter().enumerate() {
                    let start = (run * rows + row) * outputs;
                    out[run][*example] = flat[start..start + outputs].to_vec();
                }
            }
        }
    }
    Ok(out)
}

/// Class with the largest logit, or the first logit for regression; NaN, which is no class, where a logit of the row is not finite.
pub fn predictions(logits: &[Vec<f64>], objective: &Objective) -> Vec<f64> {
    let classes = objective.n_outputs();
    let best = |row: &[f64]| (0..classes).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0) as f64;
    let of_row = |row: &Vec<f64>| match objective {
        // NaN would be above every number.
        _ if !row[..classes].iter().all(|logit| logit.is_finite()) => f64::NAN,
        Objective::Classification { .. } => best(row),
        Objective::Regression { .. } => row[0],
        Objective::Text => unreachable!("text is not classified"),
    };
    logits.iter().map(of_row).collect()
}

/// What `logits` are worth against a split's labels.
pub fn score(logits: &[Vec<f64>], set: &EncodedSet, info: &TaskInfo) -> Scored {
    let labels: Vec<f64> = set.rows.iter().map(|row| f64::from(row.label)).collect();
    let predicted = predictions(logits, &info.objective);
    let reason = |metric: &Metric| undefined::reason(*metric, &predicted, &labels, &info.objective);
    let undefined: BTreeMap<String, String> =
        info.metrics.iter().filter_map(|metric| Some((metric.to_string(), reason(metric)?))).collect();
    let value = |metric: &Metric| {
        let name = metric.to_string();
        let value = if undefined.contains_key(&name) { f64::NAN } else { metric.evaluate(&predicted, &labels) };
        (name, value)
    };
    let metrics = info.metrics.iter().map(value).collect();
    let loss = |row: &Vec<f64>, label: f64| match &info.objective {
        Objective::Regression { .. } => (row[0] - label).powi(2),
        Objective::Text => unreachable!("text is not classified"),
        Objective::Classification { labels } => {
            let row = &row[..labels.len()];
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            top + row.iter().map(|v| (v - top).exp()).sum::<f64>().ln() - row[label as usize]
        }
    };
    let total: f64 = logits.iter().zip(&labels).map(|(row, label)| loss(row, *label)).sum();
    let right = || predicted.iter().zip(&labels).map(|(class, label)| class == label).collect::<Vec<_>>();
    let correct = matches!(info.objective, Objective::Classification { .. }).then(|| Correct::pack(&right()));
    Scored { metrics, undefined, loss: total / labels.len().max(1) as f64, generated: None, correct }
}

/// `active` for a stack of `runs`, where a readout names one rank for all of them.
pub fn spread(active: &Active, runs: usize) -> Active {
    match active {
        Active::Prefix(ranks) => Active::Prefix(vec![ranks[0]; runs]),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use data::batch::Encoded;

    use super::*;

    fn info(objective: Objective, metrics: &[Metric]) -> TaskInfo {
        let (name, doc) = ("mood".to_owned(), "A mood.".to_owned());
        TaskInfo { name, doc, objective, metrics: metrics.to_vec(), splits: vec!["dev".to_owned()], pair: false }
    }

    fn labelled(labels: &[f32]) -> EncodedSet {
        let row = |label: &f32| Encoded { ids: vec![1], types: vec![], targets: vec![], label: *label };
        EncodedSet::whole(labels.iter().map(row).collect())
    }

    #[test]
    fn a_logit_that_is_not_finite_leaves_every_metric_undefined() {
        let classes = Objective::Classification { labels: vec!["neg".into(), "pos".into()] };
        let scores = Objective::Regression { low: 0.0, high: 5.0 };
        let set = labelled(&[0.0, 1.0, 1.0]);
        for bad in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            // The largest by the total order, or the smallest: neither is a class.
            let logits = [vec![2.0, 1.0], vec![1.0, 2.0], vec![0.5, bad]];
            assert!(predictions(&logits, &classes)[2].is_nan());
            let found = score(&logits, &set, &info(classes.clone(), &[Metric::Accuracy, Metric::F1]));
            assert!(found.metrics.len() == 2 && found.metrics.values().all(|value| value.is_nan()), "{found:?}");
            let wanted = "a logit of example 3 is not finite";
            assert!(found.undefined.len() == 2 && found.undefined.values().all(|why| why == wanted), "{found:?}");
            // What is no class is not right.
            assert_eq!(found.correct.and_then(|correct| correct.of(3)), Some(vec![true, true, false]));
            let logits = [vec![2.0], vec![bad], vec![1.0]];
            let found = score(&logits, &set, &info(scores.clone(), &[Metric::Pearson]));
            assert_eq!(found.undefined["pearson"], "a logit of example 2 is not finite");
            assert_eq!(found.correct, None);
        }
        // What a wider head of the same stack has beside the classes is nobody's.
        let logits = [vec![2.0, 1.0, f64::NAN], vec![1.0, 2.0, f64::NAN], vec![1.0, 2.0, f64::NAN]];
        let found = score(&logits, &set, &info(classes, &[Metric::Accuracy]));
        assert_eq!((found.metrics["accuracy"], found.undefined.len()), (1.0, 0));
        assert_eq!(found.correct.and_then(|correct| correct.of(3)), Some(vec![true; 3]));
    }
}
