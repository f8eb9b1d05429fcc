//! What a cohort learns from: batches and the loss over them. The loop knows no more of a task than this.

use std::sync::{Arc, Mutex};

use burn::tensor::{Tensor, activation};
use data::{
    batch::{Batch, EncodedSet},
    order::epoch_order,
    task::Objective,
};
use models::network::Network;
use variants::{host::Place, pass::Pass};

use crate::text;

/// Losses of one micro-batch.
#[derive(Debug)]
pub struct Losses {
    /// One per stack, `[runs]` each: means over real rows or tokens.
    pub stacks: Vec<Tensor<1>>,
    /// Real tokens of every run of every stack, padding left out.
    pub tokens: Vec<Vec<u64>>,
}

/// Batches and losses of a cohort.
pub trait Lesson {
    /// Losses of micro-batch `micro` (counted over the whole run) under `pass`.
    fn losses(&self, network: &Network, micro: u64, pass: &Pass) -> Losses;
}

/// One run's training examples in their order.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Tokenised examples.
    pub set: EncodedSet,
    /// What is predicted.
    pub objective: Objective,
    /// Key of the `data` stream.
    pub seed: u64,
    order: Arc<Mutex<Option<Epoch>>>,
}

/// One pass over the examples, batch by batch; sorting a large set anew for every batch would take longer than a step.
#[derive(Debug)]
struct Epoch {
    number: u64,
    rows: usize,
    batches: Vec<Vec<usize>>,
}

impl Feed {
    /// Examples in the order of a seed's `data` stream.
    pub fn new(set: EncodedSet, objective: Objective, seed: u64) -> Self {
        Self { set, objective, seed, order: Arc::default() }
    }

    /// Rows of micro-batch `micro`: a pure function of seed and number, so a resumed run sees what it would
    /// have seen.
    pub fn batch(&self, micro: u64, rows: usize, pad: u32) -> Batch {
        let per_epoch = self.set.rows.len().div_ceil(rows) as u64;
        let number = micro / per_epoch;
        let mut held = self.order.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        let epoch = match held.take().filter(|epoch| (epoch.number, epoch.rows) == (number, rows)) {
            Some(epoch) => epoch,
            None => Epoch { number, rows, batches: epoch_order(&self.set.lengths(), rows, self.seed, number) },
        };
        let batch = Batch::gather(&self.set, &epoch.batches[(micro % per_epoch) as usize], rows, pad);
        *held = Some(epoch);
        batch
    }
}

/// Classification and regression, or text to continue, every run of a cohort on its own examples.
#[derive(Debug)]
pub struct Examples {
    /// One per stack and run.
    pub feeds: Vec<Vec<Feed>>,
    /// Rows per run and micro-batch.
    pub rows: usize,
    /// Padding token.
    pub pad: u32,
    /// Where tensors live.
    pub place: Place,
}

impl Examples {
    /// Whether these are texts; a cohort has texts alone, or none.
    fn is_text(&self) -> bool {
        self.feeds.iter().flatten().any(|feed| feed.objective == Objective::Text)
    }
}

impl Lesson for Examples {
    fn losses(&self, network: &Network, micro: u64, pass: &Pass) -> Losses {
        let batches: Vec<Vec<Batch>> = self
            .feeds
            .iter()
            .map(|stack| stack.iter().map(|feed| feed.batch(micro, self.rows, self.pad)).collect())
            .collect();
        let whole = Batch::concat(batches.iter().flatten().cloned().collect(), self.pad);
        let tokens = network.backbone.tokens(&whole.ids, &whole.types, &whole.lengths);
        let stacks = if self.is_text() {
            let hidden = network.backbone.forward(&tokens, pass);
            let mut batches = batches.clone();
            batches.iter_mut().flatten().for_each(|batch| batch.pad_to(whole.seq, self.pad));
            text::losses(network, &hidden, &batches, pass, &self.place)
        } else {
            let logits = network.classify(&tokens, pass);
            let each = logits.into_iter().zip(batches.iter().zip(&self.feeds));
            each.map(|(logits, (batches, feeds))| {
                let objectives: Vec<_> = feeds.iter().map(|feed| &feed.objective).collect();
                loss(logits, batches, &objectives, &self.place)
            })
            .collect()
        };
        let real = |batch: &Batch| {
            let rows = batch.lengths.iter().zip(&batch.weights).filter(|(_, weight)| **weight > 0.0);
            rows.map(|(length, _)| *length as u64).sum()
        };
        Losses { stacks, tokens: batches.iter().map(|stack| stack.iter().map(real).collect()).collect() }
    }
}

/// Mean loss of every run over its real rows, `[runs]`: cross-entropy over the run's own classes, squared
/// error of the first output for regression. `logits` `[runs, rows, outputs]`.
pub fn loss(logits: Tensor<3>, batches: &[Batch], objectives: &[&Objective], place: &Place) -> Tensor<1> {
    let [runs, rows, outputs] = logits.dims();
    let mut target = vec![0.0; runs * rows * outputs]; // weight of each log-probability
    let mut closed = vec![0.0; runs * outputs]; // -1e9 where a run has no such class
    let mut label = vec![0.0; runs * rows];
    let mut weight = vec![0.0; runs * rows];
    let (mut classifies, mut regresses) = (false, false);
    for (run, (batch, objective)) in batches.iter().zip(objectives).enumerate() {
        let real: f32 = batch.weights.iter().sum();
        for row in 0..rows {
            let share = f64::from(batch.weights[row] / real);
            match objective {
                Objective::Classification { .. } => {
                    target[(run * rows + row) * outputs + batch.labels[row] as usize] = share;
                    classifies = true;
                }
                Objective::Text => unreachable!("text has a loss of its own"),
                Objective::Regression { .. } => {
                    label[run * rows + row] = f64::from(batch.labels[row]);
                    weight[run * rows + row] = share;
                    regresses = true;
                }
            }
        }
        closed[run * outputs + objective.n_outputs()..(run + 1) * outputs].fill(-1e9);
    }
    let mut total: Option<Tensor<1>> = None;
    if classifies {
        let open = if closed.iter().all(|v| *v == 0.0) {
            logits.clone()
        } else {
            logits.clone() + place.tensor(closed, [runs, 1, outputs])
        };
        let chosen = activation::log_softmax(open, 2) * place.tensor(target, [runs, rows, outputs]);
        total = Some(chosen.reshape([runs, rows * outputs]).sum_dim(1).reshape([runs]).neg());
    }
    if regresses {
        let error = logits.slice([0..runs, 0..rows, 0..1]) - place.tensor(label, [runs, rows, 1]);
        let squared =
            (error.square() * place.tensor(weight, [runs, rows, 1])).reshape([runs, rows]).sum_dim(1).reshape([runs]);
        total = Some(match total {
            Some(other) => other + squared,
            None => squared,
        });
    }
    total.unwrap_or_else(|| unreachable!("a cohort has at least one run"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};
    use variants::host::values;

    #[test]
    fn losses_are_means_over_each_runs_own_rows_and_classes() {
        let place = Place::new(&Device::flex(), DType::F64);
        let batch = |labels: Vec<f32>, weights: Vec<f32>| Batch {
            rows: 2,
            seq: 1,
            ids: vec![0, 0],
            lengths: vec![1, 1],
            labels,
            weights,
            ..Batch::default()
        };
        let labels = |n: usize| Objective::Classification { labels: vec!["x".into(); n] };
        let (two, three, score) = (labels(2), labels(3), Objective::Regression { low: 0.0, high: 5.0 });
        let logits = vec![
            0.0, 0.0, 99.0, /**/ 1.0, 3.0, 99.0, // two classes; the third output is not this run's
            1.0, 1.0, 1.0, /**/ 7.0, 7.0, 7.0, // three classes; the second row only fills up
            2.0, 0.0, 0.0, /**/ 1.0, 0.0, 0.0, // regression
        ];
        let batches = [
            batch(vec![0.0, 1.0], vec![1.0, 1.0]),
            batch(vec![2.0, 0.0], vec![1.0, 0.0]),
            batch(vec![4.0, 1.5], vec![1.0, 1.0]),
        ];
        let got = values(&loss(place.tensor(logits, [3, 2, 3]), &batches, &[&two, &three, &score], &place));
        let expected =
            [f64::midpoint(2.0_f64.ln(), (1.0 + (-2.0_f64).exp()).ln()), 3.0_f64.ln(), f64::midpoint(4.0, 0.25)];
        for (got, want) in got.iter().zip(expected) {
            assert!((got - want).abs() < 1e-7, "{got} {want}"); // row shares are f32
        }
    }
}
