//! Causal language modelling: cross-entropy over the tokens that are learnt.

use burn::tensor::{Int, Tensor, activation};
use data::{batch::Encoded, task};
use models::tokens::Transfer;

use super::{Objective, Reads};
use crate::rows::{RunRows, learnt};

/// Cross-entropy of the next token.
#[derive(Clone, Copy, Debug)]
pub struct Causal;

/// What the cross-entropy of the next token reads: as many tokens for every run, spare ones with share 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inputs<I, F> {
    /// Flat indices of the positions before the tokens that are learnt, within the stack's rows, `[runs · n]`.
    positions: I,
    /// The tokens, `[runs · n]`.
    ids: I,
    /// A token's share of its run's mean, `[runs · n]`.
    shares: F,
}

impl Objective for Causal {
    type Inputs<I, F> = Inputs<I, F>;
    const READS_ROWS: bool = false;

    fn collate(runs: &[RunRows<'_>], seq: usize) -> Option<Inputs<Vec<i64>, Vec<f64>>> {
        if !runs.iter().any(|run| *run.objective == task::Objective::Text) {
            return None;
        }
        let masks: Vec<LossMask> = runs.iter().map(|run| LossMask::of(&run.rows, seq)).collect();
        let n = masks.iter().map(LossMask::len).max().unwrap_or(0).max(1);
        let (mut positions, mut ids, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (mask, run)) in masks.iter().zip(runs).enumerate() {
            let start = index * run.rows.len() * seq;
            let share = 1.0 / mask.len().max(1) as f64;
            for at in 0..n {
                positions.push(start as i64 + mask.positions.get(at).map_or(0, |position| i64::from(*position)));
                ids.push(mask.ids.get(at).map_or(0, |id| i64::from(*id)));
                shares.push(if at < mask.len() { share } else { 0.0 });
            }
        }
        Some(Inputs { positions, ids, shares })
    }

    fn map<I, F, T: Transfer<I, F>>(inputs: Inputs<I, F>, to: &mut T) -> Inputs<T::Ints, T::Floats> {
        let [positions, ids] = [inputs.positions, inputs.ids].map(|values| to.ints(values));
        Inputs { positions, ids, shares: to.floats(inputs.shares) }
    }

    fn reads(inputs: &Inputs<Tensor<1, Int>, Tensor<1>>) -> Reads<'_> {
        Reads::NextToken(&inputs.positions)
    }

    fn loss(inputs: &Inputs<Tensor<1, Int>, Tensor<1>>, logits: Tensor<3>) -> Tensor<1> {
        let [runs, n, _] = logits.dims();
        let shares = inputs.shares.clone().reshape([runs, n]);
        (token_nll(logits, inputs.ids.clone()) * shares).sum_dim(1).reshape([runs])
    }
}

/// The tokens of one run's rows that are learnt.
pub struct LossMask {
    /// Flat indices of the positions before them.
    pub positions: Vec<u32>,
    /// The tokens.
    pub ids: Vec<u32>,
}

impl LossMask {
    /// Of rows that are padded to `seq` tokens each.
    pub fn of(rows: &[Option<&Encoded>], seq: usize) -> Self {
        let mut mask = Self { positions: Vec::new(), ids: Vec::new() };
        for (row, example) in rows.iter().enumerate() {
            let Some(example) = example else { continue };
            for at in learnt(example) {
                mask.positions.push((row * seq + at - 1) as u32);
                mask.ids.push(example.ids[at]);
            }
        }
        mask
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// Negative log-likelihood of `ids` `[runs · n]` under `logits` `[runs, n, vocabulary]`, `[runs, n]`.
pub fn token_nll(logits: Tensor<3>, ids: Tensor<1, Int>) -> Tensor<2> {
    let [runs, n, _] = logits.dims();
    activation::log_softmax(logits, 2).gather(2, ids.reshape([runs, n, 1])).reshape([runs, n]).neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_learn_their_targets_and_spare_ones_weigh_nothing() {
        let example = |ids: &[u32], targets: &[bool]| Encoded::causal(ids.to_vec(), targets.to_vec());
        // The first token of a row has no position before it.
        let first = [example(&[5, 6, 7], &[true, true, true]), example(&[8, 9], &[false, true])];
        let second = [example(&[3, 4], &[false, true])];
        let objective = task::Objective::Text;
        let runs =
            [RunRows::new(first.iter().collect(), 2, &objective), RunRows::new(second.iter().collect(), 2, &objective)];
        let inputs = Causal::collate(&runs, 4).unwrap_or_else(|| unreachable!("the runs are text"));
        assert_eq!(inputs.positions, [0, 1, 4, /**/ 8, 8, 8]);
        assert_eq!(inputs.ids, [6, 7, 9, /**/ 4, 0, 0]);
        let third = 1.0 / 3.0;
        assert_eq!(inputs.shares, [third, third, third, /**/ 1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_row_that_marks_no_token_is_not_learnt() {
        let labelled = Encoded { ids: vec![1, 2, 3], ..Encoded::default() };
        assert!(LossMask::of(&[Some(&labelled), None], 3).is_empty());
    }
}
