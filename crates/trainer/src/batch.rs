//! Micro-batches: which examples a run sees ([`sampler`]), how they become arrays on the host ([`mod@collate`]), what those arrays are
//! called on their way to the device ([`layout`]), and what the model and the losses make of them ([`forward`]).

pub mod collate;
pub mod forward;
pub mod layout;
pub mod sampler;

use models::network::Network;

pub use self::{
    collate::{Padding, collate},
    layout::{BatchLayout, DeviceBatch, HostBatch},
    sampler::{Sampler, Split},
};
pub use crate::rows::RunRows;

/// Where a cohort's batches come from.
pub trait BatchSource {
    /// Micro-batch `micro` (counted over the whole run) of every run, for a network with these stacks.
    fn batch(&self, network: &Network, micro: u64) -> HostBatch;

    /// A batch of the examples that the runs of stack number `stack` hold out, for a network with that stack alone: of every run its own of
    /// `numbers`. A source whose runs all see one batch and hold nothing out has that of the first number.
    fn held_out(&self, network: &Network, _stack: usize, numbers: &[u64]) -> HostBatch {
        self.batch(network, numbers[0])
    }
}

/// Batches of examples with labels, or of text to continue: every run of a cohort on its own examples.
#[derive(Debug)]
pub struct SupervisedBatches {
    /// One per stack and run.
    pub samplers: Vec<Vec<Sampler>>,
    /// Rows per run and micro-batch.
    pub rows: usize,
    /// How rows are padded.
    pub padding: Padding,
}

impl SupervisedBatches {
    /// The same, every batch as wide as the longest example.
    #[must_use]
    pub fn widest(mut self) -> Self {
        let lengths = self.samplers.iter().flatten().flat_map(|sampler| sampler.set.lengths());
        self.padding.at_least = lengths.max().unwrap_or(0);
        self
    }
}

impl BatchSource for SupervisedBatches {
    fn batch(&self, network: &Network, micro: u64) -> HostBatch {
        let stacks: Vec<Vec<RunRows<'_>>> = self
            .samplers
            .iter()
            .map(|stack| stack.iter().map(|sampler| sampler.rows(micro, self.rows)).collect())
            .collect();
        collate(network, &stacks, self.padding)
    }

    fn held_out(&self, network: &Network, stack: usize, numbers: &[u64]) -> HostBatch {
        let runs = self.samplers[stack].iter().zip(numbers);
        let rows = runs.map(|(sampler, number)| sampler.held_out(*number, self.rows)).collect();
        collate(network, &[rows], self.padding)
    }
}
