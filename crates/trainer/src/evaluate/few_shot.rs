//! The loss on a few training examples, for searches that ask for it again and again.

use experiment::cell::Recipe;
use models::network::Network;
use variants::{host::values, pass::Pass};

use crate::{
    batch::{DeviceBatch, Padding, collate, forward, sampler::Sampler},
    error::TrainError,
    model_cache::ModelCache,
};

/// A few examples, on the device.
pub struct FewShot {
    batch: DeviceBatch,
    /// How many there are.
    pub examples: usize,
}

impl FewShot {
    /// The first `examples` training examples of a recipe's task in the order of its data seed, or all where there are fewer. `network` is one
    /// that will be asked about.
    pub fn new(recipe: &Recipe, examples: usize, network: &Network, cache: &ModelCache) -> Result<Self, TrainError> {
        let (task, token) = (cache.task(recipe)?, cache.base_of(recipe)?.pad);
        let examples = examples.min(task.train.rows.len());
        let sampler = Sampler::of_task(recipe, &task);
        // A batch that is at least one token long is never packed.
        let padding = Padding { token, bucket: 1, at_least: 1 };
        let batch = collate(network, &[vec![sampler.rows(0, examples)]], padding);
        Ok(Self { batch: batch.upload(network.backbone.place()), examples })
    }

    /// The mean loss of a network of one run.
    pub fn loss(&self, network: &Network) -> f64 {
        values(&forward::losses(network, &self.batch, &Pass::evaluation(1)).swap_remove(0))[0]
    }
}
