//! The forward pass of a micro-batch: the logits that its losses read, and the losses.

use burn::tensor::Tensor;
use models::network::Network;
use variants::{host::cast, pass::Pass};

use super::DeviceBatch;
use crate::objective::{LossInputs, Reads};

/// Losses of a micro-batch under `pass`, one per stack, `[runs]` each: means over examples or tokens.
pub fn losses(network: &Network, batch: &DeviceBatch, pass: &Pass) -> Vec<Tensor<1>> {
    let of_stack = |(logits, losses): (Tensor<3>, &Vec<LossInputs<_, _>>)| {
        let logits = cast(&logits, network.backbone.place().dtype);
        let each = losses.iter().map(|loss| loss.loss(logits.clone()));
        each.reduce(|sum, loss| sum + loss).unwrap_or_else(|| unreachable!("a stack has at least one run"))
    };
    logits(network, batch, pass).into_iter().zip(&batch.losses).map(of_stack).collect()
}

/// The logits that the losses of every stack read, `[runs, n, outputs]` each. All losses of a cohort read the same kind: its runs share the model's class.
pub fn logits(network: &Network, batch: &DeviceBatch, pass: &Pass) -> Vec<Tensor<3>> {
    match batch.losses[0][0].reads() {
        Reads::Rows => network.classify(&batch.tokens, pass),
        Reads::NextToken(_) => {
            let positions = |losses: &Vec<LossInputs<_, _>>| match losses[0].reads() {
                Reads::NextToken(positions) => positions.clone(),
                Reads::Rows | Reads::MaskedToken(_) => unreachable!("a cohort's runs all continue text, or none does"),
            };
            let positions: Vec<_> = batch.losses.iter().map(positions).collect();
            network.continue_at(&network.backbone.forward(&batch.tokens, pass), &positions, pass)
        }
        Reads::MaskedToken(positions) => vec![network.fill_masks(&batch.tokens, positions.clone(), pass)],
    }
}
