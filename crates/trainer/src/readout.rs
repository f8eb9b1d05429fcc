//! Evaluates trained runs in every way they are read out.

use models::network::Network;
use record::{Evaluation, Readout};
use variants::{
    pass::Active,
    slot::{RunPlan, StackPlan},
    spec::Variant,
};

use crate::{
    cell::View,
    error::TrainError,
    evaluate::{Split, logits, score, spread},
    library::Prepared,
};

/// Every split of one run in one view; `network` has that run alone.
pub fn evaluate(
    network: &Network,
    task: &Prepared,
    splits: &[&Split],
    readout: &Readout,
    view: &View,
    step: u64,
    pad: u32,
) -> Vec<Evaluation> {
    let (network, active) = match view {
        View::Active(active) => (network.clone(), spread(active, 1)),
        View::Svd(rank) => {
            let mut smaller = network.clone();
            smaller.compress(0, *rank);
            (smaller, Active::All)
        }
    };
    splits
        .iter()
        .map(|split| {
            let logits = logits(&network, &[&split.set], &active, pad).swap_remove(0);
            let scored = score(&logits, &split.set, &task.info);
            Evaluation {
                step,
                split: split.name.clone(),
                readout: readout.clone(),
                metrics: scored.metrics,
                examples: split.set.rows.len(),
                loss: scored.loss,
            }
        })
        .collect()
}

/// Largest difference between a run's logits with its adapter beside the base and folded into it.
pub fn merge_error(network: &Network, plain: &Variant, split: &Split, pad: u32) -> Result<f64, TrainError> {
    let plan = StackPlan {
        variant: plain.clone(),
        runs: vec![RunPlan { init_seed: 0, alpha: 1.0 }],
        targets: std::collections::BTreeSet::new(),
    };
    let merged = network.merged(0, 0, &Active::All, &plan)?;
    let beside = logits(network, &[&split.set], &Active::All, pad);
    let folded = logits(&merged, &[&split.set], &Active::All, pad);
    let pairs = beside.iter().flatten().flatten().zip(folded.iter().flatten().flatten());
    Ok(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max))
}
