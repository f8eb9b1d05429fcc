//! Squared error of the first output.

use burn::tensor::Tensor;
use data::task;
use models::tokens::Transfer;

use super::{Objective, Reads};
use crate::rows::RunRows;

/// Squared error.
#[derive(Clone, Copy, Debug)]
pub struct Regression;

/// What squared error reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inputs<F> {
    /// The score of every row, `[runs, rows]`.
    scores: F,
    /// Each row's share of its run's mean, `[runs, rows]`.
    shares: F,
}

impl Objective for Regression {
    type Inputs<I, F> = Inputs<F>;
    const READS_ROWS: bool = true;

    fn collate(runs: &[RunRows<'_>], _seq: usize) -> Option<Inputs<Vec<f64>>> {
        let regresses = |run: &RunRows<'_>| matches!(run.objective, task::Objective::Regression { .. });
        if !runs.iter().any(regresses) {
            return None;
        }
        let rows = runs[0].rows.len();
        let (mut scores, mut shares) = (vec![0.0; runs.len() * rows], vec![0.0; runs.len() * rows]);
        for (index, run) in runs.iter().enumerate().filter(|(_, run)| regresses(run)) {
            for (row, example) in run.rows.iter().enumerate() {
                let Some(example) = example else { continue };
                scores[index * rows + row] = f64::from(example.label);
                shares[index * rows + row] = run.share();
            }
        }
        Some(Inputs { scores, shares })
    }

    fn map<I, F, T: Transfer<I, F>>(inputs: Inputs<F>, to: &mut T) -> Inputs<T::Floats> {
        Inputs { scores: to.floats(inputs.scores), shares: to.floats(inputs.shares) }
    }

    fn reads(_inputs: &Inputs<Tensor<1>>) -> Reads<'_> {
        Reads::Rows
    }

    fn loss(inputs: &Inputs<Tensor<1>>, logits: Tensor<3>) -> Tensor<1> {
        let [runs, rows, _] = logits.dims();
        let [scores, shares] = [&inputs.scores, &inputs.shares].map(|values| values.clone().reshape([runs, rows, 1]));
        let error = logits.slice([0..runs, 0..rows, 0..1]) - scores;
        (error.square() * shares).reshape([runs, rows]).sum_dim(1).reshape([runs])
    }
}
