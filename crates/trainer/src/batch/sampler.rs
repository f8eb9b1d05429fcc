//! The order in which a run sees its training examples.

use std::sync::{Arc, Mutex};

use data::{batch::EncodedSet, order::epoch_order, task::Objective};

use crate::rows::RunRows;

/// One run's training examples, in the order of its seed.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// Tokenised examples.
    pub set: EncodedSet,
    /// What is predicted.
    pub objective: Objective,
    /// Key of the `data` stream.
    pub seed: u64,
    epoch: Arc<Mutex<Option<Epoch>>>,
}

/// One pass over the examples, batch by batch; sorting a large set anew for every batch would take longer than a step.
#[derive(Debug)]
struct Epoch {
    number: u64,
    rows: usize,
    batches: Vec<Vec<usize>>,
}

impl Sampler {
    /// Examples in the order of a seed's `data` stream.
    pub fn new(set: EncodedSet, objective: Objective, seed: u64) -> Self {
        Self { set, objective, seed, epoch: Arc::default() }
    }

    /// The examples of micro-batch `micro`, filled up to `rows` rows: a pure function of seed and number, so a resumed run sees what it
    /// would have seen.
    pub fn rows(&self, micro: u64, rows: usize) -> RunRows<'_> {
        let per_epoch = self.set.rows.len().div_ceil(rows) as u64;
        let number = micro / per_epoch;
        let mut held = self.epoch.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        let epoch = match held.take().filter(|epoch| (epoch.number, epoch.rows) == (number, rows)) {
            Some(epoch) => epoch,
            None => Epoch { number, rows, batches: epoch_order(&self.set.lengths(), rows, self.seed, number) },
        };
        let chosen = epoch.batches[(micro % per_epoch) as usize].iter().map(|row| &self.set.rows[*row]);
        let chosen = RunRows::new(chosen.collect(), rows, &self.objective);
        *held = Some(epoch);
        chosen
    }
}
