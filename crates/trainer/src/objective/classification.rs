//! Cross-entropy over a run's own classes.

use burn::tensor::{Tensor, activation};
use data::task;
use models::tokens::Transfer;

use super::{Objective, Reads};
use crate::rows::RunRows;

/// Cross-entropy.
#[derive(Clone, Copy, Debug)]
pub struct Classification;

/// What cross-entropy reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inputs<F> {
    /// Each row's share of its run's mean at the row's class, 0 elsewhere, `[runs, rows, outputs]`.
    targets: F,
    /// 0 for the classes of a run and -1e9 for the other outputs of a head that is shared with runs of more classes, `[runs, outputs]`.
    class_bias: F,
}

impl Objective for Classification {
    type Inputs<I, F> = Inputs<F>;
    const READS_ROWS: bool = true;

    fn collate(runs: &[RunRows<'_>], _seq: usize) -> Option<Inputs<Vec<f64>>> {
        let classifies = |run: &RunRows<'_>| matches!(run.objective, task::Objective::Classification { .. });
        if !runs.iter().any(classifies) {
            return None;
        }
        let rows = runs[0].rows.len();
        let outputs = runs.iter().map(|run| run.objective.n_outputs()).max().unwrap_or(1);
        let mut targets = vec![0.0; runs.len() * rows * outputs];
        let mut class_bias = vec![0.0; runs.len() * outputs];
        for (index, run) in runs.iter().enumerate() {
            class_bias[index * outputs..][..outputs][run.objective.n_outputs()..].fill(-1e9);
            for (row, example) in run.rows.iter().enumerate().filter(|_| classifies(run)) {
                let Some(example) = example else { continue };
                targets[(index * rows + row) * outputs + example.label as usize] = run.share();
            }
        }
        Some(Inputs { targets, class_bias })
    }

    fn map<I, F, T: Transfer<I, F>>(inputs: Inputs<F>, to: &mut T) -> Inputs<T::Floats> {
        Inputs { targets: to.floats(inputs.targets), class_bias: to.floats(inputs.class_bias) }
    }

    fn reads(_inputs: &Inputs<Tensor<1>>) -> Reads<'_> {
        Reads::Rows
    }

    fn loss(inputs: &Inputs<Tensor<1>>, logits: Tensor<3>) -> Tensor<1> {
        let [runs, rows, outputs] = logits.dims();
        assert_eq!(inputs.class_bias.dims(), [runs * outputs], "a stack's head has the outputs of its widest run");
        let open = logits + inputs.class_bias.clone().reshape([runs, 1, outputs]);
        let chosen = activation::log_softmax(open, 2) * inputs.targets.clone().reshape([runs, rows, outputs]);
        chosen.reshape([runs, rows * outputs]).sum_dim(1).reshape([runs]).neg()
    }
}
