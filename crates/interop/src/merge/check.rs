//! What merging does to the logits: the written checkpoint, and the same rounded to other types, beside the unmerged model.

use std::collections::BTreeSet;

use data::batch::EncodedSet;
use experiment::cell::Recipe;
use models::{
    backbone::Backbone,
    config::{Config, Purpose},
    head::{Classifier, Head},
    network::Network,
    weights::Weights,
};
use trainer::{
    adapter::AdapterMetadata,
    error::TrainError,
    evaluate::{
        language_model,
        score::{logits, spread},
    },
};
use variants::{
    host::Placement,
    pass::Active,
    slot::{RunPlan, StackPlan},
};

use crate::dtype::Dtype;

/// What the merged model of one type computes beside the unmerged one in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Check {
    /// The type.
    pub dtype: Dtype,
    /// Largest difference of a logit.
    pub difference: f64,
    /// Rows, or positions of a text, whose largest logit is another one.
    pub changed: usize,
}

/// A checkpoint without adapters, with its own head.
pub(super) fn plain_network(
    config: &Config,
    weights: &Weights,
    metadata: &AdapterMetadata,
    place: &Placement,
) -> Result<Network, TrainError> {
    let is_text = metadata.plan.text().is_some();
    let purpose = if is_text { Purpose::Continue } else { Purpose::Classify };
    let mut network = Network::new(Backbone::new(config, weights, purpose, place)?);
    let variant = variants::presets::head_only::spec(0)
        .check(None)
        .unwrap_or_else(|_| unreachable!("the preset without adapters is valid"));
    let runs = vec![RunPlan { init_seed: 0, alpha: 1.0 }];
    let plan = StackPlan::new(variant, runs, BTreeSet::new());
    let head = if is_text {
        Head::Causal
    } else {
        let stored = weights.only(config.head_names());
        Head::Classifier(Classifier::new(&network.backbone, &plan, &[metadata.outputs], &stored))
    };
    network.attach(&plan, head)?;
    Ok(network)
}

/// Logits of every row, or of every position of a text.
pub(super) fn answers(network: &Network, set: &EncodedSet, plan: &Recipe, active: &Active, pad: u32) -> Vec<Vec<f64>> {
    if plan.text().is_none() {
        return logits(network, &[set], &spread(active, 1), pad).swap_remove(0);
    }
    let vocabulary = network.backbone.config().vocab_size();
    language_model::learnt_logits(network, set, active, pad).chunks(vocabulary).map(<[f64]>::to_vec).collect()
}

/// The difference that a type makes.
pub(super) fn compare(dtype: Dtype, unmerged: &[Vec<f64>], merged: &[Vec<f64>]) -> Check {
    let top = |row: &[f64]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
    let pairs = || unmerged.iter().zip(merged);
    // `f64::max` passes over what is not a number, and that is the last thing to pass over here.
    let larger = |most: f64, value: f64| if value.is_nan() || value > most { value } else { most };
    Check {
        dtype,
        difference: pairs().flat_map(|(a, b)| a.iter().zip(b)).map(|(a, b)| (a - b).abs()).fold(0.0, larger),
        changed: pairs().filter(|(a, b)| top(a) != top(b)).count(),
    }
}
