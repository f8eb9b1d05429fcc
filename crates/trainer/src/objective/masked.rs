//! Masked language modelling: cross-entropy over the masked tokens of a cohort of one run. Its batches are made by
//! [`pretrain`](crate::pretrain).

use burn::tensor::{Int, Tensor, activation};
use data::mask::MaskedBatch;
use models::tokens::Transfer;

use super::{Objective, Reads};

/// Cross-entropy of the masked tokens.
#[derive(Clone, Copy, Debug)]
pub struct Masked;

/// What the cross-entropy of masked tokens reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inputs<I> {
    /// Flat indices of the masked tokens, `[n]`.
    positions: I,
    /// The tokens before masking, `[n]`.
    ids: I,
}

impl Inputs<Vec<i64>> {
    /// Those of a masked batch.
    pub fn of(masked: &MaskedBatch) -> Self {
        let wide = |values: &[u32]| values.iter().map(|value| i64::from(*value)).collect();
        Self { positions: wide(&masked.positions), ids: wide(&masked.targets) }
    }
}

impl Objective for Masked {
    type Inputs<I, F> = Inputs<I>;
    const READS_ROWS: bool = false;

    fn map<I, F, T: Transfer<I, F>>(inputs: Inputs<I>, to: &mut T) -> Inputs<T::Ints> {
        let [positions, ids] = [inputs.positions, inputs.ids].map(|values| to.ints(values));
        Inputs { positions, ids }
    }

    fn reads(inputs: &Inputs<Tensor<1, Int>>) -> Reads<'_> {
        Reads::MaskedToken(&inputs.positions)
    }

    fn loss(inputs: &Inputs<Tensor<1, Int>>, logits: Tensor<3>) -> Tensor<1> {
        let (logs, ids) = inputs.log_probabilities(logits);
        logs.gather(1, ids).mean().neg()
    }
}

impl Inputs<Tensor<1, Int>> {
    /// Log-probabilities `[n, vocabulary]` and the tokens before masking `[n, 1]`.
    fn log_probabilities(&self, logits: Tensor<3>) -> (Tensor<2>, Tensor<2, Int>) {
        let [_, n, vocabulary] = logits.dims();
        (activation::log_softmax(logits.reshape([n, vocabulary]), 1), self.ids.clone().reshape([n, 1]))
    }

    /// Share of the masked tokens whose prediction is right, `[1]`.
    pub fn accuracy(&self, logits: Tensor<3>) -> Tensor<1> {
        let (logs, ids) = self.log_probabilities(logits);
        logs.argmax(1).equal(ids).int().float().mean()
    }
}
